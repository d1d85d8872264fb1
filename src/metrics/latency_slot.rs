//! What one thread writes of how long its jobs wait and run, with plain loads and stores.
//!
//! **Short tasks.** What a pool's own thread spawns into a scope may be shorter than it takes to read a
//! clock. So if the last job that was timed on that thread was shorter than [`SHORT`], only one in
//! [`SAMPLE`] of those that it spawns is timed; the others are recorded as what was timed last on the
//! thread that runs them, if that was short too: to count them is all that it takes. If it was not, or on a
//! thread that is not the pool's, such a task is timed when it starts, and counts as one that has not waited. When
//! one turns out to be longer, all are timed again.
//!
//! **Jobs inside of jobs.** A task that waits for a scope of its own runs others meanwhile, and takes as long as all
//! of them. If most of the time was theirs it says nothing of how long the next one will take, and what comes after it is
//! recorded as what was timed before it. If such a task is not timed itself, its length is the sum of what was recorded
//! of those inside of it, and of the [`own`](LatencySlot::own) part of the last that was timed. What others ran for it is
//! missing there.

use super::{
    clock::{Clock, Stamp},
    histogram::Histogram,
};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// In ns. By feel: what takes so long bears that the clock is read for it.
const SHORT: u64 = 1_000;

/// One in so many short tasks is timed. With that, the clock costs a few ns a task.
pub(super) const SAMPLE: u64 = 8;

/// How long jobs took.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) queue_wait: Histogram,
    pub(super) run_time: Histogram,
}

impl Times {
    pub(super) fn made() -> Self {
        let times = Self::default();
        times.make();
        times
    }

    pub(super) fn make(&self) {
        self.queue_wait.make();
        self.run_time.make();
    }
}

/// The times of one thread.
#[derive(Debug, Default)]
pub(crate) struct LatencySlot {
    /// When the last job ended here.
    ended: AtomicU64,
    /// When the next job starts here, if nobody has to look at the clock for it.
    starts: AtomicU64,
    /// Whether the last job that was timed was short, and so are those that are taken to be as it was.
    is_short: AtomicBool,
    /// How many tasks were spawned since then.
    spawned: AtomicU64,
    /// How long the last short job that was timed took without those that ran inside of it, in ns.
    own: AtomicU64,
    /// How long all jobs took that have ended here, each without those inside of it, in ns.
    spent: AtomicU64,
    /// Made when the thread starts.
    pub(super) times: Times,
}

/// That a job has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// When.
    pub(super) at: Stamp,
    /// What the thread had spent on jobs by then.
    spent: u64,
}

impl Started {
    /// Where nobody keeps accounts of the time that is spent.
    pub(super) fn at(at: Stamp) -> Self {
        Self { at, spent: 0 }
    }

    /// Whether the clock was read for it.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.at != Stamp::ALIKE
    }
}

impl LatencySlot {
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Whether the next task that the thread spawns is taken to be as those before it.
    #[inline]
    pub(super) fn is_alike(&self) -> bool {
        self.is_short() && {
            let spawned = self.spawned.load(Ordering::Relaxed).wrapping_add(1);
            self.spawned.store(spawned, Ordering::Relaxed);
            spawned % SAMPLE != 0
        }
    }

    /// The thread comes from its last job, if it was just running one, and goes on to the next.
    #[inline]
    pub(super) fn next_follows(&self) {
        let ended = self.ended.load(Ordering::Relaxed);
        self.starts.store(ended, Ordering::Relaxed);
        self.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
    }

    /// The thread did something else since its last job.
    #[inline]
    pub(super) fn next_does_not_follow(&self) {
        self.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
        self.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
    }

    /// A job starts, `at` a moment or `ALIKE`.
    #[inline]
    pub(super) fn begin(&self, at: Stamp) -> Started {
        let spent = self.spent.load(Ordering::Relaxed);
        Started { at, spent }
    }

    /// A job starts that is taken to be as the last one; it has a place, or has none.
    #[inline]
    pub(super) fn begin_alike(&self, placed: bool) -> Started {
        self.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
        if placed {
            self.times.queue_wait.record_again();
        }
        self.begin(Stamp::ALIKE)
    }

    /// A job starts that is timed, and has a place since then, if it has one.
    pub(super) fn begin_timed(&self, clock: &Clock, placed: bool, since: Stamp) -> Started {
        let leapfrogs = Stamp::from_raw(self.starts.load(Ordering::Relaxed));
        self.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
        let now = if leapfrogs == Stamp::NONE {
            clock.now()
        } else {
            // It may have come after that.
            leapfrogs.max(since)
        };
        if placed {
            let nanos = clock.nanos(since.or(now), now);
            self.times.queue_wait.record(nanos);
        }
        self.begin(now)
    }

