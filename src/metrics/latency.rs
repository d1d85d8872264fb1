//! The latencies of a pool: admission wait, queue wait and run time.
//!
//! A job gets a stamp when it has its place. The clock is read again when it starts, and when it
//! ends. While jobs are short, most of them are not timed: `sampling.rs` decides which.
//!
//! **Admission.** A place that is free takes no time, and is not timed. The number of such places
//! is a difference: of all places ever taken, and of those that were taken after a wait. A
//! wait is counted before its place is taken, so the difference is never too large; see `unwaited`.

use crossbeam_utils::CachePadded;

use super::{
    clock::{Clock, Stamp},
    histogram::{Histogram, LatencySummary, Merged},
    sampling::{Begun, LatencySlot, Sampling, Started, Times},
};
use crate::sync::{AtomicU64, Ordering, slots::Slots};

/// The latencies of a pool, as they are recorded.
#[derive(Debug)]
pub(crate) struct Timing {
    /// Read by all threads for each job, and seldom written.
    sampling: CachePadded<Sampling>,
    slots: Slots<CachePadded<LatencySlot>>,
    /// Written by all threads outside of the pool.
    elsewhere: CachePadded<Times<Histogram>>,
    admission_wait: CachePadded<Histogram>,
    /// Submitters that had to wait for a place, or still wait.
    waits: CachePadded<AtomicU64>,
    /// Those of them that got none.
    waits_in_vain: AtomicU64,
    /// The largest number of places taken without a wait that was reported.
    unwaited_reported: AtomicU64,
}

/// The latencies of a pool, merged.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) admission_wait: Merged,
    pub(crate) jobs: Times<Merged>,
    /// Of each thread that was started, with its index.
    pub(crate) slots: Vec<(usize, Times<LatencySummary>)>,
}

impl Timing {
    /// For a pool whose threads below this index are not spare.
    pub(crate) fn new(first_spare: usize, latency_tracking: bool) -> Self {
        let clock = latency_tracking.then(Clock::new);
        Self {
            sampling: CachePadded::new(Sampling::new(clock)),
            slots: Slots::new(first_spare),
            elsewhere: CachePadded::new(Times::made()),
            admission_wait: CachePadded::new(Histogram::made()),
            waits: CachePadded::default(),
            waits_in_vain: AtomicU64::new(0),
            unwaited_reported: AtomicU64::new(0),
        }
    }

    fn clock(&self) -> Option<&Clock> {
        self.sampling.clock.as_ref()
    }

    /// Allocates what the thread of this slot will write.
    pub(crate) fn enroll(&self, slot: usize) {
        if self.clock().is_some() {
            self.slots[slot].times.make();
        }
    }

    /// The slot of the calling thread, which has this index.
    pub(crate) fn slot(&self, index: usize) -> &LatencySlot {
        self.slots.enter(index)
    }

    /// Returns this moment for a job that the calling thread submits, or `NONE` if it is not to be
    /// timed.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.sampling.stamp()
    }

    /// Returns this moment for a job that is timed in any mode, and stands for itself alone.
    pub(crate) fn stamp_unsampled(&self) -> Stamp {
        self.now().unsampled()
    }

    fn now(&self) -> Stamp {
        self.clock().map_or(Stamp::NONE, Clock::now)
    }

    /// Whether the last job that was timed on this slot was short. None if none is.
    #[inline]
    pub(crate) fn is_short(&self, slot: &LatencySlot) -> Option<bool> {
        self.clock()?;
        Some(slot.is_short())
    }

    /// Whether a job with this stamp is not timed on a thread of the pool.
    #[inline]
    pub(crate) fn passes_over(&self, since: Stamp) -> bool {
        since.is_none() && self.sampling.is_on()
    }

    /// Begins to time a job. `slot` comes with what its thread has started by now, the job
    /// included; it is None outside of the pool, where every job is timed. If the job `is_queued`,
    /// it was so `since` then.
    pub(crate) fn begin(
        &self,
        slot: Option<(&LatencySlot, Begun)>,
        is_queued: bool,
        since: Stamp,
    ) -> Started {
        let Some(clock) = self.clock() else {
            return Started::UNTIMED;
        };
        let now = clock.now();
        let waited = (is_queued && !since.is_none()).then(|| clock.nanos(since, now));
        match slot {
            Some((slot, begun)) => slot.begin(begun, since, now, waited),
            None => {
                waited.inspect(|&nanos| self.elsewhere.queue_wait.record_shared(nanos));
                Started::alone(now)
            }
        }
    }

    /// Records a timed job that has ended. `slot` as in `begin`.
    pub(crate) fn end(&self, slot: Option<(&LatencySlot, Begun)>, started: Started) {
        let Some(clock) = self.clock() else {
            return;
        };
        let nanos = clock.nanos(started.at, clock.now());
        match slot {
            Some((slot, begun)) => slot.end(&self.sampling, begun, started, nanos),
            None => self.elsewhere.run_time.record_shared(nanos),
        }
    }

    /// Counts a submitter that waits for a place. Returns since when.
    pub(crate) fn begins_to_wait(&self) -> Stamp {
        self.waits.fetch_add(1, Ordering::Release);
        self.now()
    }

    /// Records a submitter that has waited `since` then.
    pub(crate) fn has_waited(&self, since: Stamp, got_place: bool) {
        if let Some(clock) = self.clock() {
            let nanos = clock.nanos(since, clock.now());
            self.admission_wait.record_shared(nanos);
        }
        if !got_place {
            self.waits_no_more();
        }
    }

    /// Counts a submitter that got no place, or gave up.
    pub(crate) fn waits_no_more(&self) {
        self.waits_in_vain.fetch_add(1, Ordering::Release);
    }

    /// Merges the latencies of all threads. `places` returns the number of places ever taken.
    pub(crate) fn latencies(&self, places: impl FnOnce() -> u64) -> Latencies {
        let mut jobs = self.elsewhere.merged();
        let slots = self.slots.indexed().map(|(index, slot)| {
            if !slot.times.run_time.is_made() {
                return (index, Times::default());
            }
            let own = slot.times.merged();
            jobs.add(&own);
            (index, own.summaries())
        });
        let slots = slots.collect();
        let mut admission_wait = Merged::default();
        self.admission_wait.merge_into(&mut admission_wait);
        if self.clock().is_some() {
            admission_wait.add_zeros(self.unwaited(places));
        }
        Latencies {
            admission_wait,
            jobs,
            slots,
        }
    }

    /// The summary of this many jobs, of which `samples` were timed.
    pub(crate) fn of_jobs(&self, samples: LatencySummary, jobs: u64) -> LatencySummary {
        let count = if self.clock().is_some() { jobs } else { 0 };
        LatencySummary { count, ..samples }
    }

    /// The number of places taken without a wait. Never less than reported before.
    fn unwaited(&self, places: impl FnOnce() -> u64) -> u64 {
        // In this order: each place that was taken after a wait is among the waits by then, and no
        // wait in vain is missing there.
        let in_vain = self.waits_in_vain.load(Ordering::Acquire);
        let taken = places();
        let waits = self.waits.load(Ordering::Acquire);
        let unwaited = taken.wrapping_sub(waits.wrapping_sub(in_vain));
        reported_at_least(&self.unwaited_reported, unwaited)
    }
}

/// Returns a difference of counters as it was read, or what was reported before if that was larger.
pub(super) fn reported_at_least(reported: &AtomicU64, read: u64) -> u64 {
    // Since the counters are read one after another, it may even be below zero.
    let read = if read > u64::MAX / 2 { 0 } else { read };
    reported.fetch_max(read, Ordering::Relaxed).max(read)
}
