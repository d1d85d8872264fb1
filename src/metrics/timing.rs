//! How long jobs wait and run, and how long it takes to be admitted.
//!
//! # What is timed
//!
//! A job is stamped when it has its place, and the clock is read once more when it ends. Its start is the
//! end of the job before it, if the worker came to it from there with nothing in between: the loop
//! says so by `next_follows`. Otherwise the clock is read at its start too.
//!
//! **Short tasks.** What a pool's own thread spawns into a scope may be shorter than it takes to read a
//! clock. So if the last job that was timed on that thread was shorter than [`SHORT`], only one in
//! [`SAMPLE`] of those that it spawns is timed; the others are recorded as what was timed last on the
//! thread that runs them, if that was short too: to count them is all that it takes. If it was not, or on a
//! thread that is not the pool's, such a task is timed when it starts, and counts as one that has not waited. When
//! one turns out to be longer, all are timed again.
//!
//! **Jobs inside of jobs.** A task that waits for a scope of its own runs others meanwhile, and takes as long as all
//! of them. If most of the time was theirs it says nothing of how long the next one will take, and what comes after it is recorded
//! as what was timed before it. If such a task is not timed itself, its length is the sum of what was recorded of those
//! inside of it, and of the [`own`](Seat::own) part of the last that was timed. What others ran for it is missing there.
//!
//! **Items of a batch** are stamped by its producer, who may be anybody: he goes by the last of them that was
//! timed, on whichever thread. While they are short one in [`SAMPLE`] is stamped, and timed. The others are lent the
//! stamp of the one before them, which counts only on a thread whose last job was long: there the wait may be too long
//! by the pauses of the iterator since then.
//!
//! **Guests.** A thread that is not the pool's shares its place here with all such threads, which takes locked
//! instructions. If it runs many jobs, as the caller of a `for_each` does whose queue is full, it has a seat as the
//! pool's own threads have, until it leaves ([`Guest`]). Then what it has recorded goes to the shared place,
//! under the lock under which a reader reads both.
//!
//! **Admission.** Who gets a place without waiting has waited no time, and is not timed. How many those are
//! is a difference: of all places that were ever taken, and of those that were taken by who had to wait. A
//! wait is counted before its place is taken, so the difference is never too large; see `unwaited`.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::{
    clock::{Clock, Stamp},
    histogram::{Histogram, LatencySummary, Merged},
};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// In ns. By feel: what takes so long bears that the clock is read for it.
const SHORT: u64 = 1_000;

/// One in so many short tasks is timed. With that, the clock costs a few ns a task.
const SAMPLE: u64 = 8;

/// How long jobs took.
#[derive(Debug, Default)]
struct Times {
    queue_wait: Histogram,
    run_time: Histogram,
}

impl Times {
    fn made() -> Self {
        let times = Self::default();
        times.make();
        times
    }

    fn make(&self) {
        self.queue_wait.make();
        self.run_time.make();
    }
}

/// What the thread of one seat writes, with plain loads and stores.
#[derive(Debug, Default)]
struct Seat {
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
    times: Times,
}

impl Seat {
    /// Whether the next task is taken to be as those before it.
    #[inline]
    fn is_alike(&self) -> bool {
        self.is_short.load(Ordering::Relaxed) && {
            let spawned = self.spawned.load(Ordering::Relaxed).wrapping_add(1);
            self.spawned.store(spawned, Ordering::Relaxed);
            spawned % SAMPLE != 0
        }
    }

    /// A job starts.
    #[inline]
    fn begin(&self, at: Stamp) -> Started {
        let spent = self.spent.load(Ordering::Relaxed);
        Started { at, spent }
    }

    /// A job has run that was not timed. Whatever ran inside of it, it took so much longer.
    #[inline]
    fn end_untimed(&self, started: Started) {
        let spent = self.spent.load(Ordering::Relaxed);
        let own = self.own.load(Ordering::Relaxed);
        self.spent.store(spent.wrapping_add(own), Ordering::Relaxed);
        let nanos = spent.wrapping_sub(started.spent).wrapping_add(own);
        let run_time = &self.times.run_time;
        if nanos < SHORT {
            run_time.record_again();
        } else {
            run_time.record_aside(nanos);
        }
    }

