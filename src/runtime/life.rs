//! Progress of a pool towards its end, and the condition variable that a shutdown waits on.

use crate::{
    error::ShutdownReport,
    protocol::drain::Drain,
    sync::{
        Condvar, Instant, Mutex, MutexGuard, Rank, asymmetric::Fences, lock, wait, wait_timeout,
    },
};

/// The progress of a pool towards its end.
pub(crate) struct Life {
    pub(super) drain: Drain,
    pub(super) state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// Threads of the pool that have nothing left to do but end.
    pub(super) exited: usize,
    pub(super) joining: bool,
    pub(super) report: Option<ShutdownReport>,
}

impl Life {
    pub(crate) fn new(fences: Fences) -> Self {
        Self {
            drain: Drain::new(fences),
            state: Mutex::new(Rank::Life, State::default()),
            changed: Condvar::new(),
        }
    }

    #[inline]
    pub(crate) fn is_discarding(&self) -> bool {
        self.drain.is_discarding()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.drain.is_stopped()
    }

    /// Notifies the shutdowns that wait.
    pub(crate) fn changed(&self) {
        // Takes the lock, so that no waiter is between its check and its wait.
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    /// Counts a thread of the pool that ends.
    pub(crate) fn thread_exited(&self) {
        lock(&self.state).exited += 1;
        self.changed.notify_all();
    }

    pub(crate) fn threads_exited(&self) -> usize {
        lock(&self.state).exited
    }

    /// Blocks until the next change, or until the deadline.
    pub(super) fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match deadline {
            None => wait(&self.changed, state),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                wait_timeout(&self.changed, &self.state, state, left)
            }
        }
    }
}
