//! The drain of a pool: its stages, and which thread observes the end of the last job.
//!
//! This is the decision alone, so that a model can check it. `runtime/lifecycle.rs` has what leads
//! to it and what follows.
//!
//! **Which thread observes the end of the last job.** A worker checks whether the pool has drained
//! whenever it becomes idle, so it does after the last job. It counts the end of the job, fences,
//! and loads whether the pool drains. The thread that drains sets the flag, fences, and loads the
//! counts. So one of the two observes both.

#[cfg(all(test, loom))]
mod model;

use crate::{
    protocol::{admission::Admission, idle::Idle},
    sync::{AtomicU8, Ordering, asymmetric::Fences, fence},
};

const DRAINING: u8 = 1;
const DISCARDING: u8 = 2;
const STOPPED: u8 = 4;

/// Flags that are only ever set.
#[derive(Debug)]
pub(crate) struct Drain {
    flags: AtomicU8,
    fences: Fences,
}

impl Drain {
    pub(crate) fn new(fences: Fences) -> Self {
        Self {
            flags: AtomicU8::new(0),
            fences,
        }
    }

    fn is(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    /// Closes the admission. The caller has to call [`Drain::try_stop`] afterwards.
    pub(crate) fn begin(&self, admission: &Admission) {
        admission.close();
        let before = self.flags.fetch_or(DRAINING, Ordering::AcqRel);
        if before & STOPPED != 0 {
            return;
        }
        // Pairs with the fence in `is_awaited`: they see that we wait, or we see the end.
        unless_mutant!("drain_no_fence_begin", self.fences.heavy());
    }

    /// Returns whether the pool drains. Called after each end that may have been the last. If it
    /// returns true, the caller has to call [`Drain::try_stop`].
    pub(crate) fn is_awaited(&self) -> bool {
        // Pairs with the fence in `begin`: they see the end, or we see that they wait for it.
        unless_mutant!("drain_no_fence_look", self.fences.light());
        if !self.is(DRAINING) {
            return false;
        }
        // Pairs with itself, and so cannot be light: of two ends that may each have been the last,
        // at least one observes the other.
        unless_mutant!("drain_no_fence_look", fence(Ordering::SeqCst));
        true
    }

    /// Stops the pool if it has drained. Returns true for the one call that stops it.
    ///
    /// `counts` returns the jobs without a place and the ended ones, and reads the ended ones
    /// first.
    pub(crate) fn try_stop(
        &self,
        admission: &Admission,
        idle: &Idle,
        counts: impl Fn() -> (u64, u64),
    ) -> bool {
        if !admission.try_stop(counts) {
            return false;
        }
        // The lock of the list of idle workers orders this. A worker that parks is in the list and
        // is woken, or it observes that the pool has stopped.
        if mutant!("drain_stop_late") {
            idle.wake_all();
        }
        self.flags.fetch_or(STOPPED, Ordering::AcqRel);
        unless_mutant!("drain_stop_late", idle.wake_all());
        true
    }

    /// Makes each worker drop the jobs that it has not started.
    pub(crate) fn begin_discarding(&self) {
        self.flags.fetch_or(DISCARDING, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn is_discarding(&self) -> bool {
        self.is(DISCARDING)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is(STOPPED)
    }
}
