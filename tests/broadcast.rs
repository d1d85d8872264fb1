//! `Pool::broadcast`: once on every thread, at the base of its loop, without deadlocks.
mod support;

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{BroadcastContext, Pool};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

/// Waits long enough for idle workers to return from their parkers to rayon.
fn let_workers_return_to_rayon() {
    pass(Duration::from_millis(15));
}

fn pass(time: Duration) {
    let end = Instant::now() + time;
    wait_until(|| Instant::now() >= end);
}

fn index(context: BroadcastContext<'_>) -> usize {
    context.index()
}

fn all(workers: usize) -> Vec<usize> {
    (0..workers).collect()
}

/// Runs `f` as a job.
fn inside<R: Send + 'static>(
    pool: &Arc<Pool>,
    f: impl FnOnce(&Arc<Pool>) -> R + Send + 'static,
) -> R {
    let own = Arc::clone(pool);
    pool.submit(move || f(&own)).unwrap().join().unwrap()
}

/// With threads in rayon, idle ones, and in between.
#[test]
fn every_thread_runs_its_part_once_and_the_results_are_in_order() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        let mut random = Random(seed());
        for workers in [1, 2, 4] {
            let builder = Pool::builder().workers(workers).name("cast");
            let pool = builder.build().unwrap();
            for _ in 0..rounds {
                let counts: Vec<_> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
                let names = pool.broadcast(|context| {
                    assert_eq!(context.num_threads(), workers);
                    counts[context.index()].fetch_add(1, Ordering::SeqCst);
                    thread::current().name().unwrap().to_owned()
                });
                let expected: Vec<_> = (0..workers).map(|i| format!("cast-{i}")).collect();
                assert_eq!(names, expected);
                assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) == 1));
                match random.below(20) {
                    0 => pass(Duration::from_micros(4_500 + random.below(2_000))),
                    1..8 => pool.spawn(|| ()).unwrap(),
                    _ => {}
                }
            }
            pool.shutdown();
        }
    });
}

#[test]
fn every_thread_is_reached_from_inside_when_none_waits() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 100 };
        let mut random = Random(seed());
        for workers in [1, 2, 4] {
            let pool = pool(workers, 16);
            for _ in 0..rounds {
                assert_eq!(inside(&pool, |pool| pool.broadcast(index)), all(workers));
                if random.below(8) == 0 {
                    pass(Duration::from_micros(4_500 + random.below(2_000)));
                }
            }
        }
    });
}

