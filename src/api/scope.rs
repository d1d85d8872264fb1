//! Scopes: jobs that borrow from the stack, and end before the frame is left.

mod spawn;

use std::{
    any::Any,
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use crate::{
    api::{admit::Wait, pool::Pool},
    error::SubmitError,
    metrics::Stamp,
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Ended, Place},
        span::Origin,
        wait::frames::Countdown,
        worker::{self, Current, inline},
    },
    sync::{
        AtomicBool, Mutex, Ordering, Rank, lock,
        unwind::{drop_payload, quietly},
    },
};

/// A scope in which jobs can be spawned that borrow from outside it.
///
/// [`Pool::scope`] and [`Pool::in_place_scope`] make it.
///
/// **Jobs of a scope must not wait for each other** except through scopes, joins and handles.
/// Nothing promises that two of them run at once. If the queue is full, one may start only when
/// another has ended, or run on top of it. With a small queue, as many jobs as workers that meet at
/// a [`Barrier`](std::sync::Barrier) hang.
pub struct Scope<'scope> {
    /// Outlives the scope: the thread that opened it borrows the pool.
    inner: *const Inner,
    countdown: Countdown,
    /// The first panic, and whether there was any.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    panicked: AtomicBool,
    /// Invariant in 'scope: a job that borrows for longer or shorter has another type.
    marker: PhantomData<fn(&'scope ()) -> &'scope ()>,
}

// SAFETY: the countdown is made for other threads to count on: only the owner's thread writes its
// near count, which `Countdown` checks by the slot. The panic is in a mutex, and the pool is Sync.
unsafe impl Sync for Scope<'_> {}
// SAFETY: a scope is never moved while it is in use. Other threads get a reference, for which Sync
// is enough.
unsafe impl Send for Scope<'_> {}

/// A scope's address, for its jobs.
#[derive(Clone, Copy)]
pub(crate) struct ScopeRef<'scope>(*const Scope<'scope>);

// SAFETY: a scope is Sync.
unsafe impl Send for ScopeRef<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for ScopeRef<'_> {}

impl<'scope> ScopeRef<'scope> {
    /// # Safety
    /// The scope is still counting a job that the caller runs, or the caller is in its body.
    pub(crate) unsafe fn get<'a>(self) -> &'a Scope<'scope> {
        // SAFETY: passed on to the caller.
        unsafe { &*self.0 }
    }
}

impl<'scope> Scope<'scope> {
    #[inline]
    pub(crate) fn new(inner: &Inner, current: Option<&Current>) -> Self {
        Self {
            inner,
            countdown: Countdown::new(inner, current),
            panic: Mutex::new(Rank::ScopePanic, None),
            panicked: AtomicBool::new(false),
            marker: PhantomData,
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        // SAFETY: the thread that opened the scope borrows the pool until it has ended.
        unsafe { &*self.inner }
    }

    /// Spawns a job into the scope.
    ///
    /// The job gets the scope as its argument, so that it can spawn more. **On a thread of the
    /// pool** no spawn waits. If the queue is full, the job runs before this returns, on top of the
    /// spawner, or is kept for later. So the caller must hold no lock or borrow that the job needs.
    /// **On another thread** the spawn blocks until there is a place, and runs nothing. So the
    /// caller must hold no lock, borrow or permit that any job of the pool needs. On a closed pool
    /// the spawner runs the job. See [Admission](crate::Pool#when-a-job-runs-on-top-of-another),
    /// and [`spawn_deferred`](Self::spawn_deferred) for a form that neither runs the job nor waits.
    ///
    /// If the job panics, the scope resumes the panic when all its jobs have ended.
    #[inline]
    pub fn spawn<F>(&self, f: F)
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        let (inner, origin) = (self.inner(), Origin::here());
        // The common path first: a few comparisons find it.
        match worker::current_with_deques_of(inner) {
            Some(current) if self.is_nearest(current) => {
                if current.take_place().is_ok() {
                    let slots = current.slots();
                    self.countdown.begin(Some(slots.index));
                    let since = inner.timing.stamp();
                    let job = self.job(since, origin, f);
                    if current.is_joining() {
                        self.push_aside(inner, job);
                    } else {
                        self.push_own(current, job);
                    }
                } else {
                    self.enter_refused(inner, Some(current), origin, f);
                }
            }
            // A spawn without a deadline is refused neither by a full queue nor by a closed pool.
            _ => drop(self.spawn_aside(Wait::Forever, origin, f)),
        }
    }

