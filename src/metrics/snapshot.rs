//! The state of a pool at one moment.

use super::histogram::LatencySummary;

/// Counters and gauges of a pool, read at one moment.
///
/// Counters never go backwards. While the pool works they are read one after another, so sums may be
/// off by what happened in between; at rest they agree exactly:
///
/// - `submitted == admitted + rejected_full + rejected_timed_out + rejected_closed`
/// - `admitted == completed + panicked + cancelled + dropped`
/// - `run_time.count == completed + panicked`, and `queue_wait.count == started - inlined`, if latencies are
///   tracked
///
/// `Display` prints all of it as a table for a terminal.
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
    /// Places of the queue that are taken: by jobs that wait, and by permits that were not used yet.
    pub depth: u64,
    /// How many places the queue has.
    pub capacity: u64,
    /// Submitters that wait for a place, threads and tasks.
    pub waiting_submitters: u64,

    /// Workers that run jobs, or would if there were any.
    pub workers_in_service: u64,
    /// Threads inside a job, also those that wait there for other jobs; so there may be
    /// more than are in service.
    pub workers_busy: u64,
    /// Workers in service that have nothing to do.
    pub workers_idle: u64,
    /// Workers that were called in once, and are not in service now.
    pub workers_parked: u64,
    /// Threads that were started, and have not ended: those for workers, and one more, which starts threads and keeps the
    /// scaling's time.
    pub threads: u64,

    /// Jobs that were submitted: admitted or rejected.
    pub submitted: u64,
    /// Jobs that were admitted.
    pub admitted: u64,
    /// Jobs that were begun.
    pub started: u64,
    /// Jobs that returned.
    pub completed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that their handle cancelled before they started.
    pub cancelled: u64,
    /// Jobs that a shutdown dropped before they started.
    pub dropped: u64,
    /// Jobs that ran at once on the submitter's stack, without having been queued.
    pub inlined: u64,
    /// Jobs that were queued over the bound: kept by one of the pool's own threads that had no room to run them in
    /// place, deferred, or brought by a permit without a place.
    pub overdrawn: u64,
    /// Jobs over the bound that wait now. They are not part of `depth`.
    pub overdrawn_now: u64,
    /// Batches of jobs that a worker took from another worker's deque.
    pub steals: u64,
    /// Refused because the queue was full, to callers that do not wait.
    pub rejected_full: u64,
    /// Refused because the queue stayed full until the timeout.
    pub rejected_timed_out: u64,
    /// Refused because the pool was closed.
    pub rejected_closed: u64,
    /// Threads that the system refused to start.
    pub thread_start_failures: u64,

    /// How often workers were called in because of the load, or of a resize.
    pub scale_ups: u64,
    /// How many workers were parked, over time.
    pub parks: u64,

    /// How long it took to get a place in the queue: once for each place that was taken, and for each wait that
    /// ended without one, except those of dropped futures. A place that was free at once counts as no wait.
    /// Empty, as the two below, without
    /// [`latency_tracking`](crate::PoolBuilder::latency_tracking).
    pub admission_wait: LatencySummary,
    /// How long jobs waited in the queue until they started. Sampled while jobs are short, as `run_time` is.
    pub queue_wait: LatencySummary,
    /// How long jobs ran, also those that panicked.
    ///
    /// The count is exact. Every job is timed until one of the workers has timed 32 jobs in a row that took less than a
    /// microsecond. From then on about one job in 32 is timed, and stands for those before it. The first timed job of a
    /// microsecond or more ends that. So where jobs are long, all figures are exact. Among many short jobs, long ones have their
    /// share in the mean and the percentiles, but a single long one is missed in 31 of 32 cases.
    pub run_time: LatencySummary,

    /// Each thread that the pool may have in service, by its index, and after them the spare threads
    /// that were started to take the places of blocked workers, or for a resize.
    pub per_worker: Vec<WorkerSnapshot>,
}

/// Counters of one thread of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// Whether it runs a job.
    pub busy: bool,
    /// Jobs that it began.
    pub started: u64,
    /// Jobs that returned on it.
    pub completed: u64,
    /// Jobs that panicked on it.
    pub panicked: u64,
    /// Batches of jobs that it took from another worker's deque.
    pub steals: u64,
    /// How long the jobs that it began had waited in the queue.
    pub queue_wait: LatencySummary,
    /// How long they ran.
    pub run_time: LatencySummary,
}
