//! Batches: order, look-ahead, panics (R4), early drops, and the end of the pool (D2, D6).
mod support;

use std::{
    any::Any,
    cell::Cell,
    num::ParseIntError,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use adaptive_pool::{IteratorExt, Pool, Snapshot};
use support::*;

const SIZES: [(usize, usize); 4] = [(1, 1), (2, 1), (2, 1024), (4, 16)];

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort();
    items
}

fn text(payload: Box<dyn Any + Send>) -> &'static str {
    *payload.downcast::<&str>().unwrap()
}

/// The rest of an iterator, with its panics.
fn with_panics<T>(mut items: impl Iterator<Item = T>) -> Vec<Result<T, &'static str>> {
    let mut seen = Vec::new();
    loop {
        match catch_unwind(AssertUnwindSafe(|| items.next())) {
            Ok(Some(item)) => seen.push(Ok(item)),
            Ok(None) => return seen,
            Err(payload) => seen.push(Err(text(payload))),
        }
    }
}

#[test]
fn map_yields_in_the_order_of_the_items() {
    watched(|| {
        let items = if cfg!(miri) { 20 } else { 5_000 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let uneven = |n: u64| {
                (0..n % 3).for_each(|_| thread::yield_now());
                n * n
            };
            let squares = (0..items).map(|n| n * n);
            assert!(pool.map(0..items, uneven).eq(squares));
            assert_eq!(pool.map(Vec::<u8>::new(), |n| n).count(), 0);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn map_unordered_yields_every_result_once() {
    watched(|| {
        let items = if cfg!(miri) { 20 } else { 5_000 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let doubled = pool.map_unordered(0..items, |n: usize| 2 * n);
            assert!(sorted(doubled).into_iter().eq((0..items).map(|n| 2 * n)));
            assert_eq!(pool.map_unordered(Vec::<u8>::new(), |n| n).count(), 0);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn map_unordered_does_not_wait_for_a_slow_first_item() {
    watched(|| {
        let pool = pool(2, 4);
        let gate = Gate::new();
        let held = gate.clone();
        let mut items = pool.map_unordered(0..20, move |n| {
            if n == 0 {
                held.pass();
            }
            n
        });
        // While one item is blocked, at most five more are pulled ahead.
        let early: Vec<u32> = items.by_ref().take(19).collect();
        assert!(!early.contains(&0));
        gate.open();
        assert!(items.eq([0]));
    });
}

/// Counts the items that are pulled and not yielded.
fn assert_bounded<I: Iterator<Item = usize>>(
    bound: usize,
    make: impl FnOnce(Box<dyn Iterator<Item = usize> + Send>) -> I,
) {
    let items = if cfg!(miri) { 30 } else { 2_000 };
    let ahead = Arc::new(AtomicUsize::new(0));
    let pulls = Arc::clone(&ahead);
    // Infinite: nothing may depend on the end.
    let mut results = make(Box::new((0..).inspect(move |_| {
        assert!(pulls.fetch_add(1, Ordering::SeqCst) < bound);
    })));
    assert_eq!(ahead.load(Ordering::SeqCst), 0, "nothing before the first");
    for _ in 0..items {
        results.next().unwrap();
        ahead.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn the_look_ahead_is_bounded_by_capacity_and_workers() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let bound = workers + capacity;
            assert_bounded(bound, |items| pool.map(items, |n| n));
            assert_bounded(bound, |items| pool.map_unordered(items, |n| n));
            let own = Arc::clone(&pool);
            pool.install(move || {
                assert_bounded(bound, |items| own.map(items, |n| n));
                assert_bounded(bound, |items| own.map_unordered(items, |n| n));
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Takes results slowly until the look-ahead is full. Then the bound is lowered, and raised again.
fn assert_bound_follows(pool: &Pool, [high, low]: [usize; 2], set: [&dyn Fn(); 2]) {
    for ordered in [true, false] {
        let (ahead, bound) = (AtomicUsize::new(0), AtomicUsize::new(high));
        let items = (0..).inspect(|_| {
            let pulled = 1 + ahead.fetch_add(1, Ordering::SeqCst);
            let bound = bound.load(Ordering::SeqCst);
            assert!(pulled <= bound, "{pulled} are ahead, {bound} may be");
        });
        let mut results: Box<dyn Iterator<Item = usize> + '_> = if ordered {
            Box::new(pool.map(items, |n| n))
        } else {
            Box::new(pool.map_unordered(items, |n| n))
        };
        // All results are ready: more than one item is pulled for each result.
        let mut take = || {
            results.next().unwrap();
            wait_until(|| pool.metrics().depth == 0 && pool.metrics().workers_busy == 0);
            ahead.fetch_sub(1, Ordering::SeqCst) - 1
        };
        while take() < high - 1 {}
        set[1]();
        bound.store(low, Ordering::SeqCst);
        while take() >= low {}
        (0..2 * high).for_each(|_| assert!(take() < low));
        bound.store(high, Ordering::SeqCst);
        set[0]();
        while take() < high - 1 {}
    }
}

#[test]
fn the_bound_of_the_look_ahead_follows_the_capacity() {
    watched(|| {
        let capacity = if cfg!(miri) { 8 } else { 64 };
        let pool = pool(2, capacity);
        let set = |capacity| pool.set_capacity(capacity).unwrap();
        let set: [&dyn Fn(); 2] = [&|| set(capacity), &|| set(4)];
        assert_bound_follows(&pool, [capacity + 2, 4 + 2], set);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn the_bound_of_the_look_ahead_follows_the_workers() {
    watched(|| {
        let pool = pool(4, 2);
        let resize = |workers| {
            pool.resize(workers).unwrap();
            wait_until(|| pool.metrics().workers_in_service == workers as u64);
        };
        let set: [&dyn Fn(); 2] = [&|| resize(4), &|| resize(1)];
        assert_bound_follows(&pool, [4 + 2, 1 + 2], set);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// A slow consumer: the workers have finished all pulled items, and no more are pulled.
#[test]
fn unread_results_hold_the_batch_back() {
    watched(|| {
        let pool = pool(2, 3);
        let pulled = Arc::new(AtomicUsize::new(0));
        let pulls = Arc::clone(&pulled);
        let count = move |_: &i32| {
            pulls.fetch_add(1, Ordering::SeqCst);
        };
        let mut counted = pool.map((0..100).inspect(count), |n| n);
        for n in 0..100 {
            assert_eq!(counted.next(), Some(n));
            wait_until(|| pool.metrics().depth == 0 && pool.metrics().workers_busy == 0);
            assert!(pulled.load(Ordering::SeqCst) <= n as usize + 5);
        }
    });
}

#[test]
fn r4_a_panic_comes_in_the_place_of_its_result() {
    fn f(n: usize) -> usize {
        assert!(n % 7 != 3, "three");
        n
    }
    watched(|| {
        let expected = |n: usize| if n % 7 == 3 { Err("three") } else { Ok(n) };
        let panics = (0..100).filter(|n| n % 7 == 3).count();
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let seen = with_panics(pool.map(0..100, f));
            assert!(seen.into_iter().eq((0..100).map(expected)));
            let seen = with_panics(pool.map_unordered(0..100, f));
            assert_eq!(sorted(seen.into_iter()), sorted((0..100).map(expected)));
            pool.shutdown();
            assert_eq!(pool.metrics().panicked as usize, 2 * panics);
            assert_conserved(&pool);
            // The same on the caller's thread.
            let seen = with_panics(pool.map(0..100, f));
            assert!(seen.into_iter().eq((0..100).map(expected)));
            assert_eq!(with_panics(pool.map_unordered(0..100, f)).len(), 100);
        }
    });
}

/// The second item is blocked; the following ones are queued.
#[test]
fn an_early_drop_cancels_the_rest_and_waits_for_nothing() {
    watched(|| {
        for ordered in [true, false] {
            let pool = pool(1, 4);
            let (gate, drops) = (Gate::new(), Drops::default());
            let (begun, wait) = mpsc::channel();
            let (held, ran) = (gate.clone(), Arc::new(Mutex::new(Vec::new())));
            let runs = Arc::clone(&ran);
            let captured = drops.0.clone();
            let items = (0..100).map(move |n| {
                let drops = Arc::clone(&captured);
                (
                    n,
                    on_drop(move || {
                        drops.fetch_add(1, Ordering::SeqCst);
                    }),
                )
            });
            let f = move |(n, _guard)| {
                runs.lock().unwrap().push(n);
                if n == 1 {
                    begun.send(()).unwrap();
                    held.pass();
                }
                n
            };
            let left = |mut results: Box<dyn Iterator<Item = i32> + '_>| {
                assert_eq!(results.next(), Some(0));
                let pulled = pool.metrics().admitted as usize;
                if pulled >= 2 {
                    wait.recv().unwrap();
                }
                drop(results);
                pulled
            };
            let pulled = if ordered {
                left(Box::new(pool.map(items, f)))
            } else {
                left(Box::new(pool.map_unordered(items, f)))
            };
            // All pulled items except the running one, and maybe one that had no place.
            let expected = if pulled >= 2 { pulled - 1 } else { 1 };
            assert!((expected..=expected + 1).contains(&drops.count()));
            assert_eq!(pool.metrics().depth, 0);
            gate.open();
            let report = pool.shutdown();
            assert_eq!(report.cancelled as usize, pulled.saturating_sub(2));
            assert_eq!(*ran.lock().unwrap(), [0, 1][..pulled.min(2)]);
            assert!((pulled..=pulled + 1).contains(&drops.count()));
            assert_conserved(&pool);
        }
    });
}

#[test]
fn dropping_at_any_point_leaves_the_pool_as_it_was() {
    watched(|| {
        let rounds = if cfg!(miri) { 5 } else { 200 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for taken in 0..rounds {
                assert_eq!(pool.map(0.., |n| n).take(taken).count(), taken);
                assert_eq!(pool.map_unordered(0.., |n| n).take(taken).count(), taken);
            }
            assert!(pool.map(0.., |n| n).take(50).eq(0..50));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn d6_on_a_closed_pool_a_batch_is_done_on_the_consumers_thread() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            pool.close();
            let caller = thread::current().id();
            let here = move |n: u32| {
                assert_eq!(thread::current().id(), caller);
                n + 1
            };
            assert!(pool.map(0..100, here).eq(1..101));
            assert_eq!(sorted(pool.map_unordered(0..100, here)).len(), 100);
            let sum = Mutex::new(0);
            pool.for_each(0..100, |n| *sum.lock().unwrap() += here(n));
            assert_eq!(*sum.lock().unwrap(), 5050);
            pool.shutdown();
            assert!(pool.map(0..100, here).eq(1..101));
            assert_conserved(&pool);
        }
    });
}

/// Items queued at the shutdown still run; items not pulled yet run here.
#[test]
fn d6_shutting_down_now_half_way_loses_no_result() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 30 };
        for (workers, capacity) in SIZES {
            for round in 0..rounds {
                let pool = pool(workers, capacity);
                let other = Arc::clone(&pool);
                let mut results: Box<dyn Iterator<Item = usize>> = if round % 2 == 0 {
                    Box::new(pool.map(0..200, |n| n))
                } else {
                    Box::new(pool.map_unordered(0..200, |n| n))
                };
                let mut seen: Vec<_> = results.by_ref().take(round).collect();
                let stops = move || other.shutdown_now().unwrap();
                let report = if round % 3 == 0 {
                    // Between two results.
                    let report = stops();
                    seen.extend(results.by_ref());
                    report
                } else {
                    let stops = thread::spawn(stops);
                    seen.extend(results.by_ref());
                    stops.join().unwrap()
                };
                assert_eq!((report.dropped, report.cancelled), (0, 0));
                assert_eq!(sorted(seen.into_iter()), Vec::from_iter(0..200));
                drop(results);
                assert_conserved(&pool);
            }
        }
    });
}

#[test]
fn a8_a_batch_inside_a_job_of_its_own_pool() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let own = Arc::clone(&pool);
            let outer = pool.submit(move || {
                assert!(own.map(0..100, |n| n + 1).eq(1..101));
                assert_eq!(sorted(own.map_unordered(0..100, |n| n)).len(), 100);
                let sum = AtomicUsize::new(0);
                own.for_each(0..100, |n| {
                    sum.fetch_add(n, Ordering::SeqCst);
                });
                // A batch in each item of a batch.
                let inner = Arc::clone(&own);
                let sums = own.map(0..20, move |n| inner.map(0..n, |n| n).sum::<u32>());
                assert!(sums.eq((0..20).map(|n| (0..n).sum())));
                sum.into_inner()
            });
            assert_eq!(outer.unwrap().join().unwrap(), 4950);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The items of one batch come from another batch, in a pool that others fill.
#[test]
fn batches_are_chained_and_share_the_pool() {
    watched(|| {
        let items = if cfg!(miri) { 20 } else { 500 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            thread::scope(|threads| {
                for _ in 0..3 {
                    threads.spawn(|| {
                        let first = pool.map(0..items, |n| n + 1);
                        let second = pool.map(first, |n| 2 * n);
                        assert!(second.eq((0..items).map(|n| 2 * (n + 1))));
                    });
                }
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The only worker of one pool consumes a batch of another pool, whose item waits for a job of the
/// first.
#[test]
fn r3_a_worker_that_waits_for_another_pools_batch_is_replaced() {
    watched(|| {
        for ordered in [true, false] {
            let (first, second) = (pool(1, 4), pool(1, 4));
            let (own, other) = (Arc::clone(&first), Arc::clone(&second));
            let waits = move |n: usize| {
                let job = own.submit(|| ()).unwrap();
                wait_until(|| job.is_finished());
                n
            };
            first.install(|| {
                let results = if ordered {
                    other.map(0..3, waits).sum()
                } else {
                    other.map_unordered(0..3, waits).sum::<usize>()
                };
                assert_eq!(results, 3);
            });
        }
    });
}

/// As methods: in a chain, with an error that ends it, and on an iterator that is not `Send`.
#[test]
fn batches_are_methods_of_every_iterator() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let local = Rc::new(1);
            let parsed = ["1", "2", "x", "4"].into_iter().map(|text| (*local, text));
            let sums: Result<Vec<i32>, _> = parsed
                .clone()
                .par_map(&pool, |(one, text)| Ok(one + text.parse::<i32>()?))
                .par_map(&pool, |sum: Result<_, ParseIntError>| Ok(10 * sum?))
                .collect();
            assert!(sums.is_err_and(|error: ParseIntError| error.to_string().contains("invalid")));
            let lengths = parsed.par_map_unordered(&pool, |(_, text)| text.len());
            assert_eq!(lengths.sum::<usize>(), 4);
            let sum = AtomicUsize::new(0);
            [1, 2].iter().par_for_each(&pool, |n| {
                sum.fetch_add(*n, Ordering::SeqCst);
            });
            assert_eq!(sum.into_inner(), 3);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// A consumer with a core of its own may block, but only until its next result.
#[test]
fn items_may_wait_for_the_consumer_between_results() {
    const BEHIND: usize = 192;
    watched(|| {
        let pool = pool(2, 1024);
        let items = if cfg!(miri) { 400 } else { 100_000 };
        let received = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&received);
        let wait = move |n| {
            while seen.load(Ordering::Relaxed) + BEHIND < n {
                thread::yield_now();
            }
        };
        let receive = |()| {
            received.fetch_add(1, Ordering::Relaxed);
        };
        pool.map(0..items, wait.clone()).for_each(receive);
        assert_eq!(received.swap(0, Ordering::Relaxed), items);
        pool.map_unordered(0..items, wait).for_each(receive);
        assert_eq!(received.load(Ordering::Relaxed), items);
    });
}

#[test]
fn for_each_borrows_its_items_and_its_closure() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let mut numbers: Vec<usize> = (0..1000).collect();
            let (ran, caller) = (AtomicUsize::new(0), thread::current().id());
            let pulled_here = numbers.iter_mut().inspect(|_| {
                assert_eq!(thread::current().id(), caller);
            });
            pool.for_each(pulled_here, |n| {
                *n += 1;
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert!(numbers.into_iter().eq(1..1001));
            assert_eq!(ran.into_inner(), 1000);
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a3_a_for_each_that_found_the_queue_full_finds_room_later() {
    watched(|| {
        let (items, rounds) = if cfg!(miri) { (50, 1) } else { (20_000, 20) };
        let pool = pool(2, 1024);
        for _ in 0..rounds {
            let inlined = Cell::new(0);
            let pulled = (0..=items).inspect(|&n| {
                if n == items {
                    let is_idle = |seen: Snapshot| seen.depth == 0 && seen.workers_busy == 0;
                    wait_until(|| is_idle(pool.metrics()));
                    inlined.set(pool.metrics().inlined);
                }
            });
            pool.for_each(pulled, |_| ());
            assert_eq!(pool.metrics().inlined, inlined.get());
        }
    });
}

#[test]
fn r4_for_each_raises_the_first_panic_and_pulls_no_further() {
    watched(|| {
        let pool = pool(2, 4);
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Infinite: it returns only if it stops pulling.
        let for_each = || {
            pool.for_each(0.., |n| {
                begun.fetch_add(1, Ordering::SeqCst);
                let _end = on_drop(|| {
                    ended.fetch_add(1, Ordering::SeqCst);
                });
                assert!(n != 100, "the hundredth");
            });
        };
        let payload = catch_unwind(AssertUnwindSafe(for_each)).unwrap_err();
        assert_eq!(text(payload), "the hundredth");
        assert_eq!(begun.into_inner(), ended.into_inner());
        assert_eq!(pool.metrics().panicked, 1);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn the_size_hint_counts_pulled_items() {
    watched(|| {
        for closed in [false, true] {
            let pool = pool(2, 4);
            if closed {
                pool.close();
            }
            let mut ordered = pool.map(0..10, |n| n);
            let mut unordered = pool.map_unordered(0..10, |n| n);
            for left in (0..10).rev() {
                assert_eq!(ordered.size_hint(), (left + 1, Some(left + 1)));
                assert_eq!(unordered.size_hint(), (left + 1, Some(left + 1)));
                ordered.next().unwrap();
                unordered.next().unwrap();
            }
            for _ in 0..2 {
                assert_eq!(ordered.size_hint(), (0, Some(0)));
                assert_eq!((ordered.next(), unordered.next()), (None, None));
            }
            assert_eq!(pool.map(0_u64.., |n| n).size_hint(), (usize::MAX, None));
        }
    });
}