/// Every job submits the next, so that no worker becomes idle.
#[test]
fn a_busy_thread_comes_to_its_part_between_two_jobs() {
    fn go_on(pool: &Arc<Pool>, stop: &Arc<AtomicBool>) {
        let (own, stops) = (Arc::clone(pool), Arc::clone(stop));
        if !stop.load(Ordering::SeqCst) {
            pool.spawn(move || go_on(&own, &stops)).unwrap();
        }
    }

    watched(|| {
        let pool = pool(2, 64);
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..16 {
            go_on(&pool, &stop);
        }
        let rounds = if cfg!(miri) { 2 } else { 100 };
        for _ in 0..rounds {
            assert_eq!(pool.broadcast(index), [0, 1]);
            assert_eq!(inside(&pool, |pool| pool.broadcast(index)), [0, 1]);
        }
        stop.store(true, Ordering::SeqCst);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// An idle worker parks for 5 ms; a part does not wait for that timeout.
#[test]
fn r2_an_idle_worker_is_woken_for_its_part() {
    watched(|| {
        let pool = pool(2, 4);
        let rounds = if cfg!(miri) { 2 } else { 100 };
        let mut took: Vec<_> = (0..rounds)
            .map(|_| {
                drop([occupy(&pool), occupy(&pool)]);
                // Both have just run a job and go idle.
                pass(Duration::from_millis(1));
                let start = Instant::now();
                assert_eq!(pool.broadcast(index), [0, 1]);
                start.elapsed()
            })
            .collect();
        took.sort();
        // On a busy machine most take longer.
        let fast = took[rounds / 10];
        println!("a tenth within {fast:?}");
        assert!(fast < Duration::from_millis(2) || cfg!(miri));
    });
}

/// Also from rayon's work.
#[test]
fn every_thread_is_reached_from_rayons_work() {
    watched(|| {
        let pool = pool(2, 16);
        let rounds = if cfg!(miri) { 2 } else { 100 };
        for _ in 0..rounds {
            let (send, receive) = mpsc::channel();
            let own = Arc::clone(&pool);
            pool.spawn(move || rayon_core::spawn(move || send.send(own.broadcast(index)).unwrap()))
                .unwrap();
            assert_eq!(receive.recv().unwrap(), [0, 1]);
        }
    });
}

/// Threads that were never started get no part.
#[test]
fn s4_threads_that_were_not_started_get_no_part() {
    watched(|| {
        for in_rayon in [false, true] {
            let pool = Pool::builder().workers(1..=4).build().unwrap();
            if in_rayon {
                let_workers_return_to_rayon();
            }
            let threads = pool.broadcast(|context| (context.index(), context.num_threads()));
            assert_eq!(threads, [(0, 1)]);
            // The threads started for the first broadcast are reached by the next.
            let started = (pool.metrics().threads - TIMER_THREAD) as usize;
            assert_eq!(pool.broadcast(index), all(started));
            pool.shutdown();
        }
    });
}

#[test]
fn s4_from_inside_threads_that_were_not_started_get_no_part() {
    watched(|| {
        let builder = Pool::builder().workers(1..=4).capacity(4);
        let pool = Arc::new(builder.build().unwrap());
        for _ in 0..100 {
            let (before, reached) = inside(&pool, |pool| {
                (pool.metrics().threads - TIMER_THREAD, pool.broadcast(index))
            });
            assert_eq!(reached, all(before as usize));
        }
        pool.shutdown();
    });
}

/// The only thread is in rayon, and no other thread can be started.
#[test]
#[cfg(not(miri))]
fn a_thread_in_rayon_is_reached_when_no_other_can_be_started() {
    const STACK: usize = 1 << 28;

    let name = "a_thread_in_rayon_is_reached_when_no_other_can_be_started";
    survives_in_child(name, || {
        watched(|| {
            let builder = Pool::builder().workers(1..=3).stack_size(STACK);
            let pool = Arc::new(builder.build().unwrap());
            let_workers_return_to_rayon();
            limit_memory(STACK / 2);
            assert_eq!(pool.broadcast(index), [0]);
            assert_eq!(inside(&pool, |pool| pool.broadcast(index)), [0]);
            assert_eq!(pool.metrics().threads, TIMER_THREAD + 1);
            pool.shutdown();
        });
    });
}

thread_local! {
    static IN_JOB: Cell<bool> = const { Cell::new(false) };
}

fn in_job<R>(f: impl FnOnce() -> R) -> R {
    assert!(!IN_JOB.replace(true), "on top of a job");
    let result = f();
    IN_JOB.set(false);
    result
}

/// The ways for a job to wait for another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Scope,
    Join,
    Handle,
    Map,
    Rayon,
    RayonScope,
}

const KINDS: [Kind; 6] = [
    Kind::Scope,
    Kind::Join,
    Kind::Handle,
    Kind::Map,
    Kind::Rayon,
    Kind::RayonScope,
];

/// Waits in this way for `part`, which probably starts on another thread if one is free.
fn wait_for(pool: &Arc<Pool>, kind: Kind, part: impl FnOnce() + Send + 'static) {
    let (begin, begun) = mpsc::channel();
    let body = move || {
        let _ = begun.recv_timeout(Duration::from_millis(5));
    };
    let part = move || {
        let _ = begin.send(());
        part();
    };
    match kind {
        Kind::Scope => pool.scope(move |s| {
            s.spawn(move |_| part());
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
            let take = move |()| part.lock().unwrap().take().map(|part| part());
            assert!(pool.map([()], take).eq([Some(())]));
        }
        Kind::Rayon => drop(rayon_core::join(body, part)),
        Kind::RayonScope => rayon_core::scope(move |s| {
            s.spawn(move |_| part());
            body();
        }),
    }
}

/// The thread that the broadcaster works for waits, from before or after the message is sent.
#[test]
fn r3_a_broadcast_from_inside_skips_threads_that_wait_for_it() {
    for (workers, kind) in KINDS.iter().flat_map(|&kind| [(2, kind), (3, kind)]) {
        watched(move || {
            let rounds = if cfg!(miri) { 2 } else { 100 };
            let pool = pool(workers, 16);
            let mut random = Random(seed());
            for _ in 0..rounds {
                let late = random.below(3) == 0;
                inside(&pool, move |pool| {
                    let own = Arc::clone(pool);
                    wait_for(pool, kind, move || {
                        if late {
                            pass(Duration::from_micros(300));
                        }
                        let reached = own.broadcast(index);
                        assert!(reached.is_sorted(), "{reached:?}");
                        assert!(reached.iter().all(|&index| index < workers));
                        assert!((1..=workers).contains(&reached.len()), "{reached:?}");
                    });
                });
            }
            pool.shutdown();
            assert_conserved(&pool);
        });
    }
}

/// A part takes a lock that a job holds while it waits. On top of that job it would deadlock.
#[test]
fn r3_a_part_runs_on_top_of_no_job() {
    for kind in KINDS {
        watched(move || {
            let rounds = if cfg!(miri) { 2 } else { 50 };
            let pool = pool(2, 16);
            let mutex = Arc::new(Mutex::new(0));
            for _ in 0..rounds {
                let begun = Arc::new(Barrier::new(2));
                let (own, lock, begins) =
                    (Arc::clone(&pool), Arc::clone(&mutex), Arc::clone(&begun));
                let job = pool.submit(move || {
                    in_job(|| {
                        let mut held = lock.lock().unwrap();
                        begins.wait();
                        wait_for(&own, kind, || pass(Duration::from_micros(200)));
                        *held += 1;
                    })
                });
                begun.wait();
                let parts = pool.broadcast(|_| {
                    assert!(!IN_JOB.get(), "on top of a job");
                    *mutex.lock().unwrap()
                });
                assert_eq!(parts.len(), 2);
                job.unwrap().join().unwrap();
            }
            assert_eq!(*mutex.lock().unwrap(), rounds);
        });
    }
}

/// The same for work of rayon that waits on a thread in rayon, or on a worker between two jobs.
#[test]
fn r3_a_broadcast_from_inside_skips_threads_that_wait_in_rayons_work() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 200 };
        let mut random = Random(seed());
        for workers in [2, 3] {
            let pool = pool(workers, 16);
            for _ in 0..rounds {
                let in_rayon = random.below(8) == 0;
                if in_rayon {
                    let_workers_return_to_rayon();
                }
                let own = Arc::clone(&pool);
                let job = pool.submit(move || {
                    let again = Arc::clone(&own);
                    wait_for(&own, Kind::Rayon, move || {
                        let last = Arc::clone(&again);
                        wait_for(&again, Kind::Rayon, move || {
                            assert!((1..=workers).contains(&last.broadcast(index).len()));
                        });
                    });
                });
                // The other worker becomes idle while rayon has work for it.
                for _ in 0..random.below(40) {
                    pool.spawn(|| ()).unwrap();
                }
                job.unwrap().join().unwrap();
            }
            pool.shutdown();
        }
    });
}

