//! The state of a job with a handle: one allocation with two ends, and one word that both share.
//!
//! The *queue end* lies in a queue, the *handle end* is the user's. The word has five flags, each
//! of which only its own transition sets:
//!
//! | flag | set by | when |
//! |---|---|---|
//! | claimed | either end | it may run, cancel or drop the job; only the first claim succeeds |
//! | done | the end that claimed | the result is in its place |
//! | awaited | the handle end | its wake is in the slot; cleared only while that is replaced |
//! | detached | the handle end | it is dropped |
//! | dequeued | the queue end | it is dropped |
//!
//! # The protocol
//!
//! All transitions are read-modify-writes of one word, so of two that meet, the later one observes
//! the earlier.
//!
//! **The slot of the wake belongs to the handle end, unless the word is awaited.** The handle end
//! writes the slot, and sets *awaited* after it. If it then observes *done*, it does not wait. To
//! replace the wake it clears *awaited* first. If that observes *done*, the slot is no longer its
//! own. The end that sets *done* and observes *awaited* owns the slot from then on: it takes the
//! wake out and wakes it.
//!
//! **The end that leaves last frees the allocation.** An end that observes the other's flag is the
//! last one, and needs no flag of its own.
//!
//! **The queue end sets *done* and *dequeued* in one step, unless the word is awaited.** With both
//! set the handle end may take the result and free the allocation at once. So an end that still has
//! to take a wake out sets *done* alone, and leaves after that.

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

use std::{
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    ops::Deref,
    ptr::NonNull,
};

use super::Wake;
use crate::sync::{AtomicU8, Ordering, UnsafeCell, unwind::quietly};

const CLAIMED: u8 = 1;
const DONE: u8 = 1 << 1;
const AWAITED: u8 = 1 << 2;
const DETACHED: u8 = 1 << 3;
const DEQUEUED: u8 = 1 << 4;

const FINISH: Ordering = mutant_order!("task_relaxed_finish", Ordering::AcqRel);

/// The allocation that both ends point to.
pub(crate) struct TaskCell<T: ?Sized> {
    word: AtomicU8,
    waiter: UnsafeCell<Option<Wake>>,
    value: T,
}

impl<T: ?Sized> TaskCell<T> {
    /// Claims the job. Returns true for the one caller that may run, cancel or drop it.
    fn claim(&self) -> bool {
        // Relaxed: the claim only decides. Each end came to its thread with the closure.
        let torn = mutant!("task_torn_claim") && !self.is_claimed();
        self.word.fetch_or(CLAIMED, Ordering::Relaxed) & CLAIMED == 0 || torn
    }

    fn is_claimed(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CLAIMED != 0
    }

    /// Sets *done*, and `more`, and wakes the handle's waiter. The caller has claimed the job.
    fn finish(&self, more: u8) {
        // Release: a handle that observes *done* observes the result. Acquire: we observe its wake.
        let before = self.word.fetch_or(DONE | more, FINISH);
        if before & AWAITED != 0 && !mutant!("task_mute") {
            // SAFETY: the word was awaited when we set done, so the slot is ours.
            let wake = self.waiter.with_mut(|slot| unsafe { (*slot).take() });
            if let Some(wake) = wake {
                wake.wake();
            }
        }
    }

    /// Sets the flag of an end that leaves. Returns whether the other end has left too.
    fn leave(&self, own: u8, other: u8) -> bool {
        let (look, leave) = (
            mutant_order!("task_relaxed_look", Ordering::Acquire),
            mutant_order!("task_relaxed_leave", Ordering::AcqRel),
        );
        if mutant!("task_torn_leave") {
            let word = self.word.load(Ordering::Acquire);
            self.word.store(word | own, Ordering::Release);
            return word & other != 0;
        }
        // Acquire: the last end observes what the other has done. Release: the other observes what
        // we have done.
        self.word.load(look) & other != 0 || self.word.fetch_or(own, leave) & other != 0
    }
}

/// A pointer to the allocation, which exists as long as the end does.
struct End<T: ?Sized> {
    cell: NonNull<TaskCell<T>>,
    marker: PhantomData<TaskCell<T>>,
}

impl<T: ?Sized> End<T> {
    fn to(cell: NonNull<TaskCell<T>>) -> Self {
        Self {
            cell,
            marker: PhantomData,
        }
    }

    /// # Safety
    /// The other end has left, and this one is not used again.
    unsafe fn free(&self) {
        // SAFETY: it came from a box, and nothing else refers to it.
        let cell = unsafe { Box::from_raw(self.cell.as_ptr()) };
        // A waker is user code, as the value is: each drop may panic on its own.
        // SAFETY: nothing else refers to it.
        let wake = cell.waiter.with_mut(|slot| unsafe { (*slot).take() });
        quietly(move || drop(wake));
        drop(cell);
    }
}

impl<T: ?Sized> Deref for End<T> {
    type Target = TaskCell<T>;

    #[inline]
    fn deref(&self) -> &TaskCell<T> {
        // SAFETY: it is freed only after both ends have left.
        unsafe { self.cell.as_ref() }
    }
}

/// The end that lies in a queue.
pub(crate) struct QueueEnd<T: ?Sized>(End<T>);

