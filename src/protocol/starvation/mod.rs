//! Starvation between pools: which pools have no thread left to run a job, and which threads wait
//! for such a pool.
//!
//! # The protocol
//!
//! One list, under one lock, holds the *starved* pools, and the *watches* of threads that wait for
//! a pool. A pool enters the list when its last thread blocks and no other thread can be started.
//! It leaves the list when a thread comes back. A waiting thread enters a watch before it parks.
//! One of the two entries is first. Either the watch finds its pool in the list, or the pool finds
//! the watch and unparks its thread.

#[cfg(all(test, loom))]
mod model;

use std::{ptr, sync::Arc};

#[cfg(not(any(loom, shuttle)))]
use crate::sync::process::PerProcess;
use crate::sync::{
    AtomicBool, Mutex, Ordering, Rank, lock,
    thread::{self, Thread},
};

/// A pool's address, not to be dereferenced: once a wait is over its pool may be gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolId(usize);

impl PoolId {
    pub(crate) fn of<P>(pool: *const P) -> Self {
        Self(pool.addr())
    }
}

/// The list of starved pools and of watches.
pub(crate) struct Starvation {
    list: Mutex<List>,
}

struct List {
    starved: Vec<PoolId>,
    watches: Vec<Arc<Watched>>,
}

struct Watched {
    pool: PoolId,
    thread: Thread,
    /// Written under the lock.
    is_starved: AtomicBool,
}

impl Starvation {
    pub(crate) fn new() -> Self {
        Self {
            list: Mutex::new(
                Rank::Starvation,
                List {
                    starved: Vec::new(),
                    watches: Vec::new(),
                },
            ),
        }
    }

    /// Records whether the pool is starved from now on. If it is, unparks the threads that watch
    /// it.
    pub(crate) fn set(&self, pool: PoolId, is_starved: bool) {
        let mut list = lock(&self.list);
        list.starved.retain(|&other| other != pool);
        if is_starved {
            list.starved.push(pool);
        }
        for watch in list.watches.iter().filter(|watch| watch.pool == pool) {
            watch.is_starved.store(is_starved, Ordering::Release);
            if is_starved && !mutant!("starvation_silent") {
                watch.thread.unpark();
            }
        }
    }

    /// Begins a watch: the calling thread is unparked when the pool is starved.
    pub(crate) fn watch(&self, pool: PoolId) -> Watch<'_> {
        let mut list = lock(&self.list);
        let is_starved = list.starved.contains(&pool) && !mutant!("starvation_unseen");
        let watched = Arc::new(Watched {
            pool,
            thread: thread::current(),
            is_starved: AtomicBool::new(is_starved),
        });
        list.watches.push(Arc::clone(&watched));
        Watch {
            starvation: self,
            watched,
        }
    }
}

/// A wait of one thread for a pool.
pub(crate) struct Watch<'a> {
    starvation: &'a Starvation,
    watched: Arc<Watched>,
}

impl Watch<'_> {
    /// Whether the thread has to run the awaited work itself.
    pub(crate) fn is_starved(&self) -> bool {
        self.watched.is_starved.load(Ordering::Acquire)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let own = Arc::as_ptr(&self.watched);
        let mut list = lock(&self.starvation.list);
        list.watches
            .retain(|watched| !ptr::eq(Arc::as_ptr(watched), own));
    }
}

/// Returns the list of this process.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn of_process() -> &'static Starvation {
    static LIST: PerProcess<Starvation> = PerProcess::new();
    LIST.get(Starvation::new)
}

#[cfg(shuttle)]
pub(crate) fn of_process() -> &'static Starvation {
    shuttle::lazy_static! {
        static ref LIST: Starvation = Starvation::new();
    }
    &LIST
}