#[test]
fn r3_a_broadcast_from_outside_waits_for_blocked_threads() {
    watched(|| {
        let pool = pool(2, 16);
        let gate = Gate::new();
        let held: Vec<_> = (0..2)
            .map(|_| {
                let (own, gate, done) =
                    (Arc::clone(&pool), gate.clone(), Arc::new(Barrier::new(2)));
                let begun = Arc::clone(&done);
                let job = pool.submit(move || {
                    begun.wait();
                    // On a spare thread, or on the other worker.
                    own.scope(|s| s.spawn(|_| gate.pass()));
                });
                done.wait();
                job.unwrap()
            })
            .collect();
        let ran = Arc::new(AtomicUsize::new(0));
        let (own, counts) = (Arc::clone(&pool), Arc::clone(&ran));
        let caller = thread::spawn(move || {
            own.broadcast(|context| {
                counts.fetch_add(1, Ordering::SeqCst);
                context.index()
            })
        });
        pass(Duration::from_millis(20));
        assert_eq!(ran.load(Ordering::SeqCst), 0);
        assert!(!caller.is_finished());
        gate.open();
        assert_eq!(caller.join().unwrap(), [0, 1]);
        for job in held {
            job.join().unwrap();
        }
    });
}

/// A thread is in a wait of rayon, in work that it took in rayon's own loop. The pool does not
/// learn when that ends.
#[test]
fn r3_a_thread_that_waits_inside_rayon_runs_its_part_later() {
    watched(|| {
        let pool = pool(2, 16);
        let rounds = if cfg!(miri) { 2 } else { 20 };
        for _ in 0..rounds {
            let_workers_return_to_rayon();
            let (gate, both) = (Gate::new(), Arc::new(Barrier::new(2)));
            let (waits, stops) = (gate.clone(), gate.clone());
            let job = pool.submit(move || {
                let piece = || {
                    both.wait();
                    // The other thread has finished its half, and takes the second half of this
                    // one.
                    let (begin, begun) = mpsc::channel();
                    let other = || {
                        begin.send(()).unwrap();
                        stops.pass();
                    };
                    in_job(|| rayon_core::join(move || begun.recv().unwrap(), other));
                };
                rayon_core::join(|| both.wait(), piece);
            });
            let own = Arc::clone(&pool);
            let caller = thread::spawn(move || {
                own.broadcast(|context| {
                    assert!(!IN_JOB.get(), "on top of work that waits");
                    context.index()
                })
            });
            pass(Duration::from_millis(3));
            waits.open();
            assert_eq!(caller.join().unwrap(), [0, 1]);
            job.unwrap().join().unwrap();
        }
    });
}

