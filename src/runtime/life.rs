//! How far a pool has come towards its end, and what a shutdown waits for.

use crate::{
    error::ShutdownReport,
    protocol::drain::Drain,
    sync::{Condvar, Instant, Mutex, MutexGuard, asymmetric::Fences, lock, wait_timeout},
};

/// How far a pool has come.
pub(crate) struct Life {
    pub(super) drain: Drain,
    pub(super) state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// Threads that have nothing left to do but to end.
    pub(super) exited: usize,
    pub(super) joining: bool,
    pub(super) report: Option<ShutdownReport>,
}

impl Life {
    pub(crate) fn new(fences: Fences) -> Self {
        Self {
            drain: Drain::new(fences),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    /// To be asked after each end that may have been the last: see [`Drain::is_awaited`].
    pub(crate) fn is_drain_awaited(&self) -> bool {
        self.drain.is_awaited()
    }

    #[inline]
    pub(crate) fn is_discarding(&self) -> bool {
        self.drain.is_discarding()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.drain.is_stopped()
    }

    /// Something happened that a shutdown may be waiting for.
    pub(crate) fn changed(&self) {
        // Through the lock, so that no thread is between its check and its wait.
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    /// A thread of the pool ends.
    pub(crate) fn thread_exited(&self) {
        lock(&self.state).exited += 1;
        self.changed.notify_all();
    }

    pub(crate) fn threads_exited(&self) -> usize {
        lock(&self.state).exited
    }

    /// Waits for the next change, until the deadline at most.
    pub(super) fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match deadline {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                wait_timeout(&self.changed, &self.state, state, left)
            }
        }
    }
}
