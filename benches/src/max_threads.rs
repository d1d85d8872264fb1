//! The question: what does an operation cost in a pool of two workers that may have many more
//! threads?
//!
//! It should cost no more than in a pool that may have two: a thread costs nothing before it is
//! started.

use std::{hint::black_box, time::Instant};

use adaptive_pool::Pool;

use crate::{
    report::{Entrant, Metric, Question},
    rivals::{CAPACITY, WORKERS},
    share,
};

/// Items of a `for_each`.
const ITEMS: u64 = 64;

const POOLS: [(&str, usize); 4] = [
    ("max_threads(2)", 2),
    ("max_threads(64)", 64),
    ("max_threads(1024)", 1024),
    ("max_threads(32767)", 32_767),
];

fn pool(max_threads: usize) -> Pool {
    let builder = Pool::builder().workers(WORKERS).capacity(CAPACITY);
    let pool = builder.max_threads(max_threads).build();
    pool.expect("the threads start")
}

/// Nanoseconds per operation.
fn nanos(count: u64, mut operation: impl FnMut(u64)) -> f64 {
    (0..share(count, 20)).for_each(&mut operation);
    let start = Instant::now();
    (0..count).for_each(operation);
    start.elapsed().as_nanos() as f64 / count as f64
}

fn measure(max_threads: usize, jobs: u64) -> Vec<f64> {
    let start = Instant::now();
    let pool = pool(max_threads);
    let build = start.elapsed().as_nanos() as f64 / 1_000.0;
    let spawn = |n| {
        let job = move || {
            black_box(n);
        };
        pool.spawn(job).expect("the pool is open");
    };
    let trip = |n| {
        let handle = pool.submit(move || black_box(n));
        let handle = handle.expect("the pool is open");
        assert_eq!(handle.join().expect("the job does not panic"), n);
    };
    let scope = |n| {
        pool.scope(|s| {
            s.spawn(move |_| {
                black_box(n);
            });
        });
    };
    let for_each = |_| {
        pool.for_each(0..ITEMS, |n| {
            black_box(n);
        });
    };
    let trips = share(jobs, 50);
    vec![
        build,
        nanos(jobs, spawn),
        nanos(trips, trip),
        nanos(trips, scope),
        nanos(share(trips, 4), for_each),
        nanos(share(trips, 100), |_| drop(pool.metrics())) / 1_000.0,
    ]
}

const fn metric(name: &'static str, decimals: usize) -> Metric {
    Metric { name, decimals }
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let entrants =
        POOLS.map(|(name, max_threads)| Entrant::new(name, move || measure(max_threads, jobs)));
    Question {
        name,
        title: format!("{WORKERS} workers in a pool that may have more threads"),
        metrics: const {
            &[
                metric("build us", 0),
                metric("ns/spawn", 0),
                metric("ns/trip", 0),
                metric("ns/scope", 0),
                metric("ns/for_each of 64", 0),
                metric("us/metrics", 1),
            ]
        },
        entrants: entrants.into(),
    }
}
