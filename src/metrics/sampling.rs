//! Which jobs are timed, and how many jobs each of them stands for.
//!
//! Reading the clock takes as long as a tiny job. While the jobs of a pool are short, the pool
//! therefore times a *sample*: about one job in [`SAMPLE`]. The thread that submits a job decides,
//! and reads the clock for it. A job without a stamp is not timed. The gaps are random, so that the
//! sample does not follow a pattern in the jobs.
//!
//! **Mode.** Sampling starts when a worker has timed [`SAMPLE`] short jobs in a row. The first long
//! job that any worker times ends it, and every job is timed again. A job is left out of this if
//! other jobs ran inside of it: its length says nothing about theirs.
//!
//! **Weight.** A timed job stands for every job that its worker has started since the timed job
//! before. The weight is fixed when the job starts, so it does not depend on its length: among many
//! jobs, long ones have their share in any mode. Jobs after the last timed one of a worker appear
//! in the counters only. A call that waits for its job (`install`) is always timed. It is no sample
//! of the others, so its weight is one.
//!
//! Each word has one writer, or is a hint: no protocol orders them.

use std::cell::Cell;

use super::{
    clock::{Clock, Stamp},
    histogram::{Histogram, LatencySummary, Merged},
};
use crate::{
    sync::{AtomicBool, AtomicU64, Ordering, thread_local},
    tuning::{SAMPLE, SHORT_JOB},
};

thread_local! {
    /// The jobs that this thread submits without a stamp before the next stamp.
    static UNSTAMPED: Cell<u64> = const { Cell::new(0) };
}

/// Whether the next job that the calling thread submits gets no stamp.
#[inline]
fn passes_over() -> bool {
    UNSTAMPED.with(|unstamped| {
        let left = unstamped.get();
        unstamped.set(left.saturating_sub(1));
        left > 0
    })
}

/// The jobs between two stamps: [`SAMPLE`], give or take a half. The last bits of the moment are
/// the dice.
fn gap(at: Stamp) -> u64 {
    let dice = at.raw().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - SAMPLE.ilog2());
    SAMPLE / 2 + dice
}

/// The clock of a pool, and whether it is read for every job.
#[derive(Debug)]
pub(super) struct Sampling {
    /// None if latencies are not tracked.
    pub(super) clock: Option<Clock>,
    /// Whether a job without a stamp is not timed. Always so if latencies are not tracked.
    is_on: AtomicBool,
}

impl Sampling {
    pub(super) fn new(clock: Option<Clock>) -> Self {
        Self {
            is_on: AtomicBool::new(clock.is_none()),
            clock,
        }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn set(&self, is_on: bool) {
        // All threads load it for each job, so it is stored seldom.
        if self.is_on() != is_on {
            self.is_on.store(is_on, Ordering::Relaxed);
        }
    }

    /// Returns this moment, or `NONE` for a job that is not to be timed.
    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        if self.is_on() && passes_over() {
            Stamp::NONE
        } else {
            self.sample()
        }
    }

    #[inline(never)]
    fn sample(&self) -> Stamp {
        let Some(clock) = &self.clock else {
            return Stamp::NONE;
        };
        let now = clock.now();
        UNSTAMPED.set(gap(now));
        now
    }

    /// Adapts the mode to a job that the thread of this slot has timed, and that no other ran
    /// inside of.
    fn was_timed(&self, slot: &LatencySlot, nanos: u64) {
        let short_in_a_row = if nanos < SHORT_JOB {
            slot.short_in_a_row.load(Ordering::Relaxed) + 1
        } else {
            0
        };
        slot.short_in_a_row.store(short_in_a_row, Ordering::Relaxed);
        if short_in_a_row == 0 || short_in_a_row >= SAMPLE {
            self.set(short_in_a_row != 0);
        }
    }
}

/// The latencies of the jobs of one thread, or of several.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times<T> {
    pub(crate) queue_wait: T,
    pub(crate) run_time: T,
}

impl Times<Histogram> {
    pub(super) fn made() -> Self {
        let times = Self::default();
        times.make();
        times
    }

    pub(super) fn make(&self) {
        self.queue_wait.make();
        self.run_time.make();
    }