    /// A job has run that was timed, and took so long.
    fn end(&self, started: Started, nanos: u64) {
        let spent = self.spent.load(Ordering::Relaxed);
        let inside = spent.wrapping_sub(started.spent);
        let own = nanos.saturating_sub(inside);
        self.spent
            .store(started.spent.wrapping_add(nanos), Ordering::Relaxed);
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

/// That a job has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// When.
    at: Stamp,
    /// What the thread had spent on jobs by then.
    spent: u64,
}

impl Started {
    /// Where nobody keeps accounts of the time that is spent.
    fn at(at: Stamp) -> Self {
        Self { at, spent: 0 }
    }

    /// Whether the clock was read for it.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.at != Stamp::ALIKE
    }
}

/// The seat of a thread that is not the pool's. It runs jobs that have no place, in no other way.
#[derive(Debug)]
pub(crate) struct Guest(Arc<CachePadded<Seat>>);

impl Guest {
    /// Whether the next job is taken to be as the last one, which was short.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.0.is_short.load(Ordering::Relaxed)
    }
}

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
    seats: Box<[CachePadded<Seat>]>,
    /// Written by all threads that are not the pool's and no guests.
    elsewhere: Times,
    guests: Mutex<Vec<Arc<CachePadded<Seat>>>>,
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
    /// Of the thread of each seat.
    pub(crate) seats: Vec<JobSummaries>,
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
    pub(crate) fn new(seats: usize, latency_tracking: bool) -> Self {
        Self {
            clock: latency_tracking.then(Clock::new),
            seats: (0..seats).map(|_| CachePadded::default()).collect(),
            elsewhere: Times::made(),
            guests: Mutex::default(),
            admission_wait: Histogram::made(),
            waits: CachePadded::default(),
            waits_in_vain: AtomicU64::new(0),
            unwaited_told: AtomicU64::new(0),
        }
    }

    /// The calling thread has this seat, and will record there.
    pub(crate) fn enroll(&self, seat: usize) {
        if self.clock.is_some() {
            self.seats[seat].times.make();
        }
    }

    /// This moment, if latencies are tracked.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.clock.as_ref().map_or(Stamp::NONE, Clock::now)
    }

    /// This moment, for a task that the thread of this seat spawns; or `ALIKE`.
    #[inline]
    pub(crate) fn stamp_task(&self, seat: Option<usize>) -> Stamp {
        if self.is_alike(seat) {
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

    /// Whether the last job that was timed on this seat was short.
    #[inline]
    pub(crate) fn is_short(&self, seat: usize) -> bool {
        self.seats[seat].is_short.load(Ordering::Relaxed)
    }

    /// The same as `stamp_task`, for a task that starts at once.
    #[inline]
    pub(crate) fn stamp_inline(&self, seat: Option<usize>) -> Stamp {
        if self.is_alike(seat) {
            Stamp::ALIKE
        } else {
            Stamp::NONE
        }
    }

    /// Whether the next task that the thread of this seat spawns is taken to be as those before it.
    #[inline]
    fn is_alike(&self, seat: Option<usize>) -> bool {
        seat.is_some_and(|seat| self.seats[seat].is_alike())
    }

    /// A thread that is not the pool's will run jobs.
    pub(crate) fn welcome(&self) -> Guest {
        let guest = Arc::<CachePadded<Seat>>::default();
        if self.clock.is_some() {
            guest.times.run_time.make();
            lock(&self.guests).push(Arc::clone(&guest));
        }
        Guest(guest)
    }

    /// It runs no more.
    pub(crate) fn bid_farewell(&self, Guest(guest): &Guest) {
        let mut guests = lock(&self.guests);
        guests.retain(|one| !Arc::ptr_eq(one, guest));
        // Under the lock: who reads finds it here or there.
        let run_time = &self.elsewhere.run_time;
        run_time.record_all_shared(&guest.times.run_time);
    }

    /// A job of a guest starts. Returns when it does.
    #[inline]
    pub(crate) fn guest_starts(&self, Guest(guest): &Guest) -> Started {
        guest.begin(if guest.is_alike() {
            Stamp::ALIKE
        } else {
            self.stamp()
        })
    }

    /// A job of a guest has run, which started then.
    #[inline]
    pub(crate) fn guest_ended(&self, Guest(guest): &Guest, started: Started) {
        if started.is_timed() {
            self.ended_timed(Some(guest), started);
        } else {
            guest.end_untimed(started);
        }
    }

    /// The thread comes from its last job, if it was just running one, and goes on to the next.
    #[inline]
    pub(crate) fn next_follows(&self, seat: usize) {
        if self.clock.is_some() {
            let seat = &self.seats[seat];
            let ended = seat.ended.load(Ordering::Relaxed);
            seat.starts.store(ended, Ordering::Relaxed);
            seat.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
        }
    }

    /// The thread did something else since its last job.
    #[inline]
    pub(crate) fn next_does_not_follow(&self, seat: usize) {
        if self.clock.is_some() {
            let seat = &self.seats[seat];
            seat.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
            seat.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
        }
    }

    /// A job starts, which has a place since then, if it has one. Returns when it does.
    #[inline]
    pub(crate) fn starts(&self, seat: Option<usize>, placed: bool, since: Stamp) -> Started {
        match seat.map(|seat| &*self.seats[seat]) {
            // Not alike what is long: that would be recorded several times.
            Some(seat) if since.is_alike() && seat.is_short.load(Ordering::Relaxed) => {
                seat.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
                if placed {
                    seat.times.queue_wait.record_again();
                }
                seat.begin(Stamp::ALIKE)
            }
            seat => self.starts_timed(seat, placed, since),
        }
    }

    fn starts_timed(&self, seat: Option<&Seat>, placed: bool, since: Stamp) -> Started {
        let Some(clock) = &self.clock else {
            return Started::at(Stamp::NONE);
        };
        let Some(seat) = seat else {
            let now = clock.now();
            if placed {
                let waits = &self.elsewhere.queue_wait;
                waits.record_shared(clock.nanos(since.or(now), now));
            }
            return Started::at(now);
        };
        let follows = Stamp::from_raw(seat.starts.load(Ordering::Relaxed));
        seat.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
        let now = if follows == Stamp::NONE {
            clock.now()
        } else {
            // It may have come after that.
            follows.max(since)
        };
        if placed {
            let nanos = clock.nanos(since.or(now), now);
            seat.times.queue_wait.record(nanos);
        }
        seat.begin(now)
    }

    /// A job has run, which started then.
    #[inline]
    pub(crate) fn ended(&self, seat: Option<usize>, started: Started) {
        match seat.map(|seat| &*self.seats[seat]) {
            Some(seat) if !started.is_timed() => {
                // What has run inside of it may have been timed, and ended before.
                seat.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
                seat.end_untimed(started);
            }
            seat => self.ended_timed(seat, started),
        }
    }

    fn ended_timed(&self, seat: Option<&Seat>, started: Started) {
        let Some(clock) = &self.clock else {
            return;
        };
        let now = clock.now();
        let nanos = clock.nanos(started.at, now);
        let Some(seat) = seat else {
            return self.elsewhere.run_time.record_shared(nanos);
        };
        seat.ended.store(now.raw(), Ordering::Relaxed);
        seat.end(started, nanos);
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
        let guests = lock(&self.guests);
        let mut jobs = JobLatencies::of(&self.elsewhere);
        for guest in &*guests {
            guest.times.run_time.merge_into(&mut jobs.run_time);
        }
        drop(guests);
        // One after another: a pool may have thousands of seats, most of which have no thread.
        let seats = self.seats.iter().map(|seat| {
            if !seat.times.run_time.is_made() {
                return JobSummaries::default();
            }
            let own = JobLatencies::of(&seat.times);
            jobs.add(&own);
            own.summaries()
        });
        let seats = seats.collect();
        let mut admission_wait = Merged::default();
        self.admission_wait.merge_into(&mut admission_wait);
        if self.clock.is_some() {
            admission_wait.add_zeros(self.unwaited(places));
        }
        Latencies {
            admission_wait,
            jobs,
            seats,
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

    /// The last job that was timed on seat 0 was short.
    fn timing() -> Timing {
        let timing = Timing::new(2, true);
        (0..2).for_each(|seat| timing.enroll(seat));
        timing.seats[0].is_short.store(true, Ordering::Relaxed);
        timing
    }

    #[test]
    fn m2_a_short_task_is_not_taken_to_be_as_long_as_a_job_before_it() {
        let timing = timing();
        let since = timing.stamp_task(Some(0));
        assert_eq!(since, Stamp::ALIKE);
        assert!(!timing.starts(Some(0), true, since).is_timed());
        // The last one on this thread was not short; and who has no seat has none.
        let long = &timing.seats[1].times;
        long.queue_wait.record(1 << 40);
        long.run_time.record(1 << 40);
        for seat in [Some(1), None] {
            let started = timing.starts(seat, true, since);
            assert!(started.is_timed());
            timing.ended(seat, started);
        }
        let seen = timing.latencies(|| 0).jobs;
        assert_eq!((seen.queue_wait.count, seen.queue_wait.sum), (4, 1 << 40));
        assert_eq!(seen.run_time.count, 3);
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
        assert!(!timing.starts(Some(0), true, lent[0]).is_timed());
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        for (waits, seat) in [Some(1), None].into_iter().enumerate() {
            assert!(timing.starts(seat, true, lent[0]).is_timed());
            let seen = timing.latencies(|| 0).jobs.queue_wait;
            assert_eq!(seen.count, 2 + waits as u64);
            assert!(seen.sum >= 45_000 * (1 + waits as u128), "{}", seen.sum);
        }
    }

    /// Tasks of 40 ns, and one that has waited for ten of them: it is as long as they are, whether it was timed
    /// or not, and says nothing of the next.
    #[test]
    fn m2_a_task_that_runs_short_ones_is_long_and_they_stay_short() {
        let run_time = |run: &dyn Fn(&Seat)| {
            let seat = Seat::default();
            seat.times.make();
            let end_short = || seat.end(seat.begin(Stamp::NONE), 40);
            end_short();
            run(&seat);
            assert!(seat.is_short.load(Ordering::Relaxed));
            seat.end_untimed(seat.begin(Stamp::ALIKE));
            let times = JobLatencies::of(&seat.times).run_time;
            (times.count, times.sum, times.max)
        };
        let inside = |seat: &Seat, tasks: u64| {
            (0..tasks).for_each(|_| seat.end_untimed(seat.begin(Stamp::ALIKE)));
        };
        let timed = run_time(&|seat| {
            let outer = seat.begin(Stamp::NONE);
            inside(seat, 100);
            seat.end(outer, 5_000);
        });
        assert_eq!(timed, (103, 5_000 + 102 * 40, 5_000));
        let untimed = run_time(&|seat| {
            let outermost = seat.begin(Stamp::ALIKE);
            let outer = seat.begin(Stamp::ALIKE);
            inside(seat, 100);
            seat.end_untimed(outer);
            seat.end_untimed(outermost);
        });
        assert_eq!(untimed, (104, 4_040 + 4_080 + 102 * 40, 4_080));
        // As long by itself as all that ran inside of it: so may the next one be.
        let seat = Seat::default();
        seat.times.make();
        seat.end(seat.begin(Stamp::NONE), 40);
        let outer = seat.begin(Stamp::NONE);
        inside(&seat, 100);
        seat.end(outer, 8_001);
        assert!(!seat.is_short.load(Ordering::Relaxed));
    }

    #[test]
    fn m2_a_job_does_not_start_before_an_untimed_one_has_ended() {
        let timing = timing();
        let outer = timing.starts(Some(0), true, Stamp::ALIKE);
        let inner = timing.starts(Some(0), false, Stamp::NONE);
        timing.ended(Some(0), inner);
        timing.next_follows(0);
        let starts = &timing.seats[0].starts;
        assert_ne!(starts.load(Ordering::Relaxed), Stamp::NONE.raw());
        timing.starts(Some(0), false, Stamp::ALIKE);
        timing.ended(Some(0), inner);
        timing.ended(Some(0), outer);
        timing.next_follows(0);
        assert_eq!(starts.load(Ordering::Relaxed), Stamp::NONE.raw());
    }
}
