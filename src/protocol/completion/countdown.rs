//! The words of a wait frame, on its owner's stack: a count of jobs, or the end of one job.
//!
//! `runtime/wait/frames.rs` describes their use. This module has only what several threads access,
//! so that models can explore it. Both words keep one promise: the operation that lets the owner go
//! is the last access to them. What unparks the owner is read before that operation.

#[cfg(all(test, loom))]
mod model;

use std::ops::Deref;

use crate::{
    protocol::wait::{Condition, When},
    sync::{AtomicU64, AtomicUsize, Ordering, fence},
};

/// One job, in the units of `far`; the bit below announces that the owner is about to park.
const JOB: u64 = 2;
const WAITING: u64 = 1;

/// Release: a thread that observes the count observes what the job did. Acquire: for the thread
/// that unparks.
const END: Ordering = mutant_order!("countdown_relaxed", Ordering::AcqRel);

/// The number of jobs left.
pub(crate) struct Tally {
    /// The jobs that the owner itself began, less those that it ended. Written by the owner alone.
    near: Line,
    far: Line,
}

/// A word on a cache line of its own. On a shared line, each job that the owner begins and ends
/// would invalidate it for others: the threads that end jobs elsewhere, and all that read the
/// frame.
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

    /// Counts one more job, by the owner.
    #[inline]
    pub(crate) fn begin_near(&self) {
        self.add_near(JOB);
    }

    /// Counts one more job, by another thread.
    #[inline]
    pub(crate) fn begin_far(&self) {
        // Relaxed: the caller is in a job of the frame, or in its body, so the count is not zero.
        self.far.fetch_add(JOB, Ordering::Relaxed);
    }

    /// Counts the end of a job on the owner's thread.
    #[inline]
    pub(crate) fn end_near(&self) {
        self.add_near(JOB.wrapping_neg());
    }

    /// Counts the end of a job on another thread. After it, the frame may be gone. Returns true if
    /// the caller has to unpark the owner, by what it knows of the owner already.
    #[inline]
    #[must_use]
    pub(crate) fn end_far(&self) -> bool {
        let before = self.far.fetch_sub(JOB, END);
        if mutant!("countdown_look_late") {
            return self.far.load(Ordering::Relaxed) == WAITING;
        }
        before == JOB | WAITING
    }

    /// As `end_far`, where `owner` reads from the frame what unparks the owner: at most as often as
    /// the bit is observed.
    #[inline]
    #[must_use]
    pub(crate) fn end_far_with<W>(&self, owner: impl Fn() -> W) -> Option<W> {
        let mut far = self.far.load(Ordering::Relaxed);
        loop {
            let wake = (far == JOB | WAITING).then(&owner);
            if mutant!("countdown_torn_end") {
                self.far.fetch_sub(JOB, END);
                return wake;
            }
            match self
                .far
                .compare_exchange_weak(far, far.wrapping_sub(JOB), END, Ordering::Relaxed)
            {
                Ok(_) => {
                    return or_mutant!("countdown_read_late", wake, wake.map(|_| owner()));
                }
                Err(now) => far = now,
            }
        }
    }

    /// Returns whether the owner is about to park, or parks. Called by a job of the frame, which
    /// therefore still exists, after the job has put a side entry into the list.
    pub(crate) fn is_awaited(&self) -> bool {
        // Pairs with the fence in `announce`: we see that the owner is about to park, or it sees
        // the side entry.
        unless_mutant!("countdown_no_fence_side", fence(Ordering::SeqCst));
        self.is_announced()
    }

    fn is_announced(&self) -> bool {
        self.far.load(Ordering::Relaxed) & WAITING != 0
    }
}

/// The owner's condition that no job is left.
impl Condition for Tally {
    #[inline]
    fn is_met(&self) -> bool {
        let near = self.near.load(Ordering::Relaxed);
        (self.far.load(Ordering::Acquire) & !WAITING).wrapping_add(near) == 0
    }

