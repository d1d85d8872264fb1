//! Jobs that a thread of the pool, or a caller of a closed pool, runs inline are counted (M1). A
//! worker that runs jobs inline checks the queue again (R2, A3). A caller of an open pool runs
//! nothing (A11): see `live_batches.rs`.
mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use support::*;

const ITEMS: u64 = if cfg!(miri) { 60 } else { 1_000 };

fn pool(capacity: usize) -> Pool {
    let builder = Pool::builder().workers(1).capacity(capacity);
    builder.build().unwrap()
}

#[test]
fn m1_jobs_that_a_caller_of_a_closed_pool_runs_are_counted_at_once() {
    watched(|| {
        let pool = pool(2);
        pool.close();
        let (own, ended) = (thread::current().id(), AtomicU64::new(0));
        let run = || {
            pool.for_each(0..ITEMS, |item| {
                assert_eq!(thread::current().id(), own);
                let seen = pool.metrics();
                let before = ended.fetch_add(1, Ordering::Relaxed);
                assert_eq!((seen.inlined, seen.started), (before + 1, before + 1));
                assert_eq!((seen.completed, seen.run_time.count), (before, before));
                assert!(item < ITEMS - 1, "the last");
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let seen = pool.metrics();
        assert_eq!((seen.inlined, seen.panicked), (ITEMS, 1));
        assert_eq!(seen.completed, ITEMS - 1);
        assert_conserved(&pool);
    });
}

/// Readers take snapshots while callers come and go.
#[test]
fn m1_the_counters_do_not_go_backwards_when_a_caller_leaves() {
    watched(|| {
        let pool = pool(2);
        let (rounds, items) = if cfg!(miri) { (3, 30) } else { (300, 100) };
        let is_over = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                let mut before = pool.metrics();
                while !is_over.load(Ordering::Relaxed) {
                    let seen = pool.metrics();
                    let counts = [
                        (before.completed, seen.completed),
                        (before.inlined, seen.inlined),
                        (before.started, seen.started),
                        (before.run_time.count, seen.run_time.count),
                        // A counted job is timed, and an ended job was started.
                        (seen.completed, seen.run_time.count),
                        (seen.completed, seen.started),
                    ];
                    for (less, more) in counts {
                        assert!(less <= more, "{counts:?}");
                    }
                    before = seen;
                }
            });
            for _ in 0..rounds {
                pool.for_each(0..items, |_| ());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(pool.metrics().completed, rounds * items);
        assert_conserved(&pool);
    });
}

/// A worker that found the queue full, and whose jobs are short, does not check it again for a
/// hundred of them. If they become long, it checks again after at most eight.
#[test]
fn r2_a_worker_whose_jobs_become_long_checks_the_queue_again() {
    const CAPACITY: u64 = 1024;
    watched(|| {
        let builder = Pool::builder().workers(2).capacity(CAPACITY as usize);
        let pool = builder.build().unwrap();
        let spin = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(20) {}
        };
        for round in 0..20 {
            let held = occupy(&pool);
            pool.scope(|scope| {
                (0..CAPACITY + ITEMS + 7 * round).for_each(|_| scope.spawn(|_| ()));
                held.release();
                wait_until(|| pool.metrics().depth == 0);
                let before = pool.metrics().inlined;
                (0..100).for_each(|_| scope.spawn(|_| spin()));
                let inlined = pool.metrics().inlined - before;
                assert!(inlined <= 8, "{inlined} in round {round}");
            });
        }
        assert_conserved(&pool);
    });
}

/// Without latency tracking the worker does not know how long its jobs take.
#[test]
fn a3_a_worker_without_latency_tracking_checks_the_queue_each_time() {
    watched(|| {
        let builder = Pool::builder().workers(2).capacity(16);
        let pool = builder.latency_tracking(false).build().unwrap();
        for round in 0..20 {
            let held = occupy(&pool);
            pool.scope(|scope| {
                (0..16 + round).for_each(|_| scope.spawn(|_| ()));
                held.release();
                wait_until(|| pool.metrics().depth == 0);
                let before = pool.metrics().inlined;
                (0..8).for_each(|_| scope.spawn(|_| ()));
                assert_eq!(pool.metrics().inlined, before);
            });
        }
        assert_conserved(&pool);
    });
}
