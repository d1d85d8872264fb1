//! The load: the job, and the schedule of submits.

use std::{
    hint::black_box,
    num::NonZero,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// The CPU time of a job.
pub const JOB: Duration = Duration::from_millis(2);

/// The size of the hashed buffer: fits the private cache of any core.
const DATA: usize = 64 * 1024;

/// The body of a job: a fixed amount of work, not a fixed time. With a time, workers that share a
/// core would each seem to have it alone.
#[derive(Clone)]
pub struct Work {
    data: Arc<[u8]>,
    rounds: u32,
}

impl Work {
    /// Measures how much work takes [`JOB`] on an otherwise idle core.
    pub fn calibrate() -> Self {
        let mut work = Self {
            data: vec![7; DATA].into(),
            rounds: 1,
        };
        let best = (0..200)
            .map(|_| {
                let begun = Instant::now();
                work.run();
                begun.elapsed()
            })
            .min()
            .unwrap_or(JOB);
        let rounds = JOB.as_secs_f64() / best.as_secs_f64().max(1e-9);
        work.rounds = (rounds.round() as u32).max(1);
        work
    }

    pub fn run(&self) {
        for _ in 0..self.rounds {
            black_box(blake3::hash(black_box(&self.data)));
        }
    }
}

struct Phase {
    name: &'static str,
    begin: Duration,
    length: Duration,
    jobs: usize,
}

/// The due times of the jobs.
pub struct Load {
    scale: Duration,
    phases: Vec<Phase>,
}

impl Load {
    pub fn new(scale: Duration, min: usize, max: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        // More workers than cores do not increase throughput.
        let (min, max) = (min.min(cores) as f64, max.min(cores) as f64);
        let quiet = 0.2 * min;
        let mut begin = Duration::ZERO;
        let mut phase = |name, scales: u32, workers_worth: f64| {
            let length = scale * scales;
            let jobs = length.as_secs_f64() / JOB.as_secs_f64() * workers_worth;
            let phase = Phase {
                name,
                begin,
                length,
                jobs: jobs as usize,
            };
            begin += length;
            phase
        };
        let phases = vec![
            phase("quiet", 1, quiet),
            phase("burst", 1, 0.8 * (min + max) / 2.0),
            phase("flood", 1, 1.5 * max),
            phase("quiet", 2, quiet),
        ];
        Self { scale, phases }
    }

    pub fn cooldown(&self) -> Duration {
        self.scale.mul_f64(0.15)
    }

    pub fn idle_timeout(&self) -> Duration {
        self.scale.mul_f64(0.75)
    }

    pub fn jobs(&self) -> usize {
        self.phases.iter().map(|phase| phase.jobs).sum()
    }

    pub fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }

    /// The phase at this moment; the last one at the end.
    pub fn phase_at(&self, time: Duration) -> &'static str {
        self.phases
            .iter()
            .rev()
            .find(|phase| phase.begin <= time)
            .map_or("quiet", |phase| phase.name)
    }

    /// The due times of the jobs, counted from the start.
    pub fn schedule(&self) -> impl Iterator<Item = Duration> {
        self.phases.iter().flat_map(|phase| {
            (0..phase.jobs)
                .map(|i| phase.begin + phase.length.mul_f64(i as f64 / phase.jobs as f64))
        })
    }
}
