//! How a job gets in: reserve a place, or submit in one call.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    admission::{Refusal, WaiterId},
    error::{AdmissionError, SubmitError},
    handle::{self, JobHandle},
    inner::Inner,
    job::{Detached, Job, Runnable},
    metrics::Stamp,
    pool::Pool,
    site::Site,
    span::{self, Origin},
    stuck::Watch,
    sync::Instant,
    worker,
};

/// How long a submitter waits for a place.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    Never,
    Until(Instant),
    Forever,
    /// Not at all: it runs its job itself.
    Inline,
}

impl Wait {
    pub(crate) fn may_block(self) -> bool {
        matches!(self, Self::Until(_) | Self::Forever)
    }

    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            _ => None,
        }
    }

    /// At most this long; a time that the clock cannot express is for ever.
    pub(crate) fn at_most(timeout: Duration) -> Self {
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Forever, Self::Until)
    }
}

/// How a job gets in.
pub(crate) enum Entry {
    /// It has a place in the queue.
    Place,
    /// It has none, and is run at once by who brought it.
    Inline,
}

impl Inner {
    #[inline]
    pub(crate) fn admit(&self, wait: Wait) -> Result<Entry, AdmissionError> {
        match self.admission.try_acquire_here(worker::seat_in(self)) {
            Ok(()) => Ok(Entry::Place),
            Err(refusal) => self.admit_refused(refusal, wait, |deadline, is_futile| {
                self.admission.acquire(deadline, is_futile)
            }),
        }
    }

    /// What becomes of a caller who found no room. `acquire` waits for it.
    #[cold]
    fn admit_refused(
        &self,
        refusal: Refusal,
        wait: Wait,
        acquire: impl FnOnce(Option<Instant>, &dyn Fn() -> bool) -> Result<(), AdmissionError>,
    ) -> Result<Entry, AdmissionError> {
        let outcome = match (refusal, wait) {
            (Refusal::Closed, _) => Err(AdmissionError::Closed),
            (Refusal::Full, Wait::Never) => Err(AdmissionError::Full),
            // A worker that waited for a place might wait for itself.
            (Refusal::Full, _) if worker::seat_in(self).is_some() => Ok(Entry::Inline),
            (Refusal::Full, Wait::Inline) => Ok(Entry::Inline),
            (Refusal::Full, Wait::Until(_) | Wait::Forever) => {
                self.wait_for_place(wait.deadline(), acquire)
            }
        };
        outcome.inspect_err(|&reason| self.recorder.rejected(reason))
    }

    /// Blocks until `acquire` has a place. If the thread is another pool's worker, a spare may take its
    /// place there meanwhile; and if this pool is stuck, it goes on without one.
    pub(crate) fn wait_for_place(
        &self,
        deadline: Option<Instant>,
        acquire: impl FnOnce(Option<Instant>, &dyn Fn() -> bool) -> Result<(), AdmissionError>,
    ) -> Result<Entry, AdmissionError> {
        let watch = Watch::new(self);
        let was_stuck = Cell::new(false);
        let is_futile = || {
            was_stuck.set(watch.is_stuck());
            was_stuck.get()
        };
        let since = self.timing.begins_to_wait();
        let acquired = worker::blocking(|| acquire(deadline, &is_futile));
        self.timing.has_waited(since, acquired.is_ok());
        match acquired {
            Ok(()) => Ok(Entry::Place),
            Err(AdmissionError::TimedOut) if was_stuck.get() => Ok(Entry::Inline),
            Err(reason) => Err(reason),
        }
    }

