//! One-shot completion: who claims a job, whether it has ended, and who is to be told.
//!
//! One word, of three bits that are only ever set. *Claimed* is set by the one who may run, cancel
//! or drop the job; *done* by the same one, after the result is in its slot. Who waits puts its
//! wake into the slot, and then sets *awaited*: if *done* was set before, it does not wait; if not,
//! the one who sets *done* sees *awaited*, and takes the wake out. Both are read-modify-writes of
//! one word, so one of them comes first and the later one sees the earlier.

#[cfg(all(test, loom))]
mod model;

use std::task::Waker;

use crate::sync::{AtomicU8, Mutex, Ordering, lock, thread::Thread, unwind::quietly};

const CLAIMED: u8 = 1;
const DONE: u8 = 2;
const AWAITED: u8 = 4;

const FINISH: Ordering = if cfg!(mutant = "latch_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::AcqRel
};

/// How a waiter is woken.
#[derive(Debug)]
pub(crate) enum Wake {
    Thread(Thread),
    Task(Waker),
}

impl Wake {
    /// Never called under a lock: a waker is the user's code. If it panics, that is nobody's.
    pub(crate) fn wake(self) {
        match self {
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(waker) => quietly(|| waker.wake()),
        }
    }
}

/// The state of one job.
#[derive(Debug)]
pub(crate) struct Latch {
    bits: AtomicU8,
    waiter: Mutex<Option<Wake>>,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self {
            bits: AtomicU8::new(0),
            waiter: Mutex::new(None),
        }
    }

    /// True for the one caller who may run, cancel or drop the job.
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        // Acquire: the winner sees the closure. Release: nobody needs it, but an RMW has it anyway.
        let torn = cfg!(mutant = "latch_torn_claim") && !self.is_claimed();
        self.bits.fetch_or(CLAIMED, Ordering::AcqRel) & CLAIMED == 0 || torn
    }

    pub(crate) fn is_claimed(&self) -> bool {
        self.bits.load(Ordering::Relaxed) & CLAIMED != 0
    }

    /// To be called by the one who claimed, once, after the result was put into its place.
    pub(crate) fn finish(&self) {
        // Release: who sees it done sees the result. Acquire: we see the wake of who awaits it.
        let before = self.bits.fetch_or(DONE, FINISH);
        if before & AWAITED != 0 && cfg!(not(mutant = "latch_mute")) {
            let wake = lock(&self.waiter).take();
            if let Some(wake) = wake {
                wake.wake();
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.bits.load(Ordering::Acquire) & DONE != 0
    }

    /// Has `wake` woken when the job is done, in place of any earlier one. True if it is done
    /// already, and nobody will be woken.
    #[must_use]
    pub(crate) fn awaits(&self, wake: Wake) -> bool {
        let earlier = lock(&self.waiter).replace(wake);
        drop(earlier);
        let before = self.bits.fetch_or(AWAITED, Ordering::AcqRel);
        before & DONE != 0 && cfg!(not(mutant = "latch_deaf"))
    }
}
