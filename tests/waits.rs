//! Rule R3: a worker that waits runs only jobs of its wait, and while it is blocked another thread
//! replaces it.
mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use adaptive_pool::Pool;
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

/// The ways for a job to wait for another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Scope,
    InPlaceScope,
    Join,
    Handle,
    Map,
}

const KINDS: [Kind; 5] = [
    Kind::Scope,
    Kind::InPlaceScope,
    Kind::Join,
    Kind::Handle,
    Kind::Map,
];

/// Waits in this way, on a worker, for `part`, while `body` runs if there is a place for it.
fn wait_for(
    pool: &Arc<Pool>,
    kind: Kind,
    body: impl FnOnce() + Send,
    part: impl FnOnce() + Send + 'static,
) {
    match kind {
        Kind::Scope => pool.scope(|s| {
            s.spawn(|_| part());
            body();
        }),
        Kind::InPlaceScope => pool.in_place_scope(|s| {
            s.spawn(|_| part());
            body();
        }),
        Kind::Join => drop(pool.join(body, part)),
        Kind::Handle => {
            let handle = pool.submit(part).unwrap();
            body();
            handle.join().unwrap();
        }
        Kind::Map => {
            let part = Mutex::new(Some(part));
            body();
            let take = move |()| part.lock().unwrap().take().map(|part| part());
            assert!(pool.map([()], take).eq([Some(())]));
        }
    }
}

/// Failure 28. The unrelated jobs are in front of the part and behind it.
#[test]
fn r3_a_lock_may_be_held_across_each_kind_of_wait() {
    for (workers, kind) in KINDS
        .iter()
        .flat_map(|kind| [(1, *kind), (2, *kind), (4, *kind)])
    {
        watched(move || {
            let rounds = if cfg!(miri) { 2 } else { 100 };
            let pool = pool(workers, 64);
            for _ in 0..rounds {
                let mutex = Arc::new(Mutex::new(0));
                let jobs: Vec<_> = (0..8)
                    .map(|_| {
                        let (own, mutex) = (Arc::clone(&pool), Arc::clone(&mutex));
                        let job = move || {
                            let unrelated = |mutex: &Arc<Mutex<i32>>| {
                                let mutex = Arc::clone(mutex);
                                own.submit(move || *mutex.lock().unwrap() += 1).unwrap()
                            };
                            let before = unrelated(&mutex);
                            let mut sum = mutex.lock().unwrap();
                            wait_for(&own, kind, thread::yield_now, thread::yield_now);
                            let after = unrelated(&mutex);
                            wait_for(&own, kind, || (), || ());
                            *sum += 1;
                            drop(sum);
                            before.join().unwrap();
                            after.join().unwrap();
                        };
                        pool.submit(job).unwrap()
                    })
                    .collect();
                for job in jobs {
                    job.join().unwrap();
                }
                assert_eq!(*mutex.lock().unwrap(), 24);
            }
            pool.shutdown();
            assert_conserved(&pool);
        });
    }
}

/// On one worker: the unrelated job is queued in front of the awaited one.
#[test]
fn r3_a_short_wait_does_not_start_a_long_unrelated_job() {
    for kind in KINDS {
        watched(move || {
            let pool = pool(1, 8);
            let begun = Arc::new(AtomicUsize::new(0));
            let (own, gate, begins) = (Arc::clone(&pool), Gate::new(), Arc::clone(&begun));
            let held = gate.clone();
            let outer = pool.submit(move || {
                let long = own.submit(move || {
                    begins.fetch_add(1, Ordering::SeqCst);
                    held.pass();
                });
                wait_for(&own, kind, || (), || ());
                (long.unwrap(), begun.load(Ordering::SeqCst))
            });
            let (long, begun) = outer.unwrap().join().unwrap();
            assert_eq!(begun, 0, "{kind:?}");
            gate.open();
            long.join().unwrap();
        });
    }
}

