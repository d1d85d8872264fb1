//! Submission: the forms in which a user submits a job.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    api::{
        admit::Wait,
        handle::{self, JobHandle},
        permit::{Permit, ReserveAsync},
        pool::Pool,
    },
    error::{AdmissionError, SubmitError},
    runtime::{context::Detached, inner::Inner, span::Origin},
    sync::Instant,
};

impl Inner {
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
                let (job, handle) = handle::pair(self, entry.place(), origin.carry(f));
                self.put_in(entry, job);
                Ok(handle)
            }
            Err(reason) => Err(SubmitError::new(reason, f)),
        }
    }
}

/// Options for the admission of one job, for cases that the short forms do not cover.
/// [`Pool::admit`] makes it.
///
/// Each option returns the changed value. [`submit`](Self::submit), [`spawn`](Self::spawn),
/// [`reserve`](Self::reserve) or one of their async forms ends the chain.
///
/// # Examples
/// ```
/// let pool = adaptive_pool::Pool::builder().workers(1).capacity(1).build().unwrap();
/// // On any thread, on a full queue too: neither run in place nor waited for.
/// for _ in 0..10 {
///     pool.admit().deferred().spawn(|| ()).unwrap();
/// }
/// assert_eq!(pool.shutdown().completed, 10);
/// ```
#[must_use = "it admits nothing before `submit`, `spawn` or `reserve`"]
#[derive(Clone, Copy, Debug)]
pub struct Admit<'p> {
    inner: &'p Arc<Inner>,
    deferred: bool,
}

impl<'p> Admit<'p> {
    /// Defers the job: it neither runs in place nor waits, on any thread. Without a place it is
    /// queued over the bound, and counted as [`overdrawn`](crate::Snapshot::overdrawn).
    ///
    /// Use it in wakers, in destructors, and in code that holds a lock or a borrow that the job
    /// needs. Use it also for jobs that have another bound, such as one for each task of an
    /// executor: the pool does not bound them.
    pub fn deferred(mut self) -> Self {
        self.deferred = true;
        self
    }

    fn wait(self) -> Wait {
        if self.deferred {
            Wait::Deferred
        } else {
            Wait::Forever
        }
    }

    /// As [`Pool::submit`], with these options.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job.
    pub fn submit<F, T>(self, f: F) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.inner.submit(self.wait(), f)
    }

    /// As [`Pool::spawn`], with these options.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job.
    pub fn spawn<F>(self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.inner.spawn(self.wait(), f)
    }

    /// As [`Pool::reserve`], with these options. A deferred permit defers its job.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve(self) -> Result<Permit<'p>, AdmissionError> {
        self.inner.reserve(self.wait())
    }

    /// As [`Pool::reserve_async`], with these options.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve_async(
        self,
    ) -> impl Future<Output = Result<Permit<'p>, AdmissionError>> + Send + Sync + Unpin {
        ReserveAsync::new(self.inner, self.deferred)
    }

    /// As [`Pool::submit_async`], with these options.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job.
    pub fn submit_async<F, T>(
        self,
        f: F,
    ) -> impl Future<Output = Result<JobHandle<T>, SubmitError<F>>> + Send + use<'p, F, T>
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
}

