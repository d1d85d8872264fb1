//! Batches over live sources, with small queues and chosen windows (A1), from threads that run nothing themselves (A11),
//! and what is left of one that is over (R6).
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

/// Has `consume` consume the batch of this form, with this window, if it is not 0.
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

/// Each pull takes a moment, as that of a socket does, so that the result before is there by then; result k has been yielded
/// when item k + 2 is asked for.
#[test]
fn a1_a_result_is_yielded_when_the_next_item_has_come() {
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
                    // What was pulled before is done, and all but one of it was yielded.
                    wait_until(|| settled(n as u64));
                    let late = n - seen.load(Ordering::SeqCst);
                    assert!(late <= 1, "{form:?}: {late} results at item {n}");
                    // A source that takes longer than a moment is not quick.
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

/// Question and answer: the next item is made of the result of the one before, by its consumer.
#[test]
fn a1_a_window_of_one_is_question_and_answer() {
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
fn a1_no_more_is_pulled_and_not_yielded_than_the_window() {
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

/// The first item does not end before others behind it have, far more than the queue holds.
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

/// As many items as workers meet in a barrier, each time anew.
#[test]
fn a1_any_capacity_keeps_all_workers_busy() {
    watched(|| {
        for (workers, capacity) in [(8, 1), (8, 3), (4, 1), (2, 1), (3, 64)] {
            for way in 0..WAYS {
                let pool = pool(workers, capacity);
                let barrier = Barrier::new(workers);
                // Items may begin out of order, and what is done stays in the window of an ordered batch.
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

/// The caller is in a place of its own, holds a lock that no item can have, and the items find the pool's workers in rayon.
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

/// With all workers in long items and the queue full, the caller waits in the line; and goes on when one has ended.
#[test]
fn a11_a_caller_waits_in_the_line_while_all_workers_are_busy() {
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

/// One item stands still, for as long as all others run.
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

/// A6, D6: all workers are held when the pool closes, and the item that waits for its place runs on the caller.
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
                // The one that has a place waits for the worker; the other does not.
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

/// Fault 14: who has all results, or has left, is alone with what the closure has captured.
#[test]
fn r6_a_batch_that_is_over_holds_its_closure_no_more() {
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
                    let sum = Arc::try_unwrap(own).expect("nobody has it");
                    assert_eq!(sum.into_inner(), 190, "{form:?}");
                }
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r6_a_batch_that_is_consumed_on_a_worker_holds_its_closure_no_more() {
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

/// Dropped half way: as soon as what runs has ended. The last item holds its own token until the very end.
#[test]
fn r6_a_batch_that_is_dropped_half_way_holds_its_closure_until_what_runs_has_ended() {
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
                    // Results that nobody has taken hold it too, and the one that is on its way.
                    wait_until(|| Arc::strong_count(&token) == 1);
                }
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The panic of an item that runs when the iterator is dropped is the handler's; in a scope, the scope's.
#[test]
fn r4_the_panic_of_an_item_that_runs_on_after_the_drop_is_not_lost() {
    watched(|| {
        for form in FORMS {
            let (tell, told) = mpsc::channel();
            let tell = Mutex::new(tell);
            let handler = move |payload: Box<dyn Any + Send>| {
                let text = *payload.downcast::<&str>().unwrap();
                tell.lock().unwrap().send(text).unwrap();
            };
            let builder = Pool::builder().workers(2).capacity(4);
            let pool = builder.panic_handler(handler).build().unwrap();
            let (gate, has_begun) = (Gate::new(), Gate::new());
            let (held, begun) = (gate.clone(), has_begun.clone());
            // The first does not end before the second has begun, which stands at the gate.
            let f = move |n: usize| {
                if n == 0 {
                    return begun.pass();
                }
                begun.open();
                held.pass();
                panic!("late");
            };
            // What is pulled from is dropped after the batch was left.
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
                    assert!(told.try_recv().is_err());
                }
                _ => {
                    assert!(outcome.is_ok());
                    assert_eq!(told.recv(), Ok("late"));
                }
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// A worker that serves a chunk lets a job that came after it have its turn.
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
                // Of each chunk a turn of the owner and one of a helper.
                assert!(before <= 90, "way {way}: {before} items were first");
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}
