//! `install` and `join`: results and panics (R4), borrows, the threads they run on, and a closed
//! pool (D6).
mod support;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use adaptive_pool::Pool;
use support::*;

const SIZES: [(usize, usize); 4] = [(1, 1), (2, 1), (2, 1024), (4, 16)];

fn pool(workers: usize, capacity: usize) -> Pool {
    Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .name("fork")
        .build()
        .unwrap()
}

fn assert_on_a_worker() {
    let thread = thread::current();
    let name = thread.name().unwrap_or("no name");
    assert!(name.starts_with("fork-"), "{name}");
}

/// The payload with which the closure panics.
fn panic_of<R>(f: impl FnOnce() -> R) -> &'static str {
    let text = |payload: Box<dyn Any + Send>| *payload.downcast::<&str>().unwrap();
    catch_unwind(AssertUnwindSafe(f))
        .map(drop)
        .map_err(text)
        .unwrap_err()
}

fn fib(pool: &Pool, n: u32) -> u64 {
    if n < 2 {
        return n.into();
    }
    let (a, b) = pool.join(|| fib(pool, n - 1), || fib(pool, n - 2));
    a + b
}

/// Joins, once from outside and once in a job. If `stolen`, the second half starts on another
/// worker before the first continues.
fn join_both_ways<R: Send>(
    pool: &Pool,
    stolen: bool,
    a: impl Fn() -> R + Sync,
    b: impl Fn() -> R + Sync,
    check: impl Fn(&(dyn Fn() -> (R, R) + Sync)) + Sync,
) {
    let (a, b) = (&a, &b);
    let join = || {
        let (begun, wait) = mpsc::channel();
        let first = move || {
            if stolen {
                wait.recv().unwrap();
            }
            a()
        };
        let second = move || {
            let _ = begun.send(());
            b()
        };
        pool.join(first, second)
    };
    check(&join);
    pool.install(|| check(&join));
}