    pub(super) fn merged(&self) -> Times<Merged> {
        let mut merged = Times::default();
        self.queue_wait.merge_into(&mut merged.queue_wait);
        self.run_time.merge_into(&mut merged.run_time);
        merged
    }
}

impl Times<Merged> {
    pub(super) fn add(&mut self, other: &Self) {
        self.queue_wait.add(&other.queue_wait);
        self.run_time.add(&other.run_time);
    }

    pub(crate) fn summaries(&self) -> Times<LatencySummary> {
        Times {
            queue_wait: self.queue_wait.summary(),
            run_time: self.run_time.summary(),
        }
    }
}

/// What one thread of the pool writes to time its jobs.
#[derive(Debug, Default)]
pub(crate) struct LatencySlot {
    /// Short jobs that were timed in a row.
    short_in_a_row: AtomicU64,
    /// Jobs that recorded waits stand for.
    waits: AtomicU64,
    /// Jobs that timed jobs stand for, ended or not.
    runs: AtomicU64,
    /// Allocated when the thread starts.
    pub(super) times: Times<Histogram>,
}

/// The jobs that a thread has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    /// Those that had been queued.
    pub(crate) queued: u64,
    pub(crate) all: u64,
}

/// A job that has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// When, or `NONE` if the job is not timed.
    pub(super) at: Stamp,
    /// The jobs that its thread had started by then, it included.
    begun: u64,
    /// The jobs that it stands for.
    weight: u64,
}

impl Started {
    pub(crate) const UNTIMED: Self = Self::alone(Stamp::NONE);

    /// A job that stands for itself alone.
    pub(super) const fn alone(at: Stamp) -> Self {
        Self {
            at,
            begun: 0,
            weight: 1,
        }
    }

    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        !self.at.is_none()
    }
}

/// Returns how many started jobs no other stands for yet: the weight of the job that starts now.
fn take_weight(stands_for: &AtomicU64, begun: u64, since: Stamp) -> u64 {
    let before = stands_for.load(Ordering::Relaxed);
    let weight = if since.is_unsampled() {
        1
    } else {
        begun.wrapping_sub(before)
    };
    stands_for.store(before.wrapping_add(weight), Ordering::Relaxed);
    weight
}

