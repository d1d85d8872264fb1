//! The words of a frame that waits, on its owner's stack: a count of jobs, or the end of one.
//!
//! What they are for, and how their owner waits, is told in `wait.rs`. Here is only what several threads
//! touch, so that models can explore it. Both words keep one promise: the operation that lets the owner
//! go is the last access to them, and what wakes the owner is read before it.

#[cfg(all(test, loom))]
mod model;

use std::ops::Deref;

use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};

/// One job, in the units of `far`; the bit below says that the owner is about to block.
const JOB: u64 = 2;
const WAITING: u64 = 1;

/// Release: who sees the count sees what the job did. Acquire: for who wakes.
const END: Ordering = if cfg!(mutant = "countdown_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::AcqRel
};

/// How many jobs are left.
pub(crate) struct Tally {
    /// What the owner itself began and ended. Written by the owner alone.
    near: Line,
    far: Line,
}

/// A word on a cache line of its own: else each job that the owner begins and ends would take the line foreign_stack from
/// those who end jobs elsewhere, and from all who read the frame.
#[repr(align(64))]
struct Line(AtomicU64);

impl Deref for Line {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

impl Tally {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            near: Line(AtomicU64::new(0)),
            far: Line(AtomicU64::new(0)),
        }
    }

    #[inline]
    fn add_near(&self, n: u64) {
        let near = self.near.load(Ordering::Relaxed);
        self.near.store(near.wrapping_add(n), Ordering::Relaxed);
    }

    /// One more job, by the owner.
    #[inline]
    pub(crate) fn begin_near(&self) {
        self.add_near(JOB);
    }

    /// One more job, by another thread.
    #[inline]
    pub(crate) fn begin_far(&self) {
        // Relaxed: the caller is in a job of the frame, or in its body, so it is not zero.
        self.far.fetch_add(JOB, Ordering::Relaxed);
    }

    /// A job has ended, on the owner's thread.
    #[inline]
    pub(crate) fn end_near(&self) {
        self.add_near(JOB.wrapping_neg());
    }

    /// A job has ended, on another thread. After it, the frame may be gone. True if the owner is to be
    /// woken, by what the caller knows of it already.
    #[inline]
    #[must_use]
    pub(crate) fn end_far(&self) -> bool {
        let before = self.far.fetch_sub(JOB, END);
        #[cfg(mutant = "countdown_look_late")]
        return self.far.load(Ordering::Relaxed) == WAITING;
        before == JOB | WAITING
    }

    /// As `end_far`, where `whom` takes out of the frame what wakes the owner: at most as often as the
    /// bit is seen.
    #[inline]
    #[must_use]
    pub(crate) fn end_far_telling<W>(&self, whom: impl Fn() -> W) -> Option<W> {
        let mut far = self.far.load(Ordering::Relaxed);
        loop {
            let wake = (far == JOB | WAITING).then(&whom);
            #[cfg(mutant = "countdown_torn_end")]
            {
                self.far.fetch_sub(JOB, END);
                return wake;
            }
            match self
                .far
                .compare_exchange_weak(far, far.wrapping_sub(JOB), END, Ordering::Relaxed)
            {
                #[cfg(mutant = "countdown_read_late")]
                Ok(_) => return wake.map(|_| whom()),
                #[cfg(not(mutant = "countdown_read_late"))]
                Ok(_) => return wake,
                Err(now) => far = now,
            }
        }
    }

    /// Whether no job is left. For the owner.
    #[inline]
    pub(crate) fn is_zero(&self) -> bool {
        let near = self.near.load(Ordering::Relaxed);
        self.far.load(Ordering::Acquire).wrapping_add(near) == 0
    }

    /// Whether the owner is about to block, or does. For who has put a side_entry into the list, in a job of
    /// the frame: so it is still there.
    pub(crate) fn is_awaited(&self) -> bool {
        // Pairs with the fence in `block`: we see that the owner is about to block, or it sees the side_entry.
        if cfg!(not(mutant = "countdown_no_fence_stray")) {
            fence(Ordering::SeqCst);
        }
        self.far.load(Ordering::Relaxed) & WAITING != 0
    }

    /// Runs `block`, on the owner's thread, which parks it until `has_ended`, or for as long as it likes.
    /// Who brings the count to zero meanwhile wakes it.
    pub(crate) fn block<R>(&self, block: impl FnOnce() -> R) -> R {
        let near = if cfg!(mutant = "countdown_keep_near") {
            0
        } else {
            self.near.swap(0, Ordering::Relaxed)
        };
        let bit = if cfg!(mutant = "countdown_silent") {
            0
        } else {
            WAITING
        };
        // AcqRel: as in `end_far` and `is_zero`.
        self.far.fetch_add(near.wrapping_add(bit), Ordering::AcqRel);
        // Pairs with the fence in `is_awaited`.
        if cfg!(not(mutant = "countdown_no_fence_block")) {
            fence(Ordering::SeqCst);
        }
        let result = block();
        self.far.fetch_sub(bit, Ordering::AcqRel);
        result
    }

    /// Whether no job is left. For the owner, inside of `block`.
    pub(crate) fn has_ended(&self) -> bool {
        self.far.load(Ordering::Acquire) & !WAITING == 0
    }
}

