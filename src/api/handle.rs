//! The handle of a submitted job, which waits for the job's end, awaits it, or cancels the job.

mod task;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    mem::ManuallyDrop,
    panic::{RefUnwindSafe, UnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use self::task::{Joinable, Shared};
use crate::{
    error::JobError,
    protocol::{
        completion::{Wake, task_state::HandleEnd},
        wait::When,
    },
    runtime::{
        context::JobContext,
        inner::Inner,
        job::Place,
        wait::{Assisted, IfStarved, Spin, Waited, wait_until},
        worker,
    },
    sync::{Instant, thread, unwind::quietly},
};

/// Returns the two ends of a job with a handle.
pub(crate) fn pair<F, T>(inner: &Arc<Inner>, place: Place, f: F) -> (Shared<F, T>, JobHandle<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (job, task) = task::new(inner, place, f);
    let handle = JobHandle {
        task: ManuallyDrop::new(task),
        cancel_on_drop: false,
    };
    (job, handle)
}

/// The handle of a submitted job.
///
/// [`join`](Self::join) blocks until the result is there. As a [`Future`] the handle can be awaited
/// on any executor. [`cancel`](Self::cancel) takes back a job that has not started. **Dropping a
/// handle detaches its job**, which still runs; [`cancel_on_drop`](Self::cancel_on_drop) changes
/// that.
///
/// # Examples
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let handle = pool.submit(|| 6 * 7).unwrap();
/// assert_eq!(handle.join().unwrap(), 42);
/// ```
#[must_use = "dropping a handle detaches its job; `spawn` submits one without a handle"]
pub struct JobHandle<T: 'static> {
    task: ManuallyDrop<HandleEnd<dyn Joinable<T>>>,
    cancel_on_drop: bool,
}

