//! Hostile uses of scopes, joins, batches and installed closures: nested in each other with one
//! worker and one place, drops that panic, endless recursion, and a shutdown in the middle.
mod support;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use adaptive_pool::{IteratorExt, Pool, ShutdownError};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

/// Runs a closure twice in its way, and waits for it.
type Way = fn(&Arc<Pool>, &Arc<dyn Fn() + Send + Sync>);

const WAYS: [(&str, Way); 12] = [
    ("scope", |pool, f| {
        pool.scope(|s| (0..2).for_each(|_| s.spawn(|_| f())))
    }),
    ("in_place_scope", |pool, f| {
        pool.in_place_scope(|s| (0..2).for_each(|_| s.spawn(|_| f())));
    }),
    ("try_spawn", |pool, f| {
        pool.scope(|s| {
            for _ in 0..2 {
                if let Err(refused) = s.try_spawn(|_| f()) {
                    s.spawn(refused.into_job());
                }
            }
        });
    }),
    ("spawn_timeout", |pool, f| {
        pool.in_place_scope(|s| {
            for _ in 0..2 {
                s.spawn_timeout(Duration::MAX, |_| f()).unwrap();
            }
        });
    }),
    ("join", |pool, f| ((), ()) = pool.join(|| f(), || f())),
    ("install", |pool, f| {
        pool.install(|| f());
        pool.install(|| f());
    }),
    ("for_each", |pool, f| (0..2).par_for_each(pool, |_| f())),
    ("map", |pool, f| {
        let f = Arc::clone(f);
        assert_eq!((0..2).par_map(pool, move |_| f()).count(), 2);
    }),
    ("map_unordered", |pool, f| {
        let f = Arc::clone(f);
        assert_eq!(pool.map_unordered(0..2, move |_| f()).count(), 2);
    }),
    ("scoped map", |pool, f| {
        pool.scope(|s| assert_eq!(s.map(0..2, |_| f()).count(), 2));
    }),
    ("scoped map_unordered", |pool, f| {
        pool.in_place_scope(|s| assert_eq!(s.map_unordered(0..2, |_| f()).count(), 2));
    }),
    ("submit", |pool, f| {
        let handles = [Arc::clone(f), Arc::clone(f)].map(|f| pool.submit(move || f()).unwrap());
        handles
            .into_iter()
            .for_each(|handle| handle.join().unwrap());
    }),
];

