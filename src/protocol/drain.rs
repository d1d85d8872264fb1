//! How far a pool has come towards its end, and who sees the last job end.
//!
//! Only the decision is here, so that a model can check it; `shutdown.rs` says what leads to it and
//! what leapfrogs.
//!
//! **Who sees the last job end.** A worker looks whether the pool has drained whenever it runs dry,
//! which it does after the last job. It counts the end of the job, fences, and looks whether there
//! is somebody who drains; who drains says so, fences, and counts. So one of the two sees the whole.

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

    /// Closes the door. To be followed by [`Drain::try_stop`].
    pub(crate) fn begin(&self, admission: &Admission) {
        admission.close();
        let before = self.flags.fetch_or(DRAINING, Ordering::AcqRel);
        if before & STOPPED != 0 {
            return;
        }
        // Pairs with the fence in `is_awaited`: they see that we wait, or we see the end.
        unless_mutant!("drain_no_fence_begin", self.fences.heavy());
    }

    /// Whether somebody waits for the end of the last job; to be asked after each end that may have
    /// been the last, and followed by [`Drain::try_stop`] if so.
    pub(crate) fn is_awaited(&self) -> bool {
        // Pairs with the fence in `begin`: they see the end, or we see that they wait for it.
        unless_mutant!("drain_no_fence_look", self.fences.light());
        if !self.is(DRAINING) {
            return false;
        }
        // Pairs with itself, and so cannot be light: of two ends that may each have been the last, one
        // at least sees the other.
        unless_mutant!("drain_no_fence_look", fence(Ordering::SeqCst));
        true
    }

    /// Stops the pool if it has drained. True for the one call that does it. `counts` gives the
    /// inlined and the ended, the ended read first.
    pub(crate) fn try_stop(
        &self,
        admission: &Admission,
        idle: &Idle,
        counts: impl Fn() -> (u64, u64),
    ) -> bool {
        if !admission.try_stop(counts) {
            return false;
        }
        // The list's lock sees to it that a worker that lies down is in the list of those who are
        // woken, or sees that the pool has stopped.
        if mutant!("drain_stop_late") {
            idle.wake_all();
        }
        self.flags.fetch_or(STOPPED, Ordering::AcqRel);
        unless_mutant!("drain_stop_late", idle.wake_all());
        true
    }

    /// From now on a worker drops what it has not started.
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