/// # Admission
///
/// Each of these first takes a place in the queue. While all places are taken, `reserve`, `submit`
/// and `spawn` block the calling thread, and the `_timeout` and `_deadline` forms block it until
/// then. The `try_` forms refuse at once, and the `_async` forms wait without a thread. All wait in
/// one line, in order of arrival. A caller that finds a place without waiting may pass those that
/// wait, but only a bounded number of times. While there is room, every form is admitted at once,
/// whatever its timeout. The timeout bounds the admission, not the job.
///
/// ## When a job runs on top of another
///
/// **On a thread of the same pool none of these waits**, since it might wait for itself. If the
/// queue is full, the job runs *in place*: at once, on the caller's stack, before the call returns
/// (counted as [`inlined`](crate::Snapshot::inlined)). So it runs inside whatever the job beneath
/// has entered: a lock, a borrowed `RefCell`, a `block_on`, a tracing span, a transaction. There
/// are three more cases in which a job runs on top of another: when a thread of the pool joins or
/// polls its [`JobHandle`], in a scope or join that waits for it, and anywhere in rayon's own
/// waits. Only the `deferred` forms never run where they are submitted:
/// [`admit().deferred()`](Admit::deferred) and
/// [`Scope::spawn_deferred`](crate::Scope::spawn_deferred).
///
/// A job runs in place while half of the thread's stack is left. Beyond that, the job is *kept*: it
/// goes into the thread's own deque, over the bound, where other workers steal it. A job is also
/// kept if its submitter runs in place itself, and has used up its turn (64 jobs, or 10 ms). A
/// thread keeps at most `capacity` jobs. After that it runs further jobs in place, down to a
/// quarter of its stack. Kept jobs are counted as [`overdrawn`](crate::Snapshot::overdrawn). The
/// `try_` forms refuse instead.
///
/// | form | off the pool, queue full | on a thread of the pool, queue full | closed |
/// |---|---|---|---|
/// | `submit`, `spawn`, `reserve` | waits | in place, or kept | refused |
/// | `submit_timeout`, `spawn_timeout`, `reserve_deadline` and the like | waits until then | in place, or kept | refused |
/// | `submit_async`, `reserve_async` | pending | in place, or kept | refused |
/// | `try_submit`, `try_spawn`, `try_reserve` | refused | refused | refused |
/// | `admit().deferred()` | queued over the bound | queued over the bound | refused |
/// | `Scope::spawn` | waits | in place, or kept | on the caller |
/// | `Scope::spawn_timeout` | waits until then | in place, or kept | on the caller |
/// | `Scope::try_spawn` | refused | refused | refused |
/// | `Scope::spawn_deferred` | queued over the bound | queued over the bound | on the caller |
/// | `Permit::submit`, `Permit::spawn` | has a place | has a place; one without, in place or kept | has a place; on the caller after the end |
/// | items of `map`, `for_each` and their kin | wait | in place, or kept | on the consumer |
/// | `install`, `scope`, `join` | wait | the closure runs here | on the caller |
///
/// A worker of another pool counts as off the pool: it waits, and a spare thread takes its place
/// there. If all threads of this pool are blocked in waits themselves, possibly for that very
/// worker, it runs the job itself.
impl Pool {
    /// Returns options for the admission of one job, for cases that the short forms do not cover.
    #[inline]
    pub fn admit(&self) -> Admit<'_> {
        Admit {
            inner: &self.inner,
            deferred: false,
        }
    }

    /// Takes a place in the queue. Blocks until there is one.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve(&self) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::Forever)
    }

    /// Takes a place in the queue. Blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`AdmissionError::TimedOut`] or [`AdmissionError::Closed`].
    pub fn reserve_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::at_most(timeout))
    }

    /// Takes a place in the queue. Blocks until `deadline` at the latest.
    ///
    /// # Errors
    /// [`AdmissionError::TimedOut`] or [`AdmissionError::Closed`].
    pub fn reserve_deadline(&self, deadline: Instant) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::Until(deadline))
    }

    /// Takes a place in the queue if one is free. Never blocks.
    ///
    /// # Errors
    /// [`AdmissionError::Full`] or [`AdmissionError::Closed`].
    pub fn try_reserve(&self) -> Result<Permit<'_>, AdmissionError> {
        self.inner.reserve(Wait::Never)
    }

    /// Takes a place in the queue. The future is ready when there is one.
    ///
    /// It joins the line when it is first polled. It is cancel-safe: a future that is dropped while
    /// it waits leaves the line, and one that is dropped after it was granted a place passes the
    /// place on. It works with any executor.
    ///
    /// **Poll it or drop it.** A future that was granted a place keeps it until then. A task that
    /// holds such a future across another wait may wait for itself: for a second place, or for a
    /// job that needs one. With capacity 1 one such future shuts out all other submitters.
    ///
    /// # Errors
    /// [`AdmissionError::Closed`].
    pub fn reserve_async(
        &self,
    ) -> impl Future<Output = Result<Permit<'_>, AdmissionError>> + Send + Sync + Unpin {
        ReserveAsync::new(&self.inner, false)
    }

    /// Submits a job. Blocks while the queue is full.
    ///
    /// The job and its handle share one allocation.
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

    /// Submits a job. Blocks for at most `timeout` while the queue is full.
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

    /// Submits a job. Blocks until `deadline` at the latest while the queue is full.
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

    /// Submits a job if there is room. Never blocks.
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

    /// Submits a job. The future is ready, with the job's handle, when the job has a place.
    ///
    /// It is as cancel-safe as [`reserve_async`](Self::reserve_async). If it is dropped before it
    /// is ready, it drops the job un-run. It is lazy: it joins the line at its first poll. After
    /// that, poll it or drop it, since it may hold a place.
    ///
    /// It borrows the pool, so `tokio::spawn(pool.submit_async(..))` is error E0597. Let the task
    /// own an [`Arc`] of the pool:
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
        self.admit().submit_async(f)
    }

    /// Submits a job without a handle. Blocks while the queue is full.
    ///
    /// A closure of up to four words costs no allocation of its own. The exception is a closure
    /// with a larger alignment than a word, such as one that captures a `u128` or a SIMD value. A
    /// panic in the job goes to the pool's panic handler.
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

    /// Submits a job without a handle if there is room. Never blocks.
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

    /// Submits a job without a handle. Blocks for at most `timeout` while the queue is full.
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
