//! The question: with jobs of 20 us from one caller who blocks, how much of the workers' time goes
//! into the jobs?
//!
//! The work is a loop of so many steps. Right before each measurement one thread tells how many make
//! 20 us, so that a clock rate that drifts does not count. Two threads that share a core, or a
//! machine with other work, do not reach 100 % with any rival: the static split tells what is there
//! to be had.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    Job,
    report::{Entrant, Metric, Question},
    rivals::{Contender, Rival, WORKERS},
    share,
    tally::{TALLY, Tally},
};

const JOB: Duration = Duration::from_micros(20);

/// So many steps take one to two milliseconds: long beside the clock, short beside a time slice.
const SAMPLE: u64 = 1 << 20;

#[derive(Clone, Copy)]
struct Compute {
    steps: u64,
    tally: &'static Tally,
}

impl Job for Compute {
    fn run(self) {
        compute(self.steps);
        self.tally.count();
    }
}

/// Xorshift: each step needs the one before it, and no memory.
#[inline(never)]
fn compute(steps: u64) {
    let mut x: u64 = black_box(0x2545_f491_4f6c_dd1d);
    for _ in 0..steps {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
}

/// How many steps make a job. The shortest of several tries is the one that nobody disturbed.
fn calibrate() -> u64 {
    let time = |_| {
        let start = Instant::now();
        compute(SAMPLE);
        start.elapsed()
    };
    let best = (0..7).map(time).min().unwrap_or(JOB);
    (SAMPLE as u128 * JOB.as_nanos() / best.as_nanos().max(1)) as u64
}

fn measure(rival: &dyn Rival<Compute>, jobs: u64) -> f64 {
    let job = |steps| Compute {
        steps,
        tally: &TALLY,
    };
    let warm = share(jobs, 100);
    let goal = TALLY.total() + warm;
    rival.burst(job(1), warm);
    TALLY.wait_for(goal);

    let job = job(calibrate());
    let start = Instant::now();
    rival.burst(job, jobs);
    TALLY.wait_for(goal + jobs);
    let had = start.elapsed() * WORKERS as u32;
    100.0 * (JOB.as_secs_f64() * jobs as f64) / had.as_secs_f64()
}

/// For [`compare`](crate::report). Here a ratio above 1 is good.
pub fn question(name: &'static str, jobs: u64) -> Question {
    let jobs = share(jobs, 50);
    let contenders = [
        Contender::ours(),
        Contender::static_split(),
        Contender::rayon(),
        Contender::rayon_semaphore(),
        Contender::channel(),
        Contender::monitor(),
    ];
    let entrants = contenders.into_iter().map(|Contender { name, build }| {
        Entrant::new(name, move || vec![measure(&*build(), jobs)])
    });
    Question {
        name,
        title: format!("{jobs} jobs of 20 us, the caller blocks (more is better)"),
        metrics: &[Metric {
            name: "% useful",
            decimals: 1,
        }],
        entrants: entrants.collect(),
    }
}
