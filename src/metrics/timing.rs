//! How long jobs wait and run, and how long it takes to be admitted.
//!
//! # What is timed
//!
//! A job is stamped when it has its place, and the clock is read once more when it ends. Its start is the
//! end of the job before it, if the worker came to it from there with nothing in between: the loop
//! says so by `next_follows`. Otherwise the clock is read at its start too. What may be too short for that, and so is not
//! always timed, `slot.rs` tells.
//!
//! **Items of a batch** are stamped by its producer, who may be anybody: he goes by the last of them that was
//! timed, on whichever thread. While they are short one in [`SAMPLE`] is stamped, and timed. The others are lent the
//! stamp of the one before them, which counts only on a thread whose last job was long: there the wait may be too long
//! by the pauses of the iterator since then.
//!
//! **Admission.** Who gets a place without waiting has waited no time, and is not timed. How many those are
//! is a difference: of all places that were ever taken, and of those that were taken by who had to wait. A
//! wait is counted before its place is taken, so the difference is never too large; see `unwaited`.

use crossbeam_utils::CachePadded;

use super::{
    clock::{Clock, Stamp},
    histogram::{Histogram, LatencySummary, Merged},
    latency_slot::{LatencySlot, SAMPLE, Started, Times},
};
use crate::sync::{AtomicU64, Ordering, slots::Slots};

/// What the items of a batch are stamped with, by its one producer.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// When the clock was read last.
    last: Stamp,
    /// How many items there were.
    items: u64,
}

/// The times of a pool's jobs.
#[derive(Debug)]
pub(crate) struct Timing {
    /// None if latencies are not tracked.
    clock: Option<Clock>,
    slots: Slots<CachePadded<LatencySlot>>,
    /// Written by all threads that are not the pool's.
    elsewhere: Times,
    admission_wait: Histogram,
    /// Who had to wait for a place, or waits still.
    waits: CachePadded<AtomicU64>,
    /// Of these, who did not get one.
    waits_in_vain: AtomicU64,
    /// The most places that anybody was told were taken without waiting.
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

/// What is told of the latencies of one thread's jobs.
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

    fn summaries(&self) -> JobSummaries {
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
        Self {
            clock: latency_tracking.then(Clock::new),
            slots: Slots::new(first_spare),
            elsewhere: Times::made(),
            admission_wait: Histogram::made(),
            waits: CachePadded::default(),
            waits_in_vain: AtomicU64::new(0),
            unwaited_told: AtomicU64::new(0),
        }
    }

    /// The calling thread has this slot, and will record there.
    pub(crate) fn enroll(&self, slot: usize) {
        if self.clock.is_some() {
            self.slots[slot].times.make();
        }
    }

    /// What the calling thread writes, of this index.
    pub(crate) fn slot(&self, index: usize) -> &LatencySlot {
        self.slots.enter(index)
    }

