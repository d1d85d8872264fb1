//! Batches of a scope: what they borrow, the look-ahead (A1), panics (R4), and which thread runs
//! what (R3, A8). `scoped_batches_left.rs` covers early drops.
mod support;

use std::{
    any::Any,
    iter, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
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

fn text(payload: Box<dyn Any + Send>) -> &'static str {
    *payload.downcast::<&str>().unwrap()
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

#[test]
fn items_results_and_the_closure_borrow_from_the_stack() {
    watched(|| {
        let count = if cfg!(miri) { 20 } else { 2_000 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let names: Vec<String> = (0..count).map(|n| format!("name {n}")).collect();
            let (suffix, ran) = (String::from("!"), AtomicUsize::new(0));
            both(&pool, |s| {
                let numbers = s.map(&names, |name| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    (0..name.len() % 3).for_each(|_| thread::yield_now());
                    (&name[5..], &*suffix)
                });
                let expected = names.iter().map(|name| (&name[5..], "!"));
                assert!(numbers.eq(expected));
                let numbers = s.map_unordered(&names, |name| name[5..].parse::<u32>().unwrap());
                assert!(sorted(numbers).into_iter().eq(0..count));
                assert_eq!(s.map(Vec::<&str>::new(), |n| n).count(), 0);
            });
            assert_eq!(ran.into_inner(), 2 * count as usize);
            drop((names, suffix));
            assert_conserved(&pool);
            assert_eq!(pool.metrics().rejected_full, 0, "no submit was refused");
        }
    });
}

#[test]
fn items_may_be_borrowed_for_writing() {
    watched(|| {
        let pool = pool(2, 4);
        let mut numbers: Vec<usize> = (0..500).collect();
        both(&pool, |_| ());
        let sum: usize = pool.scope(|s| {
            let doubled = s.map(&mut numbers, |n| {
                *n *= 2;
                *n
            });
            doubled.sum()
        });
        assert_eq!(sum, 499 * 500);
        assert!(numbers.into_iter().eq((0..500).map(|n| 2 * n)));
    });
}