/// The awaited job runs on the other worker, so the waiting one can only block. The unrelated job
/// starts all the same, on a spare thread, and is no part of the wait.
#[test]
fn r3_a_short_wait_returns_while_a_long_unrelated_job_runs() {
    // No body starts the jobs of a map, so the last kind has no way to wait for their start.
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Map) {
        watched(move || {
            let pool = pool(2, 8);
            let (short, long) = (Gate::new(), Gate::new());
            let (own, held) = (Arc::clone(&pool), short.clone());
            let (part_begun, wait) = mpsc::channel();
            let outer = pool.submit(move || {
                let (begun, wait) = mpsc::channel();
                let body = move || wait.recv().unwrap();
                let part = move || {
                    begun.send(()).unwrap();
                    part_begun.send(()).unwrap();
                    held.pass();
                };
                wait_for(&own, kind, body, part);
            });
            wait.recv().unwrap();
            let (begun, wait) = mpsc::channel();
            let held = long.clone();
            let unrelated = pool.submit(move || {
                begun.send(()).unwrap();
                held.pass();
            });
            wait.recv().unwrap();
            short.open();
            outer.unwrap().join().unwrap();
            let unrelated = unrelated.unwrap();
            assert!(!unrelated.is_finished(), "{kind:?}");
            long.open();
            unrelated.join().unwrap();
            pool.shutdown();
            assert_conserved(&pool);
        });
    }
}

