//! One thread's part of the queue: its own deques.

use std::{cell::Cell, ptr};

use super::{Offered, Pushed};
use crate::{
    protocol::deque::Owner,
    runtime::{
        job::{Ended, Executor, Job, Place, Runnable},
        turn::Turn,
    },
    sync::crossbeam_deque::Worker,
};

/// One thread's part of the queue.
pub(crate) struct Local<E: Executor> {
    /// First in, first out.
    pub(super) submitted: Worker<Job<E>>,
    /// Last in, first out.
    pub(super) structured: Owner<Job<E>>,
    /// An upper bound on the number of submitted jobs, in front, that came from the injector in one
    /// batch.
    pub(super) batch: Cell<usize>,
    pub(crate) turn: Turn,
    pub(super) random: Cell<u32>,
}

impl<E: Executor> Local<E> {
    /// Makes that of the thread `index`.
    pub(super) fn new(index: usize, submitted: Worker<Job<E>>, structured: Owner<Job<E>>) -> Self {
        Self {
            submitted,
            structured,
            batch: Cell::new(0),
            turn: Turn::new(),
            random: Cell::new(0x9e37_79b9 ^ (index as u32 + 1)),
        }
    }

    /// Pushes a submitted job that the thread keeps over the bound, for itself and for thieves.
    pub(crate) fn keep(&self, job: Job<E>) -> Pushed {
        self.submitted.push(job);
        Pushed(())
    }

    /// Whether the thread's deque has submitted jobs behind those of a batch.
    pub(crate) fn has_kept(&self) -> bool {
        self.submitted.len() > self.batch.get()
    }

    /// Whether the thread's deque has no structured jobs.
    #[inline]
    pub(crate) fn has_no_structured(&self) -> bool {
        self.structured.is_empty()
    }

    /// Pushes a structured job, for this thread and for thieves.
    ///
    /// # Safety
    /// As for [`Job::borrowing`].
    #[inline]
    pub(crate) unsafe fn push_structured<R: Runnable<E>>(&self, runnable: R) -> Offered {
        // SAFETY: the slot is for a job; the rest is passed on to the caller.
        unsafe {
            self.structured.push_with(|slot| Job::write(slot, runnable));
        }
        Offered(())
    }

    /// Returns the mark of the next structured job, if there is room for one.
    #[inline]
    pub(crate) fn room(&self) -> Option<usize> {
        self.structured.room()
    }

    /// Makes room for one more structured job.
    pub(crate) fn make_room(&self) {
        self.structured.reserve(1);
    }

    /// As `push_structured`, at a known mark.
    ///
    /// # Safety
    /// 1. As for [`Job::borrowing`].
    /// 2. `mark` was returned by `room`.
    #[inline]
    pub(crate) unsafe fn push_structured_at<R: Runnable<E>>(
        &self,
        mark: usize,
        runnable: R,
    ) -> Offered {
        // SAFETY: the slot is for a job; the rest is passed on to the caller.
        unsafe {
            self.structured
                .push_at(mark, |slot| Job::write(slot, runnable));
        }
        Offered(())
    }

    /// Returns the mark below all structured jobs that are pushed later.
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.structured.mark()
    }

    /// Whether the structured job that was pushed last is a half of a join. That job may have left
    /// the deque. At least one must have been pushed.
    #[inline]
    pub(crate) fn is_last_half(&self) -> bool {
        let is_half = |job| {
            // SAFETY: a job was written there, and the number was not given to another since.
            unsafe { Job::is_half(job) }
        };
        self.structured.peek_last(is_half)
    }

    /// Drops the record of the structured jobs that were pushed above this mark. All of them were
    /// stolen.
    #[inline]
    pub(crate) fn clear_stolen(&self, mark: usize) {
        self.structured.clear_stolen(mark);
    }

    /// Takes back the structured job at this mark, the last one that is there. Returns false if it
    /// was stolen.
    pub(crate) fn retract_structured(&self, mark: usize) -> bool {
        self.structured.retract(mark)
    }

    /// As `retract_structured`, if that can be decided at once. If it returns false,
    /// `retract_structured` has to be called.
    #[inline]
    pub(crate) fn retract_structured_at_once(&self, mark: usize) -> bool {
        self.structured.retract_at_once(mark)
    }

    /// Runs the structured job that was pushed last, if it is above the mark and was not stolen.
    /// Returns its end.
    #[inline]
    pub(crate) fn run_structured(&self, mark: usize, context: &E::Context<'_>) -> Option<Ended> {
        // SAFETY: running it moves its closure out first.
        unsafe {
            self.structured
                .pop_with(mark, |job| Job::run_in_place(job, context, Place::Queue))
        }
    }

    /// Pops the next submitted job of the thread's own deque.
    #[inline]
    pub(crate) fn pop_submitted(&self) -> Option<Job<E>> {
        let job = self.submitted.pop();
        let batch = self.batch.get();
        // Thieves may have taken part of the batch.
        self.batch.set(if job.is_some() {
            batch.saturating_sub(1)
        } else {
            0
        });
        job
    }

    /// Begins the batch that was moved here from the injector. Jobs that the thread kept before are
    /// in front of it, and count as part of it. Returns whether there is any.
    pub(super) fn begin_batch(&self) -> bool {
        self.batch.set(self.submitted.len());
        self.batch.get() > 0
    }

    /// Pops the next job of the batch.
    pub(crate) fn pop_of_batch(&self) -> Option<Job<E>> {
        if self.batch.get() == 0 {
            return None;
        }
        self.pop_submitted()
    }

    /// Clears the steal origin: the next job of the loop serves no scope whose jobs this thread has
    /// stolen.
    pub(crate) fn clear_steal_origin(&self) {
        self.structured.set_purpose(ptr::null());
    }

    /// Whether a job of the loop may push jobs of this scope here. The deque of a thread that
    /// serves a scope has only jobs of that scope.
    #[inline]
    pub(crate) fn may_push_for(&self, scope: *const ()) -> bool {
        let purpose = self.structured.purpose();
        purpose == 0 || purpose == scope.addr()
    }
}
