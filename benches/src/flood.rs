//! The question: when jobs of 20 us flood an idle pool, how soon are all its workers in service, and how
//! much is done meanwhile, beside a pool whose workers are there from the start?
//!
//! The pools may have four workers on however many cores there are. From one to four the policy takes three
//! steps, the first at once, and so two cooldowns.

use std::time::{Duration, Instant};

use adaptive_pool::{Pool, PoolBuilder};

use crate::{
    report::{Entrant, Metric, Question},
    rivals::CAPACITY,
    share, work,
};

const JOB: Duration = Duration::from_micros(20);

/// How often the producer looks at the workers: once in so many jobs.
const LOOK: u64 = 64;

fn adaptive(cooldown: Duration) -> PoolBuilder {
    Pool::builder().workers(1..=4).scale_cooldown(cooldown)
}

/// Milliseconds until all are in service, NaN if that never was; and microseconds a job.
fn measure(builder: PoolBuilder, jobs: u64) -> Vec<f64> {
    let pool = builder
        .capacity(CAPACITY)
        // Otherwise each look at the workers merges histograms.
        .latency_tracking(false)
        .build()
        .expect("the options are valid");
    let steps = work::calibrate(JOB);
    let start = Instant::now();
    let mut at_max = None;
    for job in 0..jobs {
        pool.spawn(move || work::compute(steps))
            .expect("the pool is open");
        if job % LOOK == 0 && at_max.is_none() && pool.metrics().workers_in_service == 4 {
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
