//! Fair turns between a worker's sources: each source with work gets its share of jobs and of time
//! (rule R8).
//!
//! A worker serves its *sources* in a circle. In one circle it runs at most [`LIMIT_JOBS`] jobs,
//! for about [`LIMIT_TIME`], so no source waits longer than that. A source that alone had work in
//! the last circle gets nearly the whole circle, since polling the others costs time. If several
//! had work, they get equal shares. A source without work is skipped at once.
//!
//! The worker reads the clock once in [`TURN_STRIDE`] short jobs, and after each long one: see
//! [`StridedClock`]. What runs on top of a job has clocks of its own.

use std::{cell::Cell, time::Duration};

use crate::{
    sync::Instant,
    tuning::{LONG_JOB, TURN_STRIDE},
};

/// The most jobs of other sources before a source with work is served. A promise (R8).
pub(crate) const LIMIT_JOBS: u32 = if cfg!(shuttle) { 8 } else { 64 };

/// The longest time before that, as promised. The job that runs then is not interrupted.
pub(crate) const LIMIT_TIME: Duration = Duration::from_millis(10);

/// The share of a source that had no work in the last circle, in jobs.
const LEAST: u32 = LIMIT_JOBS.div_ceil(32);

/// A source of jobs for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Jobs of scopes and halves of joins in the worker's own deque.
    Own,
    /// Submitted jobs that the worker has kept, over the bound.
    Kept,
    /// Submitted jobs for all workers.
    Submitted,
    /// Installed closures and jobs of scopes from other threads.
    Structured,
    /// Jobs of scopes that could not be pushed on the deque of the thread that waits for them.
    SideList,
    /// Rayon's own queues.
    Rayon,
}

impl Source {
    pub(crate) const COUNT: usize = 6;

    /// All sources, in the order of the circle.
    pub(crate) const ALL: [Self; Self::COUNT] = {
        use Source::*;
        [Own, Kept, Submitted, Structured, SideList, Rayon]
    };
}

/// A set of sources: those that had work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Served(u8);

impl Served {
    fn with(self, at: usize) -> Self {
        Self(self.0 | 1 << at)
    }

    /// Returns the share of [`LIMIT_JOBS`] that the source `at` gets, if these sources had work in
    /// the last circle.
    fn share(self, at: usize) -> u32 {
        const SOURCES: u32 = Source::COUNT as u32;
        if self == Self::default().with(at) {
            LIMIT_JOBS - LEAST * (SOURCES - 1)
        } else if self.0.count_ones() == 1 {
            LEAST
        } else {
            LIMIT_JOBS / SOURCES
        }
    }
}

/// A clock that is read after each job while jobs are long, and after ever more of them while they
/// are short. It also tells which of the two they are, whether or not the pool tracks latencies.
#[derive(Debug, Clone)]
pub(crate) struct StridedClock {
    /// Jobs until the clock is read next, and between two readings.
    unread: Cell<u32>,
    stride: Cell<u32>,
    read_at: Cell<Instant>,
}

impl StridedClock {
    /// Makes one that is read after the first job, and at least once in [`TURN_STRIDE`] jobs.
    pub(crate) fn new() -> Self {
        Self {
            unread: Cell::new(1),
            stride: Cell::new(1),
            read_at: Cell::new(Instant::now()),
        }
    }

    /// Whether the last jobs were short.
    #[inline]
    pub(crate) fn are_short(&self) -> bool {
        self.stride.get() == TURN_STRIDE
    }

    /// Restarts the clock after a time in which no job ran. Returns the present time.
    pub(crate) fn resume(&self) -> Instant {
        let now = Instant::now();
        self.read_at.set(now);
        self.unread.set(self.stride.get());
        now
    }

    /// Counts `jobs` that have run. Returns whether the clock is to be read.
    #[inline]
    pub(crate) fn count(&self, jobs: u32) -> bool {
        let unread = self.unread.get().saturating_sub(jobs);
        self.unread.set(unread);
        unread == 0
    }

    /// Counts a job, and reads the clock if that is due.
    #[inline]
    pub(crate) fn tick(&self) {
        if self.count(1) {
            self.read(Instant::now());
        }
    }