    /// Spawns a job into the scope if there is room. Never blocks, and never runs the job in place.
    ///
    /// # Errors
    /// [`SubmitError::Full`] or [`SubmitError::Closed`], with the job.
    pub fn try_spawn<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        self.spawn_aside(Wait::Never, Origin::here(), f)
    }

    /// Spawns a job into the scope. Blocks for at most `timeout` while the queue is full.
    ///
    /// On a thread of the pool it does not block: see [`spawn`](Self::spawn). On a closed pool the
    /// job runs on the spawning thread.
    ///
    /// # Errors
    /// [`SubmitError::TimedOut`], with the job.
    pub fn spawn_timeout<F>(&self, timeout: Duration, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        self.spawn_aside(Wait::at_most(timeout), Origin::here(), f)
    }

    /// Spawns a job into the scope, without waiting and without running it in place, on any thread.
    ///
    /// Without a place in the queue the job is queued over the bound, and counted as
    /// [`overdrawn`](crate::Snapshot::overdrawn). So the caller has to bound such jobs by other
    /// means. Use it in wakers, in destructors, and in code that holds a lock or a borrow that the
    /// job needs. On a closed pool the job runs on the spawning thread.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Mutex;
    ///
    /// let pool = adaptive_pool::Pool::builder().workers(1).capacity(1).build().unwrap();
    /// let log = Mutex::new(Vec::new());
    /// pool.scope(|s| {
    ///     let held = log.lock().unwrap();
    ///     for n in 0..3 {
    ///         let log = &log;
    ///         s.spawn_deferred(move |_| log.lock().unwrap().push(n)); // not here, where it would wait for itself
    ///     }
    ///     drop(held);
    /// });
    /// assert_eq!(log.into_inner().unwrap().len(), 3);
    /// ```
    pub fn spawn_deferred<F>(&self, f: F)
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        // Only a closed pool refuses it, and then it runs here.
        drop(self.spawn_aside(Wait::Deferred, Origin::here(), f));
    }

    /// Always inlined: a call would copy the closure.
    #[inline(always)]
    fn run_job(
        &self,
        context: &JobContext<'_>,
        place: Place,
        since: Stamp,
        f: impl FnOnce(&Self),
    ) -> Ended {
        let started = context.begin(place, since);
        let outcome = catch_unwind(AssertUnwindSafe(|| f(self)));
        let ended = context.end(started, outcome.is_ok());
        if let Err(payload) = outcome {
            self.keep_panic(payload);
        }
        ended
    }

    /// Keeps the first panic, and drops the others.
    #[cold]
    pub(crate) fn keep_panic(&self, payload: Box<dyn Any + Send>) {
        let mut first = lock(&self.panic);
        if first.is_none() {
            *first = Some(payload);
            self.panicked.store(true, Ordering::Relaxed);
        } else {
            drop(first);
            drop_payload(payload);
        }
    }

    #[inline]
    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Runs the body, waits for the jobs, and resumes the first panic. Always inlined: otherwise a
    /// small scope takes a tenth longer.
    #[inline(always)]
    fn complete<R>(&self, current: Option<&Current>, body: impl FnOnce(&Self) -> R) -> R {
        let run = || {
            let own = current.and_then(|current| Some((current, current.local()?.mark())));
            let result = catch_unwind(AssertUnwindSafe(|| body(self)));
            let result = result.map_err(|payload| self.keep_panic(payload));
            self.countdown.wait(self.inner(), own);
            if let Some((current, mark)) = own {
                current.deques().clear_stolen(mark);
            }
            if let Some(current) = current {
                current.scope_ended();
            }
            result
        };
        let result = match current {
            Some(current) => current.in_frame(self.frame(), run),
            None => inline::outside(|outside| outside.level(run)),
        };
        // The countdown has ended: this thread observes what the jobs have written.
        let first = self
            .has_panicked()
            .then(|| lock(&self.panic).take())
            .flatten();
        match (result, first) {
            (Ok(result), None) => result,
            // If the body panicked, a panic was kept.
            (result, first) => {
                // This drop must not panic while that panic unwinds.
                quietly(move || drop(result));
                resume_unwind(first.unwrap_or_else(|| Box::new("a scope panicked")))
            }
        }
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("panicked", &self.has_panicked())
            .finish_non_exhaustive()
    }
}

/// # Fork-join
///
/// Jobs that borrow from the stack, and are bounded like all others.
///
/// **A wait never runs an unrelated job.** A worker that waits in a scope or a join runs only jobs
/// of that scope, and of scopes nested in it. So a lock that is held across the wait cannot meet an
/// unrelated job that wants it. Nor does a short wait pick up a long job. While the worker has
/// nothing to run it blocks, and another thread may take its place. (Inside `rayon::join`,
/// `rayon::scope` and parallel iterators rayon's own rules hold: they may run anything.)
///
/// **On a closed pool** each of these does its work on the calling thread.
impl Pool {
    /// Runs `f` on a worker, with a scope. Returns when `f` and all jobs spawned into the scope
    /// have ended.
    ///
    /// On a thread of the pool `f` runs at once, in place. On another thread it is a job like
    /// others: the caller blocks for its admission, and until it has ended.
    ///
    /// # Panics
    /// With the first panic of `f` and the jobs, after all of them have ended.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let mut halves = [1, 2, 3, 4];
    /// let (left, right) = halves.split_at_mut(2);
    /// pool.scope(|s| {
    ///     s.spawn(|_| left.iter_mut().for_each(|x| *x *= 10));
    ///     s.spawn(|_| right.iter_mut().for_each(|x| *x *= 100));
    /// });
    /// assert_eq!(halves, [10, 20, 300, 400]);
    /// ```
    pub fn scope<'scope, F, R>(&self, f: F) -> R
    where
        F: FnOnce(&Scope<'scope>) -> R + Send,
        R: Send,
    {
        self.install(|| self.in_place_scope(f))
    }

    /// As [`scope`](Self::scope), but runs `f` on the calling thread, whichever it is.
    ///
    /// If the calling thread is not the pool's, it runs none of the scope's jobs while the pool is
    /// open: its spawns block until there are places.
    ///
    /// # Panics
    /// With the first panic of `f` and the jobs, after all of them have ended.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let words = ["to", "be", "or", "not"];
    /// let mut lengths = [0; 4];
    /// pool.in_place_scope(|s| {
    ///     for (word, length) in words.iter().zip(&mut lengths) {
    ///         s.spawn(move |_| *length = word.len());
    ///     }
    /// });
    /// assert_eq!(lengths, [2, 2, 2, 3]);
    /// ```
    pub fn in_place_scope<'scope, F, R>(&self, f: F) -> R
    where
        F: FnOnce(&Scope<'scope>) -> R,
    {
        let current = worker::current_of(&self.inner);
        Scope::new(&self.inner, current).complete(current, f)
    }
}
