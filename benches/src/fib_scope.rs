//! The question: what does a small scope cost, with two jobs that borrow from its frame?
//!
//! Naive Fibonacci again: each call opens a scope, and spawns two. Only in the pool under test can
//! a job be refused a place, and then runs at once; rayon's deques grow.

use adaptive_pool::Pool;

use crate::{
    fib::{self, node},
    once::Way,
    report::Question,
    rivals::{our_pool, rayon_pool},
};

fn by_ours(pool: &Pool, n: u64) -> u64 {
    node(n, |a, b| {
        let (mut x, mut y) = (0, 0);
        pool.in_place_scope(|scope| {
            scope.spawn(|_| x = by_ours(pool, a));
            scope.spawn(|_| y = by_ours(pool, b));
        });
        (x, y)
    })
}

fn by_rayon(n: u64) -> u64 {
    node(n, |a, b| {
        let (mut x, mut y) = (0, 0);
        rayon::scope(|scope| {
            scope.spawn(|_| x = by_rayon(a));
            scope.spawn(|_| y = by_rayon(b));
        });
        (x, y)
    })
}

/// The entrants.
pub(crate) const WAYS: &[Way] = &[
    Way {
        name: "adaptive-pool",
        run: |workers, n| {
            let pool = our_pool(workers);
            pool.install(|| fib::time(n, |n| by_ours(&pool, n)))
        },
    },
    Way {
        name: "rayon::scope",
        run: |workers, n| rayon_pool(workers).install(|| fib::time(n, by_rayon)),
    },
];

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    fib::question(name, "two spawns in a scope", WAYS, 1, jobs)
}