    /// This moment, if latencies are tracked.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.clock.as_ref().map_or(Stamp::NONE, Clock::now)
    }

    /// This moment, for a task that the thread of this slot spawns; or `ALIKE`.
    #[inline]
    pub(crate) fn stamp_task(&self, slot: Option<&LatencySlot>) -> Stamp {
        if slot.is_some_and(LatencySlot::is_alike) {
            Stamp::ALIKE
        } else {
            self.stamp()
        }
    }

    /// This moment, for an item of a batch; or while they are short, the one of an item before it.
    #[inline]
    pub(crate) fn stamp_item(&self, stamps: &mut Stamps, are_short: bool) -> Stamp {
        stamps.items = stamps.items.wrapping_add(1);
        if are_short && stamps.items % SAMPLE != 0 {
            return stamps.last.lent();
        }
        stamps.last = self.stamp();
        stamps.last
    }

    /// Whether the last job that was timed on this slot was short. None if none is.
    #[inline]
    pub(crate) fn is_short(&self, slot: &LatencySlot) -> Option<bool> {
        self.clock.as_ref()?;
        Some(slot.is_short())
    }

    /// The same as `stamp_task`, for a task that starts at once.
    #[inline]
    pub(crate) fn stamp_inline(&self, slot: Option<&LatencySlot>) -> Stamp {
        if slot.is_some_and(LatencySlot::is_alike) {
            Stamp::ALIKE
        } else {
            Stamp::NONE
        }
    }

    /// The thread comes from its last job, if it was just running one, and goes on to the next.
    #[inline]
    pub(crate) fn next_follows(&self, slot: &LatencySlot) {
        if self.clock.is_some() {
            slot.next_follows();
        }
    }

    /// The thread did something else since its last job.
    #[inline]
    pub(crate) fn next_does_not_follow(&self, slot: &LatencySlot) {
        if self.clock.is_some() {
            slot.next_does_not_follow();
        }
    }

    /// A job starts, which has a place since then, if it has one. Returns when it does.
    #[inline]
    pub(crate) fn starts(&self, slot: Option<&LatencySlot>, placed: bool, since: Stamp) -> Started {
        match slot {
            // Not alike what is long: that would be recorded several times.
            Some(slot) if since.is_alike() && slot.is_short() => slot.begin_alike(placed),
            slot => self.starts_timed(slot, placed, since),
        }
    }

    fn starts_timed(&self, slot: Option<&LatencySlot>, placed: bool, since: Stamp) -> Started {
        let Some(clock) = &self.clock else {
            return Started::at(Stamp::NONE);
        };
        let Some(slot) = slot else {
            let now = clock.now();
            if placed {
                let waits = &self.elsewhere.queue_wait;
                waits.record_shared(clock.nanos(since.or(now), now));
            }
            return Started::at(now);
        };
        slot.begin_timed(clock, placed, since)
    }

    /// A job has run, which started then.
    #[inline]
    pub(crate) fn ended(&self, slot: Option<&LatencySlot>, started: Started) {
        match slot {
            Some(slot) if !started.is_timed() => slot.end_alike(started),
            slot => self.ended_timed(slot, started),
        }
    }

    fn ended_timed(&self, slot: Option<&LatencySlot>, started: Started) {
        let Some(clock) = &self.clock else {
            return;
        };
        match slot {
            Some(slot) => slot.end_timed(clock, started),
            None => {
                let nanos = clock.nanos(started.at, clock.now());
                self.elsewhere.run_time.record_shared(nanos);
            }
        }
    }

    /// Somebody has to wait for a place. Returns since when.
    pub(crate) fn begins_to_wait(&self) -> Stamp {
        self.waits.fetch_add(1, Ordering::Release);
        self.stamp()
    }

    /// Who has waited since then got a place, or did not.
    pub(crate) fn has_waited(&self, since: Stamp, got_place: bool) {
        if let Some(clock) = &self.clock {
            let nanos = clock.nanos(since, clock.now());
            self.admission_wait.record_shared(nanos);
        }
        if !got_place {
            self.waits_no_more();
        }
    }

    /// Who waited does not want a place any more.
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
        if self.clock.is_some() {
            admission_wait.add_zeros(self.unwaited(places));
        }
        Latencies {
            admission_wait,
            jobs,
            slots,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The last job that was timed on slot 0 was short.
    fn timing() -> Timing {
        let timing = Timing::new(2, true);
        (0..2).for_each(|slot| timing.enroll(slot));
        timing.slots[0].took(Started::at(Stamp::NONE), 40);
        timing
    }

    #[test]
    fn m2_a_short_task_is_not_taken_to_be_as_long_as_a_job_before_it() {
        let timing = timing();
        let since = timing.stamp_task(Some(timing.slot(0)));
        assert_eq!(since, Stamp::ALIKE);
        assert!(!timing.starts(Some(timing.slot(0)), true, since).is_timed());
        // The last one on the other was not short; and who has no slot has none.
        let long = &timing.slots[1].times;
        long.queue_wait.record(1 << 40);
        long.run_time.record(1 << 40);
        for slot in [Some(timing.slot(1)), None] {
            let started = timing.starts(slot, true, since);
            assert!(started.is_timed());
            timing.ended(slot, started);
        }
        let seen = timing.latencies(|| 0).jobs;
        assert_eq!((seen.queue_wait.count, seen.queue_wait.sum), (4, 1 << 40));
        assert_eq!(seen.run_time.count, 4);
        assert!(seen.run_time.sum < 2 << 40);
    }

    #[test]
    fn m2_a_lent_stamp_counts_where_the_last_job_was_long() {
        let timing = timing();
        let mut stamps = Stamps::default();
        let mut stamp = |are_short| timing.stamp_item(&mut stamps, are_short);
        let own = stamp(false);
        let lent: Vec<_> = (1..2 * SAMPLE).map(|_| stamp(true)).collect();
        assert!(!own.is_alike() && lent[0] == own.lent());
        assert_eq!(lent.iter().filter(|lent| !lent.is_alike()).count(), 2);
        assert!(!stamp(false).is_alike());
        // Where the last one was short it is as that one, and elsewhere it has waited since its stamp.
        assert!(
            !timing
                .starts(Some(timing.slot(0)), true, lent[0])
                .is_timed()
        );
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        for (waits, slot) in [Some(timing.slot(1)), None].into_iter().enumerate() {
            assert!(timing.starts(slot, true, lent[0]).is_timed());
            let seen = timing.latencies(|| 0).jobs.queue_wait;
            assert_eq!(seen.count, 2 + waits as u64);
            assert!(seen.sum >= 45_000 * (1 + waits as u128), "{}", seen.sum);
        }
    }
}
