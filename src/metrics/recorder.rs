//! The counters, and the latencies. Each thread of the pool writes its own cell, with plain loads and
//! stores; what happens on other threads, and rarely, is counted in one shared place.
//!
//! # What is timed
//!
//! A job is stamped when it has its place, and the clock is read once more when it ends. Its start is the
//! end of the job before it, if the worker came to it from there with nothing in between: the loop
//! says so by `next_follows`. Otherwise the clock is read at its start too.
//!
//! Who gets a place without waiting has waited no time, and is not timed. How many those are is a
//! difference: of all places that were ever taken, and of those that were taken by who had to wait. A wait is
//! counted before its place is taken, so the difference is never too large; see `unwaited`.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

use super::{
    clock::{Clock, Stamp},
    histogram::{Histogram, Merged},
};
use crate::{error::AdmissionError, sync::bump};

/// What one thread counts.
#[derive(Debug, Default)]
struct Cell {
    inlined: AtomicU64,
    completed: AtomicU64,
    panicked: AtomicU64,
    steals: AtomicU64,
    /// When the last job ended here.
    ended: AtomicU64,
    /// When the next job starts here, if nobody has to look at the clock for it.
    starts: AtomicU64,
    /// Made when the thread starts.
    times: OnceLock<Times>,
}

/// How long jobs took.
#[derive(Debug, Default)]
struct Times {
    queue_wait: Histogram,
    run_time: Histogram,
}

/// What is counted by threads that are not the pool's.
#[derive(Debug, Default)]
struct Elsewhere {
    inlined: AtomicU64,
    started: AtomicU64,
    completed: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    rejected_full: AtomicU64,
    rejected_timed_out: AtomicU64,
    rejected_closed: AtomicU64,
    thread_start_failures: AtomicU64,
    /// Who had to wait for a place, or waits still.
    waits: AtomicU64,
    /// Of these, who did not get one.
    waits_in_vain: AtomicU64,
}

/// The latencies that threads record which are not the pool's.
#[derive(Debug, Default)]
struct TimesElsewhere {
    admission_wait: Histogram,
    times: Times,
}

/// All counters of a pool.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// None if latencies are not tracked.
    clock: Option<Clock>,
    cells: Box<[CachePadded<Cell>]>,
    elsewhere: CachePadded<Elsewhere>,
    times_elsewhere: TimesElsewhere,
    /// The most places that anybody was told were taken without waiting: see `admitted_told`.
    unwaited_told: AtomicU64,
    /// The most jobs that anybody was told were admitted. Their number is a difference of counters
    /// that are read one after another; this keeps it from going backwards.
    admitted_told: AtomicU64,
}

/// One moment's sums, read in the order of the fields: what has ended before what was begun, so that
/// a job that ends meanwhile is not seen to have ended without having begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) completed: u64,
    pub(crate) panicked: u64,
    pub(crate) cancelled: u64,
    pub(crate) dropped: u64,
    pub(crate) inlined: u64,
    /// All that were begun on threads that are not the pool's.
    pub(crate) started_elsewhere: u64,
    pub(crate) steals: u64,
    pub(crate) rejected_full: u64,
    pub(crate) rejected_timed_out: u64,
    pub(crate) rejected_closed: u64,
    pub(crate) thread_start_failures: u64,
}

impl Sums {
    pub(crate) fn ended(&self) -> u64 {
        self.completed + self.panicked + self.cancelled + self.dropped
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Release);
}

/// A difference of counters that were read just now, or what was told before, if that was more.
fn told_at_least(told: &AtomicU64, read: u64) -> u64 {
    // Read at a bad moment it may even be below zero.
    let read = if read > u64::MAX / 2 { 0 } else { read };
    told.fetch_max(read, Ordering::Relaxed).max(read)
}

/// The latencies of a pool, merged.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) admission_wait: Merged,
    pub(crate) jobs: JobLatencies,
    /// Of the thread of each seat.
    pub(crate) seats: Vec<JobLatencies>,
}

/// The latencies of jobs, merged.
#[derive(Debug, Default)]
pub(crate) struct JobLatencies {
    pub(crate) queue_wait: Merged,
    pub(crate) run_time: Merged,
}

