//! The question: how long do a few tasks in the pool delay an outside thread, one such section
//! after another?
//!
//! Four tasks in a scope whose body runs on a worker or on the calling thread (in place), or one
//! closure that a worker runs (install). Empty tasks show the cost of the round trip; tasks of 10
//! us show how much of it the work hides.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    report::{Entrant, Metric, Question},
    rivals::{WORKERS, our_pool, rayon_pool},
    share, work,
};

const TASKS: u64 = 4;

const LONG: Duration = Duration::from_micros(10);

const METRICS: [Metric; 2] = [
    Metric {
        name: "empty, ns",
        decimals: 0,
    },
    Metric {
        name: "10 us, ns",
        decimals: 0,
    },
];

/// Runs one, with tasks of this many steps.
type Section = Box<dyn Fn(u64)>;

/// A name, and the constructor of the pool.
type Way = (&'static str, fn() -> Section);

fn measure(sections: u64, section: &Section) -> Vec<f64> {
    let measured = |steps: u64, sections: u64| {
        let go = |sections| (0..sections).for_each(|_| section(steps));
        go(share(sections, 20));
        let start = Instant::now();
        go(sections);
        start.elapsed().as_nanos() as f64 / sections as f64
    };
    let empty = measured(0, sections);
    vec![empty, measured(work::calibrate(LONG), share(sections, 5))]
}

fn task(steps: u64) {
    if steps > 0 {
        work::compute(steps);
    }
    black_box(());
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let sections = share(jobs, 50);
    let ways: [Way; 6] = [
        ("adaptive-pool, scope", || {
            let pool = our_pool(WORKERS);
            Box::new(move |steps| {
                pool.scope(|scope| (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps))));
            })
        }),
        ("adaptive-pool, in place", || {
            let pool = our_pool(WORKERS);
            Box::new(move |steps| {
                pool.in_place_scope(|scope| {
                    (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps)));
                });
            })
        }),
        ("adaptive-pool, install", || {
            let pool = our_pool(WORKERS);
            Box::new(move |steps| pool.install(|| task(steps)))
        }),
        ("rayon, scope", || {
            let pool = rayon_pool(WORKERS);
            Box::new(move |steps| {
                pool.scope(|scope| (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps))));
            })
        }),
        ("rayon, in place", || {
            let pool = rayon_pool(WORKERS);
            Box::new(move |steps| {
                pool.in_place_scope(|scope| {
                    (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps)));
                });
            })
        }),
        ("rayon, install", || {
            let pool = rayon_pool(WORKERS);
            Box::new(move |steps| pool.install(|| task(steps)))
        }),
    ];
    let entrants = ways
        .into_iter()
        .map(|(name, build)| Entrant::new(name, move || measure(sections, &build())));
    Question {
        name,
        title: format!("{sections} sequential sections of four tasks (or one installed closure)"),
        metrics: &METRICS,
        entrants: entrants.collect(),
    }
}