#[test]
fn join_returns_both_results() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for stolen in [false, workers > 1] {
                join_both_ways(&pool, stolen, || 1, || 2, |join| assert_eq!(join(), (1, 2)));
            }
            assert_eq!(pool.join(|| "a", || vec![1]), ("a", vec![1]));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a8_fib_by_joins_in_a_pool_of_any_size() {
    watched(|| {
        let (n, result) = if cfg!(miri) { (6, 8) } else { (20, 6765) };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            assert_eq!(fib(&pool, n), result);
            assert_eq!(pool.install(|| fib(&pool, n)), result);
            let seen = pool.metrics();
            assert_eq!(seen.admitted, 2, "the halves of a join need no admission");
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn both_run_on_the_pools_threads() {
    watched(|| {
        let pool = pool(2, 4);
        pool.install(assert_on_a_worker);
        pool.join(assert_on_a_worker, assert_on_a_worker);
        let caller = thread::current().id();
        assert_ne!(pool.install(|| thread::current().id()), caller);
        pool.install(|| {
            let worker = thread::current().id();
            pool.install(|| assert_eq!(thread::current().id(), worker));
            pool.join(|| assert_eq!(thread::current().id(), worker), || ());
        });
    });
}

#[test]
fn the_halves_may_run_at_once() {
    watched(|| {
        let pool = pool(2, 4);
        let (there, at_there) = mpsc::channel();
        let (back, at_back) = mpsc::channel();
        pool.join(
            move || {
                there.send(()).unwrap();
                at_back.recv().unwrap();
            },
            move || {
                at_there.recv().unwrap();
                back.send(()).unwrap();
            },
        );
    });
}

#[test]
fn r6_both_borrow_and_their_effects_are_visible() {
    fn sort(pool: &Pool, numbers: &mut [u64]) {
        if numbers.len() > 1 {
            let pivot = numbers[numbers.len() / 2];
            let (mut left, mut right) = (0, numbers.len() - 1);
            loop {
                while numbers[left] < pivot {
                    left += 1;
                }
                while numbers[right] > pivot {
                    right -= 1;
                }
                if left >= right {
                    break;
                }
                numbers.swap(left, right);
                (left, right) = (left + 1, right - 1);
            }
            let (low, high) = numbers.split_at_mut(left);
            pool.join(|| sort(pool, low), || sort(pool, high));
        }
    }
    watched(|| {
        let length = if cfg!(miri) { 50 } else { 20_000 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let mut random = Random(seed());
            // All different: the bound reserves the low bits for the index.
            let mut numbers: Vec<_> = (0..length)
                .map(|n| random.below(1000) * length + n)
                .collect();
            sort(&pool, &mut numbers);
            assert!(numbers.is_sorted());
            let largest = pool.install(|| numbers.last());
            assert_eq!(largest, numbers.iter().max());
        }
    });
}

#[test]
fn r4_install_raises_the_panic_of_its_closure() {
    watched(|| {
        let pool = pool(1, 1);
        assert_eq!(panic_of(|| pool.install(|| panic!("one"))), "one");
        let nested = || pool.install(|| pool.install(|| panic!("two")));
        assert_eq!(panic_of(nested), "two");
        assert_eq!(pool.install(|| 3), 3);
        pool.shutdown();
        assert_eq!(pool.metrics().panicked, 2);
        assert_conserved(&pool);
    });
}

#[test]
fn r4_join_raises_the_panic_of_either_half_and_of_a_first() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for stolen in [false, workers > 1] {
                let raises = |message| {
                    move |join: &(dyn Fn() -> ((), ()) + Sync)| assert_eq!(panic_of(join), message)
                };
                join_both_ways(&pool, stolen, || panic!("a"), || (), raises("a"));
                join_both_ways(&pool, stolen, || (), || panic!("b"), raises("b"));
                join_both_ways(&pool, stolen, || panic!("a"), || panic!("b"), raises("a"));
            }
            assert_eq!(pool.join(|| 1, || 2), (1, 2));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r4_a_half_that_has_not_started_is_dropped_when_the_first_panics() {
    watched(|| {
        let pool = pool(1, 1);
        let (drops, ran) = (Drops::default(), AtomicBool::new(false));
        let captured = drops.one();
        let join = || {
            let second = || {
                ran.store(true, Ordering::SeqCst);
                drop(captured);
            };
            pool.join(|| panic!("a"), second)
        };
        assert_eq!(panic_of(join), "a");
        assert_eq!(drops.count(), 1);
        assert!(!ran.load(Ordering::SeqCst));
    });
}

/// Failure 20. The second half starts, the first panics, and only its unwinding lets the second
/// continue.
#[test]
fn borrows_of_a_half_outlive_a_panic_of_the_other() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 200 };
        let pool = pool(2, 4);
        for _ in 0..rounds {
            let freed = AtomicBool::new(false);
            let message = panic_of(|| {
                pool.install(|| {
                    let data = (vec![1; 64], on_drop(|| freed.store(true, Ordering::SeqCst)));
                    let gate = Gate::new();
                    let (begun, wait) = mpsc::channel();
                    let (numbers, passed, freed) = (&data.0, gate.clone(), &freed);
                    let first = move || {
                        let _open = on_drop(|| gate.open());
                        wait.recv().unwrap();
                        panic!("a");
                    };
                    let second = move || {
                        begun.send(()).unwrap();
                        passed.pass();
                        for _ in 0..20 {
                            thread::yield_now();
                            assert!(!freed.load(Ordering::SeqCst));
                            assert_eq!(numbers.iter().sum::<i32>(), 64);
                        }
                    };
                    pool.join(first, second)
                })
            });
            assert_eq!(message, "a");
            assert!(freed.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn d6_on_a_closed_pool_both_run_on_the_caller() {
    watched(|| {
        for after_shutdown in [false, true] {
            let pool = pool(2, 4);
            pool.close();
            if after_shutdown {
                pool.shutdown();
            }
            let caller = thread::current().id();
            let here = || assert_eq!(thread::current().id(), caller);
            pool.install(here);
            pool.join(here, here);
            assert_eq!(fib(&pool, 10), 55);
            assert_eq!(panic_of(|| pool.install(|| panic!("one"))), "one");
            assert_eq!(panic_of(|| pool.join(|| panic!("two"), || ())), "two");
            assert_eq!(panic_of(|| pool.join(|| (), || panic!("three"))), "three");
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn d6_closures_that_wait_for_a_place_when_the_pool_closes_run_on_their_caller() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        thread::scope(|threads| {
            let install = || {
                let caller = thread::current().id();
                pool.install(|| thread::current().id() == caller)
            };
            let join = || pool.join(|| 1, || 2) == (1, 2);
            let waiters = [threads.spawn(install), threads.spawn(join)];
            wait_for_waiters(&pool, 2);
            pool.close();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        held.into_iter().for_each(Held::release);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Queued at the shutdown; their callers wait in a frame.
#[test]
fn d4_no_shutdown_drops_an_installed_closure() {
    watched(|| {
        let pool = pool(1, 4);
        let held = occupy(&pool);
        thread::scope(|threads| {
            let install = threads.spawn(|| pool.install(|| 5));
            let join = threads.spawn(|| pool.join(|| 6, || 7));
            wait_until(|| pool.metrics().depth == 2);
            let now = threads.spawn(|| pool.shutdown_now());
            wait_until(|| pool.is_closed());
            held.release();
            assert_eq!(install.join().unwrap(), 5);
            assert_eq!(join.join().unwrap(), (6, 7));
            assert_eq!(now.join().unwrap().unwrap().completed, 3);
        });
        assert_conserved(&pool);
    });
}

/// Callers from outside, with jobs with handles in between.
#[test]
fn many_threads_call_into_one_pool() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 200 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let sum = Mutex::new(0);
            let others = AtomicUsize::new(0);
            thread::scope(|threads| {
                for caller in 0..3 {
                    let (pool, sum, others) = (&pool, &sum, &others);
                    threads.spawn(move || {
                        for round in 0..rounds {
                            let n = 5 + (caller + round) % 4;
                            *sum.lock().unwrap() += fib(pool, n);
                            let unrelated = pool.submit(move || n).unwrap();
                            assert_eq!(unrelated.join().unwrap(), n);
                            others.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(others.into_inner(), 3 * rounds as usize);
            assert!(*sum.lock().unwrap() >= 15 * u64::from(rounds));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}