    /// Runs a job that has no place, here.
    #[cold]
    fn run_inline<R: Runnable + 'static>(&self, runnable: R) {
        match worker::current_of(self) {
            Some(current) if R::DETACHED => current.run_inline(Job::new(runnable)),
            current => {
                let seat = current.map(worker::Current::index);
                runnable.run(&Site { inner: self, seat }, false);
            }
        }
        self.look_if_drained();
    }

    #[inline]
    fn put_in<R: Runnable + 'static>(&self, entry: Entry, runnable: R) {
        match entry {
            Entry::Place => self.enqueue(Job::new(runnable)),
            Entry::Inline => self.run_inline(runnable),
        }
    }

    #[inline]
    fn spawn<F>(&self, wait: Wait, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let origin = Origin::here();
        match self.admit(wait) {
            Ok(entry) => {
                let since = self.timing.stamp();
                let f = origin.carry(f);
                self.put_in(entry, Detached { since, f });
                Ok(())
            }
            Err(reason) => Err(SubmitError::new(reason, f)),
        }
    }

    #[inline]
    fn submit<F, T>(self: &Arc<Self>, wait: Wait, f: F) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let origin = Origin::here();
        match self.admit(wait) {
            Ok(entry) => {
                let (job, handle) = handle::pair(self, origin.carry(f));
                self.put_in(entry, job);
                Ok(handle)
            }
            Err(reason) => Err(SubmitError::new(reason, f)),
        }
    }

    fn reserve(self: &Arc<Self>, wait: Wait) -> Result<Permit<'_>, AdmissionError> {
        let entry = match self.admission.try_acquire_held() {
            Ok(()) => Ok(Entry::Place),
            Err(refusal) => self.admit_refused(refusal, wait, |deadline, is_futile| {
                self.admission.acquire_held(deadline, is_futile)
            }),
        };
        entry.map(|entry| Permit {
            inner: self,
            placed: matches!(entry, Entry::Place),
        })
    }
}

/// A place in the queue, won before the job's data need exist.
///
/// Dropping it gives the place back. A shutdown does not wait for it: when the permit of a pool that
/// has ended is used, its job runs at once on the calling thread, or, if the shutdown was one that
/// drops what has not started, is dropped too.
///
/// # Examples
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let permit = pool.reserve().unwrap(); // waits while the queue is full
/// let data = vec![1u8; 1 << 20]; // only now the memory is needed
/// let sum = permit.submit(move || data.iter().map(|&b| b as u64).sum::<u64>());
/// assert_eq!(sum.join().unwrap(), 1 << 20);
/// ```
#[must_use = "a permit that is dropped gives its place back"]
#[derive(Debug)]
pub struct Permit<'p> {
    inner: &'p Arc<Inner>,
    /// Whether it holds a place. One that was granted on a full pool's own thread does not.
    placed: bool,
}

impl Permit<'_> {
    /// Submits the job. It cannot be refused, and does not wait.
    ///
    /// A permit that was granted on one of the pool's own threads while the queue was full holds no
    /// place: its job runs here, before this returns.
    pub fn submit<F, T>(self, f: F) -> JobHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (job, handle) = handle::pair(self.inner, span::carried(f));
        self.put_in(job);
        handle
    }

    /// Submits a job without a handle. It cannot be refused, and does not wait; see
    /// [`submit`](Self::submit). A panic goes to the pool's panic handler.
    pub fn spawn<F>(self, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        let since = self.inner.timing.stamp();
        let f = span::carried(f);
        self.put_in(Detached { since, f });
    }

    fn put_in<R: Runnable + 'static>(mut self, runnable: R) {
        let inner = self.inner;
        // From here on nothing is left for the drop to give back.
        if !std::mem::take(&mut self.placed) {
            return inner.run_inline(runnable);
        }
        if inner.admission.unhold() {
            inner.put_in(Entry::Place, runnable);
        } else if inner.life.is_discarding() {
            runnable.discard(&Site::here(inner), true);
        } else {
            inner.admission.release_unused();
            inner.run_inline(runnable);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.placed {
            self.inner.admission.release_held();
            self.inner.look_if_drained();
        }
    }
}

/// The future of [`Pool::reserve_async`].
struct ReserveAsync<'p> {
    inner: &'p Arc<Inner>,
    /// Its place in the line, while it waits.
    waiting: Option<WaiterId>,
    /// Since when it waits, as long as that is counted. It may be before it has its place in the line: a poll
    /// calls the user's code, which may panic.
    since: Option<Stamp>,
}

