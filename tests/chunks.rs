//! The items of a batch are queued in chunks. Users must not notice: no item waits for the items
//! before it in its chunk (R2), or for the chunk to fill up. A shutdown does not count a chunk as
//! one job (D4).
mod support;

use std::{
    iter,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{Pool, ShutdownError};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

const ITEMS: usize = if cfg!(miri) { 12 } else { 200 };

/// Increments a count, and wakes its waiters.
#[derive(Default)]
struct Count(Mutex<usize>, Condvar);

impl Count {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, count: usize) {
        let counted = self.0.lock().unwrap();
        drop(self.1.wait_while(counted, |now| *now < count).unwrap());
    }
}

type Batch = fn(&Pool, usize, &(dyn Fn(usize) + Sync));

/// Every kind of batch, run to its end by a thread outside the pool.
const BATCHES: [(&str, Batch); 3] = [
    ("for_each", |pool, items, f| pool.for_each(0..items, f)),
    ("scoped map", |pool, items, f| {
        pool.in_place_scope(|s| s.map(0..items, f).for_each(drop));
    }),
    ("scoped map_unordered", |pool, items, f| {
        pool.in_place_scope(|s| s.map_unordered(0..items, f).for_each(drop));
    }),
];

/// One item ends only after all others. With the workers busy at first, the items lie in large
/// chunks.
#[test]
fn r2_the_items_behind_a_blocked_one_are_started_by_other_workers() {
    watched(|| {
        for (name, batch) in BATCHES {
            for stands in [0, 1, ITEMS / 2, ITEMS - 1] {
                let pool = pool(2, ITEMS);
                let held = [(); 2].map(|()| occupy(&pool));
                let others = Count::default();
                thread::scope(|threads| {
                    let batch = threads.spawn(|| {
                        batch(&pool, ITEMS, &|n| {
                            if n == stands {
                                others.wait_for(ITEMS - 1);
                            } else {
                                others.add();
                            }
                        });
                    });
                    wait_until(|| pool.metrics().depth == ITEMS as u64);
                    held.into_iter().for_each(Held::release);
                    batch.join().unwrap_or_else(|_| panic!("{name}"));
                });
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}

/// The same for as many items as workers: each takes one of a chunk.
#[test]
fn r2_as_many_items_of_a_chunk_run_at_once_as_there_are_workers() {
    watched(|| {
        for (name, batch) in BATCHES {
            let workers = if cfg!(miri) { 2 } else { 8 };
            let pool = pool(workers, ITEMS);
            let held: Vec<_> = (0..workers).map(|_| occupy(&pool)).collect();
            let together = Count::default();
            thread::scope(|threads| {
                let batch = threads.spawn(|| {
                    batch(&pool, ITEMS, &|n| {
                        together.add();
                        if n < workers {
                            // All blocking items are in the first chunks.
                            together.wait_for(workers);
                        }
                    });
                });
                wait_until(|| pool.metrics().depth == ITEMS as u64);
                held.into_iter().for_each(Held::release);
                batch.join().unwrap_or_else(|_| panic!("{name}"));
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The iterator yields the next item only after the previous one has run.
#[test]
fn an_item_starts_while_the_iterator_makes_the_next() {
    watched(|| {
        let pool = pool(1, 64);
        for kind in 0..3 {
            let (ran, wait) = mpsc::channel();
            let items = iter::once(0).chain((1..ITEMS).inspect(|n| {
                assert_eq!(wait.recv().unwrap(), n - 1);
            }));
            let run = |n: usize| ran.send(n).unwrap();
            match kind {
                0 => pool.for_each(items, run),
                1 => pool.in_place_scope(|s| s.map(items, run).for_each(drop)),
                _ => pool.in_place_scope(|s| s.map_unordered(items, run).for_each(drop)),
            }
        }
        assert_conserved(&pool);
    });
}

/// The only worker is busy beyond the shutdown's timeout, while a hundred items wait in a few chunk
/// tasks. Jobs submitted beside them are dropped; the items run.
#[test]
fn d4_a_shutdown_in_time_counts_the_items_and_not_their_jobs() {
    watched(|| {
        for (name, batch) in BATCHES {
            let pool = pool(1, 128);
            let held = occupy(&pool);
            let ran = AtomicUsize::new(0);
            thread::scope(|threads| {
                let batch = threads.spawn(|| {
                    batch(&pool, 100, &|_| {
                        ran.fetch_add(1, Ordering::SeqCst);
                    });
                });
                wait_until(|| pool.metrics().depth == 100);
                for _ in 0..10 {
                    pool.spawn(|| unreachable!("it is dropped")).unwrap();
                }
                let began = Instant::now();
                let result = pool.shutdown_timeout(Duration::from_millis(20));
                assert!(began.elapsed() < Duration::from_secs(10));
                let Err(ShutdownError::TimedOut { report, running }) = result else {
                    panic!("{name}: {result:?}");
                };
                // The running one and all items.
                assert_eq!((report.dropped, running), (10, 101), "{name}");
                assert_eq!(ran.load(Ordering::SeqCst), 0);
                held.release();
                batch.join().unwrap();
            });
            assert_eq!(ran.into_inner(), 100);
            let report = pool.shutdown();
            assert_eq!((report.completed, report.dropped), (101, 10), "{name}");
            assert_conserved(&pool);
        }
    });
}

/// The same for a batch with owned items, whose chunk tasks are otherwise among the dropped jobs.
#[test]
fn d4_a_shutdown_in_time_leaves_the_items_of_a_map() {
    watched(|| {
        for ordered in [true, false] {
            let pool = pool(1, 128);
            let held = occupy(&pool);
            thread::scope(|threads| {
                let batch = threads.spawn(|| {
                    if ordered {
                        pool.map(0..100, |n| n).sum::<usize>()
                    } else {
                        pool.map_unordered(0..100, |n| n).sum()
                    }
                });
                wait_until(|| pool.metrics().depth == 100);
                for _ in 0..10 {
                    pool.spawn(|| unreachable!("it is dropped")).unwrap();
                }
                let result = pool.shutdown_timeout(Duration::from_millis(20));
                let Err(ShutdownError::TimedOut { report, running }) = result else {
                    panic!("{result:?}");
                };
                assert_eq!((report.dropped, running), (10, 101));
                held.release();
                assert_eq!(batch.join().unwrap(), 4950);
            });
            let report = pool.shutdown();
            assert_eq!((report.completed, report.dropped), (101, 10));
            assert_conserved(&pool);
        }
    });
}