    /// A job has run that was taken to be as the last one. Whatever ran inside of it, it took so much longer.
    #[inline]
    pub(super) fn end_alike(&self, started: Started) {
        // What has run inside of it may have been timed, and ended before.
        self.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
        let spent = self.spent.load(Ordering::Relaxed);
        let own = self.own.load(Ordering::Relaxed);
        self.spent.store(spent.wrapping_add(own), Ordering::Relaxed);
        if spent == started.spent {
            self.times.run_time.record_again();
        } else {
            self.took_untimed(spent.wrapping_sub(started.spent).wrapping_add(own));
        }
    }

    #[inline(never)]
    fn took_untimed(&self, nanos: u64) {
        let run_time = &self.times.run_time;
        if nanos < SHORT {
            run_time.record_again();
        } else {
            run_time.record_aside(nanos);
        }
    }

    /// A job has run that was timed, until now.
    pub(super) fn end_timed(&self, clock: &Clock, started: Started) {
        let now = clock.now();
        self.ended.store(now.raw(), Ordering::Relaxed);
        self.took(started, clock.nanos(started.at, now));
    }

    /// A job has run that was timed, and took so long.
    pub(super) fn took(&self, started: Started, nanos: u64) {
        let spent = self.spent.load(Ordering::Relaxed);
        let inside = spent.wrapping_sub(started.spent);
        let own = nanos.saturating_sub(inside);
        let spent = started.spent.wrapping_add(nanos);
        self.spent.store(spent, Ordering::Relaxed);
        let is_short = nanos < SHORT;
        if is_short {
            self.own.store(own, Ordering::Relaxed);
        } else if own < inside {
            // Nothing is known of the others by that: those inside of it may all be short, and be most of them.
            return self.times.run_time.record_aside(nanos);
        }
        self.is_short.store(is_short, Ordering::Relaxed);
        self.times.run_time.record(nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::histogram::Merged, *};

    /// The last job that was timed here took 40 ns.
    fn slot() -> LatencySlot {
        let slot = LatencySlot::default();
        slot.times.make();
        slot.took(Started::at(Stamp::NONE), 40);
        slot
    }

    fn run_alike(slot: &LatencySlot, tasks: u64) {
        (0..tasks).for_each(|_| slot.end_alike(slot.begin_alike(false)));
    }

    /// Count, sum and maximum of the run times.
    fn run_times(slot: &LatencySlot) -> (u64, u128, u64) {
        let mut merged = Merged::default();
        slot.times.run_time.merge_into(&mut merged);
        (merged.count, merged.sum, merged.max)
    }

    /// It is as long as they are, whether it was timed or not, and says nothing of the next.
    #[test]
    fn m2_a_task_that_runs_short_ones_is_long_and_they_stay_short() {
        let timed = slot();
        let outer = timed.begin(Stamp::NONE);
        run_alike(&timed, 100);
        timed.took(outer, 5_000);
        assert!(timed.is_short());
        run_alike(&timed, 1);
        assert_eq!(run_times(&timed), (103, 5_000 + 102 * 40, 5_000));

        let untimed = slot();
        let outermost = untimed.begin_alike(false);
        let outer = untimed.begin_alike(false);
        run_alike(&untimed, 100);
        untimed.end_alike(outer);
        untimed.end_alike(outermost);
        assert!(untimed.is_short());
        run_alike(&untimed, 1);
        assert_eq!(run_times(&untimed), (104, 4_040 + 4_080 + 102 * 40, 4_080));
    }

    #[test]
    fn m2_a_task_that_took_as_long_as_all_inside_of_it_makes_the_next_one_timed() {
        for (nanos, is_short) in [(7_999, true), (8_000, false)] {
            let slot = slot();
            let outer = slot.begin(Stamp::NONE);
            run_alike(&slot, 100);
            slot.took(outer, nanos);
            assert_eq!(slot.is_short(), is_short);
        }
    }

    #[test]
    fn m2_a_job_does_not_start_before_an_untimed_one_has_ended() {
        let (clock, slot) = (Clock::new(), slot());
        let outer = slot.begin_alike(true);
        let inner = slot.begin_timed(&clock, false, Stamp::NONE);
        slot.end_timed(&clock, inner);
        slot.next_follows();
        assert_ne!(slot.starts.load(Ordering::Relaxed), Stamp::NONE.raw());
        slot.begin_alike(false);
        slot.end_timed(&clock, inner);
        slot.end_alike(outer);
        slot.next_follows();
        assert_eq!(slot.starts.load(Ordering::Relaxed), Stamp::NONE.raw());
    }
}
