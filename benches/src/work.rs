//! Work of a known length, for the questions about efficiency.
//!
//! It is a loop of a number of steps, calibrated right before each measurement, so that a drifting
//! clock rate does not matter.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    Job,
    rivals::{Rival, WORKERS},
    share,
    tally::{TALLY, Tally},
};

/// This many steps take one to two milliseconds: long compared with the clock, short compared with
/// a time slice.
const SAMPLE: u64 = 1 << 20;

#[derive(Clone, Copy)]
pub(crate) struct Compute {
    steps: u64,
    tally: &'static Tally,
}

impl Job for Compute {
    fn run(self) {
        compute(self.steps);
        self.tally.count();
    }
}

/// Each step depends on the previous one, and uses no memory. It copies no register either: a
/// processor executes a copy for free or in a cycle, depending on code placement. A loop of
/// xorshifts, with three copies per step, varied by 10 % for that reason.
#[inline(never)]
pub(crate) fn compute(steps: u64) {
    let mut x: u64 = black_box(0x2545_f491_4f6c_dd1d);
    for _ in 0..steps {
        x = x.rotate_left(13).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    black_box(x);
}

/// The number of steps of a job of this length, in sequence. Measured twice: a core overlaps
/// consecutive jobs, so that short ones take less than their fraction of a long one.
pub(crate) fn calibrate(length: Duration) -> u64 {
    let per_sample = |steps: u64| {
        let time = |_| {
            let start = Instant::now();
            (0..SAMPLE / steps).for_each(|_| compute(steps));
            start.elapsed().as_secs_f64() / (SAMPLE / steps) as f64
        };
        // The shortest of several tries is the least disturbed.
        (0..7).map(time).fold(f64::INFINITY, f64::min)
    };
    let scaled = |steps: u64| {
        let scaled = steps as f64 * length.as_secs_f64() / per_sample(steps).max(1e-9);
        (scaled.round() as u64).clamp(1, SAMPLE)
    };
    scaled(scaled(SAMPLE))
}

/// The share of the workers' time spent in `jobs` jobs of this length, in per cent.
pub(crate) fn useful(rival: &dyn Rival<Compute>, length: Duration, jobs: u64) -> f64 {
    let job = |steps| Compute {
        steps,
        tally: &TALLY,
    };
    let warm = share(jobs, 100);
    let goal = TALLY.total() + warm;
    rival.burst(job(1), warm);
    TALLY.wait_for(goal);

    let job = job(calibrate(length));
    let start = Instant::now();
    rival.burst(job, jobs);
    TALLY.wait_for(goal + jobs);
    let had = start.elapsed() * WORKERS as u32;
    100.0 * (length.as_secs_f64() * jobs as f64) / had.as_secs_f64()
}