#[test]
fn a1_the_look_ahead_is_bounded_by_capacity_and_workers() {
    watched(|| {
        let items = if cfg!(miri) { 30 } else { 2_000 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for ordered in [true, false] {
                both(&pool, |s| {
                    let (ahead, puller) = (AtomicUsize::new(0), thread::current().id());
                    let pull = || {
                        assert_eq!(thread::current().id(), puller);
                        assert!(ahead.fetch_add(1, Ordering::SeqCst) < workers + capacity);
                        Some(())
                    };
                    let mut results = batch(s, ordered, iter::from_fn(pull), |()| ());
                    assert_eq!(ahead.load(Ordering::SeqCst), 0, "nothing before the first");
                    for n in 0..items {
                        results.next().unwrap();
                        // A snapshot takes as long as many items.
                        assert!(n % 16 != 0 || pool.metrics().depth <= capacity as u64);
                        ahead.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r4_a_panic_comes_in_the_place_of_its_result_and_not_from_the_scope() {
    fn f(n: usize) -> usize {
        assert!(n % 7 != 3, "three");
        n
    }
    watched(|| {
        let expected = |n: usize| if n % 7 == 3 { Err("three") } else { Ok(n) };
        let with_panics = |mut items: Box<dyn Iterator<Item = usize> + '_>| {
            let mut seen = Vec::new();
            loop {
                match catch_unwind(AssertUnwindSafe(|| items.next())) {
                    Ok(Some(item)) => seen.push(Ok(item)),
                    Ok(None) => return seen,
                    Err(payload) => seen.push(Err(text(payload))),
                }
            }
        };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for closed in [false, true] {
                both(&pool, |s| {
                    let seen = with_panics(batch(s, true, 0..100, f));
                    assert!(seen.into_iter().eq((0..100).map(expected)));
                    let seen = with_panics(batch(s, false, 0..100, f));
                    let all = sorted((0..100).map(expected));
                    assert_eq!(sorted(seen.into_iter()), all);
                });
                assert_conserved(&pool);
                if !closed {
                    let panics = (0..100).filter(|n| n % 7 == 3).count();
                    assert_eq!(pool.metrics().panicked as usize, 4 * panics);
                }
                pool.close();
            }
        }
    });
}

#[test]
fn a8_the_consumer_is_a_job_of_the_same_scope() {
    watched(|| {
        let items = if cfg!(miri) { 20 } else { 300 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let numbers: Vec<usize> = (0..items).collect();
            let sum = AtomicUsize::new(0);
            both(&pool, |s| {
                for _ in 0..8 {
                    s.spawn(|s| {
                        let ordered = s.map(&numbers, |n| n + 1);
                        let both = s.map_unordered(ordered, |n| n - 1);
                        sum.fetch_add(both.sum::<usize>(), Ordering::SeqCst);
                    });
                }
            });
            assert_eq!(sum.into_inner(), 16 * (0..items).sum::<usize>());
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a8_a_batch_in_each_item_of_a_batch() {
    watched(|| {
        let items = if cfg!(miri) { 6 } else { 40 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let numbers: Vec<usize> = (0..items).collect();
            both(&pool, |s| {
                let sums = s.map(1..items, |n| {
                    let inner = body(|s| s.map_unordered(&numbers[..n], |n| *n).sum::<usize>());
                    if n % 2 == 0 {
                        pool.scope(inner)
                    } else {
                        pool.in_place_scope(inner)
                    }
                });
                assert!(sums.eq((1..items).map(|n| n * (n - 1) / 2)));
            });
            assert_conserved(&pool);
        }
    });
}

/// The only worker consumes, with an unrelated job in front of its own.
#[test]
fn r3_a_worker_runs_the_item_that_it_waits_for_and_no_unrelated_job() {
    watched(|| {
        let pool = pool(1, 64);
        let gone = AtomicBool::new(false);
        for ordered in [true, false] {
            let held = occupy(&pool);
            thread::scope(|threads| {
                let consumer = threads.spawn(|| {
                    pool.install(|| {
                        let (send, unrelated) = mpsc::channel();
                        pool.spawn(move || send.send(()).unwrap()).unwrap();
                        let here = thread::current().id();
                        pool.in_place_scope(|s| {
                            let ran = batch(s, ordered, 0..200, |n| (n, thread::current().id()));
                            assert!(ran.eq((0..200).map(|n| (n, here))));
                        });
                        assert!(unrelated.try_recv().is_err(), "an unrelated job ran");
                        gone.store(true, Ordering::SeqCst);
                    });
                });
                held.release();
                consumer.join().unwrap();
            });
            assert!(gone.swap(false, Ordering::SeqCst));
        }
    });
}

/// A worker that waits for an item which runs elsewhere hands its slot to another thread.
#[test]
fn r3_a_worker_that_waits_for_a_running_item_is_replaced() {
    watched(|| {
        let pool = pool(2, 8);
        for ordered in [true, false] {
            let (begun, wait) = mpsc::channel();
            let (wait, consumer) = (Mutex::new(wait), OnceLock::new());
            let is_waited_for = AtomicBool::new(false);
            pool.scope(|s| {
                consumer.set(thread::current().id()).unwrap();
                let mut results = batch(s, ordered, 0..2, |n| {
                    if consumer.get() == Some(&thread::current().id()) {
                        // Not done before the other has started.
                        wait.lock().unwrap().recv().unwrap();
                        return n;
                    }
                    begun.send(()).unwrap();
                    // The third thread may reach the other item before the unrelated job.
                    if is_waited_for.swap(true, Ordering::SeqCst) {
                        return n;
                    }
                    // With both workers here, this takes a third thread.
                    let unrelated = pool.submit(|| ()).unwrap();
                    wait_until(|| unrelated.is_finished());
                    n
                });
                assert!(results.next().is_some());
                let _ = begun.send(());
                assert!(results.next().is_some());
            });
        }
    });
}

#[test]
fn an_iterator_is_consumed_on_another_thread_and_in_a_job_of_a_nested_scope() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let numbers: Vec<usize> = (0..200).collect();
            both(&pool, |s| {
                let (ordered, unordered) = (
                    s.map(&numbers, |n| n + 1),
                    s.map_unordered(&numbers, |n| n + 1),
                );
                let all = |numbers: &mut dyn Iterator<Item = usize>| {
                    assert!(sorted(numbers).into_iter().eq(1..201));
                };
                pool.in_place_scope(|inner| inner.spawn(move |_| all(&mut { unordered })));
                // A worker that blocks on another thread by its own means is not replaced.
                if thread::current()
                    .name()
                    .is_some_and(|name| name.starts_with("batch"))
                {
                    return all(&mut { ordered });
                }
                thread::scope(|threads| drop(threads.spawn(|| all(&mut { ordered }))));
            });
            assert_conserved(&pool);
        }
    });
}

#[test]
fn the_size_hint_counts_pulled_items() {
    watched(|| {
        let pool = pool(2, 4);
        both(&pool, |s| {
            let mut ordered = s.map(0..10, |n| n);
            let mut unordered = s.map_unordered(0..10, |n| n);
            for left in (0..10).rev() {
                assert_eq!((ordered.len(), unordered.len()), (left + 1, left + 1));
                ordered.next().unwrap();
                unordered.next().unwrap();
            }
            for _ in 0..2 {
                assert_eq!((ordered.len(), unordered.len()), (0, 0));
                assert_eq!((ordered.next(), unordered.next()), (None, None));
            }
            assert_eq!(format!("{ordered:?}"), "ScopedMap { due: 0, .. }");
            assert_eq!(s.map(0_u64.., |n| n).size_hint(), (usize::MAX, None));
        });
    });
}

/// How the random test leaves a batch.
fn random_batches(random: &mut Random, pool: &Pool) {
    let items = random.below(60) as usize;
    let numbers: Vec<usize> = (0..items).collect();
    let (drops, made) = (Drops::default(), AtomicUsize::new(0));
    let (panics_at, taken) = (random.below(80) as usize, random.below(70) as usize);
    let (ordered, way, nested) = (random.below(2) == 0, random.below(3), random.below(3));
    let (spawns, slow) = (random.below(4), random.below(5) as usize);
    let body = body(|s| {
        for _ in 0..spawns {
            s.spawn(|_| thread::yield_now());
        }
        let source = numbers.iter().map(|n| {
            made.fetch_add(1, Ordering::SeqCst);
            (n, drops.one())
        });
        let mut results = batch(s, ordered, source, |(n, _guard)| {
            assert!(*n != panics_at, "on purpose");
            (0..slow * (n % 3)).for_each(|_| thread::yield_now());
            if nested == 0 {
                return pool.in_place_scope(|s| s.map(0..*n, |n| n).max().map_or(0, |n| n + 1));
            }
            *n
        });
        let mut seen = Vec::new();
        for _ in 0..taken {
            match catch_unwind(AssertUnwindSafe(|| results.next())) {
                Ok(Some(n)) => seen.push(n),
                Ok(None) => break,
                Err(payload) => drop(payload),
            }
        }
        match way {
            0 => drop(results),
            1 => seen.extend(iter_quietly(results)),
            // The one that waits for a place is leaked.
            _ => mem::forget(results),
        }
        let mut unique = sorted(seen.iter().copied());
        assert!(!ordered || seen == unique);
        unique.dedup();
        assert_eq!(unique.len(), seen.len());
        assert!(!seen.contains(&panics_at));
        if way == 1 {
            assert_eq!(seen.len(), items - usize::from(panics_at < items));
        }
    });
    let is_installed = random.below(2) == 0;
    let scope = catch_unwind(AssertUnwindSafe(|| {
        if is_installed {
            pool.scope(body);
        } else {
            pool.in_place_scope(body);
        }
    }));
    if let Err(payload) = scope {
        // Of an item that ran when the iterator was dropped.
        let text = payload.downcast_ref::<&str>();
        assert!(way == 0 && text == Some(&"on purpose"), "{text:?}");
    }
    let leaked = usize::from(way == 2);
    let made = made.into_inner();
    assert!((made - leaked.min(made)..=made).contains(&drops.count()));
}

fn iter_quietly<T>(mut items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    iter::from_fn(move || {
        loop {
            if let Ok(next) = catch_unwind(AssertUnwindSafe(|| items.next())) {
                return next;
            }
        }
    })
}

#[test]
fn any_batches_in_any_scopes_by_several_threads() {
    watched(|| {
        let (seed, rounds) = (seed(), if cfg!(miri) { 2 } else { 150 });
        let mut random = Random(seed);
        for _ in 0..4 {
            let pool = pool(1 + random.below(4) as usize, 1 + random.below(12) as usize);
            thread::scope(|threads| {
                for _ in 0..3 {
                    let mut random = Random(random.below(u64::MAX >> 33));
                    let pool = &pool;
                    threads.spawn(move || {
                        for _ in 0..rounds {
                            random_batches(&mut random, pool);
                        }
                    });
                }
            });
            assert_conserved(&pool);
        }
    });
}
