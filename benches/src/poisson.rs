//! The question: when jobs of 50 us arrive at random and keep the workers busy for a fraction of
//! their time, how long does a job wait until it starts?
//!
//! The gaps between two jobs are exponential, from a fixed seed: the same for all. The producer
//! sleeps until the next job is due, and submits all due jobs when it wakes. A job's wait starts at
//! its submission, so it excludes the producer's oversleep, but includes the submit.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Job,
    report::{self, Entrant, Metric, Question},
    rivals::{Contender, Rival, WORKERS},
    share,
    tally::TALLY,
    work,
};

const JOB: Duration = Duration::from_micros(50);

const fn micros(name: &'static str) -> Metric {
    Metric { name, decimals: 0 }
}

const METRICS: [Metric; 4] = [
    micros("p50 us"),
    micros("p90 us"),
    micros("p99 us"),
    micros("p99.9 us"),
];

struct Timed {
    sent: Instant,
    wait: &'static AtomicU64,
    steps: u64,
}

impl Job for Timed {
    fn run(self) {
        let nanos = self.sent.elapsed().as_nanos() as u64;
        self.wait.store(nanos, Ordering::Relaxed);
        work::compute(self.steps);
        TALLY.count();
    }
}

/// The due times of the jobs, for this load in per cent of all workers' time.
fn schedule(jobs: u64, load: u32) -> Vec<Duration> {
    let gap = JOB.as_secs_f64() * 100.0 / f64::from(load) / WORKERS as f64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut due = 0.0;
    let mut next = move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Above 0 and at most 1.
        let part = ((state >> 11) + 1) as f64 / (1u64 << 53) as f64;
        due -= gap * part.ln();
        Duration::from_secs_f64(due)
    };
    (0..jobs).map(&mut next).collect()
}

/// The waits' median, p90, p99 and p99.9, in microseconds.
fn measure(rival: &dyn Rival<Timed>, waits: &'static [AtomicU64], load: u32) -> Vec<f64> {
    let steps = work::calibrate(JOB);
    let goal = TALLY.total() + waits.len() as u64;
    let start = Instant::now();
    for (wait, due) in waits.iter().zip(schedule(waits.len() as u64, load)) {
        if let Some(early) = due.checked_sub(start.elapsed()) {
            thread::sleep(early);
        }
        rival.submit(Timed {
            sent: Instant::now(),
            wait,
            steps,
        });
    }
    TALLY.wait_for(goal);
    // The threads were not started yet when the first jobs arrived.
    let micros = waits[waits.len() / 50..]
        .iter()
        .map(|wait| wait.load(Ordering::Relaxed) as f64 / 1e3);
    let mut micros: Vec<f64> = micros.collect();
    [0.5, 0.9, 0.99, 0.999]
        .map(|part| report::quantile(&mut micros, part))
        .to_vec()
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, load: u32, jobs: u64) -> Question {
    let jobs = share(jobs, 50);
    // Leaked, as in `idle`.
    let waits: &'static [AtomicU64] = (0..jobs)
        .map(|_| AtomicU64::new(0))
        .collect::<Vec<_>>()
        .leak();
    let contenders = [
        Contender::ours(),
        Contender::channel(),
        Contender::monitor(),
        Contender::rayon(),
        Contender::rayon_semaphore(),
        Contender::tokio(),
        Contender::threadpool(),
        Contender::rusty_pool(),
    ];
    let entrants = contenders.into_iter().map(|Contender { name, build }| {
        Entrant::new(name, move || measure(&*build(), waits, load))
    });
    Question {
        name,
        title: format!("{jobs} jobs of 50 us, Poisson arrivals at {load} % load: queue wait"),
        metrics: &METRICS,
        entrants: entrants.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_has_the_load_that_it_is_made_for() {
        let jobs = 100_000;
        for load in [50, 80] {
            let all = schedule(jobs, load);
            assert!(all.is_sorted());
            let had = all[all.len() - 1].as_secs_f64() * WORKERS as f64;
            let used = JOB.as_secs_f64() * jobs as f64;
            let found = 100.0 * used / had;
            assert!((found - f64::from(load)).abs() < 1.0, "{found} for {load}");
        }
    }
}