/// A8: each kind of wait inside each other kind, inside each third kind.
#[test]
fn a8_everything_in_everything_with_one_worker_and_one_place() {
    watched(|| {
        let pool = pool(1, 1);
        for (outer, wait_outer) in WAYS {
            for (middle, wait_middle) in WAYS {
                for (inner, wait_inner) in WAYS {
                    let count = Arc::new(AtomicUsize::new(0));
                    let counts = Arc::clone(&count);
                    let own = Arc::clone(&pool);
                    let leaf: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                        counts.fetch_add(1, Ordering::Relaxed);
                    });
                    let third: Arc<dyn Fn() + Send + Sync> =
                        Arc::new(move || wait_inner(&own, &leaf));
                    let own = Arc::clone(&pool);
                    let second: Arc<dyn Fn() + Send + Sync> =
                        Arc::new(move || wait_middle(&own, &third));
                    wait_outer(&pool, &second);
                    let ran = count.load(Ordering::Relaxed);
                    assert_eq!(ran, 8, "{inner} in {middle} in {outer}");
                }
            }
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The result of a scope's body has no receiver if a job has panicked.
#[test]
fn r4_a_scopes_result_that_panics_in_its_drop_while_a_job_panics() {
    survives_in_child(
        "r4_a_scopes_result_that_panics_in_its_drop_while_a_job_panics",
        || {
            watched(|| {
                let pool = pool(2, 4);
                for in_place in [false, true] {
                    let body = |s: &adaptive_pool::Scope<'_>| {
                        s.spawn(|_| panic!("the job"));
                        on_drop(|| panic!("the drop"))
                    };
                    let run = || {
                        drop(if in_place {
                            pool.in_place_scope(body)
                        } else {
                            pool.scope(body)
                        });
                    };
                    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
                    assert_eq!(payload.downcast_ref(), Some(&"the job"));
                }
                pool.shutdown();
                assert_conserved(&pool);
            });
        },
    );
}

/// R4: the result of the first half is dropped while the panic of the second propagates, and panics
/// too. That must not abort the process.
#[test]
fn r4_a_result_that_panics_in_its_drop_while_the_other_half_panics() {
    fn panics_when_dropped() -> OnDrop<impl FnOnce()> {
        on_drop(|| panic!("the drop"))
    }
    survives_in_child(
        "r4_a_result_that_panics_in_its_drop_while_the_other_half_panics",
        || {
            watched(|| {
                let pool = pool(2, 4);
                let gate = Gate::new();
                let join = |stolen: bool| {
                    let first = || {
                        if stolen {
                            gate.pass();
                        }
                        panics_when_dropped()
                    };
                    let second = || {
                        gate.open();
                        panic!("the second half");
                    };
                    let ended = catch_unwind(AssertUnwindSafe(|| pool.join(first, second)));
                    match ended {
                        Ok(_) => panic!("no panic"),
                        Err(payload) => {
                            assert_eq!(payload.downcast_ref(), Some(&"the second half"));
                        }
                    }
                };
                // If it is not stolen, the gate is already open.
                join(true);
                pool.install(|| join(true));
                pool.install(|| join(false));
                // The reverse: the second half's result has no receiver.
                let gate = Gate::new();
                let second = || {
                    gate.open();
                    panics_when_dropped()
                };
                let first = || {
                    gate.pass();
                    panic!("the first half")
                };
                let ended = catch_unwind(AssertUnwindSafe(|| pool.join(first, second)));
                let payload = ended.map(|((), _)| ()).unwrap_err();
                assert_eq!(payload.downcast_ref(), Some(&"the first half"));
                pool.shutdown();
                assert_conserved(&pool);
            });
        },
    );
}

/// Failure 27. Each level leaves its other half in the deque, which grows while a thief is at its
/// far end.
#[test]
fn a_join_recursion_of_a_hundred_thousand_levels() {
    fn descend(pool: &Pool, left: usize, ran: &AtomicUsize) -> usize {
        if left == 0 {
            return 0;
        }
        let half = || ran.fetch_add(1, Ordering::Relaxed);
        let (below, _) = pool.join(|| descend(pool, left - 1, ran), half);
        below + 1
    }
    survives_in_child("a_join_recursion_of_a_hundred_thousand_levels", || {
        watched(|| {
            // A sanitizer has larger frames.
            let levels = env::var("LEVELS").map_or(100_000, |text| text.parse().unwrap());
            for workers in [1, 2, 3] {
                let builder = Pool::builder().workers(workers).capacity(1);
                let pool = builder.stack_size(256 << 20).build().unwrap();
                for _ in 0..3 {
                    let ran = AtomicUsize::new(0);
                    assert_eq!(pool.install(|| descend(&pool, levels, &ran)), levels);
                    assert_eq!(ran.into_inner(), levels);
                }
                pool.shutdown();
                assert_conserved(&pool);
            }
        });
    });
}

/// Failure 27. A hundred thousand jobs with a short wait each, most while others are queued. A wait
/// that ran those would need a stack for all of them.
#[test]
fn a_hundred_thousand_short_waits_on_a_small_stack() {
    const JOBS: usize = 100_000;
    survives_in_child("a_hundred_thousand_short_waits_on_a_small_stack", || {
        watched(|| {
            for (workers, capacity) in [(1, 1), (1, JOBS), (2, 4), (2, JOBS), (3, 1000)] {
                let builder = Pool::builder().workers(workers).capacity(capacity);
                let pool = builder.stack_size(small_stack()).build().unwrap();
                let ran = AtomicUsize::new(0);
                let one = || {
                    ran.fetch_add(1, Ordering::Relaxed);
                };
                pool.scope(|s| {
                    for n in 0..JOBS {
                        s.spawn(|_| pool.scope(|s| s.spawn(|_| one())));
                        if n % 16 == 0 {
                            s.spawn(|_| ((), ()) = pool.join(one, one));
                        }
                    }
                });
                assert_eq!(ran.load(Ordering::Relaxed), JOBS + JOBS.div_ceil(16) * 2);
                pool.shutdown();
                assert_conserved(&pool);
            }
        });
    });
}

/// D4: a shutdown has a deadline, and does not run what a batch still waits for.
#[test]
fn d4_a_shutdown_leaves_the_jobs_of_a_batch_to_the_workers() {
    watched(|| {
        let pool = pool(1, 4);
        let held = occupy(&pool);
        let gate = Gate::new();
        let (own, closed) = (Arc::clone(&pool), gate.clone());
        let consumer = thread::spawn(move || {
            let item = move |n| {
                closed.pass();
                n
            };
            own.map(0..4, item).collect::<Vec<i32>>()
        });
        wait_until(|| pool.metrics().depth == 4);
        match pool.shutdown_timeout(Duration::ZERO) {
            Err(ShutdownError::TimedOut { report, .. }) => assert_eq!(report.total(), 0),
            other => panic!("{other:?}"),
        }
        gate.open();
        held.release();
        assert_eq!(consumer.join().unwrap(), [0, 1, 2, 3]);
        assert_eq!(pool.shutdown().completed, 5);
        assert_conserved(&pool);
    });
}

/// D4, R3: nor does another thread that holds a place at the shutdown. It may hold a lock that the
/// jobs of the batch need.
#[test]
fn r3_a_late_submitter_does_not_run_the_jobs_of_a_batch() {
    watched(|| {
        let pool = pool(1, 4);
        let held = occupy(&pool);
        let permit = pool.reserve().unwrap();
        let mutex = Arc::new(Mutex::new(0));
        let (own, wanted) = (Arc::clone(&pool), Arc::clone(&mutex));
        let locked = mutex.lock().unwrap();
        let consumer = thread::spawn(move || {
            let item = move |n| *wanted.lock().unwrap() += n;
            own.map(0..3, item).count()
        });
        wait_until(|| pool.metrics().depth == 4);
        let discarding = pool.shutdown_timeout(Duration::ZERO);
        assert!(discarding.is_err());
        // The pool has not ended: the worker is held.
        let late = permit.submit(|| ());
        assert!(late.join().is_err());
        drop(locked);
        held.release();
        assert_eq!(consumer.join().unwrap(), 3);
        assert_eq!(*mutex.lock().unwrap(), 3);
        pool.shutdown();
        assert_conserved(&pool);
    });
}
