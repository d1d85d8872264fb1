//! The question: what do a million empty tasks cost that one scope spawns, in time and in memory?
//!
//! The memory is the peak of a process that does nothing else, above that of a process whose pool
//! got a single task. The kernel reports it to within some 100 KiB. The body of the scope runs on a
//! worker, or on the calling thread (in place).
//!
//! The spawner is faster than the workers. In the pool under test the queue is soon full, and most
//! tasks run where they are spawned; rayon's queues grow.

use std::time::{Duration, Instant};

use crate::{
    once::{Way, peak_of_a_child},
    report::{Entrant, Metric, Question},
    rivals::{WORKERS, our_pool, rayon_pool},
    share,
};

fn time(tasks: u64, scope: impl Fn(u64)) -> Duration {
    scope(share(tasks, 50));
    let start = Instant::now();
    scope(tasks);
    start.elapsed()
}

/// The entrants.
pub(crate) const WAYS: &[Way] = &[
    Way {
        name: "adaptive-pool",
        run: |workers, tasks| {
            let pool = our_pool(workers);
            time(tasks, |tasks| {
                pool.scope(|scope| (0..tasks).for_each(|_| scope.spawn(|_| ())));
            })
        },
    },
    Way {
        name: "adaptive-pool, in place",
        run: |workers, tasks| {
            let pool = our_pool(workers);
            time(tasks, |tasks| {
                pool.in_place_scope(|scope| (0..tasks).for_each(|_| scope.spawn(|_| ())));
            })
        },
    },
    Way {
        name: "rayon::scope",
        run: |workers, tasks| {
            let pool = rayon_pool(workers);
            time(tasks, |tasks| {
                pool.scope(|scope| (0..tasks).for_each(|_| scope.spawn(|_| ())));
            })
        },
    },
    Way {
        name: "rayon::scope, in place",
        run: |workers, tasks| {
            let pool = rayon_pool(workers);
            time(tasks, |tasks| {
                pool.in_place_scope(|scope| (0..tasks).for_each(|_| scope.spawn(|_| ())));
            })
        },
    },
];

fn measure(question: &str, way: &Way, tasks: u64) -> Vec<f64> {
    let time = (way.run)(WORKERS, tasks);
    let peak = |tasks| peak_of_a_child(question, way.name, tasks, WORKERS);
    let idle = peak(1);
    vec![
        time.as_nanos() as f64 / tasks as f64,
        (peak(tasks) - idle) / 1024.0,
    ]
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, tasks: u64) -> Question {
    let entrants = WAYS
        .iter()
        .map(|way| Entrant::new(way.name, move || measure(name, way, tasks)));
    Question {
        name,
        title: format!(
            "{tasks} empty tasks in one scope: time, and peak memory above an idle pool"
        ),
        metrics: &[
            Metric {
                name: "ns/task",
                decimals: 1,
            },
            Metric {
                name: "peak MiB",
                decimals: 1,
            },
        ],
        entrants: entrants.collect(),
    }
}