impl<T: 'static> JobHandle<T> {
    /// Blocks until the job has ended, and returns its result.
    ///
    /// On a thread of the same pool, a job that has not started runs at once, in place. While the
    /// thread waits it runs no other job. Any other thread blocks. Before that it spins for up to 5
    /// us if the thread's last waits were that short, and otherwise yields a few times. What the
    /// job did is visible afterwards. A job that joins its own handle waits for itself, for ever.
    ///
    /// # Errors
    /// If the job panicked, [`JobError::into_panic`] returns its payload. If it was cancelled, or a
    /// shutdown dropped it before it started, [`JobError::is_cancelled`] is true.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let handle = pool.submit(|| -> u32 { panic!("no") }).unwrap();
    /// assert!(handle.join().unwrap_err().is_panic());
    /// ```
    pub fn join(mut self) -> Result<T, JobError> {
        self.wait(None);
        self.take()
    }

    /// Blocks for at most `timeout` until the job has ended.
    ///
    /// On a thread of the same pool, a job that has not started runs at once, in place, however
    /// long it takes.
    ///
    /// # Errors
    /// Returns the handle itself if the job has not ended in time. The inner result is that of
    /// [`join`](Self::join).
    ///
    /// # Examples
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let (send, receive) = mpsc::channel::<u32>();
    /// let handle = pool.submit(move || receive.recv()).unwrap();
    /// let handle = handle.join_timeout(Duration::ZERO).unwrap_err(); // not yet
    /// send.send(7).unwrap();
    /// assert_eq!(handle.join().unwrap(), Ok(7));
    /// ```
    pub fn join_timeout(mut self, timeout: Duration) -> Result<Result<T, JobError>, Self> {
        // A timeout that the clock cannot express means for ever.
        if self.wait(Instant::now().checked_add(timeout)) {
            Ok(self.take())
        } else {
            Err(self)
        }
    }

    /// Whether the job has ended: it returned, panicked, or was cancelled or dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_done()
    }

    /// Cancels the job if it has not started. When this returns, its closure is dropped and its
    /// place in the queue is free.
    ///
    /// Returns whether this call cancelled the job. A job that runs is not interrupted.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let pool = adaptive_pool::Pool::builder().workers(1).build().unwrap();
    /// let (send, receive) = mpsc::channel::<()>();
    /// pool.spawn(move || receive.recv().unwrap()).unwrap(); // the only worker is busy
    /// let handle = pool.submit(|| 42).unwrap();
    /// assert!(handle.cancel());
    /// assert!(handle.join().unwrap_err().is_cancelled());
    /// send.send(()).unwrap();
    /// ```
    pub fn cancel(&self) -> bool {
        if !self.task.claim() {
            return false;
        }
        let inner = self.keep_alive();
        let context = JobContext::here(&inner);
        // SAFETY: claimed.
        unsafe { self.task.cancel_here(&context) };
        self.task.finish();
        if !self.task.is_unqueued() {
            inner.tombstone_left();
        }
        true
    }

    /// Makes the drop of this handle cancel the job, if it has not started.
    ///
    /// # Examples
    /// ```
    /// # let pool = adaptive_pool::Pool::new().unwrap();
    /// let guard = pool.submit(|| 42).unwrap().cancel_on_drop();
    /// drop(guard); // runs only if it had started already
    /// ```
    pub fn cancel_on_drop(mut self) -> Self {
        self.cancel_on_drop = true;
        self
    }

    /// Returns the pool, for a caller that has just won the claim.
    fn keep_alive(&self) -> Arc<Inner> {
        let inner = self.task.inner();
        // SAFETY: it came from an `Arc`. The job was unclaimed, so it is in a queue of the pool and
        // outstanding. The pool's threads keep the pool until the job has ended, which this caller
        // brings about.
        unsafe { Arc::increment_strong_count(inner) };
        // SAFETY: this caller owns the count that was just added.
        unsafe { Arc::from_raw(inner) }
    }

    /// Waits until the job is done, at most until the deadline. Returns whether it is.
    fn wait(&mut self, deadline: Option<Instant>) -> bool {
        if self.task.is_done() || self.run_here_if_own() {
            return true;
        }
        let pool = self.task.inner();
        let handle = RefCell::new(self);
        let is_announced = Cell::new(false);
        // The wake stays in its slot when the wait is over: the handle may be joined again. A token
        // that comes too late costs the thread one round of its next wait.
        let announce = || {
            if !is_announced.replace(true) {
                // The check that follows observes the same.
                let _ = handle
                    .borrow_mut()
                    .task
                    .awaits(Wake::Thread(thread::current()));
            }
        };
        let is_done = When(|| handle.borrow().task.is_done(), announce, || ());
        let could_run = || !handle.borrow().task.is_claimed();
        let mut runs_it = IfStarved(could_run, || handle.borrow().run_here_if_starved());
        let waited = wait_until(pool, &[&is_done], &mut runs_it, Spin::Adaptive, deadline);
        waited == Waited::Met
    }

    /// Runs the job on a thread of another pool, when its own pool has no thread for it.
    fn run_here_if_starved(&self) -> Assisted {
        if !self.task.claim() {
            return Assisted::Nothing;
        }
        self.run_here(&JobContext::elsewhere(&self.keep_alive()));
        Assisted::Ran
    }

    /// If the job has not started, runs it on the calling thread, if that is one of its pool: it
    /// might wait for itself otherwise. A thread without a loop does the same with a job that may
    /// be in its list. Returns whether the job ran.
    fn run_here_if_own(&self) -> bool {
        // The pool may be gone, so only its address is compared.
        worker::with_current_of(self.task.inner(), |current| {
            let is_ours = current.is_some() || self.task.is_unqueued();
            if !is_ours || !self.task.claim() {
                return false;
            }
            match current {
                Some(current) => self.run_here(current.context()),
                None => self.run_here(&JobContext::elsewhere(&self.keep_alive())),
            }
            true
        })
    }

    /// Runs a job that this handle has claimed.
    fn run_here(&self, context: &JobContext<'_>) {
        let is_queued = !self.task.is_unqueued();
        // SAFETY: claimed.
        let ended = unsafe { self.task.run_here(context) };
        self.task.finish();
        if is_queued {
            context.inner.tombstone_left();
        }
        context.inner.check_drained(ended);
    }

    /// Takes the result of a job that is done.
    fn take(&mut self) -> Result<T, JobError> {
        // SAFETY: it is done, and this is its one handle.
        let result = unsafe { self.task.take_result() };
        // The result is gone only if the handle was polled after it was ready.
        result.unwrap_or_else(|| Err(JobError::cancelled()))
    }
}

/// Ready when the job has ended. If it is polled on a thread of the same pool, a job that has not
/// started runs at once, in place, as in [`join`](JobHandle::join). A wait that is dropped half way
/// detaches the job, as dropping the handle does. If it is polled again after it was ready, its
/// error is [`is_cancelled`](JobError::is_cancelled).
///
/// A job that runs in a poll is inside all that the polling thread has entered: a lock, a borrow,
/// or an executor's `block_on`, which futures and tokio refuse to enter twice. See
/// [Admission](crate::Pool#admission).
impl<T: 'static> Future for JobHandle<T> {
    type Output = Result<T, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wake = || Wake::Task(cx.waker().clone());
        if self.task.is_done() || self.run_here_if_own() || self.task.awaits(wake()) {
            Poll::Ready(self.take())
        } else {
            Poll::Pending
        }
    }
}

impl<T: 'static> Drop for JobHandle<T> {
    fn drop(&mut self) {
        if self.cancel_on_drop {
            self.cancel();
        }
        // SAFETY: the field is not used again.
        let task = unsafe { ManuallyDrop::take(&mut self.task) };
        // This drops a result that was not taken.
        quietly(move || drop(task));
    }
}

// A panic leaves no invariant of the task broken: the task's state ensures that.
impl<T: 'static> UnwindSafe for JobHandle<T> {}
impl<T: 'static> RefUnwindSafe for JobHandle<T> {}

impl<T: 'static> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("finished", &self.task.is_done())
            .finish_non_exhaustive()
    }
}
