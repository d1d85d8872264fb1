//! The pool's threads as threads of rayon-core. Everything that relies on how that crate behaves is
//! in this folder.
//!
//! rayon builds all its threads at once and hands each to a *spawn handler*. Ours keeps them, so
//! that the OS thread is started later, or never. A thread that rayon runs becomes a worker by an
//! *activation*: a rayon job that runs the pool's loop (`activation.rs`). A worker that leaves the
//! loop is in rayon's own sleep again, from where it serves `par_iter` and `join`.
//!
//! The folder knows the pool only as a [`Host`]. It assumes the following of rayon-core, each with
//! a test in `tests/rayon_core.rs`:
//! - A thread of the spawn handler lives as long as `ThreadBuilder::run`. It ends when the
//!   `ThreadPool` is dropped and its queues are empty.
//! - A thread takes its own spawns before others, the last one first.
//! - Any thread may take a spawn from outside; each thread takes one that is broadcast.
//! - `yield_now` and `yield_local` run at most one job.
//! - A nested wait runs other jobs of its pool, deeper in the stack than the main loop does.

mod activation;
mod inbox;
mod orders;
mod start;
mod table;
mod thread;

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use crossbeam_utils::CachePadded;

pub(crate) use self::{
    activation::Help,
    inbox::has_read_all,
    orders::AfterActivation,
    thread::{RayonThread, yield_now},
};
use crate::{
    protocol::{idle::Idle, inbox::Inbox, starvation::PoolId},
    runtime::rayon_host::table::ThreadTable,
    sync::{AtomicUsize, Condvar, Mutex, Rank, slots::Slots, thread::Thread},
};

/// The pool, as rayon's threads know it.
pub(crate) trait Host: Send + Sync + Sized + 'static {
    fn threads(&self) -> &Threads;

    fn idle(&self) -> &Idle;

    /// Returns the calling thread, if it is one of the pool's.
    fn here(&self) -> Option<&RayonThread>;

    /// The life of the thread `index`, which is in rayon while `run` runs, or of the timer thread.
    /// Records that it has nothing left to do but end.
    fn live(self: &Arc<Self>, index: Option<usize>, run: impl FnOnce());

    /// Records that the system has refused a thread.
    fn thread_refused(&self);

    /// Handles a panic that no wait receives.
    fn handle_panic(&self, payload: Box<dyn Any + Send>);

    /// Runs the worker's loop. The caller is counted as searching.
    fn run_loop(&self);

    /// Runs one job, if there is any, on top of a wait inside rayon. The caller is counted as
    /// searching before, and as out of service afterwards.
    fn run_one(&self);

    /// Runs one stalled job. Returns the help to be sent for the next one.
    fn help(self: &Arc<Self>, sent: Help, is_aside: bool) -> Option<Help>;

    /// Gives the place in service of the calling thread, which is about to block, to other threads.
    fn leave_service_to_block(&self);

    /// Returns the calling thread to service.
    fn return_to_service(&self);

    /// Does what an activation has left to do.
    fn after_activation(&self, after: AfterActivation);

    /// Does what is due on the timer thread, or blocks until something is.
    fn keep_time(self: &Arc<Self>);
}

/// The settings from which a pool's threads are started.
pub(crate) struct ThreadSettings {
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    /// The width of rayon's pool.
    pub(crate) main: usize,
    /// The maximal number of spare threads.
    pub(crate) spare: usize,
}

/// The threads of a pool.
pub(crate) struct Threads {
    settings: ThreadSettings,
    table: Mutex<ThreadTable>,
    /// Notified when `ThreadTable::start` has changed.
    changed: Condvar,
    /// Set at the end of the build.
    timer: OnceLock<Thread>,
    inboxes: Slots<CachePadded<Inbox>>,
    /// The stack depth up to which an activation is at the base, rayon's main loop: see
    /// `thread.rs`.
    base_depth: AtomicUsize,
    /// The number of places in service that threads fill on top of waits inside rayon.
    hopping: AtomicUsize,
}

impl Threads {
    pub(crate) fn new(pool: PoolId, settings: ThreadSettings) -> Self {
        Self {
            table: Mutex::new(Rank::ThreadTable, ThreadTable::new(pool)),
            changed: Condvar::new(),
            timer: OnceLock::new(),
            inboxes: Slots::new(settings.main),
            settings,
            base_depth: AtomicUsize::new(0),
            hopping: AtomicUsize::new(0),
        }
    }

    /// Returns the inbox of the thread `index`. The inboxes of spare threads stay empty.
    #[inline]
    pub(crate) fn inbox(&self, index: usize) -> &Inbox {
        &self.inboxes[index]
    }

    /// Returns the inboxes of the started threads whose index is below `threads`.
    pub(crate) fn inboxes_below(&self, threads: usize) -> impl Iterator<Item = &Inbox> {
        (0..threads).map(|index| self.inbox(index))
    }

    /// Whether a worker is in its loop.
    #[cfg(test)]
    pub(crate) fn is_any_in_loop(&self, threads: usize) -> bool {
        self.inboxes_below(threads).any(Inbox::is_in_loop)
    }
}