/// Whether one job has ended.
///
/// The word tells whom to wake, from when the owner is about to block. So it is written once for a job that nobody else
/// runs.
pub(crate) struct Ending(AtomicUsize);

const ENDED: usize = 1;
const AWAITED: usize = 2;
/// Somebody else has begun it, and has said who.
const BEGUN: usize = 4;
/// Above those three: the number of whom to wake.
const NUMBER: usize = 8;

impl Ending {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Somebody else has begun the job. The owner sees what he has written about it.
    pub(crate) fn begin(&self) {
        let order = if cfg!(mutant = "ending_relaxed_begin") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.0.fetch_add(BEGUN, order);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) & BEGUN != 0
    }

    /// The job has ended. After it, the frame may be gone. Returns whom to wake, if the owner is to be woken.
    #[inline]
    #[must_use]
    pub(crate) fn end(&self) -> Option<usize> {
        #[cfg(mutant = "ending_torn")]
        let before = {
            let before = self.0.load(Ordering::Relaxed);
            self.0.store(before + ENDED, Ordering::Release);
            before
        };
        #[cfg(not(mutant = "ending_torn"))]
        let before = self.0.fetch_add(ENDED, END);
        (before & AWAITED != 0).then_some(before / NUMBER)
    }

    /// As `end`, where `whom` takes out of the frame what wakes the owner: before the frame may be gone.
    #[inline]
    #[must_use]
    pub(crate) fn end_telling<W>(&self, whom: impl Fn() -> W) -> Option<W> {
        #[cfg(mutant = "ending_read_late")]
        return self.end().map(|_| whom());
        let whom = whom();
        self.end().map(|_| whom)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire) & ENDED != 0
    }

    /// From now on who ends the job wakes the owner, by this number, unless it has ended.
    pub(crate) fn await_end(&self, whom: usize) {
        let awaited = whom * NUMBER + AWAITED;
        #[cfg(mutant = "ending_deaf")]
        return self.0.store(awaited, Ordering::Relaxed);
        let await_it = |word| (word & ENDED == 0).then_some(awaited + (word & BEGUN));
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, await_it);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Just before a word wraps, or changes its sign; in jobs.
    fn starts() -> impl Strategy<Value = u64> {
        let edge = prop_oneof![Just(0), Just(1 << 62), Just(1 << 63)];
        (edge, 0u64..9).prop_map(|(edge, before): (u64, u64)| edge.wrapping_sub(before))
    }

    proptest! {
        /// Failure 29: the count is zero when no job is left, and at no other time, though each of its words goes
        /// below zero, or round.
        #[test]
        fn r3_the_jobs_of_a_frame_are_counted_while_the_words_wrap(
            start in starts(),
            ops in prop::collection::vec(0u8..4, 0..60),
        ) {
            let tally = Tally {
                near: Line(AtomicU64::new(start.wrapping_mul(JOB))),
                far: Line(AtomicU64::new(start.wrapping_mul(JOB).wrapping_neg())),
            };
            let mut left = 0u64;
            for op in ops {
                match op {
                    0 => tally.begin_near(),
                    1 if left > 0 => tally.begin_far(),
                    2 if left > 0 => tally.end_near(),
                    3 if left > 0 => prop_assert!(!tally.end_far(), "nobody is blocked"),
                    _ => continue,
                }
                left = if op < 2 { left + 1 } else { left - 1 };
                prop_assert_eq!(tally.is_zero(), left == 0);
            }
            tally.block(|| {
                prop_assert_eq!(tally.has_ended(), left == 0);
                for left in (0..left).rev() {
                    let is_last = if left % 2 == 0 {
                        tally.end_far()
                    } else {
                        tally.end_far_telling(|| ()).is_some()
                    };
                    prop_assert_eq!((is_last, tally.has_ended()), (left == 0, left == 0));
                }
                Ok(())
            })?;
            prop_assert!(tally.is_zero());
        }
    }
}
