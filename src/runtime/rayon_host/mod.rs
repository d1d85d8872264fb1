//! The pool's threads, as threads of rayon-core: everything that relies on how that crate behaves is in this folder.
//!
//! rayon builds all its threads at once and hands each to a *spawn handler*. Ours keeps them, so that the system's
//! thread is started later, or never. A thread that rayon runs becomes a worker by an *activation*, a rayon job that runs
//! the pool's loop (`activation.rs`). A worker that leaves the loop is back in rayon's own sleep, from where
//! it serves `par_iter` and `join`.
//!
//! The folder knows the pool only as a [`Host`]. What is assumed of rayon-core, each with a test in `tests/rayon_core.rs`:
//! the threads of the spawn handler live as long as `ThreadBuilder::run`, and end when the `ThreadPool` is dropped and
//! their queues are empty; a thread takes its own spawns before others, the last one first; a spawn from
//! outside is found by any thread, one that is broadcast by each; `yield_now` and `yield_local` run one job at most; a
//! nested wait runs other jobs of its pool, deeper in the stack than the main loop does.

mod activation;
mod inbox;
mod start;
mod table;
mod thread;

use std::{
    any::Any,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crossbeam_utils::CachePadded;

pub(crate) use self::{
    activation::Help,
    inbox::has_read_all,
    thread::{RayonThread, yield_now},
};
use crate::{
    protocol::{
        idle::{Idle, WakeUp},
        inbox::Inbox,
        starvation::PoolId,
    },
    runtime::rayon_host::table::ThreadTable,
    sync::{AtomicUsize, Condvar, Mutex, slots::Slots, thread::Thread},
};

/// The pool whose workers rayon's threads are.
pub(crate) trait Host: Send + Sync + Sized + 'static {
    fn threads(&self) -> &Threads;

    fn idle(&self) -> &Idle;

    /// The calling thread, if it is one of the pool's.
    fn here(&self) -> Option<&RayonThread>;

    /// The life of the thread of this index, which is with rayon while `run` runs.
    fn live(self: &Arc<Self>, index: usize, run: impl FnOnce());

    /// A thread has nothing left to do but to end.
    fn thread_exited(&self);

    /// The system has refused a thread.
    fn thread_refused(&self);

    /// A panic that no wait gets.
    fn handle_panic(&self, payload: Box<dyn Any + Send>);

    fn is_stopped(&self) -> bool;

    /// Runs the worker's loop. The caller is counted as searching.
    fn run_loop(&self);

    /// Runs one job, if there is any, on top of a wait inside rayon. The caller is counted as searching, and as out of
    /// service afterwards.
    fn run_one(&self);

    /// Runs one job for those that wait in vain. Returns the help that is to be sent for the next.
    fn help(self: &Arc<Self>, sent: Help, is_aside: bool) -> Option<Help>;

    /// Whether a job waits in any queue.
    fn has_jobs(&self) -> bool;

    /// Does what the idle protocol left to the caller.
    fn perform(&self, wake_up: WakeUp);

    /// A worker that was idle, or out of service, is not any more.
    fn check_left_behind(&self);

    /// An activation was sent to threads that may be busy, though there are unstarted ones: the timer is to start one after
    /// that time.
    fn watch_activation(&self, patience: Duration);

    /// Does what is due for the timer thread, or parks it until something is.
    fn keep_time(self: &Arc<Self>);

    /// Checks the queues once more, after an activation was taken back that kept others from being sent, or by a thread that
    /// has left service.
    fn recheck(&self);
}

/// What the threads of a pool need to be started.
pub(crate) struct ThreadSettings {
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    /// The width of rayon's pool.
    pub(crate) main: usize,
    /// How many spare threads there may be.
    pub(crate) spare: usize,
}

/// The threads of a pool.
pub(crate) struct Threads {
    settings: ThreadSettings,
    table: Mutex<ThreadTable>,
    /// `ThreadTable::start` has changed.
    changed: Condvar,
    /// From the end of the build on.
    timer: OnceLock<Thread>,
    inboxes: Slots<CachePadded<Inbox>>,
    /// The depth of the stack up to which an activation comes from rayon's main loop: see `thread.rs`.
    base_depth: AtomicUsize,
    /// Places in service that are filled on top of others, by threads that wait inside rayon.
    hopping: AtomicUsize,
}

impl Threads {
    pub(crate) fn new(pool: PoolId, settings: ThreadSettings) -> Self {
        Self {
            table: Mutex::new(ThreadTable::new(pool)),
            changed: Condvar::new(),
            timer: OnceLock::new(),
            inboxes: Slots::new(settings.main),
            settings,
            base_depth: AtomicUsize::new(0),
            hopping: AtomicUsize::new(0),
        }
    }

    /// The inbox of the thread of this index. Those of spare threads remain empty.
    #[inline]
    pub(crate) fn inbox(&self, index: usize) -> &Inbox {
        &self.inboxes[index]
    }

    /// The inboxes of the threads below this index, which were started.
    pub(crate) fn inboxes_below(&self, threads: usize) -> impl Iterator<Item = &Inbox> {
        (0..threads).map(|index| self.inbox(index))
    }

    /// Whether a worker is in its loop.
    #[cfg(test)]
    pub(crate) fn is_any_in_loop(&self, threads: usize) -> bool {
        self.inboxes_below(threads).any(Inbox::is_in_loop)
    }
}
