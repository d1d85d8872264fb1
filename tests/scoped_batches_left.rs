//! Batches of a scope that end early: dropped (A2), forgotten, with panics in their drops (R4), and
//! those of a pool that is shut down (D6).
mod support;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use adaptive_pool::{Pool, Scope};
use support::{batches::*, *};

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort();
    items
}

/// Makes a closure generic over the scope's lifetime.
fn body<'scope, R, F: FnOnce(&Scope<'scope>) -> R>(f: F) -> F {
    f
}

/// In a scope whose body runs on the caller, and in one whose body runs on a worker.
fn both<'scope>(pool: &Pool, body: impl Fn(&Scope<'scope>) + Send + Sync) {
    pool.in_place_scope(&body);
    pool.scope(&body);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Self);
    }
}

/// As `both`. The panic of an item that runs when its batch is dropped goes to the scope.
fn survive_bombs<'scope>(pool: &Pool, body: impl Fn(&Scope<'scope>) + Send + Sync) {
    let survive = |scope: &dyn Fn()| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(scope)) {
            if !payload.is::<Bomb>() {
                resume_unwind(payload);
            }
            mem::forget(payload);
        }
    };
    survive(&|| pool.in_place_scope(&body));
    survive(&|| pool.scope(&body));
}

/// Items, results, payloads and the closure may panic in their drops without harm.
#[test]
fn r4_unclaimed_values_may_panic_when_they_are_dropped() {
    fn bang(_: usize) -> Bomb {
        panic_any(Bomb)
    }
    watched(|| {
        for (workers, capacity) in [(1, 1), (1, 64)] {
            let pool = pool(workers, capacity);
            for ordered in [true, false] {
                survive_bombs(&pool, |s| {
                    let mut items = batch(s, ordered, 0..20, |n| (n < 10).then_some(Bomb));
                    mem::forget(items.next());
                    drop(items);
                    let mut payloads = batch(s, ordered, 0..20, bang);
                    let first = catch_unwind(AssertUnwindSafe(|| payloads.next()));
                    mem::forget(first);
                    drop(payloads);
                    let mut bombs = batch(s, ordered, (0..20).map(|_| Bomb), mem::forget);
                    bombs.next();
                    let left = catch_unwind(AssertUnwindSafe(|| drop(bombs)));
                    // The one without a place belongs to the consumer.
                    assert!(left.is_ok() || capacity == 1);
                    mem::forget(left);
                });
            }
            assert_eq!(pool.install(|| 7), 7);
            assert_conserved(&pool);
        }
    });
}

/// The second item is blocked; the following ones are queued.
#[test]
fn a2_an_early_drop_drops_the_rest_at_once_and_waits_for_nothing() {
    watched(|| {
        for ordered in [true, false] {
            let pool = pool(1, 4);
            let (gate, drops, ran) = (Gate::new(), Drops::default(), Mutex::new(Vec::new()));
            let (begun, wait) = mpsc::channel();
            let pulled = AtomicUsize::new(0);
            pool.in_place_scope(|s| {
                let items = (0..100).map(|n| {
                    pulled.fetch_add(1, Ordering::SeqCst);
                    (n, drops.one())
                });
                let mut results = batch(s, ordered, items, |(n, _guard)| {
                    ran.lock().unwrap().push(n);
                    if n == 1 {
                        begun.send(()).unwrap();
                        gate.pass();
                    }
                    n
                });
                assert_eq!(results.next(), Some(0));
                // With the worker in the second item, the queue fills up behind it.
                let next = pulled.load(Ordering::SeqCst);
                if next > 1 {
                    wait.recv().unwrap();
                }
                drop(results);
                assert_eq!(
                    drops.count(),
                    pulled.load(Ordering::SeqCst) - usize::from(next > 1)
                );
                assert!(pool.metrics().depth <= 4);
                gate.open();
            });
            assert!([0, 1].starts_with(&ran.into_inner().unwrap()));
            assert_eq!(drops.count(), pulled.into_inner());
            assert_conserved(&pool);
            // The places are free again.
            let permits: Vec<_> = (0..4).map(|_| pool.try_reserve().unwrap()).collect();
            assert!(pool.try_reserve().is_err());
            drop(permits);
        }
    });
}