/// Failure 27. A wait that ran unrelated jobs would nest them.
#[test]
fn r3_the_stack_follows_the_nesting_of_the_program() {
    for (workers, kind) in KINDS.iter().flat_map(|kind| [(1, *kind), (2, *kind)]) {
        watched(move || {
            let jobs = if cfg!(miri) { 50 } else { 20_000 };
            let builder = Pool::builder().workers(workers).capacity(1024);
            let pool = Arc::new(builder.stack_size(small_stack()).build().unwrap());
            let ran = Arc::new(AtomicUsize::new(0));
            for _ in 0..jobs {
                let (own, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                let job = move || {
                    wait_for(&own, kind, || (), || ());
                    ran.fetch_add(1, Ordering::SeqCst);
                };
                pool.spawn(job).unwrap();
            }
            wait_until(|| ran.load(Ordering::SeqCst) == jobs);
            pool.shutdown();
            assert_conserved(&pool);
        });
    }
}

/// The second half of the outer join is stolen, and joins two jobs that wait for each other. The
/// worker that waits for it runs one of them.
#[test]
fn r3_a_worker_that_waits_for_a_stolen_half_runs_jobs_of_that_half() {
    watched(|| {
        let pool = pool(2, 8);
        let [begun, ran] = [Gate::new(), Gate::new()];
        let (waiting, running) = pool.install(|| {
            pool.join(
                || {
                    begun.pass();
                    thread::current().id()
                },
                || {
                    let first = || {
                        begun.open();
                        ran.pass();
                    };
                    let second = || {
                        ran.open();
                        thread::current().id()
                    };
                    pool.join(first, second).1
                },
            )
        });
        assert_eq!(waiting, running);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The other worker steals two of four jobs, and starts the first, which waits for the second.
#[test]
fn r3_a_worker_that_waits_in_a_scope_takes_back_stolen_jobs_not_started() {
    watched(|| {
        let pool = pool(2, 8);
        let [busy, free, begun, ran] = [(); 4].map(|()| Gate::new());
        let second = Mutex::new(None);
        let waiting = pool.scope(|s| {
            s.spawn(|_| {
                busy.open();
                free.pass();
            });
            busy.pass();
            s.spawn(|_| {
                begun.open();
                ran.pass();
            });
            s.spawn(|_| {
                *second.lock().unwrap() = Some(thread::current().id());
                ran.open();
            });
            s.spawn(|_| ());
            s.spawn(|_| ());
            free.open();
            begun.pass();
            thread::current().id()
        });
        assert_eq!(second.into_inner().unwrap(), Some(waiting));
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The scope's job is stolen, and opens another scope, whose job it waits for.
#[test]
fn r3_a_worker_that_waits_in_a_scope_runs_jobs_of_a_scope_within_it() {
    watched(|| {
        let pool = pool(2, 8);
        let [begun, ran] = [Gate::new(), Gate::new()];
        let inner = Mutex::new(None);
        let waiting = pool.scope(|s| {
            s.spawn(|_| {
                pool.scope(|s| {
                    s.spawn(|_| {
                        *inner.lock().unwrap() = Some(thread::current().id());
                        ran.open();
                    });
                    begun.open();
                    ran.pass();
                });
            });
            begun.pass();
            thread::current().id()
        });
        assert_eq!(inner.into_inner().unwrap(), Some(waiting));
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The inner scope's job is stolen, and spawns into the outer one.
#[test]
fn r3_a_worker_that_waits_in_a_scope_runs_no_job_of_an_outer_one() {
    watched(|| {
        let pool = pool(2, 8);
        let [begun, ran] = [Gate::new(), Gate::new()];
        let unrelated = Mutex::new(None);
        let waiting = pool.scope(|outer| {
            pool.scope(|s| {
                s.spawn(|_| {
                    outer.spawn(|_| {
                        *unrelated.lock().unwrap() = Some(thread::current().id());
                        ran.open();
                    });
                    begun.open();
                    ran.pass();
                });
                begun.pass();
                thread::current().id()
            })
        });
        assert_ne!(unrelated.into_inner().unwrap(), Some(waiting));
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// While a join is open, the scope around it pushes nothing on top of the second half, which would
/// be stolen with it. The scope's own body joins, and so does a job of it, on the owner's thread or
/// on another.
#[test]
fn r3_a_job_spawned_within_a_join_is_not_lost() {
    for workers in [1, 2] {
        watched(move || {
            let pool = pool(workers, 64);
            let ran = AtomicUsize::new(0);
            let count = || {
                ran.fetch_add(1, Ordering::Relaxed);
            };
            let spawned = 100;
            pool.scope(|s| {
                for _ in 0..spawned {
                    s.spawn(|s| {
                        pool.join(|| s.spawn(|_| count()), || s.spawn(|_| count()));
                        s.spawn(|_| count());
                    });
                    let first = || {
                        pool.join(|| (), || ());
                        s.spawn(|_| count());
                    };
                    pool.join(first, count);
                    s.spawn(|_| count());
                }
            });
            assert_eq!(ran.into_inner(), 6 * spawned);
            pool.shutdown();
            assert_conserved(&pool);
        });
    }
}

/// The same after a scope within the first half whose job was stolen, and ended before it was
/// waited for.
#[test]
fn r3_a_job_spawned_within_a_join_after_a_scope_is_not_lost() {
    watched(|| {
        let pool = pool(2, 8);
        let [stolen, ran] = [Gate::new(), Gate::new()];
        pool.scope(|outer| {
            let first = || {
                pool.scope(|s| {
                    s.spawn(|_| stolen.open());
                    stolen.pass();
                });
                outer.spawn(|_| ran.open());
            };
            pool.join(first, || ());
        });
        ran.pass();
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The second half of the join is stolen, and spawns into an outer scope.
#[test]
fn r3_a_worker_that_waits_for_a_stolen_half_runs_no_job_of_an_outer_scope() {
    watched(|| {
        let pool = pool(2, 8);
        let [begun, ran] = [Gate::new(), Gate::new()];
        let unrelated = Mutex::new(None);
        let waiting = pool.scope(|s| {
            let (waiting, ()) = pool.join(
                || {
                    begun.pass();
                    thread::current().id()
                },
                || {
                    s.spawn(|_| {
                        *unrelated.lock().unwrap() = Some(thread::current().id());
                        ran.open();
                    });
                    begun.open();
                    ran.pass();
                },
            );
            waiting
        });
        // On a thread that has replaced the waiting one.
        assert_ne!(unrelated.into_inner().unwrap(), Some(waiting));
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// One worker. B blocks in the handle of another pool's job, then A in the handle of B; C runs.
#[test]
fn r3_a_spare_thread_takes_the_place_of_a_blocked_worker() {
    watched(|| {
        let (pool, other) = (pool(1, 8), pool(1, 8));
        let gate = Gate::new();
        let held = gate.clone();
        let far = other.submit(move || held.pass()).unwrap();
        let (begun, wait) = mpsc::channel();
        let begins = begun.clone();
        let b = pool.submit(move || {
            begins.send('b').unwrap();
            far.join().unwrap();
            'b'
        });
        let b = b.unwrap();
        assert_eq!(wait.recv().unwrap(), 'b');
        let a = pool.submit(move || {
            begun.send('a').unwrap();
            b.join().unwrap()
        });
        let a = a.unwrap();
        assert_eq!(wait.recv().unwrap(), 'a');
        // Both wait for the gate, which opens only after the third has run.
        assert_eq!(pool.submit(|| 'c').unwrap().join().unwrap(), 'c');
        assert!(!a.is_finished());
        gate.open();
        assert_eq!(a.join().unwrap(), 'b');
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn r3_jobs_queued_before_the_worker_blocked_run_too() {
    watched(|| {
        let (pool, other) = (pool(1, 8), pool(1, 8));
        let gate = Gate::new();
        let held = gate.clone();
        let far = other.submit(move || held.pass()).unwrap();
        let own = Arc::clone(&pool);
        let outer = pool.submit(move || {
            // In the worker's own deque, and left there.
            own.spawn(move || gate.open()).unwrap();
            far.join().unwrap();
        });
        outer.unwrap().join().unwrap();
        pool.shutdown();
        assert_conserved(&pool);
    });
}
