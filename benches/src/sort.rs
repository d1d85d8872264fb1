//! The question: how much of two cores does a recursion use that halves its work, as a sort does?
//!
//! Quicksort, down to pieces of some microseconds, several times in one pool. Where the halves are
//! unequal, a worker waits for another in each sort, and its activity meanwhile decides. Three
//! forms: joins, jobs that spawn into one scope, and a scope in each call.

use std::{
    num::NonZero,
    time::{Duration, Instant},
};

use adaptive_pool::{Pool, Scope};

use crate::{
    once::Way,
    report::{Entrant, Metric, Question},
    rivals::{WORKERS, our_pool, rayon_pool},
};

/// The standard library sorts fewer.
const PIECE: usize = 512;

/// The number of sorts of each rival in a measurement.
const SORTS: u32 = 5;

/// The two sides of the pivot, if there is more than a piece. The same in every rival.
fn split(numbers: &mut [u32]) -> Option<(&mut [u32], &mut [u32])> {
    if numbers.len() <= PIECE {
        numbers.sort_unstable();
        return None;
    }
    numbers.swap(0, numbers.len() / 2);
    let pivot = numbers[0];
    let mut below = 0;
    for at in 1..numbers.len() {
        if numbers[at] < pivot {
            below += 1;
            numbers.swap(below, at);
        }
    }
    numbers.swap(0, below);
    let (left, right) = numbers.split_at_mut(below);
    Some((left, &mut right[1..]))
}

fn serial(numbers: &mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        serial(left);
        serial(right);
    }
}

fn by_join(pool: &Pool, numbers: &mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        pool.join(|| by_join(pool, left), || by_join(pool, right));
    }
}

fn in_scope<'a>(scope: &Scope<'a>, numbers: &'a mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        scope.spawn(|scope| in_scope(scope, left));
        in_scope(scope, right);
    }
}

fn by_scopes(pool: &Pool, numbers: &mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        pool.scope(|scope| {
            scope.spawn(|_| by_scopes(pool, left));
            by_scopes(pool, right);
        });
    }
}

fn by_rayons_join(numbers: &mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        rayon::join(|| by_rayons_join(left), || by_rayons_join(right));
    }
}

fn in_rayons_scope<'a>(scope: &rayon::Scope<'a>, numbers: &'a mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        scope.spawn(|scope| in_rayons_scope(scope, left));
        in_rayons_scope(scope, right);
    }
}

fn by_rayons_scopes(numbers: &mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        rayon::scope(|scope| {
            scope.spawn(|_| by_rayons_scopes(left));
            by_rayons_scopes(right);
        });
    }
}

fn by_chili(scope: &mut chili::Scope<'_>, numbers: &mut [u32]) {
    if let Some((left, right)) = split(numbers) {
        scope.join(|s| by_chili(s, left), |s| by_chili(s, right));
    }
}

/// `count` numbers, the same each time (xorshift).
fn numbers(count: u64) -> Vec<u32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u32
        })
        .collect()
}

/// The time of all sorts of `count` numbers.
fn time(count: u64, mut sort: impl FnMut(&mut [u32])) -> Duration {
    let unsorted = numbers(count);
    (0..SORTS)
        .map(|_| {
            let mut numbers = unsorted.clone();
            let start = Instant::now();
            sort(&mut numbers);
            let time = start.elapsed();
            assert!(numbers.is_sorted());
            time
        })
        .sum()
}

/// The time in the pool under test.
fn ours(workers: usize, count: u64, sort: fn(&Pool, &mut [u32])) -> Duration {
    let pool = our_pool(workers);
    pool.install(|| time(count, |numbers| sort(&pool, numbers)))
}

/// The entrants.
pub(crate) const WAYS: &[Way] = &[
    Way {
        name: "adaptive-pool",
        run: |workers, count| ours(workers, count, by_join),
    },
    Way {
        name: "adaptive-pool, one scope",
        run: |workers, count| {
            ours(workers, count, |pool, numbers| {
                pool.scope(|scope| in_scope(scope, numbers));
            })
        },
    },
    Way {
        name: "adaptive-pool, scopes",
        run: |workers, count| ours(workers, count, by_scopes),
    },
    Way {
        name: "rayon::join",
        run: |workers, count| rayon_pool(workers).install(|| time(count, by_rayons_join)),
    },
    Way {
        name: "rayon, one scope",
        run: |workers, count| {
            let sort = |numbers: &mut [u32]| rayon::scope(|scope| in_rayons_scope(scope, numbers));
            rayon_pool(workers).install(|| time(count, sort))
        },
    },
    Way {
        name: "rayon, scopes",
        run: |workers, count| rayon_pool(workers).install(|| time(count, by_rayons_scopes)),
    },
    Way {
        name: "chili",
        run: |workers, count| {
            let pool = chili::ThreadPool::with_config(chili::Config {
                thread_count: NonZero::new(workers),
                ..chili::Config::default()
            });
            let mut scope = pool.scope();
            time(count, |numbers| by_chili(&mut scope, numbers))
        },
    },
    Way {
        name: "serial",
        run: |_, count| time(count, serial),
    },
];

/// The serial program runs before each rival, for the ratio.
fn measure(way: &Way, count: u64) -> Vec<f64> {
    let alone = time(count, serial);
    let theirs = (way.run)(WORKERS, count);
    vec![
        theirs.as_secs_f64() * 1e3 / f64::from(SORTS),
        theirs.as_secs_f64() / alone.as_secs_f64(),
    ]
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let entrants = WAYS
        .iter()
        .map(|way| Entrant::new(way.name, move || measure(way, jobs)));
    Question {
        name,
        title: format!("quicksort of {jobs} numbers, cutoff {PIECE}"),
        metrics: &[
            Metric {
                name: "ms",
                decimals: 1,
            },
            Metric {
                name: "x serial",
                decimals: 2,
            },
        ],
        entrants: entrants.collect(),
    }
}
