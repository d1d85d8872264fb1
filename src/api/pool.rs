//! The pool as users hold it: its life, from build to shutdown.

use std::{
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
    time::Duration,
};

use crate::{
    api::builder::{self, PoolBuilder, Workers},
    error::{BuildError, ShutdownError, ShutdownReport},
    metrics::Snapshot,
    runtime::{inner::Inner, lifecycle::Grace, resident::Resident},
    sync::Instant,
};

/// A pool of worker threads behind a bounded queue.
///
/// [`Pool::new`] and [`Pool::builder`] make it; it is shared by reference or in an [`Arc`].
/// Dropping it is [`shutdown`](Self::shutdown): what was admitted runs, and the threads are joined.
/// **So a drop blocks** until all that was admitted has ended. In async code call `shutdown` first,
/// on a thread that may block.
///
/// **Two pools must not own each other.** A drop inside one of the pool's own jobs returns at once.
/// In a job of *another* pool it blocks, as anywhere. So if a job of each of two pools drops, or
/// shuts down, the other pool, both wait for ever.
///
/// # Fork
/// The threads of a pool do not exist in a forked child. There, a pool that was built before the
/// fork is closed and has ended. It refuses jobs, counts anew from zero, and may be shut down and
/// dropped. The calling thread runs the work of a scope, a batch, `install` and `join`. Handles,
/// permits and iterators from before the fork must not be used in the child. A child may build
/// pools of its own.
///
/// # Examples
/// ```
/// use adaptive_pool::Pool;
///
/// let pool = Pool::builder().workers(2).capacity(64).build()?;
/// let handle = pool.submit(|| (1..=10u64).product::<u64>())?;
/// assert_eq!(handle.join()?, 3_628_800);
/// let report = pool.shutdown();
/// assert_eq!(report.completed, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool {
    pub(crate) inner: Resident,
}