impl<'p> Future for ReserveAsync<'p> {
    type Output = Result<Permit<'p>, AdmissionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let inner = this.inner;
        let permit = |placed| Poll::Ready(Ok(Permit { inner, placed }));
        if this.since.is_none() {
            match inner.admission.try_acquire_held() {
                Ok(()) => return permit(true),
                // Before it joins the line: the recorder has to know of a wait first.
                Err(Refusal::Full) => this.since = Some(inner.timing.begins_to_wait()),
                Err(Refusal::Closed) => {
                    inner.recorder.rejected(AdmissionError::Closed);
                    return Poll::Ready(Err(AdmissionError::Closed));
                }
            }
        }
        let polled = inner.admission.poll_acquire_held(&mut this.waiting, cx);
        if let Poll::Ready(outcome) = &polled {
            if let Some(since) = this.since.take() {
                inner.timing.has_waited(since, outcome.is_ok());
            }
        }
        match polled {
            Poll::Ready(Ok(())) => permit(true),
            Poll::Ready(Err(reason)) => {
                inner.recorder.rejected(reason);
                Poll::Ready(Err(reason))
            }
            // Whoever blocks one of the pool's threads on this future might wait for itself.
            Poll::Pending if worker::seat_in(inner).is_some() => {
                this.leave();
                permit(false)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl ReserveAsync<'_> {
    fn leave(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.inner.admission.forsake(waiting);
            self.inner.look_if_drained();
        }
        if self.since.take().is_some() {
            self.inner.timing.waits_no_more();
        }
    }
}

impl Drop for ReserveAsync<'_> {
    fn drop(&mut self) {
        // What it was granted in the meantime goes to the next in the line.
        self.leave();
    }
}

