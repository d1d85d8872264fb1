//! Latches: the words of a wait frame, on its owner's stack, that count the jobs it waits for.
//!
//! [`Latch`] is for one job; [`CountLatch`] is for many, and its owner counts without atomic
//! operations. `runtime/wait/frames.rs` describes their use.
//!
//! # The protocol
//!
//! One word holds the number of jobs that have not ended, and the bit *waiting*. Only the owner
//! sets that bit, when it is about to park. The frame may be gone as soon as the owner can observe
//! that its latch is *met*, which is when the word is zero. So an end of a job is one subtraction,
//! and the last access to the frame.
//!
//! **The last end unparks the owner.** If a subtraction takes the last job away and finds the bit,
//! the word is not zero yet. The thread that ended the job then reads the owner's thread from the
//! frame, clears the bit, and unparks the owner. The clearing is its last access to the frame.
//!
//! **The owner announces** by one addition, and the bit stays until one of two threads clears it.
//! If the addition finds that no job is left, no end will find the bit, and the owner clears it. If
//! the wait is interrupted, the owner clears the bit, unless no job is left: then the last end is
//! about to. In both cases each read-modify-write of the word sees whether the other came first.
//!
//! **The thread to unpark** lies in the frame of the wait. The latch has its address, which is
//! written before the bit is first set, and is read only by a thread that observes the bit before
//! it ends its last job.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | jobs, *waiting* | the owner; threads that begin and end jobs | the owner |
//! | *begun* | the thread that begins the one job | the owner |
//! | the owner's thread | the owner, before it announces | the last end; a job that notifies |
//! | `near` | the owner alone | the owner |
//!
//! **A count latch** has a second count, `near`, of the jobs that the owner begins, less those that
//! it ends itself. `near` and the word may each go below zero; the sum is the count. Only the owner
//! can form the sum, and while it runs no other thread needs it. When it announces, it moves `near`
//! into the word.

#[cfg(all(test, loom))]
mod model;

use std::{cell::OnceCell, mem::MaybeUninit};

use crate::{
    protocol::wait::{Condition, When},
    sync::{
        AtomicU64, Ordering, UnsafeCell, fence,
        thread::{self, Thread},
    },
};

/// The owner is about to park, or parks.
const WAITING: u64 = 1;
/// Another thread has begun the one job, and has published itself as the runner.
const BEGUN: u64 = 2;
/// One job. It stands above the flags, so the count of jobs may wrap.
const JOB: u64 = 4;

/// Release: a thread that observes the count observes what the job did. Acquire: for the thread
/// that unparks.
const END: Ordering = mutant_order!("latch_relaxed", Ordering::AcqRel);

/// The latch of one job.
pub(crate) struct Latch {
    word: AtomicU64,
    /// The owner's thread, from before it announces until the latch is met.
    owner: UnsafeCell<MaybeUninit<*const Thread>>,
}

// SAFETY: the protocol hands the address from the owner to the threads that read it.
unsafe impl Send for Latch {}
// SAFETY: as above.
unsafe impl Sync for Latch {}

impl Latch {
    /// Returns the latch of a job that has not begun.
    #[inline]
    pub(crate) fn new() -> Self {
        Self::of(JOB)
    }

