//! The job behind a handle: its closure and its result, and the end of it that lies in a queue.
//!
//! The queue and the handle share one allocation: see `task_state.rs`. The end that claims the job
//! owns the closure. That is the worker that runs it, the handle that cancels it or runs it itself,
//! or the shutdown that drops it. The other end finds a tombstone.

use std::{
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    error::JobError,
    metrics::Stamp,
    protocol::completion::task_state::{self, HandleEnd, QueueEnd},
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Ended, Place, Runnable},
    },
    sync::{UnsafeCell, unwind::quietly},
};

/// A job: its closure, and then its result.
struct Task<F, T> {
    /// Alive while the job is unclaimed: the pool's threads keep it until every job has ended.
    inner: *const Inner,
    /// Belongs to the end that claimed the job until the job is done, and then to the handle.
    content: UnsafeCell<Content<F, T>>,
    place: Place,
    /// When the job got its place.
    since: Stamp,
}

enum Content<F, T> {
    Body(F),
    Result(Result<T, JobError>),
    /// The content was taken.
    Taken,
}

// SAFETY: the body and the result move between threads, so they are Send. The task's state ensures
// that only one thread at a time has a reference to either. The pool is Sync.
unsafe impl<F: Send, T: Send> Send for Task<F, T> {}
// SAFETY: as for Send.
unsafe impl<F: Send, T: Send> Sync for Task<F, T> {}

impl<F, T> Task<F, T> {
    /// Takes the content out.
    ///
    /// # Safety
    /// The caller has won the claim, and the job is not done; or the job is done, and the caller is
    /// its one handle.
    unsafe fn take(&self) -> Content<F, T> {
        self.content.with_mut(|content| {
            // SAFETY: no other thread touches it: see `content`.
            mem::replace(unsafe { &mut *content }, Content::Taken)
        })
    }

    /// # Safety
    /// The caller has won the claim, and calls this once.
    unsafe fn put(&self, result: Result<T, JobError>) {
        self.content.with_mut(|content| {
            // SAFETY: as in `take`.
            unsafe { *content = Content::Result(result) }
        });
    }

    /// Runs the job. `finish` publishes its end afterwards.
    ///
    /// # Safety
    /// The caller has won the claim, and calls this once.
    unsafe fn run_claimed(&self, context: &JobContext<'_>) -> Ended
    where
        F: FnOnce() -> T,
    {
        let started = context.begin(self.place, self.since);
        // SAFETY: passed on to the caller.
        let result = match unsafe { self.take() } {
            Content::Body(body) => catch_unwind(AssertUnwindSafe(body)).map_err(JobError::panic),
            Content::Result(_) | Content::Taken => Err(JobError::cancelled()),
        };
        let ended = context.end(started, result.is_ok());
        // SAFETY: passed on to the caller.
        unsafe { self.put(result) };
        ended
    }

    /// Counts the job by `account`, and drops its closure. In this order: that drop may end the
    /// pool, which must not wait for this job then. `finish` publishes the job's end afterwards.
    ///
    /// # Safety
    /// The caller has won the claim, and calls this once.
    unsafe fn drop_claimed(&self, account: impl FnOnce()) {
        // SAFETY: passed on to the caller.
        let body = unsafe { self.take() };
        account();
        quietly(move || drop(body));
        // SAFETY: passed on to the caller.
        unsafe { self.put(Err(JobError::cancelled())) };
    }
}

/// The queue's end of a task.
pub(crate) struct Shared<F, T>(ManuallyDrop<QueueEnd<Task<F, T>>>);

impl<F, T> Shared<F, T> {
    fn into_task(self) -> QueueEnd<Task<F, T>> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<F, T> Runnable<Inner> for Shared<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(self, context: &JobContext<'_>, _: Place) -> Ended {
        let task = self.into_task();
        if task.claim() {
            // SAFETY: claimed.
            let ended = unsafe { task.run_claimed(context) };
            // If the handle is gone, this drops the result.
            quietly(move || task.finish());
            return ended;
        }
        if task.place != Place::None {
            context.inner.queue.tombstone_gone();
        }
        quietly(move || drop(task));
        Ended::new()
    }

    fn discard(self, context: &JobContext<'_>, _: Place) {
        let task = self.into_task();
        if task.claim() {
            let place = task.place;
            // SAFETY: claimed.
            unsafe { task.drop_claimed(|| context.dropped(place)) };
            task.finish();
        } else {
            context.inner.queue.tombstone_gone();
        }
    }

    fn is_tombstone(&self) -> bool {
        self.0.is_claimed()
    }
}

impl<F, T> Drop for Shared<F, T> {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let task = unsafe { ManuallyDrop::take(&mut self.0) };
        if task.claim() {
            // SAFETY: claimed.
            unsafe { task.drop_claimed(|| ()) };
            task.finish();
        }
    }
}

/// The operations of a handle, which does not know the closure's type.
pub(super) trait Joinable<T>: Send + Sync {
    fn inner(&self) -> *const Inner;
    /// Whether the job is in no queue, but with a thread without a loop.
    fn is_unqueued(&self) -> bool;
    /// # Safety
    /// The caller has won the claim, and calls this once.
    unsafe fn run_here(&self, context: &JobContext<'_>) -> Ended;
    /// # Safety
    /// The caller has won the claim, and calls this once.
    unsafe fn cancel_here(&self, context: &JobContext<'_>);
    /// # Safety
    /// The job is done, and only its one handle calls this.
    unsafe fn take_result(&self) -> Option<Result<T, JobError>>;
}

impl<F, T> Joinable<T> for Task<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn inner(&self) -> *const Inner {
        self.inner
    }

    fn is_unqueued(&self) -> bool {
        self.place == Place::None
    }

    unsafe fn run_here(&self, context: &JobContext<'_>) -> Ended {
        // SAFETY: passed on to the caller.
        unsafe { self.run_claimed(context) }
    }

    unsafe fn cancel_here(&self, context: &JobContext<'_>) {
        // SAFETY: passed on to the caller.
        unsafe { self.drop_claimed(|| context.cancelled(self.place)) };
    }

    unsafe fn take_result(&self) -> Option<Result<T, JobError>> {
        // SAFETY: passed on to the caller.
        match unsafe { self.take() } {
            Content::Result(result) => Some(result),
            Content::Body(_) | Content::Taken => None,
        }
    }
}

/// Returns the queue's end and the handle's end of a job.
pub(super) fn new<F, T>(
    inner: &Arc<Inner>,
    place: Place,
    f: F,
) -> (Shared<F, T>, HandleEnd<dyn Joinable<T>>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (task, handle) = task_state::task(Task {
        inner: Arc::as_ptr(inner),
        content: UnsafeCell::new(Content::Body(f)),
        place,
        since: inner.timing.stamp(),
    });
    // SAFETY: the closure only coerces the pointer.
    let handle = unsafe { handle.coerce::<dyn Joinable<T>>(|cell| cell) };
    (Shared(ManuallyDrop::new(task)), handle)
}