    /// Reads the clock: it is `now`. Returns the time since the last reading.
    #[inline(never)]
    pub(crate) fn read(&self, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.read_at.replace(now));
        let stride = self.stride.get();
        let are_short = took < LONG_JOB * stride;
        let stride = if are_short {
            TURN_STRIDE.min(2 * stride)
        } else {
            1
        };
        self.stride.set(stride);
        self.unread.set(stride);
        took
    }
}

/// The position of one worker in its circle.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The source that is served now.
    at: Cell<usize>,
    /// The rest of its share: jobs, and time.
    jobs: Cell<u32>,
    time: Cell<Duration>,
    /// The sources with work in this circle, and in the one before.
    served: Cell<Served>,
    before: Cell<Served>,
    clock: StridedClock,
}

impl Turn {
    pub(crate) fn new() -> Self {
        let turn = Self {
            at: Cell::new(0),
            jobs: Cell::new(0),
            time: Cell::new(Duration::ZERO),
            served: Cell::default(),
            before: Cell::default(),
            clock: StridedClock::new(),
        };
        turn.visit(0);
        turn
    }

    /// Returns the source that is served now.
    #[inline]
    pub(crate) fn source(&self) -> Source {
        Source::ALL[self.at.get()]
    }

    /// Returns the clock of the worker's jobs.
    pub(crate) fn clock(&self) -> &StridedClock {
        &self.clock
    }

    /// Counts a job of the source, which has run. If `is_short` is false the job may have been
    /// long.
    #[inline]
    pub(crate) fn ran(&self, is_short: bool) {
        if self.count(is_short) {
            self.ran_some(Instant::now);
        }
    }

    /// Counts the job. Returns whether the share or the stride has ended.
    #[inline]
    fn count(&self, is_short: bool) -> bool {
        let left = self.jobs.get().saturating_sub(1);
        self.jobs.set(left);
        // A job that may have been long counts as several; a long one resets the stride.
        let counts = if is_short { 1 } else { TURN_STRIDE / 4 };
        self.clock.count(counts) || left == 0
    }

    /// Counts `items` of a batch with the job that runs them.
    pub(crate) fn count_items(&self, items: u32) {
        self.jobs.set(self.jobs.get().saturating_sub(items));
        self.clock.count(items);
    }

    #[inline(never)]
    fn ran_some(&self, now: impl FnOnce() -> Instant) {
        if self.clock.count(0) {
            self.read(now());
        }
        let at = self.at.get();
        self.served.set(self.served.get().with(at));
        if self.jobs.get() == 0 || self.time.get().is_zero() {
            self.advance();
        }
    }

    /// Accounts for the time since the last reading.
    fn read(&self, now: Instant) {
        let took = self.clock.read(now);
        self.time.set(self.time.get().saturating_sub(took));
    }

    /// Goes on to the next source: this one has no work, or none left.
    #[inline]
    pub(crate) fn found_nothing(&self) {
        let at = self.at.get();
        let share = self.before.get().share(at);
        if self.jobs.get() < share {
            self.served.set(self.served.get().with(at));
        }
        self.advance();
    }

    fn advance(&self) {
        let next = self.at.get() + 1;
        if next == Source::COUNT {
            self.before.set(self.served.take());
            self.visit(0);
        } else {
            self.visit(next);
        }
    }

