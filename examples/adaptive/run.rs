//! One pool under the load: the producers and the observer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;

use crate::{
    csv::Sample,
    live::Live,
    load::{Load, Work},
};

/// Two, so that a blocked producer does not hold up the whole load.
const PRODUCERS: usize = 2;

const EVERY: Duration = Duration::from_millis(20);

/// The duration of the submits since the last sample.
#[derive(Default)]
struct Waits {
    nanos: AtomicU64,
    submits: AtomicU64,
}

impl Waits {
    fn record(&self, wait: Duration) {
        self.nanos
            .fetch_add(wait.as_nanos() as u64, Ordering::Relaxed);
        self.submits.fetch_add(1, Ordering::Relaxed);
    }

    /// Their mean in microseconds, if there were any. A submit that ends between the two reads is
    /// split between two samples, which is not worth a lock.
    fn take_mean(&self) -> Option<f64> {
        let nanos = self.nanos.swap(0, Ordering::Relaxed);
        let submits = self.submits.swap(0, Ordering::Relaxed);
        (submits > 0).then(|| nanos as f64 / submits as f64 / 1e3)
    }
}

/// Drives the pool through the load, and returns the samples. Ends when all jobs are done and the
/// workers above `min` are parked.
pub fn run(pool: &Pool, name: &str, min: usize, load: &Load, work: &Work) -> Vec<Sample> {
    let waits = Waits::default();
    let start = Instant::now();
    thread::scope(|scope| {
        for first in 0..PRODUCERS {
            let waits = &waits;
            scope.spawn(move || {
                for due in load.schedule().skip(first).step_by(PRODUCERS) {
                    sleep_until(start + due);
                    let work = work.clone();
                    let asked = Instant::now();
                    if pool.spawn(move || work.run()).is_err() {
                        return;
                    }
                    waits.record(asked.elapsed());
                }
            });
        }
        look_on(pool, name, min, load, &waits, start)
    })
}

fn look_on(
    pool: &Pool,
    name: &str,
    min: usize,
    load: &Load,
    waits: &Waits,
    start: Instant,
) -> Vec<Sample> {
    let mut live = Live::new(name);
    let mut samples = Vec::new();
    let mut done_at = None;
    let mut due = start;
    loop {
        sleep_until(due);
        // Missed samples are skipped: they would repeat the next one.
        while due <= Instant::now() {
            due += EVERY;
        }
        let seen = pool.metrics();
        let time = start.elapsed();
        let sample = Sample {
            time_s: time.as_secs_f64(),
            phase: load.phase_at(time).into(),
            depth: seen.depth,
            capacity: seen.capacity,
            workers_in_service: seen.workers_in_service,
            workers_busy: seen.workers_busy,
            admission_wait_us: waits.take_mean(),
            completed: seen.completed,
        };
        live.show(&sample, &seen);
        samples.push(sample);
        if seen.completed == load.jobs() as u64 {
            let rested = time - *done_at.get_or_insert(time);
            let is_parked = seen.workers_in_service == min as u64;
            // On a busy machine, parking takes a while.
            let is_enough = is_parked || rested > load.idle_timeout() * 10;
            if time >= load.length() && is_enough {
                break;
            }
        }
    }
    live.finish();
    samples
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}