    /// Makes the thread that brings the count to zero unpark the owner.
    fn announce(&self) {
        // Only the owner sets the bit, and only the owner clears it.
        if self.is_announced() {
            return;
        }
        let near = or_mutant!(
            "countdown_keep_near",
            self.near.swap(0, Ordering::Relaxed),
            0
        );
        let bit = or_mutant!("countdown_silent", WAITING, 0);
        // AcqRel: as in `end_far` and `is_met`.
        self.far.fetch_add(near.wrapping_add(bit), Ordering::AcqRel);
        // Pairs with the fence in `is_awaited`.
        unless_mutant!("countdown_no_fence_block", fence(Ordering::SeqCst));
    }

    fn withdraw(&self) {
        unless_mutant!(
            "countdown_silent",
            self.far.fetch_sub(WAITING, Ordering::AcqRel)
        );
    }
}

/// The condition that one job has ended.
///
/// Once the owner is about to park, the word holds the thread to unpark. So if no other thread runs
/// the job, the job writes the word once.
pub(crate) struct Ending(AtomicUsize);

const ENDED: usize = 1;
const AWAITED: usize = 2;
/// Another thread has begun the job, and has published itself as the runner.
const BEGUN: usize = 4;
/// Above those three flags: the number of the thread to unpark.
const NUMBER: usize = 8;

impl Ending {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Records that another thread has begun the job. The owner observes what that thread has
    /// written about it.
    pub(crate) fn begin(&self) {
        let order = mutant_order!("ending_relaxed_begin", Ordering::Release);
        self.0.fetch_add(BEGUN, order);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) & BEGUN != 0
    }

    /// Records that the job has ended. After it, the frame may be gone. Returns the owner's number
    /// if the owner has to be unparked.
    #[inline]
    #[must_use]
    pub(crate) fn end(&self) -> Option<usize> {
        let before = or_mutant!("ending_torn", self.0.fetch_add(ENDED, END), {
            let before = self.0.load(Ordering::Relaxed);
            self.0.store(before + ENDED, Ordering::Release);
            before
        });
        (before & AWAITED != 0).then_some(before / NUMBER)
    }

    /// As `end`, where `owner` reads from the frame what unparks the owner, before the frame may be
    /// gone.
    #[inline]
    #[must_use]
    pub(crate) fn end_with<W>(&self, owner: impl Fn() -> W) -> Option<W> {
        if mutant!("ending_read_late") {
            return self.end().map(|_| owner());
        }
        let owner = owner();
        self.end().map(|_| owner)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire) & ENDED != 0
    }

    /// Makes the thread that ends the job unpark the owner, by this number, unless the job has
    /// ended.
    fn await_end(&self, owner: usize) {
        let awaited = owner * NUMBER + AWAITED;
        if mutant!("ending_unseen") {
            return self.0.store(awaited, Ordering::Relaxed);
        }
        let await_it = |word| (word & ENDED == 0).then_some(awaited + (word & BEGUN));
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, await_it);
    }
    /// Returns the owner's condition that the job has ended. The owner is unparked by this number.
    pub(crate) fn for_owner(&self, owner: usize) -> impl Condition {
        When(|| self.has_ended(), move || self.await_end(owner), || ())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values just before a word wraps, or changes its sign; in jobs.
    fn starts() -> impl Strategy<Value = u64> {
        let edge = prop_oneof![Just(0), Just(1 << 62), Just(1 << 63)];
        (edge, 0u64..9).prop_map(|(edge, before): (u64, u64)| edge.wrapping_sub(before))
    }

    proptest! {
        /// Failure 29: the count is zero when no job is left, and at no other time, though each of
        /// its words falls below zero or wraps.
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
                    3 if left > 0 => prop_assert!(!tally.end_far(), "no owner is blocked"),
                    _ => continue,
                }
                left = if op < 2 { left + 1 } else { left - 1 };
                prop_assert_eq!(tally.is_met(), left == 0);
            }
            tally.announce();
            prop_assert_eq!(tally.is_met(), left == 0);
            for left in (0..left).rev() {
                let is_last = if left % 2 == 0 {
                    tally.end_far()
                } else {
                    tally.end_far_with(|| ()).is_some()
                };
                prop_assert_eq!((is_last, tally.is_met()), (left == 0, left == 0));
            }
            tally.withdraw();
            prop_assert!(tally.is_met());
        }
    }
}
