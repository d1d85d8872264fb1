//! The caller of a `for_each` runs items himself while the queue is full. If he is not the pool's, he keeps books of his
//! own meanwhile (M1, M2), and does not look at the queue for each short item (R2).
mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
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
fn m1_what_a_caller_runs_himself_is_counted_at_once() {
    watched(|| {
        let pool = pool(2);
        let held = Mutex::new(Some(occupy(&pool)));
        let (own, ended) = (thread::current().id(), AtomicU64::new(0));
        let run = || {
            pool.for_each(0..ITEMS, |item| {
                if thread::current().id() != own {
                    return;
                }
                let seen = pool.metrics();
                let before = ended.fetch_add(1, Ordering::Relaxed);
                // One is begun by the worker, and this one by the caller.
                assert_eq!((seen.inlined, seen.started), (before + 1, before + 2));
                assert_eq!((seen.completed, seen.run_time.count), (before, before));
                if item == ITEMS - 1 {
                    drop(held.lock().unwrap().take());
                    panic!("the last");
                }
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        wait_until(|| pool.metrics().completed == ITEMS);
        let seen = pool.metrics();
        assert_eq!((seen.inlined, seen.panicked), (ITEMS - 2, 1));
        assert_conserved(&pool);
    });
}

/// Others look meanwhile, while guests come and go.
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
                        // Who finds it counted finds it timed; and what has ended was begun.
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

#[test]
fn r2_a_caller_who_runs_short_items_looks_at_the_queue_again() {
    watched(|| {
        let pool = pool(64);
        let held = Mutex::new(Some(occupy(&pool)));
        let own = thread::current().id();
        let (ran_here, is_released) = (AtomicU64::new(0), AtomicBool::new(false));
        let is_found = AtomicBool::new(false);
        // Those that lie in the queue already have lower numbers.
        let items = (0..).take_while(|_| !is_found.load(Ordering::Relaxed));
        pool.for_each(items, |item| {
            if thread::current().id() != own {
                let is_new = item > ITEMS && is_released.load(Ordering::Relaxed);
                is_found.fetch_or(is_new, Ordering::Relaxed);
            } else if ran_here.fetch_add(1, Ordering::Relaxed) == ITEMS {
                is_released.store(true, Ordering::Relaxed);
                drop(held.lock().unwrap().take());
            }
        });
        assert_conserved(&pool);
    });
}

/// Who has found the queue full, and whose jobs are short, does not look again for a hundred of them. If they turn out to be
/// long meanwhile, he does; it takes eight to know that.
#[test]
fn r2_a_worker_whose_jobs_become_long_looks_at_the_queue_again() {
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

/// If no times are tracked it knows nothing of its jobs.
#[test]
fn a3_a_worker_that_does_not_know_its_jobs_looks_at_the_queue_each_time() {
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