#[test]
fn broadcasts_that_meet_do_not_wait_for_each_other() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 200 };
        for workers in [2, 3, 4] {
            let pool = pool(workers, 16);
            for _ in 0..rounds {
                let barrier = Arc::new(Barrier::new(workers));
                let jobs: Vec<_> = (0..workers)
                    .map(|_| {
                        let (own, barrier) = (Arc::clone(&pool), Arc::clone(&barrier));
                        pool.submit(move || {
                            barrier.wait();
                            own.broadcast(index)
                        })
                        .unwrap()
                    })
                    .collect();
                for job in jobs {
                    assert!((1..=workers).contains(&job.join().unwrap().len()));
                }
            }
        }
    });
}

#[test]
fn broadcasts_from_many_threads_outside_reach_all() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 300 };
        let pool = pool(2, 16);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..rounds {
                        assert_eq!(pool.broadcast(index), [0, 1]);
                    }
                });
            }
            for _ in 0..rounds {
                pool.spawn(|| ()).unwrap();
            }
        });
    });
}

#[test]
fn broadcasts_nest() {
    watched(|| {
        for workers in [1, 2, 4] {
            let pool = pool(workers, 16);
            let rounds = if cfg!(miri) { 2 } else { 100 };
            for _ in 0..rounds {
                let inner = pool.broadcast(|context| {
                    let reached = pool.broadcast(|context| {
                        let deepest = pool.broadcast(index);
                        assert!(deepest.contains(&context.index()));
                        context.index()
                    });
                    assert!(reached.contains(&context.index()), "{reached:?}");
                    reached.len()
                });
                assert_eq!(inner.len(), workers);
            }
        }
    });
}