/// # Admission
///
/// Each of these first takes a place in the queue. While all are taken, `reserve`, `submit` and
/// `spawn` block the calling thread; the `_timeout` and `_deadline` forms do so until then; the
/// `try_` forms refuse at once; the `_async` forms wait without a thread. All wait in one line, in
/// order of arrival; callers that find room without waiting may pass those who wait, but only a
/// bounded number of times. With room free every form is admitted at once, whatever its timeout.
/// The timeout ends with admission: it is not the job's.
///
/// **On a thread of the same pool none of them waits**, since it might wait for itself: when the
/// queue is full, the job runs at once on the caller's stack, and counts as `inlined`. (Spawned jobs
/// that bring each other so, more than 16 deep, run when the outermost of them has returned.) Only
/// the `try_` forms still refuse it. A worker of another pool does wait, and a spare thread takes its
/// place there; but if all threads of this pool are blocked in waits themselves, maybe for that one, it goes on
/// in the same way.
impl Pool {
    /// Takes a place in the queue; waits while there is none.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve(&self) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::Forever)
    }

    /// Takes a place in the queue; waits at most `timeout` for it.
    ///
    /// # Errors
    /// [`AdmissionError::TimedOut`] or [`AdmissionError::Closed`].
    pub fn reserve_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::at_most(timeout))
    }

    /// Takes a place in the queue; waits for it until `deadline`.
    ///
    /// # Errors
    /// [`AdmissionError::TimedOut`] or [`AdmissionError::Closed`].
    pub fn reserve_deadline(&self, deadline: Instant) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::Until(deadline))
    }

    /// Takes a place in the queue if there is one; never waits.
    ///
    /// # Errors
    /// [`AdmissionError::Full`] or [`AdmissionError::Closed`].
    pub fn try_reserve(&self) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::Never)
    }

    /// Takes a place in the queue; the future is ready when there is one.
    ///
    /// It takes its place in the line when it is first polled. It is cancel-safe: dropped while it
    /// waits, it leaves the line; dropped after it was granted a place, it passes that on. It works
    /// with any executor.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve_async(
        &self,
    ) -> impl Future<Output = Result<Permit<'_>, AdmissionError>> + Send + Sync + Unpin {
        ReserveAsync {
            inner: &self.inner,
            waiting: None,
            since: None,
        }
    }

    /// Submits a job; waits while the queue is full.
    ///
    /// It costs one allocation, which the job and its handle share.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let handle = pool.submit(|| 6 * 7).unwrap();
    /// assert_eq!(handle.join().unwrap(), 42);
    /// ```
    pub fn submit<F, T>(&self, f: F) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.inner.submit(Wait::Forever, f)
    }

    /// Submits a job; waits at most `timeout` while the queue is full.
    ///
    /// # Errors
    /// [`SubmitError::TimedOut`] or [`SubmitError::Closed`], with the job.
    ///
    /// # Examples
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = adaptive_pool::Pool::builder().workers(1).capacity(1).build().unwrap();
    /// let (send, receive) = mpsc::channel::<()>();
    /// let (started, wait) = mpsc::channel();
    /// pool.spawn(move || { started.send(()).unwrap(); receive.recv().unwrap() }).unwrap();
    /// wait.recv().unwrap(); // it runs
    /// pool.spawn(|| ()).unwrap(); // it waits: the queue is full
    /// let error = pool.submit_timeout(Duration::from_millis(1), || 42).unwrap_err();
    /// assert!(error.is_timed_out());
    /// assert_eq!(error.into_job()(), 42); // the job came back
    /// send.send(()).unwrap();
    /// ```
    pub fn submit_timeout<F, T>(
        &self,
        timeout: Duration,
        f: F,
    ) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.inner.submit(Wait::at_most(timeout), f)
    }

    /// Submits a job; waits until `deadline` while the queue is full.
    ///
    /// # Errors
    /// [`SubmitError::TimedOut`] or [`SubmitError::Closed`], with the job.
    pub fn submit_deadline<F, T>(
        &self,
        deadline: Instant,
        f: F,
    ) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.inner.submit(Wait::Until(deadline), f)
    }

    /// Submits a job if there is room; never waits.
    ///
    /// # Errors
    /// [`SubmitError::Full`] or [`SubmitError::Closed`], with the job.
    pub fn try_submit<F, T>(&self, f: F) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.inner.submit(Wait::Never, f)
    }

    /// Submits a job; the future is ready, with its handle, when there is a place for it.
    ///
    /// It is as cancel-safe as [`reserve_async`](Self::reserve_async); dropped before it is ready,
    /// it drops the job un-run.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job.
    pub fn submit_async<F, T>(
        &self,
        f: F,
    ) -> impl Future<Output = Result<JobHandle<T>, SubmitError<F>>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let permit = self.reserve_async();
        async move {
            match permit.await {
                Ok(permit) => Ok(permit.submit(f)),
                Err(reason) => Err(SubmitError::new(reason, f)),
            }
        }
    }

    /// Submits a job without a handle; waits while the queue is full.
    ///
    /// A closure of up to four words costs no allocation of its own. A panic in the job goes to the
    /// pool's panic handler.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job.
    ///
    /// # Examples
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    ///
    /// let sum = Arc::new(AtomicU64::new(0));
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// for i in 1..=100 {
    ///     let sum = Arc::clone(&sum);
    ///     pool.spawn(move || { sum.fetch_add(i, Ordering::Relaxed); }).unwrap();
    /// }
    /// pool.shutdown();
    /// assert_eq!(sum.load(Ordering::Relaxed), 5050);
    /// ```
    #[inline]
    pub fn spawn<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.inner.spawn(Wait::Forever, f)
    }

    /// Submits a job without a handle if there is room; never waits.
    ///
    /// # Errors
    /// [`SubmitError::Full`] or [`SubmitError::Closed`], with the job.
    #[inline]
    pub fn try_spawn<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.inner.spawn(Wait::Never, f)
    }

    /// Submits a job without a handle; waits at most `timeout` while the queue is full.
    ///
    /// # Errors
    /// [`SubmitError::TimedOut`] or [`SubmitError::Closed`], with the job.
    pub fn spawn_timeout<F>(&self, timeout: Duration, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.inner.spawn(Wait::at_most(timeout), f)
    }
}
