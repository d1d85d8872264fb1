//! The question: when jobs of 20 us flood an idle pool, how soon are all its workers in service?
//! And how much work is done meanwhile, compared with a pool that has its workers from the start?
//!
//! The pools may have four workers on any number of cores. From one to four the policy takes three
//! steps, the first at once, and therefore two cooldowns.

use std::time::{Duration, Instant};

use adaptive_pool::{Pool, PoolBuilder};

use crate::{
    report::{Entrant, Metric, Question},
    rivals::CAPACITY,
    share, work,
};

const JOB: Duration = Duration::from_micros(20);

/// The producer checks the workers once in this many jobs.
const POLL: u64 = 64;

fn adaptive(cooldown: Duration) -> PoolBuilder {
    Pool::builder().workers(1..=4).scale_cooldown(cooldown)
}

/// Milliseconds until all workers are in service, NaN if that never happened; and microseconds per
/// job.
fn measure(builder: PoolBuilder, jobs: u64) -> Vec<f64> {
    let pool = builder
        .capacity(CAPACITY)
        // Otherwise each check of the workers merges histograms.
        .latency_tracking(false)
        .build()
        .expect("the options are valid");
    let steps = work::calibrate(JOB);
    let start = Instant::now();
    let mut at_max = None;
    for job in 0..jobs {
        pool.spawn(move || work::compute(steps))
            .expect("the pool is open");
        if job % POLL == 0 && at_max.is_none() && pool.metrics().workers_in_service == 4 {
            at_max = Some(start.elapsed());
        }
    }
    drop(pool);
    let micros = start.elapsed().as_secs_f64() * 1e6 / jobs as f64;
    vec![
        at_max.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3),
        micros,
    ]
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let jobs = share(jobs, 50);
    let fixed = |name, workers: usize| {
        let build = move || Pool::builder().workers(workers);
        Entrant::new(name, move || measure(build(), jobs))
    };
    let adaptive = |name, millis| {
        let build = move || adaptive(Duration::from_millis(millis));
        Entrant::new(name, move || measure(build(), jobs))
    };
    Question {
        name,
        title: format!("{jobs} jobs of 20 us into an idle pool of one to four workers"),
        metrics: &[
            Metric {
                name: "ms to all",
                decimals: 1,
            },
            Metric {
                name: "us/job",
                decimals: 2,
            },
        ],
        entrants: vec![
            fixed("4 from the start", 4),
            adaptive("1 to 4, cooldown 1 ms", 1),
            adaptive("1 to 4, cooldown 10 ms", 10),
            adaptive("1 to 4, cooldown 50 ms", 50),
            fixed("1 for good", 1),
        ],
    }
}
