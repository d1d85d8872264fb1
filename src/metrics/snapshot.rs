//! The state of a pool at one moment.

use super::histogram::LatencySummary;

/// Counters and gauges of a pool, read at one moment.
///
/// Counters never decrease. They are read one after another, so while the pool works, sums may be
/// off by what happens in between. At rest they agree exactly:
///
/// - `submitted == admitted + rejected_full + rejected_timed_out + rejected_closed`
/// - `admitted == completed + panicked + cancelled + dropped`
/// - `run_time.count == completed + panicked`, and `queue_wait.count == started - inlined`, if
///   latencies are tracked
///
/// `Display` prints a table for a terminal.
///
/// # Examples
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// pool.submit(|| ()).unwrap().join().unwrap();
/// let seen = pool.metrics();
/// assert_eq!((seen.admitted, seen.completed, seen.depth), (1, 1, 0));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Places of the queue that are taken: by queued jobs, and by unused permits.
    pub depth: u64,
    /// Places of the queue.
    pub capacity: u64,
    /// Submitters that wait for a place: threads and tasks.
    pub waiting_submitters: u64,

    /// Workers that run jobs or search for them.
    pub workers_in_service: u64,
    /// Threads inside a job. Those that wait there for other jobs are included, so there may be
    /// more than are in service.
    pub workers_busy: u64,
    /// Workers in service without a job.
    pub workers_idle: u64,
    /// Workers that were in service before, and are parked now.
    pub workers_parked: u64,
    /// Threads that were started and have not ended: those for workers, and one that starts threads
    /// and serves as timer.
    pub threads: u64,

    /// Jobs submitted: admitted or rejected.
    pub submitted: u64,
    /// Jobs admitted.
    pub admitted: u64,
    /// Jobs started.
    pub started: u64,
    /// Jobs that returned.
    pub completed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs cancelled by their handle before they started.
    pub cancelled: u64,
    /// Jobs dropped by a shutdown before they started.
    pub dropped: u64,
    /// Jobs run at once on the submitter's stack, without being queued.
    pub inlined: u64,
    /// Jobs queued over the capacity: kept by a thread of the pool that had no room to run them in
    /// place, deferred, or submitted through a permit without a place.
    pub overdrawn: u64,
    /// Jobs over the capacity that are queued now. They are not part of `depth`.
    pub overdrawn_now: u64,
    /// Batches of jobs taken from another worker's deque.
    pub steals: u64,
    /// Jobs rejected because the queue was full, by calls that do not wait.
    pub rejected_full: u64,
    /// Jobs rejected because the queue stayed full until the timeout.
    pub rejected_timed_out: u64,
    /// Jobs rejected because the pool was closed.
    pub rejected_closed: u64,
    /// Threads that the operating system failed to start.
    pub thread_start_failures: u64,

    /// Times that workers were added, by load or by a resize.
    pub scale_ups: u64,
    /// Workers parked, over time.
    pub parks: u64,

    /// Time to get a place in the queue; zero if one was free. Waits that ended without a place are
    /// included, except those of dropped futures. Empty, as the two below, without
    /// [`latency_tracking`](crate::PoolBuilder::latency_tracking).
    pub admission_wait: LatencySummary,
    /// Time from admission to the start of a job. Sampled while jobs are short, as `run_time` is.
    pub queue_wait: LatencySummary,
    /// Run time of jobs, even if they panicked.
    ///
    /// The count is exact. The pool times every job until one of its workers has timed 32 jobs in a
    /// row that took less than a microsecond. From then on it times about one job in 32, which
    /// stands for those before it. The first timed job of a microsecond or more ends that.
    ///
    /// So where jobs are long, all figures are exact. Among many short jobs, long ones have their
    /// share in the mean and the percentiles, but a single long one is missed in 31 of 32 cases.
    pub run_time: LatencySummary,

    /// The threads that the pool may have in service, by index. The spare threads follow that were
    /// started to take the places of blocked workers, or for a resize.
    pub per_worker: Vec<WorkerSnapshot>,
}

/// Counters of one thread of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// Whether it runs a job.
    pub busy: bool,
    /// Jobs that it started.
    pub started: u64,
    /// Jobs that returned on it.
    pub completed: u64,
    /// Jobs that panicked on it.
    pub panicked: u64,
    /// Batches of jobs that it took from another worker's deque.
    pub steals: u64,
    /// Time from admission to the start of the jobs that it started.
    pub queue_wait: LatencySummary,
    /// Run time of these jobs.
    pub run_time: LatencySummary,
}