    /// Begins the turn of this source.
    #[inline]
    fn visit(&self, at: usize) {
        let share = self.before.get().share(at);
        self.at.set(at);
        self.jobs.set(share);
        self.time.set(LIMIT_TIME * share / LIMIT_JOBS);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// A worker whose sources have `jobs` each, all of one length.
    struct Simulated {
        turn: Turn,
        now: Instant,
        jobs: [u64; Source::COUNT],
        length: Duration,
    }

    impl Simulated {
        fn new(jobs: [u64; Source::COUNT], length: Duration) -> Self {
            let turn = Turn::new();
            let now = turn.clock.read_at.get();
            Self {
                turn,
                now,
                jobs,
                length,
            }
        }

        /// Runs one job, if there is any. Returns the source that it came from.
        fn step(&mut self) -> Option<usize> {
            for _ in 0..Source::COUNT {
                let at = self.turn.at.get();
                if self.jobs[at] == 0 {
                    self.turn.found_nothing();
                    continue;
                }
                self.jobs[at] -= 1;
                self.now += self.length;
                if self.turn.count(true) {
                    self.turn.ran_some(|| self.now);
                }
                return Some(at);
            }
            None
        }
    }

    const ENDLESS: u64 = u64::MAX;

    /// Returns how long a source with a job waits beside these endless sources: the most jobs of
    /// others, and the longest time.
    fn waits(endless: &[usize], waiting: usize, length: Duration) -> (u32, Duration) {
        let mut most = (0, Duration::ZERO);
        for before in 0..200 {
            let mut jobs = [0; Source::COUNT];
            endless.iter().for_each(|&at| jobs[at] = ENDLESS);
            let mut worker = Simulated::new(jobs, length);
            for _ in 0..before {
                worker.step();
            }
            worker.jobs[waiting] = 1;
            let (mut others, since) = (0, worker.now);
            while worker.step() != Some(waiting) {
                others += 1;
                assert!(others < 1000, "{waiting} starves beside {endless:?}");
            }
            most = most.max((others, worker.now - since - length));
        }
        most
    }

    #[test]
    fn r8_each_source_is_served_after_64_jobs_of_each_set_of_others() {
        for set in 1_usize..1 << Source::COUNT {
            let endless: Vec<_> = (0..Source::COUNT).filter(|at| set >> at & 1 == 1).collect();
            for waiting in (0..Source::COUNT).filter(|at| set >> at & 1 == 0) {
                let (jobs, _) = waits(&endless, waiting, Duration::from_nanos(100));
                assert!(jobs <= LIMIT_JOBS, "{waiting} beside {endless:?}: {jobs}");
            }
        }
    }

    #[test]
    fn r8_each_source_is_served_after_10_ms_of_another() {
        for length in [100, 1_000, 3_000].map(Duration::from_micros) {
            for endless in 0..Source::COUNT {
                for waiting in (0..Source::COUNT).filter(|&at| at != endless) {
                    let (_, time) = waits(&[endless], waiting, length);
                    assert!(time <= LIMIT_TIME + length, "{time:?} of {length:?}");
                }
            }
        }
    }

    #[test]
    fn r8_sources_with_work_get_equal_shares() {
        let mut worker = Simulated::new([ENDLESS; Source::COUNT], Duration::from_nanos(100));
        let mut ran = [0_u32; Source::COUNT];
        for _ in 0..60_000 {
            ran[worker.step().unwrap()] += 1;
        }
        assert!(
            ran.iter().all(|ran| (9_900..=10_100).contains(ran)),
            "{ran:?}"
        );
    }

    #[test]
    fn r8_a_source_alone_is_seldom_left() {
        let mut jobs = [0; Source::COUNT];
        jobs[2] = ENDLESS;
        let mut worker = Simulated::new(jobs, Duration::from_nanos(100));
        let mut circles = 0;
        for _ in 0..10_000 {
            worker.step();
            circles += u32::from(worker.turn.at.get() != 2);
        }
        assert!(circles < 10_000 / 50, "{circles}");
    }

    #[test]
    fn r8_every_source_has_a_turn() {
        let turn = Turn::new();
        for source in Source::ALL {
            // A new source does not compile here before it has a case.
            let at = match source {
                Source::Own => 0,
                Source::Kept => 1,
                Source::Submitted => 2,
                Source::Structured => 3,
                Source::SideList => 4,
                Source::Rayon => 5,
            };
            assert_eq!(turn.at.get(), at);
            assert_eq!(turn.source(), source);
            turn.found_nothing();
        }
        assert_eq!(turn.source(), Source::ALL[0]);
    }

    #[test]
    fn the_clock_is_read_seldom_while_jobs_are_short() {
        let turn = Turn::new();
        let mut now = turn.clock.read_at.get();
        for _ in 0..6 {
            now += Duration::from_nanos(100);
            turn.read(now);
        }
        assert_eq!(turn.clock.unread.get(), TURN_STRIDE);
        assert!(turn.clock.are_short());
        assert!(!turn.count(true), "it was short");
        assert!((0..4).any(|_| turn.count(false)), "they may have been long");
        now += LONG_JOB * TURN_STRIDE;
        turn.read(now);
        assert_eq!(turn.clock.unread.get(), 1);
        assert!(!turn.clock.are_short());
    }
}
