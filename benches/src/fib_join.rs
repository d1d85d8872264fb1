//! The question: what does a join cost that is hardly ever stolen?
//!
//! Naive Fibonacci: each call joins two, and adds. The pool with a heartbeat queues a join only at
//! a heartbeat; otherwise the join is a branch.

use std::num::NonZero;

use adaptive_pool::Pool;

use crate::{
    fib::{self, node, serial},
    once::Way,
    report::Question,
    rivals::{our_pool, rayon_pool},
};

fn by_ours(pool: &Pool, n: u64) -> u64 {
    node(n, |a, b| {
        pool.join(|| by_ours(pool, a), || by_ours(pool, b))
    })
}

fn by_rayon(n: u64) -> u64 {
    node(n, |a, b| rayon::join(|| by_rayon(a), || by_rayon(b)))
}

fn by_chili(scope: &mut chili::Scope<'_>, n: u64) -> u64 {
    node(n, |a, b| scope.join(|s| by_chili(s, a), |s| by_chili(s, b)))
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
        name: "rayon::join",
        run: |workers, n| rayon_pool(workers).install(|| fib::time(n, by_rayon)),
    },
    Way {
        name: "chili",
        run: |workers, n| {
            // The caller is one of the workers; the heartbeat has a thread of its own.
            let pool = chili::ThreadPool::with_config(chili::Config {
                thread_count: NonZero::new(workers),
                ..chili::Config::default()
            });
            let mut scope = pool.scope();
            fib::time(n, |n| by_chili(&mut scope, n))
        },
    },
    Way {
        name: "serial",
        run: |_, n| fib::time(n, serial),
    },
];

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    fib::question(name, "join", WAYS, 4, jobs)
}