/// A part may do everything that a job may.
#[test]
fn a_part_may_use_the_pool() {
    watched(|| {
        let pool = pool(2, 1);
        for round in 0..50 {
            if round % 5 == 0 {
                let_workers_return_to_rayon();
            }
            let sums = pool.broadcast(|_| {
                let mut sum = 0;
                pool.scope(|s| s.spawn(|_| sum += 1));
                let (a, b) = pool.join(|| 1, || 1);
                let (c, d) = rayon_core::join(|| 1, || 1);
                sum + a + b + c + d + pool.submit(|| 1).unwrap().join().unwrap()
            });
            assert_eq!(sums, [6, 6]);
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn a_broadcast_within_scopes_and_joins_ends() {
    watched(|| {
        for workers in [1, 2, 4] {
            let pool = pool(workers, 2);
            let rounds = if cfg!(miri) { 2 } else { 50 };
            for _ in 0..rounds {
                let one = |pool: &Pool| assert!(pool.broadcast(index).len() <= workers);
                pool.scope(|s| {
                    for _ in 0..4 {
                        s.spawn(|s| {
                            one(&pool);
                            s.spawn(|_| one(&pool));
                        });
                    }
                    one(&pool);
                });
                pool.join(
                    || pool.join(|| one(&pool), || one(&pool)),
                    || rayon_core::join(|| one(&pool), || one(&pool)),
                );
                pool.for_each(0..4, |_| one(&pool));
                pool.in_place_scope(|s| s.spawn(|_| one(&pool)));
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The only worker is blocked, and a spare thread broadcasts: no thread is left to run a part.
#[test]
fn a_broadcast_from_a_spare_thread_leaves_it_out() {
    watched(|| {
        let (pool, other) = (pool(1, 4), pool(1, 4));
        let (own, asks) = (Arc::clone(&pool), Arc::clone(&other));
        let job = pool.submit(move || {
            asks.install(|| {
                let again = Arc::clone(&own);
                own.submit(move || again.broadcast(index)).unwrap().join()
            })
        });
        assert_eq!(job.unwrap().join().unwrap().unwrap(), []);
    });
}

/// One thread runs a part while it is in rayon, the other is blocked: a spare thread is needed.
#[test]
fn r2_a_thread_that_runs_a_part_is_not_taken_for_idle() {
    watched(|| {
        let (pool, other) = (pool(2, 4), pool(1, 4));
        let_workers_return_to_rayon();
        let (begun, gate) = (Gate::new(), Gate::new());
        let (own, begins, held) = (Arc::clone(&pool), begun.clone(), gate.clone());
        let caller = thread::spawn(move || {
            own.broadcast(|context| {
                if context.index() == 1 {
                    begins.open();
                    held.pass();
                }
            })
        });
        begun.pass();
        let own = Arc::clone(&pool);
        let job = pool.submit(move || {
            other.install(|| {
                // The worker that waits for this job has blocked.
                pass(Duration::from_millis(10));
                own.submit(|| 7).unwrap().join()
            })
        });
        assert_eq!(job.unwrap().join().unwrap().unwrap(), 7);
        gate.open();
        assert_eq!(caller.join().unwrap().len(), 2);
    });
}

#[test]
fn r4_the_first_panic_is_raised_when_all_parts_have_ended() {
    struct Bomb(Drops);

    impl Drop for Bomb {
        fn drop(&mut self) {
            drop(self.0.one());
            panic!("a result's drop panics");
        }
    }

    watched(|| {
        for inside_of_a_job in [false, true] {
            let pool = pool(4, 4);
            let drops = Drops::default();
            let ended = AtomicUsize::new(0);
            let cast = || {
                pool.broadcast(|context| {
                    let _end = on_drop(|| {
                        ended.fetch_add(1, Ordering::SeqCst);
                    });
                    match context.index() {
                        0 => pass(Duration::from_millis(5)),
                        3 => {}
                        other => std::panic::panic_any(other),
                    }
                    Bomb(drops.clone())
                })
            };
            let raised = catch_unwind(AssertUnwindSafe(|| {
                drop(if inside_of_a_job {
                    pool.install(cast)
                } else {
                    cast()
                });
            }));
            assert_eq!(*raised.unwrap_err().downcast::<usize>().unwrap(), 1);
            assert_eq!(ended.load(Ordering::SeqCst), 4);
            assert_eq!(drops.count(), 2);
            // The threads have survived.
            assert_eq!(pool.broadcast(index), all(4));
            pool.shutdown();
        }
    });
}

#[test]
fn a_broadcast_needs_no_place_and_is_no_job() {
    watched(|| {
        let pool = pool(2, 1);
        let held = fill(&pool, 2);
        let before = pool.metrics();
        let own = Arc::clone(&pool);
        let caller = thread::spawn(move || own.broadcast(index));
        for one in held {
            one.release();
        }
        assert_eq!(caller.join().unwrap(), [0, 1]);
        assert_eq!(pool.broadcast(index), [0, 1]);
        wait_until(|| pool.metrics().depth == 0);
        let after = pool.metrics();
        assert_eq!(
            (before.submitted, before.admitted, before.inlined),
            (after.submitted, after.admitted, after.inlined)
        );
        assert_eq!(pool.shutdown().total(), before.admitted);
    });
}

#[test]
fn d6_a_closed_pool_broadcasts_and_a_stopped_one_does_not() {
    watched(|| {
        let pool = pool(2, 4);
        pool.close();
        assert_eq!(pool.broadcast(index), [0, 1]);
        pool.shutdown();
        assert_eq!(pool.broadcast(|_| unreachable!("on a stopped pool")), []);
    });
}

#[test]
fn d1_a_broadcast_that_meets_a_shutdown_ends() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 400 };
        let mut random = Random(seed());
        for round in 0..rounds {
            let pool = pool(1 + round % 3, 4);
            if random.below(10) == 0 {
                let_workers_return_to_rayon();
            }
            let down = AtomicBool::new(false);
            let workers = 1 + round % 3;
            let counts: Vec<_> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
            let part = |context: BroadcastContext<'_>| {
                assert!(!down.load(Ordering::SeqCst), "after the shutdown");
                counts[context.index()].fetch_add(1, Ordering::SeqCst);
            };
            let late = Duration::from_micros(random.below(60));
            let from_inside = random.below(2) == 0;
            thread::scope(|s| {
                if from_inside {
                    let own = Arc::clone(&pool);
                    pool.spawn(move || assert!(!own.broadcast(index).is_empty()))
                        .unwrap();
                }
                s.spawn(|| pool.broadcast(part));
                s.spawn(|| {
                    pass(late);
                    pool.shutdown();
                    down.store(true, Ordering::SeqCst);
                });
            });
            assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) <= 1));
        }
    });
}

#[test]
fn d5_a_part_may_shut_the_pool_down() {
    watched(|| {
        for in_rayon in [false, true] {
            let pool = pool(2, 4);
            if in_rayon {
                let_workers_return_to_rayon();
            }
            let parts = pool.broadcast(|_| pool.shutdown().total());
            assert!((1..=2).contains(&parts.len()));
            pool.shutdown();
        }
    });
}

/// Probes lie in a worker's own rayon queue. The worker takes them out while it reads its inbox,
/// out of service, and activates another thread if a job waits. But that activation ends up on top
/// of the probes.
#[test]
fn r2_a_worker_that_removes_probes_finds_the_waiting_jobs() {
    watched(|| {
        let pool = pool(2, 8);
        let held = occupy(&pool);
        let_workers_return_to_rayon();
        // Each probes the other thread, and thereby this one.
        let parts = Arc::new(AtomicUsize::new(0));
        let broadcasts: Vec<_> = (1..=24)
            .map(|nth| {
                let (own, parts_of) = (Arc::clone(&pool), Arc::clone(&parts));
                let broadcast = thread::spawn(move || {
                    own.broadcast(|_| parts_of.fetch_add(1, Ordering::SeqCst));
                });
                wait_until(|| parts.load(Ordering::SeqCst) == nth);
                broadcast
            })
            .collect();
        // The other thread now waits for a job that only this one can run.
        let (sender, receiver) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let waits = pool.submit(move || {
            begun.send(()).unwrap();
            receiver.recv().unwrap();
        });
        begins.recv().unwrap();
        pool.spawn(move || sender.send(()).unwrap()).unwrap();
        held.release();
        waits.unwrap().join().unwrap();
        for broadcast in broadcasts {
            broadcast.join().unwrap();
        }
        assert_eq!(parts.load(Ordering::SeqCst), 48);
    });
}

/// More broadcasts than probes may accumulate in the queue of a thread that stays blocked.
#[test]
fn broadcasts_beside_a_blocked_thread_leave_no_probes() {
    watched(|| {
        let rounds = if cfg!(miri) { 5 } else { 3_000 };
        let pool = pool(3, 4);
        inside(&pool, move |pool| {
            let own = Arc::clone(pool);
            wait_for(pool, Kind::Handle, move || {
                for _ in 0..rounds {
                    let reached = own.broadcast(index);
                    assert!((1..=3).contains(&reached.len()));
                }
            });
        });
        // Once the thread is back, the state is as before.
        for _ in 0..20 {
            assert_eq!(pool.broadcast(index), [0, 1, 2]);
            let_workers_return_to_rayon();
        }
    });
}

/// A worker that waits for a job of another pool, which broadcasts in the first pool, is skipped.
#[test]
fn r3_a_broadcast_from_another_pool_skips_threads_that_wait_for_it() {
    watched(|| {
        let [own, other] = [1, 1].map(|workers| {
            let builder = Pool::builder().workers(workers);
            Arc::new(builder.build().unwrap())
        });
        let job = {
            let own = Arc::clone(&own);
            move || {
                let inner = Arc::clone(&own);
                other.install(move || inner.broadcast(|context| context.index()))
            }
        };
        assert!(own.submit(job).unwrap().join().unwrap().is_empty());
    });
}
