//! Runs a program under many reproducible schedules, and the checks common to all programs.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use adaptive_pool::{Pool, PoolBuilder, ShutdownReport, simulated::time};
use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
    thread,
};

/// How many schedules share a seed: the schedulers derive them from each other.
const SERIES: usize = 50;

/// The number of steps after which a schedule counts as endless. The longest finite one had a tenth
/// of that.
const STEPS: usize = 400_000;

/// The numbers of priority changes that PCT makes, plus one.
const DEPTH: usize = 4;

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    text.parse().ok().or_else(|| panic!("{name} is a number"))
}

/// Runs the program under `SCHEDULES` schedules, or those of `SEED`: at random and by PCT, with
/// time that passes and time that stands still.
pub fn explore(name: &str, program: fn()) {
    explore_some(name, program, &[false, true]);
}

/// The same, for a program that may have to wait for a timeout.
pub fn explore_in_time(name: &str, program: fn()) {
    explore_some(name, program, &[false]);
}

fn explore_some(name: &str, program: fn(), times: &[bool]) {
    let given: Option<u64> = from_env("SEED");
    let schedules: usize = from_env("SCHEDULES").unwrap_or(400);
    let series = given.map_or(schedules.div_ceil(SERIES * 2 * times.len()), |_| 1);
    let first = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    });
    let began = Instant::now();
    for seed in (first..).take(series) {
        for &stands_still in times {
            let random = RandomScheduler::new_from_seed(seed, SERIES);
            run(random, name, seed, stands_still, program);
            let pct = PctScheduler::new_from_seed(seed, DEPTH, SERIES);
            run(pct, name, seed, stands_still, program);
        }
    }
    let schedules = series * SERIES * 2 * times.len();
    println!(
        "{name}: {schedules} schedules from SEED={first} in {:.1?}",
        began.elapsed()
    );
}

fn run<S: Scheduler + 'static>(scheduler: S, name: &str, seed: u64, still: bool, program: fn()) {
    let mut config = Config::new();
    config.stack_size = 1 << 17;
    // The seed reproduces it; written out it would take a hundred kilobytes.
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    let kind = std::any::type_name::<S>().rsplit("::").next();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(scheduler, config).run(move || {
            time::begin(still);
            program();
            count.fetch_add(1, Ordering::Relaxed);
        })
    }));
    if let Err(payload) = ran {
        eprintln!(
            "FAILED: {name}, schedule {} of SEED={seed}, {}, time {}",
            done.load(Ordering::Relaxed),
            kind.unwrap_or("?"),
            if still { "stands still" } else { "passes" },
        );
        resume_unwind(payload);
    }
}

/// A small pool.
pub fn small(workers: usize, capacity: usize) -> PoolBuilder {
    Pool::builder()
        .workers(workers)
        .max_threads(workers)
        .capacity(capacity)
        .latency_tracking(false)
}

/// Runs these concurrently, and waits for all. (shuttle's scopes wake their owner from any wait
/// when a thread ends, so the owner has to do nothing else.)
pub fn together(threads: &[&(dyn Fn() + Sync)]) {
    thread::scope(|s| {
        for &thread in threads {
            s.spawn(thread);
        }
    });
}

/// Counts runs, without being a step of the schedule.
#[derive(Clone, Default)]
pub struct Tally(Arc<AtomicUsize>);

impl Tally {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A job that counts itself.
    pub fn job(&self) -> impl FnOnce() + Send + 'static {
        let tally = self.clone();
        move || tally.add()
    }
}

/// The report has to account for everything the pool was given.
pub fn check(pool: &Pool, report: ShutdownReport) {
    let ended = report.completed + report.panicked + report.cancelled + report.dropped;
    assert_eq!(ended, pool.metrics().admitted, "{report:?}");
    check_counts(pool);
}

/// The same for a pool that got more jobs after it had stopped. Those ran inline, and are counted,
/// but not in the report.
pub fn check_counts(pool: &Pool) {
    let metrics = pool.metrics();
    let ended = metrics.completed + metrics.panicked + metrics.cancelled + metrics.dropped;
    assert_eq!(ended, metrics.admitted, "{metrics:?}");
    assert_eq!((metrics.depth, metrics.waiting_submitters), (0, 0));
    assert_eq!(metrics.threads, 0);
}