impl Pool {
    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self {
            inner: Resident::new(inner),
        }
    }

    /// Builds a pool with the default options: as many workers as cores, a capacity of 1024.
    ///
    /// # Errors
    /// [`BuildError::Thread`] if the system gives no thread.
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns the options of a new pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Refuses new work from now on. What is queued still runs, and the threads stay.
    ///
    /// Every submitter that waits for a place is refused with `Closed`. Does not block. Closing a
    /// closed pool does nothing. A [`map`](Self::map) or [`for_each`](Self::for_each) that has
    /// begun goes on, on its caller's thread, unless its iterator ends: `items.take_while(|_|
    /// !pool.is_closed())`.
    pub fn close(&self) {
        self.inner.admission.close();
    }

    /// Whether the pool refuses new work: it was closed, or is being shut down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.admission.is_closed()
    }

    /// Closes the pool, blocks until all that was admitted has run, and joins every thread.
    ///
    /// Afterwards no thread of the pool exists and no job of its queue runs. It does not wait for
    /// permits: see [`Permit`](crate::Permit). Every other caller of a shutdown, at the same time
    /// or later, gets the same report.
    ///
    /// **From inside one of the pool's own jobs** it cannot wait for that job. There it closes the
    /// pool, lets it end by itself when the queue is empty, and returns at once a report of the
    /// jobs so far.
    ///
    /// # Examples
    /// ```
    /// # let pool = adaptive_pool::Pool::new().unwrap();
    /// for _ in 0..10 {
    ///     pool.spawn(|| ()).unwrap();
    /// }
    /// let report = pool.shutdown();
    /// assert_eq!(report.completed, 10);
    /// assert_eq!(pool.shutdown(), report);
    /// ```
    pub fn shutdown(&self) -> ShutdownReport {
        match self.inner.shut_down(Grace::Unlimited) {
            Ok(report) => report,
            Err(_inside) => {
                self.inner.begin_drain();
                self.inner.report()
            }
        }
    }

    /// As [`shutdown`](Self::shutdown), but blocks for at most `timeout`. Then jobs that have not
    /// started are dropped, and counted. Jobs of scopes and batches are not dropped, since their
    /// callers wait for them; they count as running.
    ///
    /// # Errors
    /// [`ShutdownError::TimedOut`] if the jobs and threads had not all ended in time. It counts the
    /// jobs that still ran; its counts of the jobs that have ended stay true. A later shutdown of
    /// any kind, and so the drop of the pool, waits for the rest: to go on without that,
    /// `std::mem::forget` the pool.
    ///
    /// [`ShutdownError::InsideJob`] from inside one of the pool's own jobs, with nothing changed.
    ///
    /// # Examples
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    /// use adaptive_pool::{Pool, ShutdownError};
    ///
    /// let pool = Pool::builder().workers(1).build().unwrap();
    /// let (send, receive) = mpsc::channel::<()>();
    /// let (started, wait) = mpsc::channel();
    /// pool.spawn(move || { started.send(()).unwrap(); receive.recv().unwrap() }).unwrap();
    /// wait.recv().unwrap();
    /// pool.spawn(|| unreachable!()).unwrap();
    /// match pool.shutdown_timeout(Duration::from_millis(1)) {
    ///     Err(ShutdownError::TimedOut { report, running }) => {
    ///         assert_eq!((report.dropped, running), (1, 1));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// send.send(()).unwrap();
    /// assert_eq!(pool.shutdown().completed, 1);
    /// ```
    pub fn shutdown_timeout(&self, timeout: Duration) -> Result<ShutdownReport, ShutdownError> {
        let grace = Instant::now()
            .checked_add(timeout)
            .map_or(Grace::Unlimited, Grace::Until);
        self.inner.shut_down(grace)
    }

    /// Closes the pool, drops jobs that have not started, blocks until those that run have ended,
    /// and joins every thread.
    ///
    /// Jobs of scopes and batches and installed closures run nevertheless, because their callers
    /// wait for them. A batch also pulls the rest of its iterator: see [`close`](Self::close).
    ///
    /// # Errors
    /// [`ShutdownError::InsideJob`] from inside one of the pool's own jobs, with nothing changed.
    pub fn shutdown_now(&self) -> Result<ShutdownReport, ShutdownError> {
        self.inner.shut_down(Grace::None)
    }

    /// Changes how many jobs may wait, while the pool runs.
    ///
    /// With a larger capacity, waiting submitters that fit are admitted at once. With a capacity
    /// below the present depth, no submitter is admitted until the queue has drained that far. Only
    /// a submitter that is being admitted at this moment may still succeed.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] if no pool could be built with this capacity.
    pub fn set_capacity(&self, jobs: usize) -> Result<(), BuildError> {
        builder::validate_capacity(jobs)?;
        self.inner.admission.set_capacity(jobs);
        self.inner.ask_policy();
        Ok(())
    }

    /// Changes the range of workers in service, `min..=max`, while the pool runs. A number fixes
    /// it.
    ///
    /// If there are fewer than the new minimum, the missing workers are added at once. If there are
    /// more than the new maximum, the excess workers are parked: idle ones at once, the others when
    /// their jobs end. Does not block, and may be called from inside a job. After the pool's end it
    /// does nothing.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] if no pool could be built with this range, or if it exceeds
    /// [`PoolBuilder::max_threads`](crate::PoolBuilder::max_threads).
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::builder().workers(1).max_threads(4).build().unwrap();
    /// pool.resize(2..=4).unwrap();
    /// assert_eq!(pool.metrics().workers_in_service, 2);
    /// assert_eq!(
    ///     pool.resize(2..=5).unwrap_err().to_string(),
    ///     "workers = 2..=5: at most as many as max_threads",
    /// );
    /// ```
    pub fn resize(&self, workers: impl Into<Workers>) -> Result<(), BuildError> {
        let workers = workers.into();
        workers.validate_below(self.inner.settings.max_threads)?;
        self.inner.resize(workers.min()..=workers.max());
        Ok(())
    }

    /// Returns the pool's [`name`](PoolBuilder::name).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.settings.name
    }

    /// Returns how many jobs may wait: the builder's [`capacity`](PoolBuilder::capacity), or that
    /// of the last [`set_capacity`](Self::set_capacity).
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.inner.admission.capacity() as usize
    }

    /// Returns how many places of the queue are taken: by jobs that wait, and by unused permits.
    ///
    /// It may have changed when this returns. To act on a place, take it:
    /// [`try_reserve`](Self::try_reserve).
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::builder().workers(1).capacity(8).name("ingest").build().unwrap();
    /// let _permit = pool.reserve().unwrap();
    /// assert_eq!((pool.depth(), pool.capacity()), (1, 8));
    /// assert_eq!((pool.workers(), pool.name()), (1, "ingest"));
    /// ```
    #[must_use]
    pub fn depth(&self) -> usize {
        self.inner.admission.depth() as usize
    }

    /// Returns how many workers are in service: they run jobs, or would if there were any. After
    /// the pool's end, zero.
    ///
    /// A pool of `workers(min..=max)` has between `min` and `max`.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.inner.workers_in_service()
    }

    /// Returns the pool's counters, gauges and latencies now; also after its shutdown.
    ///
    /// It merges the histograms of all threads, so its time is proportional to their number. It
    /// writes nothing that they write. For one number [`depth`](Self::depth),
    /// [`capacity`](Self::capacity) and [`workers`](Self::workers) are cheap.
    pub fn metrics(&self) -> Snapshot {
        Snapshot::of(&self.inner)
    }

    /// Returns this pool's metrics for Prometheus, for the caller to register. The pool registers
    /// itself nowhere, not even in the default registry.
    ///
    /// Each scrape takes one [`Snapshot`], and never waits for the workers. All names begin with
    /// `adaptive_pool_`, and all series have the label `pool`: the pool's
    /// [`name`](crate::PoolBuilder::name). So one registry takes many pools, as long as their names
    /// differ; it refuses a second pool of the same name with [`prometheus::Error::AlreadyReg`].
    /// `docs/metrics.md` in the repository lists all metrics.
    ///
    /// The collector does not keep the pool running: dropping the [`Pool`] shuts it down, and later
    /// scrapes report the state at the end. The collector does keep the memory of the pool's queue,
    /// counters and handlers, until it is dropped. To forget a pool, pass a clone of its collector
    /// to [`Registry::unregister`](prometheus::Registry::unregister).
    ///
    /// It is a collector of the crate `prometheus` 0.14, and goes only into a registry of that
    /// version. The crate is re-exported as [`adaptive_pool::prometheus`](crate::prometheus).
    /// Without the feature `prometheus`, which is on by default, there is no collector.
    ///
    /// # Examples
    /// ```
    /// use adaptive_pool::{Pool, prometheus::{Registry, TextEncoder}};
    ///
    /// let pool = Pool::builder().name("ingest").build()?;
    /// let registry = Registry::new();
    /// registry.register(Box::new(pool.collector()))?;
    ///
    /// pool.submit(|| ())?.join()?;
    /// let text = TextEncoder::new().encode_to_string(&registry.gather())?;
    /// assert!(text.contains(r#"adaptive_pool_jobs_completed_total{pool="ingest"} 1"#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "prometheus")]
    #[must_use]
    pub fn collector(&self) -> impl prometheus::core::Collector + Clone + use<> {
        super::prometheus::PoolCollector::new(&self.inner)
    }
}

impl Drop for Pool {
    /// Shuts the pool down: see [`Pool::shutdown`]. From inside one of its own jobs, it lets the
    /// pool end by itself.
    fn drop(&mut self) {
        self.shutdown();
    }
}

// A panic leaves no invariant of a pool broken: user code never runs under its locks.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.inner.settings.name)
            .field("workers", &self.inner.scaler.scaled().workers)
            .field("capacity", &self.inner.admission.capacity())
            .field("depth", &self.inner.admission.depth())
            .field("closed", &self.is_closed())
            .field("max_threads", &self.inner.settings.max_threads)
            .field("scaling", &self.inner.settings.scaling)
            .field("latency_tracking", &self.inner.settings.latency_tracking)
            .finish_non_exhaustive()
    }
}