impl LatencySlot {
    /// Whether the last job that was timed here was short.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.short_in_a_row.load(Ordering::Relaxed) > 0
    }

    /// Begins to time a job, and records its wait if it was queued.
    pub(super) fn begin(
        &self,
        begun: Begun,
        since: Stamp,
        now: Stamp,
        waited: Option<u64>,
    ) -> Started {
        if let Some(nanos) = waited {
            let weight = take_weight(&self.waits, begun.queued, since);
            self.times.queue_wait.record(nanos, weight);
        }
        Started {
            at: now,
            begun: begun.all,
            weight: take_weight(&self.runs, begun.all, since),
        }
    }

    /// Records a timed job that has run for `nanos`.
    pub(super) fn end(&self, sampling: &Sampling, begun: Begun, started: Started, nanos: u64) {
        self.times.run_time.record(nanos, started.weight);
        if begun.all == started.begun {
            sampling.was_timed(self, nanos);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const LONG: u64 = 50 * SHORT_JOB;

    /// One worker and the thread that brings its jobs.
    struct Simulated {
        sampling: Sampling,
        slot: LatencySlot,
        begun: u64,
    }

    impl Simulated {
        fn new() -> Self {
            let slot = LatencySlot::default();
            slot.times.make();
            Self {
                sampling: Sampling::new(Some(Clock::new())),
                slot,
                begun: 0,
            }
        }

        fn begin(&mut self, since: Stamp) -> Started {
            self.begun += 1;
            if since.is_none() && self.sampling.is_on() {
                return Started::UNTIMED;
            }
            self.slot.begin(self.now(), since, Stamp::NONE, None)
        }

        fn now(&self) -> Begun {
            Begun {
                queued: self.begun,
                all: self.begun,
            }
        }

        fn end(&self, started: Started, nanos: u64) {
            self.slot.end(&self.sampling, self.now(), started, nanos);
        }

        /// Runs a job. Whether it was timed.
        fn run(&mut self, nanos: u64) -> bool {
            let since = self.sampling.stamp();
            let is_timed = !(since.is_none() && self.sampling.is_on());
            let started = self.begin(since);
            if is_timed {
                self.end(started, nanos);
            }
            is_timed
        }

        fn run_short(&mut self, jobs: u64) {
            for _ in 0..jobs {
                self.run(40);
            }
        }

        fn run_times(&self) -> Merged {
            let mut merged = Merged::default();
            self.slot.times.run_time.merge_into(&mut merged);
            merged
        }
    }

    #[test]
    fn m2_a_gap_is_the_sample_give_or_take_a_half() {
        let clock = Clock::new();
        let gaps: Vec<_> = (0..1000).map(|_| gap(clock.now())).collect();
        let within = SAMPLE / 2..SAMPLE * 3 / 2;
        assert!(gaps.iter().all(|gap| within.contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|&gap| gap != gaps[0]), "{gaps:?}");
    }

    #[test]
    fn m2_a_pool_samples_when_its_jobs_are_short_and_times_all_after_a_long_one() {
        let mut pool = Simulated::new();
        // The first are all timed, and so is any number of long ones.
        for nanos in [LONG; 50]
            .into_iter()
            .chain([SHORT_JOB - 1; SAMPLE as usize])
        {
            assert!(pool.run(nanos));
        }
        let timed = (0..1000).filter(|_| pool.run(40)).count() as u64;
        let most = 1000 / (SAMPLE / 2);
        assert!((1000 / (2 * SAMPLE)..=most).contains(&timed), "{timed}");
        while !pool.run(SHORT_JOB) {}
        assert!((0..SAMPLE - 1).all(|_| pool.run(40)));
        assert!(pool.run(SHORT_JOB));
        assert!((0..SAMPLE).all(|_| pool.run(40)));
        assert!((0..2 * SAMPLE).any(|_| !pool.run(40)));
    }

    /// A third of them are long, and the lengths have no pattern that the sample could meet.
    #[test]
    fn m2_long_jobs_have_their_share_whatever_the_mode() {
        const JOBS: u64 = if cfg!(miri) { 300 } else { 300_000 };
        let mut pool = Simulated::new();
        // It samples all the time, though many of its jobs are long.
        pool.sampling.set(true);
        let mut dice = 1u64;
        for _ in 0..JOBS {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let nanos = if dice >> 32 < u64::from(u32::MAX) / 3 {
                LONG
            } else {
                40
            };
            pool.run(nanos);
        }
        let seen = pool.run_times();
        assert!(seen.count <= JOBS && JOBS - seen.count < 2 * SAMPLE);
        let long = seen.count - seen.cumulative(&[SHORT_JOB])[0];
        let share = long as f64 / JOBS as f64;
        let error = if cfg!(miri) { 0.3 } else { 0.02 };
        assert!((share - 1.0 / 3.0).abs() < error, "{share}");
    }

    /// It stands for those before it, and they for none of its time.
    #[test]
    fn m2_a_job_that_others_ran_inside_of_leaves_the_mode_as_it_was() {
        let mut pool = Simulated::new();
        pool.run_short(SAMPLE);
        let outer = pool.begin(Clock::new().now());
        pool.run_short(4 * SAMPLE);
        pool.end(outer, LONG);
        assert!(pool.sampling.is_on());
        assert_eq!(
            pool.run_times().cumulative(&[SHORT_JOB])[0],
            pool.run_times().count - 1
        );
        let alone = pool.begin(Clock::new().now());
        pool.end(alone, LONG);
        assert!(!pool.sampling.is_on());
    }

    #[test]
    fn m2_an_unsampled_job_stands_for_itself() {
        let mut pool = Simulated::new();
        pool.run_short(SAMPLE);
        (0..5).for_each(|_| assert!(!pool.begin(Stamp::NONE).is_timed()));
        let stamp = Clock::new().now();
        let install = pool.begin(stamp.unsampled());
        let sample = pool.begin(stamp);
        assert_eq!((install.weight, sample.weight), (1, 6));
        assert!(Stamp::NONE.unsampled().is_none());
    }

    #[test]
    fn m2_without_a_clock_no_job_is_timed() {
        let sampling = Sampling::new(None);
        assert!((0..100).all(|_| sampling.stamp().is_none() && sampling.is_on()));
    }
}