    #[inline]
    fn of(word: u64) -> Self {
        Self {
            word: AtomicU64::new(word),
            owner: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Records that another thread has begun the job. The owner observes what that thread has
    /// written about it.
    pub(crate) fn begin(&self) {
        let order = mutant_order!("latch_relaxed_begin", Ordering::Release);
        self.word.fetch_add(BEGUN, order);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.word.load(Ordering::Acquire) & BEGUN != 0
    }

    /// Ends the job, or one of the jobs. The frame may be gone when this returns.
    #[inline]
    pub(crate) fn end(&self) {
        let before = or_mutant!("latch_torn_end", self.word.fetch_sub(JOB, END), {
            let before = self.word.load(Ordering::Acquire);
            self.word.store(before - JOB, Ordering::Release);
            before
        });
        if before & !BEGUN == JOB | WAITING {
            self.unpark_owner();
        }
    }

    /// Unparks the owner, for the last end. The owner does not leave before the bit is cleared.
    #[cold]
    fn unpark_owner(&self) {
        if mutant!("latch_read_late") {
            self.word.fetch_sub(WAITING, END);
            return self.owner().unpark();
        }
        let owner = self.owner();
        self.word.fetch_sub(WAITING, END);
        owner.unpark();
    }

    /// Returns the owner's thread. The caller has observed that the owner waits, and the owner does
    /// not leave meanwhile.
    fn owner(&self) -> Thread {
        // SAFETY: the owner wrote the address before it set the bit, and neither writes it again
        // nor drops the thread before the latch is met.
        self.owner
            .with(|owner| unsafe { (*(*owner).assume_init()).clone() })
    }

    /// Whether the job has ended, on the owner's thread.
    #[inline]
    pub(crate) fn is_met(&self) -> bool {
        self.is_met_beside(0)
    }

    /// Whether no job is left, if the owner has `near` on its own account.
    #[inline]
    fn is_met_beside(&self, near: u64) -> bool {
        self.word.load(Ordering::Acquire).wrapping_add(near) & !BEGUN == 0
    }

    /// Calls `wait` with the condition that the job has ended, on the owner's thread. `wait`
    /// returns when the condition is met.
    pub(crate) fn await_end<R>(&self, wait: impl FnOnce(&dyn Condition) -> R) -> R {
        self.with_owner(|owner| {
            let announce = || self.announce(0, owner);
            wait(&When(|| self.is_met(), announce, || self.withdraw()))
        })
    }

    /// Calls `wait` with the place of the owner's thread, which outlives every access to it. Most
    /// waits end without an announcement, and need no thread.
    fn with_owner<R>(&self, wait: impl FnOnce(&OnceCell<Thread>) -> R) -> R {
        let owner = OnceCell::new();
        let result = wait(&owner);
        if owner.get().is_some() {
            // SAFETY: the latch is met, so no other thread reads it again. loom checks that here.
            self.owner
                .with_mut(|to| unsafe { *to = MaybeUninit::uninit() });
        }
        result
    }

    /// Makes the last end unpark the `owner`, which is the calling thread. Moves `near` into the
    /// word.
    fn announce(&self, near: u64, owner: &OnceCell<Thread>) {
        if self.is_announced() {
            // The owner has run nothing since.
            debug_assert_eq!(near, 0);
            return;
        }
        if owner.get().is_none() {
            let owner = owner.get_or_init(thread::current);
            // SAFETY: the owner has not announced itself before, so no other thread reads it.
            self.owner.with_mut(|to| unsafe { (*to).write(owner) });
        }
        let bit = or_mutant!("latch_silent", WAITING, 0);
        // AcqRel: as in `end` and `is_met`.
        let added = near.wrapping_add(bit);
        let before = self.word.fetch_add(added, Ordering::AcqRel);
        let is_met = before.wrapping_add(near) & !BEGUN == 0;
        if is_met && !mutant!("latch_announce_blind") {
            self.word.fetch_sub(bit, Ordering::Relaxed);
        }
        // Pairs with the fence in `notify`.
        unless_mutant!("latch_no_fence_announce", fence(Ordering::SeqCst));
    }

    fn is_announced(&self) -> bool {
        self.word.load(Ordering::Acquire) & WAITING != 0
    }

    /// Takes the announcement back, unless the last end is about to.
    fn withdraw(&self) {
        let is_last_end = |word| word & !BEGUN == WAITING && !mutant!("latch_withdraw_blind");
        let withdraw = |word| (word & WAITING != 0 && !is_last_end(word)).then(|| word - WAITING);
        // Fails if there is nothing to take back.
        let _ = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, withdraw);
    }
}

/// The latch of many jobs.
pub(crate) struct CountLatch {
    /// The jobs that the owner itself began, less those that it ended. Written by the owner alone.
    near: Line<AtomicU64>,
    far: Line<Latch>,
}

/// A value on a cache line of its own. On a shared line, each job that the owner begins and ends
/// would invalidate it for others: the threads that end jobs elsewhere, and all that read the
/// frame.
#[repr(align(64))]
struct Line<T>(T);

impl CountLatch {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            near: Line(AtomicU64::new(0)),
            far: Line(Latch::of(0)),
        }
    }

    #[inline]
    fn near(&self) -> u64 {
        self.near.0.load(Ordering::Relaxed)
    }

    /// Counts one more job, by the owner.
    #[inline]
    pub(crate) fn begin_near(&self) {
        let near = self.near().wrapping_add(JOB);
        self.near.0.store(near, Ordering::Relaxed);
    }

    /// Counts the end of a job on the owner's thread.
    #[inline]
    pub(crate) fn end_near(&self) {
        let near = self.near().wrapping_sub(JOB);
        self.near.0.store(near, Ordering::Relaxed);
    }

    /// Counts one more job, by another thread.
    #[inline]
    pub(crate) fn begin_far(&self) {
        // Relaxed: the caller is in a job of the frame, or in its body, so the count is not zero.
        self.far.0.word.fetch_add(JOB, Ordering::Relaxed);
    }

    /// Counts the end of a job on another thread. The frame may be gone when this returns.
    #[inline]
    pub(crate) fn end_far(&self) {
        self.far.0.end();
    }

    /// Whether no job is left, on the owner's thread.
    #[inline]
    pub(crate) fn is_met(&self) -> bool {
        self.far.0.is_met_beside(self.near())
    }

    /// As [`Latch::await_end`], for the end of all jobs.
    pub(crate) fn await_end<R>(&self, wait: impl FnOnce(&dyn Condition) -> R) -> R {
        let far = &self.far.0;
        far.with_owner(|owner| {
            let announce = || {
                let near = self.near.0.swap(0, Ordering::Relaxed);
                far.announce(or_mutant!("latch_keep_near", near, 0), owner);
            };
            wait(&When(|| self.is_met(), announce, || far.withdraw()))
        })
    }

    /// Unparks the owner if it is about to park, or parks. Called by a job of the frame, which
    /// therefore still exists, after the job has put an entry into the side list.
    pub(crate) fn notify(&self) {
        // Pairs with the fence in `announce`: we see that the owner is about to park, or it sees
        // the side entry.
        unless_mutant!("latch_no_fence_notify", fence(Ordering::SeqCst));
        if self.far.0.is_announced() {
            self.far.0.owner().unpark();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values just before a word wraps, or changes its sign; in jobs.
    fn starts() -> impl Strategy<Value = u64> {
        let edge = prop_oneof![Just(0), Just(1 << 61), Just(1 << 62)];
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
            let latch = CountLatch {
                near: Line(AtomicU64::new(start.wrapping_mul(JOB))),
                far: Line(Latch::of(start.wrapping_mul(JOB).wrapping_neg())),
            };
            let mut left = 0u64;
            for op in ops {
                match op {
                    0 => latch.begin_near(),
                    1 if left > 0 => latch.begin_far(),
                    2 if left > 0 => latch.end_near(),
                    3 if left > 0 => latch.end_far(),
                    _ => continue,
                }
                left = if op < 2 { left + 1 } else { left - 1 };
                prop_assert_eq!(latch.is_met(), left == 0);
            }
            latch.await_end(|condition| {
                condition.announce();
                prop_assert_eq!(latch.is_met(), left == 0);
                for left in (0..left).rev() {
                    prop_assert!(latch.far.0.is_announced());
                    latch.end_far();
                    prop_assert_eq!(latch.is_met(), left == 0);
                }
                condition.withdraw();
                prop_assert!(latch.is_met());
                Ok(())
            })?;
        }
    }
}
