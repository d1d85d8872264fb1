//! How a job gets in: the ways to submit one, and what becomes of who finds no room.

use std::{cell::Cell, future::Future, sync::Arc, time::Duration};

use crate::{
    admission::Refusal,
    error::{AdmissionError, SubmitError},
    handle::{self, JobHandle},
    inner::Inner,
    job::{Detached, Job, Runnable},
    permit::{Permit, ReserveAsync},
    pool::Pool,
    site::Site,
    span::Origin,
    stuck::Watch,
    sync::Instant,
    worker::{self, Current},
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
        match self.try_acquire_by(worker::current_of(self)) {
            Ok(()) => Ok(Entry::Place),
            Err(refusal) => self.admit_refused(refusal, wait, |deadline, is_futile| {
                self.admission.acquire(deadline, is_futile)
            }),
        }
    }

    /// Takes a place if one is free, on the calling thread, which is this one of the pool's, or none.
    #[inline]
    fn try_acquire_by(&self, current: Option<&Current>) -> Result<(), Refusal> {
        let places = current.map(|current| current.books().places);
        self.admission.try_acquire_here(places)
    }

    /// How a structured job gets in. One that may wait or run inline is refused by nothing but its
    /// timeout.
    pub(crate) fn admit_structured(
        &self,
        wait: Wait,
        current: Option<&Current>,
    ) -> Result<Entry, AdmissionError> {
        let taken = match (current, wait) {
            (Some(current), Wait::Inline) => current.take_place(),
            _ => self.try_acquire_by(current),
        };
        match taken {
            Ok(()) => Ok(Entry::Place),
            Err(refusal) => match (AdmissionError::from(refusal), wait) {
                (reason, Wait::Never) => {
                    self.recorder.rejected(reason);
                    Err(reason)
                }
                (AdmissionError::Full, Wait::Until(_) | Wait::Forever) if current.is_none() => {
                    let acquire = |deadline, is_futile: &dyn Fn() -> bool| {
                        self.admission.acquire(deadline, is_futile)
                    };
                    match self.wait_for_place(wait.deadline(), acquire) {
                        Ok(entry) => Ok(entry),
                        Err(AdmissionError::Closed) => Ok(Entry::Inline),
                        Err(reason) => {
                            self.recorder.rejected(reason);
                            Err(reason)
                        }
                    }
                }
                _ => Ok(Entry::Inline),
            },
        }
    }

    /// What becomes of a caller who found no room. `acquire` waits for it.
    #[cold]
    pub(crate) fn admit_refused(
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
    pub(crate) fn run_inline<R: Runnable + 'static>(&self, runnable: R) {
        match worker::current_of(self) {
            Some(current) if R::DETACHED => current.run_inline(Job::new(runnable)),
            _ => runnable.run(&Site::here(self), false),
        }
        self.look_if_drained();
    }

    #[inline]
    pub(crate) fn put_in<R: Runnable + 'static>(&self, entry: Entry, runnable: R) {
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
    /// **Poll it or drop it.** A future that was granted a place keeps it until then. A task that holds such a future
    /// across another wait may wait for itself: for a second place, or for a job that needs one. With capacity 1
    /// one such future shuts out all other submitters.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve_async(
        &self,
    ) -> impl Future<Output = Result<Permit<'_>, AdmissionError>> + Send + Sync + Unpin {
        ReserveAsync::new(&self.inner)
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
    /// it drops the job un-run. It is lazy: before its first poll it is not in the line. After that, poll it or drop it:
    /// it may hold a place.
    ///
    /// It borrows the pool, so `tokio::spawn(pool.submit_async(..))` is error E0597. Let the task own an [`Arc`] of the
    /// pool:
    ///
    /// ```
    /// # mod tokio { pub fn spawn(_: impl Future<Output: Send + 'static> + Send + 'static) {} }
    /// use std::sync::Arc;
    /// use adaptive_pool::Pool;
    ///
    /// let pool = Arc::new(Pool::new().unwrap());
    /// tokio::spawn({
    ///     let pool = Arc::clone(&pool);
    ///     async move { pool.submit_async(|| 6 * 7).await?.await.map_err(anyhow::Error::from) }
    /// });
    /// ```
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
    /// A closure of up to four words costs no allocation of its own, unless it is aligned to more than a word, as
    /// by a captured `u128` or SIMD value. A panic in the job goes to the pool's panic handler.
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
