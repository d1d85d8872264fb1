//! Submission: the ways to submit a job, and what becomes of a job that finds no place.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    api::{
        handle::{self, JobHandle},
        permit::{Permit, ReserveAsync},
        pool::Pool,
    },
    error::{AdmissionError, SubmitError},
    protocol::admission::{Admitted, Refusal},
    runtime::{
        context::{Detached, JobContext},
        inner::{Inner, Job},
        job::{Entry, Holder, Place, Runnable},
        span::Origin,
        wait::{Help, IfStarved, Spin, Waited, wait_until},
        worker::{
            self, Current,
            inline::{self, Advice},
        },
    },
    sync::{Instant, backoff::YieldHint},
};

/// How long a submitter waits for a place.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    Never,
    Until(Instant),
    Forever,
    /// Not at all. Without a place its job is queued over the bound.
    Deferred,
}

impl Wait {
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            _ => None,
        }
    }

    /// For at most `timeout`. A time that the clock cannot express means for ever.
    pub(crate) fn at_most(timeout: Duration) -> Self {
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Forever, Self::Until)
    }
}

impl Inner {
    #[inline]
    pub(crate) fn admit(&self, wait: Wait) -> Result<Entry, AdmissionError> {
        match self.try_acquire_by(worker::current_of(self)) {
            Ok(()) => Ok(Entry::Queued),
            Err(refusal) => self.admit_refused(refusal, wait),
        }
    }

    /// Takes a place if one is free. `current` is the calling thread, if it is one of the pool's.
    #[inline]
    fn try_acquire_by(&self, current: Option<&Current>) -> Result<(), Refusal> {
        let places = current.map(|current| current.slots().places);
        self.admission.try_acquire_here(places)
    }

    /// Admits a structured job. A closed pool refuses it only if it never waits; otherwise it runs
    /// in place.
    pub(crate) fn admit_structured(
        &self,
        wait: Wait,
        current: Option<&Current>,
    ) -> Result<Entry, AdmissionError> {
        let taken = match (current, wait) {
            (Some(current), Wait::Forever) => current.take_place(),
            _ => self.try_acquire_by(current),
        };
        let entry = match taken {
            Ok(()) => Ok(Entry::Queued),
            Err(refusal) => self.enter_refused(refusal, wait, current),
        };
        match (entry, wait, current) {
            (Err(AdmissionError::Closed), Wait::Never, _) => entry,
            (Err(AdmissionError::Closed), _, Some(current)) => Ok(current.refused()),
            (Err(AdmissionError::Closed), _, None) => Ok(Entry::InPlace),
            _ => entry,
        }
        .inspect_err(|&reason| self.recorder.rejected(reason))
    }

    /// Admits an item of a batch whose consumer waits for nothing else. It is admitted as a
    /// structured job, but off the pool it waits instead of running inline. `hint` is the batch's.
    pub(crate) fn admit_item(&self, hint: &YieldHint) -> Entry {
        let current = worker::current_of(self);
        let taken = match current {
            Some(current) => current.take_place(),
            None => self.admission.try_acquire(),
        };
        match taken {
            Ok(()) => Entry::Queued,
            Err(Refusal::Full) if current.is_none() => self
                .wait_for_place(None, false, Some(hint))
                .unwrap_or(Entry::InPlace),
            Err(_) => Entry::InPlace,
        }
    }

    #[cold]
    fn admit_refused(&self, refusal: Refusal, wait: Wait) -> Result<Entry, AdmissionError> {
        let current = worker::current_of(self);
        self.enter_refused(refusal, wait, current)
            .inspect_err(|&reason| self.recorder.rejected(reason))
    }

    /// Decides what becomes of a job that found no place.
    fn enter_refused(
        &self,
        refusal: Refusal,
        wait: Wait,
        current: Option<&Current>,
    ) -> Result<Entry, AdmissionError> {
        match (refusal, wait, current) {
            (Refusal::Closed, ..) => Err(AdmissionError::Closed),
            (Refusal::Full, Wait::Never, _) => Err(AdmissionError::Full),
            (Refusal::Full, Wait::Deferred, _) => Ok(self.overdraw(true, Holder::Queue)?),
            // A thread of the pool does not wait for a place: it might wait for itself.
            (Refusal::Full, Wait::Until(_) | Wait::Forever, Some(current)) => Ok(current.refused()),
            (Refusal::Full, Wait::Until(_) | Wait::Forever, None) => {
                self.wait_for_place(wait.deadline(), false, None)
            }
        }
    }

    /// Waits for a place, which is `held` if it is a permit's. If the thread is another pool's
    /// worker, a spare thread may take its place there meanwhile. If this pool is starved, the wait
    /// ends without a place. The thread raises the `hint` while it yields.
    pub(crate) fn wait_for_place(
        &self,
        deadline: Option<Instant>,
        held: bool,
        hint: Option<&YieldHint>,
    ) -> Result<Entry, AdmissionError> {
        let since = self.timing.begins_to_wait();
        let admitted = Admitted::new(&self.admission, held, &|| ());
        let mut gives_up = IfStarved(|| true, || Help::Starved);
        let spin = Spin::Yields(self.admission.yields_before_line(), hint);
        let waited = wait_until(self, &[&admitted], &mut gives_up, spin, deadline);
        let outcome = admitted.outcome();
        self.timing.has_waited(since, outcome.is_ok());
        match outcome {
            Ok(()) => Ok(Entry::Queued),
            Err(AdmissionError::TimedOut) if waited == Waited::Starved => Ok(Entry::InPlace),
            Err(reason) => Err(reason),
        }
    }

    /// Runs a job that has no place, on the calling thread.
    #[cold]
    fn run_in_place<R: Runnable<Inner> + 'static>(&self, runnable: R) {
        match worker::current_of(self) {
            Some(current) => {
                let run = || runnable.run(current.context(), Place::None);
                self.check_drained(current.inline().run(run));
            }
            None => self.run_outside(runnable),
        }
    }

    /// The same on a thread without a worker loop.
    fn run_outside<R: Runnable<Inner> + 'static>(&self, runnable: R) {
        inline::outside(|outside| match outside.advise(self.admission.capacity()) {
            Advice::RunInPlace => {
                let context = JobContext::elsewhere(self);
                outside.run(|| self.check_drained(runnable.run(&context, Place::None)));
            }
            Advice::Keep => outside.keep(self, Job::new(runnable)),
        });
    }

    #[inline]
    pub(crate) fn put_in<R: Runnable<Inner> + 'static>(&self, entry: Entry, runnable: R) {
        match entry {
            Entry::Queued => self.enqueue(Job::new(runnable)),
            Entry::InPlace => self.run_in_place(runnable),
            Entry::Overdrawn(holder) => self.enqueue_overdrawn(holder, runnable),
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
