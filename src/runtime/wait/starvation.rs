//! Waits between pools. A worker of one pool that waits for another pool's job counts on that pool
//! to have a thread for it. If all its threads are blocked in waits themselves, maybe for the very
//! pool that the waiting worker belongs to, it has none: it is *starvation*. Then the waiting
//! worker does the work itself, as it would in its own pool.
//!
//! # The protocol
//!
//! Which pools are starvation, and who waits for which pool, stands in one list, under one lock,
//! for all pools. [`crate::runtime::rayon_host::threads`] enters a pool when its last thread blocks
//! and no other can be had, and takes it out when one comes back. A worker enters itself (a
//! [`Watch`]) before it blocks, and is told at once, or later, when the pool gets starvation. Both
//! under the lock: one of the two comes first, and the other sees it. The list is touched by waits
//! across pools and by pools that run out of threads, and by nothing else. Each process has its
//! own: a forked child begins with an empty one.

#[cfg(not(shuttle))]
use std::sync::atomic::AtomicPtr;
use std::{ptr, sync::Arc};

#[cfg(not(shuttle))]
use crate::sync::process;
use crate::{
    runtime::{inner::Inner, worker},
    sync::{
        AtomicBool, Mutex, Ordering, lock,
        thread::{self, Thread},
    },
};

/// A pool's address, not to be followed: the pool of a wait that is over may be gone.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PoolId(usize);

impl PoolId {
    fn of(pool: *const Inner) -> Self {
        Self(pool.addr())
    }
}

struct List {
    starvation: Vec<PoolId>,
    waiting: Vec<Arc<Waiting>>,
}

struct Waiting {
    pool: PoolId,
    thread: Thread,
    /// Written under the lock.
    is_starved: AtomicBool,
}

/// The list of one process.
#[cfg(not(shuttle))]
struct OfProcess {
    number: usize,
    list: Mutex<List>,
    /// The parent's. A thread of the parent may have had it locked, so it is left as it is; this
    /// only keeps it from being taken for a leak.
    _parents: *mut OfProcess,
}

/// The list of this process. In a forked child it is a new one: what stood in the parent's concerns
/// none of the child's threads, and its lock may be held for ever.
#[cfg(not(shuttle))]
fn list() -> &'static Mutex<List> {
    static LIST: AtomicPtr<OfProcess> = AtomicPtr::new(ptr::null_mut());
    let number = process::number();
    loop {
        let at = LIST.load(Ordering::Acquire);
        // SAFETY: what was once published is never freed.
        match unsafe { at.as_ref() } {
            Some(of_process) if of_process.number == number => return &of_process.list,
            _ => {}
        }
        let own = Box::into_raw(Box::new(OfProcess {
            number,
            list: Mutex::new(List::new()),
            _parents: at,
        }));
        let published = LIST.compare_exchange(at, own, Ordering::AcqRel, Ordering::Relaxed);
        if published.is_err() {
            // SAFETY: nobody else has seen it.
            drop(unsafe { Box::from_raw(own) });
        }
    }
}

#[cfg(shuttle)]
fn list() -> &'static Mutex<List> {
    shuttle::lazy_static! {
        static ref LIST: Mutex<List> = Mutex::new(List::new());
    }
    &LIST
}

impl List {
    const fn new() -> Self {
        Self {
            starvation: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

/// Enters a pool as starvation, or takes it out.
pub(crate) fn set(pool: &Inner, starvation: bool) {
    let pool = PoolId::of(pool);
    let mut list = lock(list());
    list.starvation.retain(|&other| other != pool);
    if starvation {
        list.starvation.push(pool);
    }
    for waiting in list.waiting.iter().filter(|waiting| waiting.pool == pool) {
        waiting.is_starved.store(starvation, Ordering::Release);
        if starvation {
            waiting.thread.unpark();
        }
    }
}

/// A wait of the calling thread for a pool. If it is another pool's thread, it is unparked when the
/// pool gets starvation.
pub(crate) struct Watch(Option<Arc<Waiting>>);

impl Watch {
    pub(crate) fn new(pool: *const Inner) -> Self {
        if !worker::is_of_another(pool) {
            return Self(None);
        }
        let pool = PoolId::of(pool);
        let mut list = lock(list());
        let waiting = Arc::new(Waiting {
            pool,
            thread: thread::current(),
            is_starved: AtomicBool::new(list.starvation.contains(&pool)),
        });
        list.waiting.push(Arc::clone(&waiting));
        Self(Some(waiting))
    }

    /// Whether the calling thread has to do itself what it waits for.
    pub(crate) fn is_starved(&self) -> bool {
        let waiting = self.0.as_ref();
        waiting.is_some_and(|waiting| waiting.is_starved.load(Ordering::Acquire))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            let mut list = lock(list());
            list.waiting
                .retain(|waiting| !ptr::eq(Arc::as_ptr(waiting), Arc::as_ptr(own)));
        }
    }
}