/// The end of the handle.
pub(crate) struct HandleEnd<T: ?Sized>(End<T>);

// SAFETY: both ends give out references to the value, and the last one drops it, on any thread.
unsafe impl<T: ?Sized + Send + Sync> Send for QueueEnd<T> {}
// SAFETY: as for Send.
unsafe impl<T: ?Sized + Send + Sync> Sync for QueueEnd<T> {}
// SAFETY: as for the queue end. A waiter is awaited through an exclusive reference only.
unsafe impl<T: ?Sized + Send + Sync> Send for HandleEnd<T> {}
// SAFETY: as for Send.
unsafe impl<T: ?Sized + Send + Sync> Sync for HandleEnd<T> {}

// The allocation does not move.
impl<T: ?Sized> Unpin for HandleEnd<T> {}

/// Returns both ends of a new job.
pub(crate) fn task<T>(value: T) -> (QueueEnd<T>, HandleEnd<T>) {
    let cell = Box::new(TaskCell {
        word: AtomicU8::new(0),
        waiter: UnsafeCell::new(None),
        value,
    });
    let cell = NonNull::from(Box::leak(cell));
    (QueueEnd(End::to(cell)), HandleEnd(End::to(cell)))
}

impl<T: ?Sized> QueueEnd<T> {
    /// Claims the job. Returns true for the one caller that may run, cancel or drop it.
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        self.0.claim()
    }

    /// Returns whether the job was claimed. If so, this end may be a tombstone.
    pub(crate) fn is_claimed(&self) -> bool {
        self.0.is_claimed()
    }

    /// Ends the job and leaves. The caller has claimed the job, and has put its result into its
    /// place.
    pub(crate) fn finish(self) {
        let mut word = self.0.word.load(Ordering::Acquire);
        while word & DETACHED == 0 {
            if word & AWAITED != 0 {
                if mutant!("task_leave_early") {
                    return ManuallyDrop::new(self).0.finish(DEQUEUED);
                }
                self.0.finish(0);
                break;
            }
            // Release: the handle observes the result, and frees what we no longer use.
            let both = word | DONE | DEQUEUED;
            let ended = self
                .0
                .word
                .compare_exchange_weak(word, both, FINISH, Ordering::Acquire);
            match ended {
                Ok(_) => return mem::forget(self),
                Err(now) => word = now,
            }
        }
        // Leaves by its drop. A detached job has no waiter.
    }
}

impl<T: ?Sized> HandleEnd<T> {
    /// As [`QueueEnd::claim`].
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        self.0.claim()
    }

    pub(crate) fn is_claimed(&self) -> bool {
        self.0.is_claimed()
    }

    /// Ends the job. The caller has claimed the job, and has put its result into its place.
    pub(crate) fn finish(&self) {
        self.0.finish(0);
    }

    /// Returns whether the job has ended. Its result is then the handle's.
    pub(crate) fn is_done(&self) -> bool {
        self.0.word.load(Ordering::Acquire) & DONE != 0
    }

    /// Registers `wake` to be woken when the job is done, in place of any earlier one. Returns true
    /// if the job is done already, and no wake-up will follow.
    #[must_use]
    pub(crate) fn awaits(&mut self, wake: Wake) -> bool {
        let cell = &*self.0;
        let is_replaced = cell.word.load(Ordering::Relaxed) & AWAITED != 0;
        // Acquire, here and below: if the job is done, we observe the result.
        if is_replaced
            && !mutant!("task_torn_wake")
            && cell.word.fetch_and(!AWAITED, Ordering::Acquire) & DONE != 0
        {
            return true;
        }
        // SAFETY: the word is not awaited, so the slot is the handle's, of which there is one.
        let earlier = cell
            .waiter
            .with_mut(|slot| unsafe { (*slot).replace(wake) });
        // Release: the end that sets *done* observes the wake.
        let before = cell.word.fetch_or(AWAITED, Ordering::AcqRel);
        quietly(move || drop(earlier));
        before & DONE != 0 && !mutant!("task_unseen")
    }

    /// Returns this end with a less specific type of the value.
    ///
    /// # Safety
    /// `unsize` returns the pointer that it is given, coerced.
    pub(crate) unsafe fn coerce<U: ?Sized>(
        self,
        unsize: impl FnOnce(*mut TaskCell<T>) -> *mut TaskCell<U>,
    ) -> HandleEnd<U> {
        let cell = unsize(self.0.cell.as_ptr());
        mem::forget(self);
        // SAFETY: it is not null, since it was not before.
        HandleEnd(End::to(unsafe { NonNull::new_unchecked(cell) }))
    }
}

impl<T: ?Sized> Deref for QueueEnd<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: ?Sized> Deref for HandleEnd<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: ?Sized> Drop for QueueEnd<T> {
    fn drop(&mut self) {
        if self.0.leave(DEQUEUED, DETACHED) {
            // SAFETY: both have left.
            unsafe { self.0.free() };
        }
    }
}

impl<T: ?Sized> Drop for HandleEnd<T> {
    fn drop(&mut self) {
        if self.0.leave(DETACHED, DEQUEUED) {
            // SAFETY: both have left.
            unsafe { self.0.free() };
        }
    }
}