impl JobLatencies {
    fn of(times: Option<&Times>) -> Self {
        let mut latencies = Self::default();
        if let Some(times) = times {
            times.queue_wait.merge_into(&mut latencies.queue_wait);
            times.run_time.merge_into(&mut latencies.run_time);
        }
        latencies
    }

    fn add(&mut self, other: &Self) {
        self.queue_wait.add(&other.queue_wait);
        self.run_time.add(&other.run_time);
    }
}

impl Recorder {
    pub(crate) fn new(seats: usize, latency_tracking: bool) -> Self {
        Self {
            clock: latency_tracking.then(Clock::new),
            cells: (0..seats).map(|_| CachePadded::default()).collect(),
            elsewhere: CachePadded::default(),
            times_elsewhere: TimesElsewhere::default(),
            unwaited_told: AtomicU64::new(0),
            admitted_told: AtomicU64::new(0),
        }
    }

    /// The calling thread has this seat, and will record there.
    pub(crate) fn enroll(&self, seat: usize) {
        if self.clock.is_some() {
            // A second call for one seat cannot be: a seat is one thread's for its life.
            let _ = self.cells[seat].times.set(Times::default());
        }
    }

    /// This moment, if latencies are tracked.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.clock.as_ref().map_or(Stamp::NONE, Clock::now)
    }

    /// The thread comes from its last job, if it was just running one, and goes on to the next.
    #[inline]
    pub(crate) fn next_follows(&self, seat: usize) {
        if self.clock.is_some() {
            let cell = &self.cells[seat];
            let ended = cell.ended.load(Ordering::Relaxed);
            cell.starts.store(ended, Ordering::Relaxed);
            cell.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
        }
    }

    /// The thread did something else since its last job.
    #[inline]
    pub(crate) fn next_does_not_follow(&self, seat: usize) {
        if self.clock.is_some() {
            let cell = &self.cells[seat];
            cell.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
            cell.ended.store(Stamp::NONE.raw(), Ordering::Relaxed);
        }
    }

    /// A job starts, which has had a place since then, if it had one. Returns when it does.
    #[inline]
    pub(crate) fn starts(&self, seat: Option<usize>, since: Option<Stamp>) -> Stamp {
        let Some(clock) = &self.clock else {
            return Stamp::NONE;
        };
        let Some(cell) = seat.map(|seat| &self.cells[seat]) else {
            let now = clock.now();
            if let Some(since) = since {
                let waits = &self.times_elsewhere.times.queue_wait;
                waits.record_shared(clock.nanos(since, now));
            }
            return now;
        };
        let follows = Stamp::from_raw(cell.starts.load(Ordering::Relaxed));
        let now = if follows == Stamp::NONE {
            clock.now()
        } else {
            cell.starts.store(Stamp::NONE.raw(), Ordering::Relaxed);
            // It may have come after that.
            follows.max(since.unwrap_or(Stamp::NONE))
        };
        if let (Some(times), Some(since)) = (cell.times.get(), since) {
            times.queue_wait.record(clock.nanos(since, now));
        }
        now
    }

    /// A job runs at once, without having been queued. `seat` is the calling thread's own, if it is
    /// one of the pool's.
    pub(crate) fn inlined(&self, seat: Option<usize>) {
        match seat {
            Some(seat) => bump(&self.cells[seat].inlined),
            None => add(&self.elsewhere.inlined),
        }
    }

    /// A job that had a place runs on a thread that is not the pool's.
    pub(crate) fn started_elsewhere(&self) {
        add(&self.elsewhere.started);
    }

    /// A job has run, which started then.
    #[inline]
    pub(crate) fn ended(&self, seat: Option<usize>, started: Stamp, completed: bool) {
        if let Some(clock) = &self.clock {
            let now = clock.now();
            let nanos = clock.nanos(started, now);
            match seat.map(|seat| &self.cells[seat]) {
                Some(cell) => {
                    cell.ended.store(now.raw(), Ordering::Relaxed);
                    if let Some(times) = cell.times.get() {
                        times.run_time.record(nanos);
                    }
                }
                None => self.times_elsewhere.times.run_time.record_shared(nanos),
            }
        }
        match (seat, completed) {
            (Some(seat), true) => bump(&self.cells[seat].completed),
            (Some(seat), false) => bump(&self.cells[seat].panicked),
            (None, true) => add(&self.elsewhere.completed),
            (None, false) => add(&self.elsewhere.panicked),
        }
    }

    pub(crate) fn stole(&self, seat: usize) {
        bump(&self.cells[seat].steals);
    }

    pub(crate) fn cancelled(&self) {
        add(&self.elsewhere.cancelled);
    }

    pub(crate) fn dropped(&self) {
        add(&self.elsewhere.dropped);
    }

    pub(crate) fn rejected(&self, reason: AdmissionError) {
        add(match reason {
            AdmissionError::Full => &self.elsewhere.rejected_full,
            AdmissionError::TimedOut => &self.elsewhere.rejected_timed_out,
            AdmissionError::Closed => &self.elsewhere.rejected_closed,
        });
    }

    /// Somebody has to wait for a place. Returns since when.
    pub(crate) fn begins_to_wait(&self) -> Stamp {
        add(&self.elsewhere.waits);
        self.stamp()
    }

    /// Who has waited since then got a place, or did not.
    pub(crate) fn has_waited(&self, since: Stamp, got_place: bool) {
        if let Some(clock) = &self.clock {
            let nanos = clock.nanos(since, clock.now());
            self.times_elsewhere.admission_wait.record_shared(nanos);
        }
        if !got_place {
            add(&self.elsewhere.waits_in_vain);
        }
    }

    /// Who waited does not want a place any more.
    pub(crate) fn waits_no_more(&self) {
        add(&self.elsewhere.waits_in_vain);
    }

    pub(crate) fn thread_start_failed(&self) {
        add(&self.elsewhere.thread_start_failures);
    }

    pub(crate) fn sums(&self) -> Sums {
        let sum = |of: fn(&Cell) -> &AtomicU64| -> u64 {
            self.cells
                .iter()
                .map(|cell| of(cell).load(Ordering::Acquire))
                .sum()
        };
        let here = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let elsewhere = &*self.elsewhere;
        Sums {
            completed: sum(|cell| &cell.completed) + here(&elsewhere.completed),
            panicked: sum(|cell| &cell.panicked) + here(&elsewhere.panicked),
            cancelled: here(&elsewhere.cancelled),
            dropped: here(&elsewhere.dropped),
            inlined: sum(|cell| &cell.inlined) + here(&elsewhere.inlined),
            started_elsewhere: here(&elsewhere.inlined) + here(&elsewhere.started),
            steals: sum(|cell| &cell.steals),
            rejected_full: here(&elsewhere.rejected_full),
            rejected_timed_out: here(&elsewhere.rejected_timed_out),
            rejected_closed: here(&elsewhere.rejected_closed),
            thread_start_failures: here(&elsewhere.thread_start_failures),
        }
    }

    /// The latencies of all threads, merged. `places` tells how many places were ever taken.
    pub(crate) fn latencies(&self, places: impl FnOnce() -> u64) -> Latencies {
        let seats: Vec<_> = self
            .cells
            .iter()
            .map(|cell| JobLatencies::of(cell.times.get()))
            .collect();
        let elsewhere = &self.times_elsewhere;
        let mut jobs = JobLatencies::of(Some(&elsewhere.times));
        seats.iter().for_each(|seat| jobs.add(seat));
        let mut admission_wait = Merged::default();
        elsewhere.admission_wait.merge_into(&mut admission_wait);
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
        let in_vain = self.elsewhere.waits_in_vain.load(Ordering::Acquire);
        let taken = places();
        let waits = self.elsewhere.waits.load(Ordering::Acquire);
        let unwaited = taken.wrapping_sub(waits.wrapping_sub(in_vain));
        told_at_least(&self.unwaited_told, unwaited)
    }

    /// The number of jobs admitted, given what a reader made of the counters just now.
    pub(crate) fn admitted_at_least(&self, read: u64) -> u64 {
        told_at_least(&self.admitted_told, read)
    }

    /// What one thread has done: inlined, completed, panicked, steals.
    pub(crate) fn of_seat(&self, seat: usize) -> [u64; 4] {
        let cell = &self.cells[seat];
        // What has ended is read before what was begun.
        let [completed, panicked, inlined, steals] =
            [&cell.completed, &cell.panicked, &cell.inlined, &cell.steals]
                .map(|counter| counter.load(Ordering::Acquire));
        [inlined, completed, panicked, steals]
    }
}
