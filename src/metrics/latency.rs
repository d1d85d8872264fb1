//! How long jobs wait and run, and how long it takes to be admitted.
//!
//! A job is stamped when it has its place. The clock is read again when it starts, and when it ends. While jobs are short,
//! most of them are not timed: `sampling.rs` decides which.
//!
//! **Admission.** A place that is free at once takes no time, and is not timed. How many those are
//! is a difference: of all places that were ever taken, and of those that were taken after a wait. A
//! wait is counted before its place is taken, so the difference is never too large; see `unwaited`.

use crossbeam_utils::CachePadded;

use super::{
    clock::{Clock, Stamp},
    histogram::{Histogram, LatencySummary, Merged},
    sampling::{Begun, LatencySlot, Sampling, Started, Times},
};
use crate::sync::{AtomicU64, Ordering, slots::Slots};

/// The times of a pool's jobs.
#[derive(Debug)]
pub(crate) struct Timing {
    /// Read by all threads for each job, and seldom written.
    sampling: CachePadded<Sampling>,
    slots: Slots<CachePadded<LatencySlot>>,
    /// Written by all threads that are not the pool's.
    elsewhere: CachePadded<Times>,
    admission_wait: CachePadded<Histogram>,
    /// Submitters that had to wait for a place, or wait still.
    waits: CachePadded<AtomicU64>,
    /// Of these, those that did not get one.
    waits_in_vain: AtomicU64,
    /// The most places that any reader found to be taken without a wait.
    unwaited_told: AtomicU64,
}

/// The latencies of a pool, merged.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) admission_wait: Merged,
    pub(crate) jobs: JobLatencies,
    /// Of each thread that was started, with its index.
    pub(crate) slots: Vec<(usize, JobSummaries)>,
}

/// The latencies of jobs, merged.
#[derive(Debug, Default)]
pub(crate) struct JobLatencies {
    pub(crate) queue_wait: Merged,
    pub(crate) run_time: Merged,
}

/// The samples of one thread's jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobSummaries {
    pub(crate) queue_wait: LatencySummary,
    pub(crate) run_time: LatencySummary,
}

impl JobLatencies {
    fn of(times: &Times) -> Self {
        let mut latencies = Self::default();
        times.queue_wait.merge_into(&mut latencies.queue_wait);
        times.run_time.merge_into(&mut latencies.run_time);
        latencies
    }

    pub(crate) fn summaries(&self) -> JobSummaries {
        JobSummaries {
            queue_wait: self.queue_wait.summary(),
            run_time: self.run_time.summary(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.queue_wait.add(&other.queue_wait);
        self.run_time.add(&other.run_time);
    }
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
            unwaited_told: AtomicU64::new(0),
        }
    }

    fn clock(&self) -> Option<&Clock> {
        self.sampling.clock.as_ref()
    }

    /// The calling thread has this slot, and will record there.
    pub(crate) fn enroll(&self, slot: usize) {
        if self.clock().is_some() {
            self.slots[slot].times.make();
        }
    }

    /// What the calling thread writes, of this index.
    pub(crate) fn slot(&self, index: usize) -> &LatencySlot {
        self.slots.enter(index)
    }

    /// This moment, for a job that the calling thread brings; `NONE` if the job is not to be timed.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.sampling.stamp()
    }

    /// This moment, for a job that is timed in any mode.
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

    /// A job starts on the thread of this slot, which has begun as many with it. `is_queued` if it has
    /// waited in the queue since then.
    pub(crate) fn begin(
        &self,
        slot: &LatencySlot,
        begun: Begun,
        is_queued: bool,
        since: Stamp,
    ) -> Started {
        let Some(clock) = self.clock() else {
            return Started::UNTIMED;
        };
        let now = clock.now();
        if is_queued && !since.is_none() {
            slot.has_waited(clock, begun, since, now);
        }
        slot.begin(begun, since, now)
    }

    /// The same on a thread that is not the pool's, where every job is timed.
    pub(crate) fn begin_elsewhere(&self, is_queued: bool, since: Stamp) -> Started {
        let Some(clock) = self.clock() else {
            return Started::UNTIMED;
        };
        let now = clock.now();
        if is_queued && !since.is_none() {
            let nanos = clock.nanos(since, now);
            self.elsewhere.queue_wait.record_shared(nanos);
        }
        Started::alone(now)
    }

    /// A job has run that was timed. `slot` and what its thread has begun by now, if it is one of the pool's.
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

    /// A submitter has to wait for a place. Returns since when.
    pub(crate) fn begins_to_wait(&self) -> Stamp {
        self.waits.fetch_add(1, Ordering::Release);
        self.now()
    }

    /// A submitter that has waited since then got a place, or did not.
    pub(crate) fn has_waited(&self, since: Stamp, got_place: bool) {
        if let Some(clock) = self.clock() {
            let nanos = clock.nanos(since, clock.now());
            self.admission_wait.record_shared(nanos);
        }
        if !got_place {
            self.waits_no_more();
        }
    }

    /// A submitter that waited does not want a place any more.
    pub(crate) fn waits_no_more(&self) {
        self.waits_in_vain.fetch_add(1, Ordering::Release);
    }

    /// The latencies of all threads, merged. `places` tells how many places were ever taken.
    pub(crate) fn latencies(&self, places: impl FnOnce() -> u64) -> Latencies {
        let mut jobs = JobLatencies::of(&self.elsewhere);
        let slots = self.slots.indexed().map(|(index, slot)| {
            if !slot.times.run_time.is_made() {
                return (index, JobSummaries::default());
            }
            let own = JobLatencies::of(&slot.times);
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

    /// The summary of the samples of this many jobs.
    pub(crate) fn of_jobs(&self, samples: LatencySummary, jobs: u64) -> LatencySummary {
        let count = if self.clock().is_some() { jobs } else { 0 };
        LatencySummary { count, ..samples }
    }

    /// How many places were taken by who did not have to wait. Never less than was told before.
    fn unwaited(&self, places: impl FnOnce() -> u64) -> u64 {
        // In this order: each place that was taken after a wait is among the waits by then, and no wait in
        // vain is missing there.
        let in_vain = self.waits_in_vain.load(Ordering::Acquire);
        let taken = places();
        let waits = self.waits.load(Ordering::Acquire);
        let unwaited = taken.wrapping_sub(waits.wrapping_sub(in_vain));
        told_at_least(&self.unwaited_told, unwaited)
    }
}

/// A difference of counters that were read just now, or what was told before, if that was more.
pub(super) fn told_at_least(told: &AtomicU64, read: u64) -> u64 {
    // Read at a bad moment it may even be below zero.
    let read = if read > u64::MAX / 2 { 0 } else { read };
    told.fetch_max(read, Ordering::Relaxed).max(read)
}
