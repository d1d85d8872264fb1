//! Batches over live sources, with small queues and chosen windows (A1), from threads that run no
//! items themselves (A11), and the state of a finished batch (R6).
mod support;

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use adaptive_pool::{IteratorExt, Pool, Scope};
use support::*;

const ITEMS: usize = if cfg!(miri) { 8 } else { 40 };

fn pool(workers: usize, capacity: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    builder.build().unwrap()
}

/// The batches that yield results.
#[derive(Clone, Copy, Debug)]
enum Form {
    Map,
    MapUnordered,
    ScopedMap,
    ScopedMapUnordered,
    ParMap,
    ParMapUnordered,
}

const FORMS: [Form; 6] = [
    Form::Map,
    Form::MapUnordered,
    Form::ScopedMap,
    Form::ScopedMapUnordered,
    Form::ParMap,
    Form::ParMapUnordered,
];

/// Consumes the batch of this form with `consume`, with this window unless it is 0.
fn consume<T, R>(
    form: Form,
    pool: &Pool,
    window: usize,
    items: impl Iterator<Item = T>,
    f: impl Fn(T) -> R + Send + Sync + 'static,
    consume: impl FnOnce(&mut dyn Iterator<Item = R>),
) where
    T: Send + 'static,
    R: Send + 'static,
{
    macro_rules! go {
        ($batch:expr) => {{
            let mut batch = $batch;
            if window > 0 {
                batch = batch.window(window);
            }
            consume(&mut batch)
        }};
    }
    match form {
        Form::Map => go!(pool.map(items, f)),
        Form::MapUnordered => go!(pool.map_unordered(items, f)),
        Form::ScopedMap => pool.in_place_scope(|s: &Scope<'_>| go!(s.map(items, f))),
        Form::ScopedMapUnordered => {
            pool.in_place_scope(|s: &Scope<'_>| go!(s.map_unordered(items, f)));
        }
        Form::ParMap => go!(items.par_map(pool, f)),
        Form::ParMapUnordered => go!(items.par_map_unordered(pool, f)),
    }
}

/// The batches that yield results, and those that do not.
fn run_all(
    pool: &Pool,
    way: usize,
    items: impl Iterator<Item = usize>,
    f: impl Fn(usize) + Send + Sync + 'static,
) {
    run_all_within(0, pool, way, items, f);
}

/// The same, with this window.
fn run_all_within(
    window: usize,
    pool: &Pool,
    way: usize,
    items: impl Iterator<Item = usize>,
    f: impl Fn(usize) + Send + Sync + 'static,
) {
    match way {
        0..6 => consume(FORMS[way], pool, window, items, f, |results| {
            results.for_each(drop);
        }),
        6 => pool.for_each(items, f),
        _ => items.par_for_each(pool, f),
    }
}

const WAYS: usize = 8;

/// Each pull takes a moment, as that of a socket does, so that the previous result is ready by
/// then. Result k is yielded before item k + 2 is requested.
#[test]
fn a1_a_result_is_yielded_when_the_next_item_arrives() {
    watched(|| {
        for (workers, capacity) in [(1, 1), (2, 1), (2, 1024), (4, 16)] {
            for form in FORMS {
                let pool = pool(workers, capacity);
                let yielded = Arc::new(AtomicUsize::new(0));
                let seen = Arc::clone(&yielded);
                let settled = |done: u64| {
                    let now = pool.metrics();
                    now.completed == done && now.workers_busy == 0
                };
                let items = (0..ITEMS).inspect(|&n| {
                    // The items pulled before are done, and all but one are yielded.
                    wait_until(|| settled(n as u64));
                    let late = n - seen.load(Ordering::SeqCst);
                    assert!(late <= 1, "{form:?}: {late} results at item {n}");
                    // A slow source.
                    let began = Instant::now();
                    wait_until(|| began.elapsed() > Duration::from_micros(60));
                });
                consume(
                    form,
                    &pool,
                    0,
                    items,
                    |n| n,
                    |results| {
                        for _ in results {
                            yielded.fetch_add(1, Ordering::SeqCst);
                        }
                    },
                );
                assert_eq!(yielded.load(Ordering::SeqCst), ITEMS);
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}

/// The consumer makes the next item from the result of the previous one.
#[test]
fn a1_a_window_of_one_alternates_item_and_result() {
    watched(|| {
        for (workers, capacity) in [(1, 1), (2, 1), (2, 1024), (4, 16)] {
            for form in FORMS {
                let pool = pool(workers, capacity);
                let (ask, questions) = mpsc::channel();
                let ask = Cell::new(Some(ask));
                let asks = |question| {
                    if let Some(open) = ask.take().filter(|_| question < ITEMS) {
                        open.send(question).unwrap();
                        ask.set(Some(open));
                    }
                };
                asks(0);
                let answered = Cell::new(0);
                consume(
                    form,
                    &pool,
                    1,
                    questions.into_iter(),
                    |n| n + 1,
                    |answers| {
                        for answer in answers {
                            assert_eq!(answer, answered.get() + 1);
                            answered.set(answer);
                            asks(answer);
                        }
                    },
                );
                assert_eq!(answered.get(), ITEMS);
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}

#[test]
fn a1_a_window_of_none_counts_as_one() {
    watched(|| {
        let pool = pool(2, 4);
        let ahead = Cell::new(0);
        let items = (0..ITEMS).inspect(|_| assert_eq!(ahead.replace(1), 0));
        let results = pool.map(items, |n| n).window(0);
        assert_eq!(results.inspect(|_| ahead.set(0)).count(), ITEMS);
    });
}

#[test]
fn a1_the_look_ahead_is_bounded_by_the_window() {
    watched(|| {
        for (workers, capacity) in [(1, 1), (2, 4), (4, 16)] {
            for form in FORMS {
                for window in [1, 2, 3, 50] {
                    let pool = pool(workers, capacity);
                    let ahead = AtomicUsize::new(0);
                    let most = AtomicUsize::new(0);
                    let items = (0..5 * ITEMS).inspect(|_| {
                        let ahead = 1 + ahead.fetch_add(1, Ordering::SeqCst);
                        most.fetch_max(ahead, Ordering::SeqCst);
                        assert!(ahead <= window, "{form:?}: {ahead} of {window}");
                    });
                    consume(
                        form,
                        &pool,
                        window,
                        items,
                        |n| n,
                        |results| {
                            for _ in results {
                                ahead.fetch_sub(1, Ordering::SeqCst);
                            }
                        },
                    );
                    assert!(pool.metrics().depth == 0);
                    pool.shutdown();
                    assert_conserved(&pool);
                }
            }
        }
    });
}

/// The first item ends only after others behind it, far more than the queue holds.
#[test]
fn a1_a_wide_window_gets_past_a_slow_item_and_the_queue_stays_bounded() {
    watched(|| {
        for form in [Form::Map, Form::ScopedMap, Form::ParMap] {
            let pool = pool(2, 4);
            let done = Arc::new(AtomicUsize::new(0));
            let f = move |n: usize| {
                if n == 0 {
                    wait_until(|| done.load(Ordering::SeqCst) >= ITEMS - 1);
                }
                done.fetch_add(1, Ordering::SeqCst);
                n
            };
            let items = (0..2 * ITEMS).inspect(|_| assert!(pool.metrics().depth <= 4));
            consume(form, &pool, 2 * ITEMS, items, f, |results| {
                assert!(results.eq(0..2 * ITEMS), "{form:?}");
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// As many items as workers meet at a barrier, repeatedly.
#[test]
fn a1_any_capacity_keeps_all_workers_busy() {
    watched(|| {
        for (workers, capacity) in [(8, 1), (8, 3), (4, 1), (2, 1), (3, 64)] {
            for way in 0..WAYS {
                let pool = pool(workers, capacity);
                let barrier = Barrier::new(workers);
                // Items may start out of order, and finished items stay in the window of an ordered
                // batch.
                let items = 3 * workers;
                run_all_within(items, &pool, way, 0..items, move |_| {
                    barrier.wait();
                });
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}

/// The caller is a thread outside, holds a lock that items may not take, and the items find the
/// pool's workers in rayon.
#[test]
fn a11_nothing_runs_on_a_caller_of_an_open_pool() {
    watched(|| {
        for (workers, capacity) in [(1, 1), (2, 1), (3, 4), (2, 1024)] {
            for way in 0..WAYS {
                let pool = pool(workers, capacity);
                let caller: ThreadId = thread::current().id();
                let f = move |n: usize| {
                    assert_ne!(thread::current().id(), caller, "way {way}");
                    assert_eq!(rayon_core::current_num_threads(), workers);
                    if n % 7 == 0 {
                        thread::yield_now();
                    }
                };
                run_all(&pool, way, 0..10 * ITEMS, f);
                let seen = pool.metrics();
                assert_eq!((seen.inlined, seen.completed), (0, 10 * ITEMS as u64));
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}

/// While all workers run long items and the queue is full, the caller waits for a place, and
/// continues when one item has ended.
#[test]
fn a11_a_caller_waits_for_a_place_while_all_workers_are_busy() {
    watched(|| {
        for way in 0..WAYS {
            let pool = pool(1, 1);
            let held = occupy(&pool);
            let ran = Arc::new(AtomicUsize::new(0));
            thread::scope(|threads| {
                let own = Arc::clone(&ran);
                let pool = &pool;
                threads.spawn(move || {
                    run_all(pool, way, 0..3, move |_| {
                        own.fetch_add(1, Ordering::SeqCst);
                    });
                });
                wait_for_waiters(pool, 1);
                assert_eq!(ran.load(Ordering::SeqCst), 0);
                held.release();
            });
            assert_eq!(ran.load(Ordering::SeqCst), 3);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// One item is blocked for as long as all others run.
#[test]
fn a11_a_long_item_does_not_keep_the_feeder_from_feeding() {
    watched(|| {
        for way in (0..WAYS).filter(|way| way % 2 == 1 || *way > 5) {
            let pool = pool(2, 1);
            let done = AtomicUsize::new(0);
            run_all(&pool, way, 0..ITEMS, move |n| {
                if n == 1 {
                    wait_until(|| done.load(Ordering::SeqCst) == ITEMS - 1);
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// A6, D6: all workers are held when the pool closes, and the item that waits for its place runs on
/// the caller.
#[test]
fn a6_an_item_that_waits_for_its_place_runs_on_the_caller_when_the_pool_closes() {
    watched(|| {
        for way in 0..WAYS {
            let pool = pool(1, 1);
            let held = Mutex::new(Some(occupy(&pool)));
            let (ran, ended) = (Arc::new(Mutex::new(Vec::new())), AtomicBool::new(false));
            thread::scope(|threads| {
                let (pool, runs, held, ended) = (&pool, Arc::clone(&ran), &held, &ended);
                threads.spawn(move || {
                    let here = thread::current().id();
                    run_all(pool, way, 0..2, move |n| {
                        let is_here = thread::current().id() == here;
                        runs.lock().unwrap().push((n, is_here));
                    });
                    ended.store(true, Ordering::SeqCst);
                });
                wait_for_waiters(pool, 1);
                pool.close();
                // The item with a place waits for the worker; the other does not.
                wait_until(|| ran.lock().unwrap().len() == 1);
                assert!(!ended.load(Ordering::SeqCst));
                drop(held.lock().unwrap().take());
            });
            let mut ran = ran.lock().unwrap().clone();
            ran.sort();
            assert_eq!(ran, [(0, false), (1, true)], "way {way}");
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Fault 14: a consumer that has all results, or has dropped the batch, is the only owner of the
/// closure's captures.
#[test]
fn r6_a_finished_batch_has_dropped_its_closure() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 1_000 };
        for (workers, capacity) in [(1, 1), (2, 8), (2, 1024), (4, 2)] {
            let pool = pool(workers, capacity);
            for round in 0..rounds {
                for form in FORMS {
                    let own = Arc::new(AtomicUsize::new(0));
                    let sum = Arc::clone(&own);
                    let f = move |n: usize| {
                        sum.fetch_add(n, Ordering::Relaxed);
                    };
                    consume(form, &pool, round % 3 * 4, 0..20, f, |results| {
                        assert_eq!(results.count(), 20);
                    });
                    let sum = Arc::try_unwrap(own).expect("the only owner");
                    assert_eq!(sum.into_inner(), 190, "{form:?}");
                }
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r6_a_batch_finished_on_a_worker_has_dropped_its_closure() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        for (workers, capacity) in [(1, 1), (2, 8), (2, 1024)] {
            let pool = Arc::new(pool(workers, capacity));
            let own = Arc::clone(&pool);
            pool.install(move || {
                for _ in 0..rounds {
                    for form in FORMS {
                        let token = Arc::new(());
                        let captured = Arc::clone(&token);
                        let f = move |n: usize| {
                            let _ = &captured;
                            n
                        };
                        consume(form, &own, 0, 0..20, f, |results| {
                            assert_eq!(results.count(), 20);
                        });
                        assert!(Arc::into_inner(token).is_some(), "{form:?}");
                    }
                }
            });
        }
    });
}

/// Dropped early: as soon as the running items have ended. The last item holds its own token until
/// the very end.
#[test]
fn r6_a_batch_dropped_early_holds_its_closure_until_its_items_have_ended() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        for (workers, capacity) in [(1, 1), (2, 8), (2, 64), (4, 2)] {
            let pool = pool(workers, capacity);
            for round in 0..rounds {
                for form in FORMS {
                    let token = Arc::new(());
                    let running = Arc::new(AtomicUsize::new(0));
                    let (captured, runs) = (Arc::clone(&token), Arc::clone(&running));
                    let f = move |n: usize| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        let result = (n, Arc::clone(&captured));
                        runs.fetch_sub(1, Ordering::SeqCst);
                        result
                    };
                    consume(form, &pool, 0, 0.., f, |results| {
                        results.take(round % 9).for_each(drop);
                    });
                    // Results not taken hold it too, and so does the one in progress.
                    wait_until(|| Arc::strong_count(&token) == 1);
                }
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The panic of an item that runs when the iterator is dropped goes to the handler; in a scope, to
/// the scope.
#[test]
fn r4_the_panic_of_an_item_that_runs_on_after_the_drop_is_not_lost() {
    watched(|| {
        for form in FORMS {
            let (sender, receiver) = mpsc::channel();
            let sender = Mutex::new(sender);
            let handler = move |payload: Box<dyn Any + Send>| {
                let text = *payload.downcast::<&str>().unwrap();
                sender.lock().unwrap().send(text).unwrap();
            };
            let builder = Pool::builder().workers(2).capacity(4);
            let pool = builder.panic_handler(handler).build().unwrap();
            let (gate, has_begun) = (Gate::new(), Gate::new());
            let (held, begun) = (gate.clone(), has_begun.clone());
            // The first ends only after the second has started, which is blocked at the gate.
            let f = move |n: usize| {
                if n == 0 {
                    return begun.pass();
                }
                begun.open();
                held.pass();
                panic!("late");
            };
            // The source is dropped after the batch.
            let opens = on_drop(move || gate.open());
            let items = (0..9).inspect(move |_| {
                let _ = &opens;
            });
            let run = || consume(form, &pool, 2, items, f, |results| results.next().unwrap());
            let outcome = catch_unwind(AssertUnwindSafe(run));
            match form {
                Form::ScopedMap | Form::ScopedMapUnordered => {
                    let payload = outcome.expect_err("the scope has it");
                    assert_eq!(*payload.downcast::<&str>().unwrap(), "late");
                    assert!(receiver.try_recv().is_err());
                }
                _ => {
                    assert!(outcome.is_ok());
                    assert_eq!(receiver.recv(), Ok("late"));
                }
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// A worker that serves a chunk lets a later job have its turn.
#[test]
fn r8_a_job_does_not_wait_for_all_of_a_chunk_of_long_items() {
    // Chunks of 1, 2, 4, .. 64 items.
    const CHUNKED: usize = 127;
    watched(|| {
        // Those of a scope go first, as structured jobs do.
        for way in [0, 1, 4, 5].into_iter().filter(|_| !cfg!(miri)) {
            let pool = pool(1, 256);
            let held = occupy(&pool);
            let (begun, spun) = (Arc::new(AtomicUsize::new(0)), Duration::from_millis(1));
            thread::scope(|threads| {
                let (pool, begins) = (&pool, Arc::clone(&begun));
                threads.spawn(move || {
                    run_all(pool, way, 0..CHUNKED, move |_| {
                        begins.fetch_add(1, Ordering::SeqCst);
                        let began = Instant::now();
                        while began.elapsed() < spun {}
                    });
                });
                wait_until(|| pool.metrics().depth == CHUNKED as u64);
                let begins = Arc::clone(&begun);
                let job = pool.submit(move || begins.load(Ordering::SeqCst)).unwrap();
                held.release();
                let before = job.join().unwrap();
                // Of each chunk, one turn of the owner and one of a split task.
                assert!(before <= 90, "way {way}: {before} items were first");
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}