#[test]
fn dropping_at_any_point_leaves_the_scope_and_the_pool_as_they_were() {
    watched(|| {
        let rounds = if cfg!(miri) { 5 } else { 100 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let (drops, made) = (Drops::default(), AtomicUsize::new(0));
            both(&pool, |s| {
                let items = || {
                    (0..).map(|n| {
                        made.fetch_add(1, Ordering::SeqCst);
                        (n, drops.one())
                    })
                };
                for taken in 0..rounds {
                    assert!(s.map(items(), |(n, _)| n).take(taken).eq(0..taken));
                    assert_eq!(s.map_unordered(items(), |x| x).take(taken).count(), taken);
                    assert!(pool.metrics().depth <= capacity as u64);
                }
            });
            assert_eq!(drops.count(), made.into_inner());
            assert_conserved(&pool);
        }
    });
}

/// Batches that are dropped one after another, while no worker reaches their chunk tasks.
#[test]
fn a1_tombstones_in_the_queue_are_bounded_by_the_capacity() {
    watched(|| {
        let pool = pool(1, 8);
        pool.scope(|s| {
            for n in 0..1_000 {
                assert_eq!(s.map(n.., |n| n).next(), Some(n));
                let seen = pool.metrics();
                assert!(seen.depth <= 8);
                // All but the body of the scope ran inline.
                assert_eq!(seen.started, seen.inlined + 1);
            }
        });
        assert_conserved(&pool);
    });
}

#[test]
fn a_scope_waits_for_the_started_items_of_a_forgotten_iterator() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for ordered in [true, false] {
                let (pulled, ran) = (AtomicUsize::new(0), AtomicUsize::new(0));
                both(&pool, |s| {
                    let mut results = batch(
                        s,
                        ordered,
                        (0..50).inspect(|_| {
                            pulled.fetch_add(1, Ordering::SeqCst);
                        }),
                        |n| {
                            thread::yield_now();
                            ran.fetch_add(1, Ordering::SeqCst);
                            n
                        },
                    );
                    results.next();
                    mem::forget(results);
                });
                // The one without a place was pulled in vain.
                let (pulled, ran) = (pulled.into_inner(), ran.into_inner());
                assert!((pulled - 2..=pulled).contains(&ran), "{ran} of {pulled}");
                assert!(ran >= 2);
            }
            assert_conserved(&pool);
        }
    });
}

#[test]
fn d6_on_a_closed_pool_a_batch_is_done_on_the_consumers_thread() {
    watched(|| {
        let pool = pool(2, 4);
        let shut_down = |pool: &Pool| {
            pool.shutdown();
        };
        for end in [Pool::close, shut_down] {
            end(&pool);
            let (numbers, here) = ([1, 2, 3], thread::current().id());
            both(&pool, |s| {
                for ordered in [true, false] {
                    let ran = batch(s, ordered, numbers.iter(), |n| (*n, thread::current().id()));
                    assert!(ran.eq(numbers.map(|n| (n, here))));
                }
            });
            assert_conserved(&pool);
        }
    });
}

#[test]
fn d6_a_pool_that_another_thread_shuts_down_loses_no_result() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 30 };
        for (workers, capacity) in SIZES {
            for round in 0..rounds {
                let pool = pool(workers, capacity);
                let numbers: Vec<usize> = (0..200).collect();
                thread::scope(|threads| {
                    let (go, wait) = mpsc::channel();
                    let pool = &pool;
                    let stops = threads.spawn(move || {
                        wait.recv().unwrap();
                        pool.shutdown_now().unwrap()
                    });
                    let body = body(|s| {
                        let mut results = batch(s, round % 2 == 0, numbers.iter(), |n| *n);
                        let mut seen: Vec<_> = results.by_ref().take(round).collect();
                        go.send(()).unwrap();
                        seen.extend(results);
                        seen
                    });
                    let seen = pool.in_place_scope(body);
                    assert_eq!(sorted(seen.into_iter()), numbers);
                    assert_eq!(stops.join().unwrap().dropped, 0);
                });
                assert_conserved(&pool);
            }
        }
    });
}
