//! Rule R3: a worker that waits runs nothing that its wait is not for, and while it is blocked
//! another thread takes its place.
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

/// Failure 28. The strangers are in front of the part and behind it.
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
                            let stranger = |mutex: &Arc<Mutex<i32>>| {
                                let mutex = Arc::clone(mutex);
                                own.submit(move || *mutex.lock().unwrap() += 1).unwrap()
                            };
                            let before = stranger(&mutex);
                            let mut sum = mutex.lock().unwrap();
                            wait_for(&own, kind, thread::yield_now, thread::yield_now);
                            let after = stranger(&mutex);
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

/// On one worker: the stranger is in the queue, in front of what is waited for.
#[test]
fn r3_a_short_wait_does_not_begin_a_long_stranger() {
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

/// What is waited for runs on the other worker, so the waiting one has nothing to do but block. The
/// stranger begins all the same, on a spare thread, and is no part of the wait.
#[test]
fn r3_a_short_wait_returns_while_a_long_stranger_still_runs() {
    // A map's jobs are begun by no body, so the last kind has no way to wait for their beginning.
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
            let stranger = pool.submit(move || {
                begun.send(()).unwrap();
                held.pass();
            });
            wait.recv().unwrap();
            short.open();
            outer.unwrap().join().unwrap();
            let stranger = stranger.unwrap();
            assert!(!stranger.is_finished(), "{kind:?}");
            long.open();
            stranger.join().unwrap();
            pool.shutdown();
            assert_conserved(&pool);
        });
    }
}

/// Failure 27. A wait that ran strangers would run one on top of the other.
#[test]
fn r3_the_stack_follows_the_nesting_of_the_program() {
    for (workers, kind) in KINDS.iter().flat_map(|kind| [(1, *kind), (2, *kind)]) {
        watched(move || {
            let jobs = if cfg!(miri) { 50 } else { 20_000 };
            let builder = Pool::builder().workers(workers).capacity(1024);
            let pool = Arc::new(builder.stack_size(128 * 1024).build().unwrap());
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

/// The second half of the outer join is stolen, and joins two of its own that wait for each other. Who waits for it
/// runs one of them.
#[test]
fn r3_a_worker_that_waits_for_a_stolen_half_runs_what_that_leaves_to_others() {
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

/// The other worker steals two of four jobs, and begins the first, which waits for the second.
#[test]
fn r3_a_worker_that_waits_in_a_scope_takes_back_what_was_stolen_and_not_begun() {
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
        let stranger = Mutex::new(None);
        let waiting = pool.scope(|outer| {
            pool.scope(|s| {
                s.spawn(|_| {
                    outer.spawn(|_| {
                        *stranger.lock().unwrap() = Some(thread::current().id());
                        ran.open();
                    });
                    begun.open();
                    ran.pass();
                });
                begun.pass();
                thread::current().id()
            })
        });
        assert_ne!(stranger.into_inner().unwrap(), Some(waiting));
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Where a join is under way, the scope around it gets nothing on top of the second half: it would go with that. The
/// scope's own body joins, and a job of it, on the owner's thread or on another.
#[test]
fn r3_what_is_spawned_within_a_join_is_not_lost() {
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

/// The same after a scope within the first half whose job was stolen, and has ended before that was waited for.
#[test]
fn r3_what_is_spawned_within_a_join_after_a_scope_is_not_lost() {
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

/// The second half of the join is stolen, and spawns into a scope farther out.
#[test]
fn r3_a_worker_that_waits_for_a_stolen_half_runs_no_job_of_an_outer_scope() {
    watched(|| {
        let pool = pool(2, 8);
        let [begun, ran] = [Gate::new(), Gate::new()];
        let stranger = Mutex::new(None);
        let waiting = pool.scope(|s| {
            let (waiting, ()) = pool.join(
                || {
                    begun.pass();
                    thread::current().id()
                },
                || {
                    s.spawn(|_| {
                        *stranger.lock().unwrap() = Some(thread::current().id());
                        ran.open();
                    });
                    begun.open();
                    ran.pass();
                },
            );
            waiting
        });
        // On a thread that has taken the place of the one that waits.
        assert_ne!(stranger.into_inner().unwrap(), Some(waiting));
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
        // Both wait for the gate, which opens only when the third has run.
        assert_eq!(pool.submit(|| 'c').unwrap().join().unwrap(), 'c');
        assert!(!a.is_finished());
        gate.open();
        assert_eq!(a.join().unwrap(), 'b');
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn r3_what_was_queued_before_the_worker_blocked_runs_too() {
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
