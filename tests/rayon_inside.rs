//! Failure 40: rayon inside jobs, on the pool's own threads, and jobs submitted from inside rayon's
//! work.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use support::*;

fn pool(workers: usize, capacity: usize, name: &str) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.name(name).build().unwrap())
}

fn assert_on(name: &str) {
    let thread = thread::current();
    let own = thread.name().is_some_and(|own| own.starts_with(name));
    assert!(own, "on {:?}", thread.name());
}

fn fibonacci(n: u32, name: &str) -> u64 {
    assert_on(name);
    if n < 2 {
        return u64::from(n);
    }
    let (a, b) = rayon_core::join(|| fibonacci(n - 1, name), || fibonacci(n - 2, name));
    a + b
}

#[test]
fn join_inside_a_job_runs_on_the_pools_threads() {
    watched(|| {
        let n = if cfg!(miri) { 6 } else { 16 };
        for workers in [1, 2, 4] {
            let pool = pool(workers, 4, "join-inside");
            let jobs: Vec<_> = (0..4)
                .map(|_| pool.submit(move || fibonacci(n, "join-inside-")).unwrap())
                .collect();
            let expected = jobs.into_iter().map(|job| job.join().unwrap());
            assert!(
                expected
                    .into_iter()
                    .all(|f| f == if n == 6 { 8 } else { 987 })
            );
            assert_eq!(pool.shutdown().completed, 4);
        }
    });
}

#[test]
fn scope_and_broadcast_inside_a_job_run_on_the_pools_threads() {
    watched(|| {
        let pool = pool(2, 4, "scope-inside");
        let job = pool.submit(|| {
            let sum = AtomicU64::new(0);
            rayon_core::scope(|s| {
                for n in 1..=100 {
                    let sum = &sum;
                    s.spawn(move |_| {
                        assert_on("scope-inside-");
                        sum.fetch_add(n, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(rayon_core::current_num_threads(), 2);
            assert!(rayon_core::current_thread_index().is_some());
            sum.into_inner()
        });
        assert_eq!(job.unwrap().join().unwrap(), 5050);
    });
}

/// One half blocks until the other has started: a second thread has to help.
#[test]
fn an_idle_worker_comes_to_help_rayon() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 300 };
        let pool = pool(2, 4, "helps");
        drop([occupy(&pool), occupy(&pool)]);
        let mut random = Random(seed());
        for _ in 0..rounds {
            let job = pool.submit(|| {
                let (send, receive) = mpsc::channel();
                rayon_core::join(move || receive.recv().unwrap(), move || send.send(7)).0
            });
            assert_eq!(job.unwrap().join().unwrap(), 7);
            // An idle worker leaves its parker after 5 ms.
            if random.below(20) == 0 {
                let end = Instant::now() + Duration::from_millis(random.below(8));
                wait_until(|| Instant::now() >= end);
            }
        }
    });
}

/// Both directions at once: jobs that use rayon, whose pieces submit jobs.
#[test]
fn jobs_are_submitted_inside_of_rayons() {
    watched(|| {
        let rounds = if cfg!(miri) { 5 } else { 1_000 };
        for (workers, capacity) in [(1, 1), (2, 1), (2, 16)] {
            let pool = pool(workers, capacity, "both-ways");
            let ran = Arc::new(AtomicUsize::new(0));
            for _ in 0..rounds {
                let (own, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                let job = pool.submit(move || {
                    let piece = || {
                        let counts = Arc::clone(&ran);
                        let detached = own.spawn(move || {
                            counts.fetch_add(1, Ordering::SeqCst);
                        });
                        detached.unwrap();
                        let counts = Arc::clone(&ran);
                        let joined = own.submit(move || counts.fetch_add(1, Ordering::SeqCst));
                        joined.unwrap().join().unwrap();
                    };
                    rayon_core::join(piece, piece);
                });
                job.unwrap().join().unwrap();
            }
            assert_eq!(pool.shutdown().panicked, 0);
            assert_eq!(ran.load(Ordering::SeqCst), 4 * rounds);
            assert_conserved(&pool);
        }
    });
}

/// A thread that waits in rayon may consume a wake-up meant for a sleeper. The job has to run all
/// the same, and the wait has to end.
#[test]
fn a_wake_up_that_a_waiting_thread_takes_is_not_lost() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 1_500 };
        let pool = pool(3, 64, "taken");
        let mut random = Random(seed());
        for _ in 0..rounds {
            // One thread waits in rayon's join for the other, which waits for a job from outside.
            let (release, wait) = mpsc::channel();
            let spin = random.below(60);
            let outer = pool.submit(move || {
                rayon_core::join(
                    move || {
                        for _ in 0..spin {
                            thread::yield_now();
                        }
                    },
                    move || wait.recv().unwrap(),
                );
            });
            let spin = random.below(60);
            for _ in 0..spin {
                thread::yield_now();
            }
            pool.spawn(move || release.send(()).unwrap()).unwrap();
            outer.unwrap().join().unwrap();
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// A thread in rayon, not a worker, runs a piece that waits in a join of its own. An activation
/// that it receives there must not make it a worker on top of that wait for as long as jobs arrive.
#[test]
fn a_stream_of_jobs_does_not_hold_up_a_wait_inside_rayon() {
    fn stream(pool: Arc<Pool>, begun: Gate, stop: Arc<AtomicBool>) {
        begun.open();
        if !stop.load(Ordering::SeqCst) {
            let own = Arc::clone(&pool);
            let _closed = own.spawn(move || stream(pool, begun, stop));
        }
    }
    watched(|| {
        let pool = pool(2, 4, "stream");
        drop([occupy(&pool), occupy(&pool)]);
        let end = Instant::now() + Duration::from_millis(20);
        wait_until(|| Instant::now() >= end);
        let (begun_b, begun_d, streaming) = (Gate::new(), Gate::new(), Gate::new());
        let (b, d, flows) = (begun_b.clone(), begun_d.clone(), streaming.clone());
        let outer = pool
            .submit(move || {
                rayon_core::join(
                    || b.pass(),
                    || {
                        b.open();
                        rayon_core::join(
                            || d.pass(),
                            || {
                                d.open();
                                flows.pass();
                            },
                        );
                    },
                );
            })
            .unwrap();
        begun_d.pass();
        let stop = Arc::new(AtomicBool::new(false));
        let (own, stops) = (Arc::clone(&pool), Arc::clone(&stop));
        pool.spawn(move || stream(own, streaming, stops)).unwrap();
        let outer = outer.join_timeout(Duration::from_secs(5));
        stop.store(true, Ordering::SeqCst);
        outer.expect("the wait never ends").unwrap();
    });
}

/// R2, with rayon's own sleep in between: single jobs at random distances meet the worker while it
/// searches, is idle, goes to sleep or sleeps.
#[test]
fn r2_single_jobs_at_random_distances_all_start() {
    watched(|| {
        let time = if cfg!(miri) { 50 } else { 2_000 };
        let mut random = Random(seed());
        for workers in [1, 2] {
            let pool = pool(workers, 4, "distances");
            for_a_while(Duration::from_millis(time / 2), || {
                assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
                let pause = match random.below(10) {
                    0 => 5_000 + random.below(300),
                    1 => random.below(7_000),
                    _ => random.below(60),
                };
                let end = Instant::now() + Duration::from_micros(pause);
                wait_until(|| Instant::now() >= end);
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Failure 2. The first job blocks until the second runs, which lies in the same deque.
#[test]
fn r2_a_worker_that_blocks_leaves_its_queue_to_its_sibling() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 500 };
        let pool = pool(2, 8, "sibling");
        for _ in 0..rounds {
            let own = Arc::clone(&pool);
            let outer = pool.submit(move || {
                let (send, receive) = mpsc::channel();
                let second = send.clone();
                own.spawn(move || send.send(()).unwrap()).unwrap();
                own.spawn(move || second.send(()).unwrap()).unwrap();
                receive.recv().unwrap();
                receive.recv().unwrap();
            });
            outer.unwrap().join().unwrap();
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Work on rayon's side is not a counted job, but shutdown waits for it.
#[test]
fn d1_shutdown_waits_for_rayons_work() {
    watched(|| {
        let pool = pool(2, 4, "still-runs");
        let (begun, wait) = mpsc::channel();
        let gate = Gate::new();
        let ended = Arc::new(AtomicBool::new(false));
        let (held, sets) = (gate.clone(), Arc::clone(&ended));
        pool.spawn(move || {
            rayon_core::spawn(move || {
                begun.send(()).unwrap();
                held.pass();
                sets.store(true, Ordering::SeqCst);
            });
        })
        .unwrap();
        wait.recv().unwrap();
        let own = Arc::clone(&pool);
        let closer = thread::spawn(move || own.shutdown());
        wait_until(|| pool.is_closed());
        gate.open();
        assert_eq!(closer.join().unwrap().completed, 1);
        assert!(ended.load(Ordering::SeqCst));
        assert_eq!(pool.metrics().threads, 0);
    });
}

/// A call into another pool, whose worker calls back.
fn there_and_back(front: &Pool, back: &Pool) {
    back.install(|| front.install(|| ()));
}

/// Both threads of the front pool wait for the back pool, one of them in rayon's work; what they
/// wait for needs a thread of the front pool.
#[test]
fn r2_a_thread_that_blocks_in_rayons_work_is_replaced() {
    watched(|| {
        for _ in 0..20 {
            // Its second thread is in rayon: nothing has activated it so far.
            let (front, back) = (pool(2, 4, "front"), pool(2, 4, "back"));
            let begun = AtomicUsize::new(0);
            let half = || {
                begun.fetch_add(1, Ordering::SeqCst);
                wait_until(|| begun.load(Ordering::SeqCst) == 2);
                there_and_back(&front, &back);
            };
            front.install(|| rayon_core::join(half, half));
            for pool in [front, back] {
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}

/// The only thread waits inside rayon, and performs an activation there. The job that it runs on
/// top of that wait fills the only worker slot. When it blocks, it has to hand the slot to another
/// thread.
#[test]
fn r2_a_job_on_top_of_a_wait_in_rayon_hands_its_slot_over_when_it_blocks() {
    watched(|| {
        let (front, back) = (pool(1, 4, "front"), pool(1, 4, "back"));
        let other = rayon_core::ThreadPoolBuilder::new().num_threads(1).build();
        let (begun, wait) = mpsc::channel();
        let gate = Gate::new();
        let held = gate.clone();
        front
            .spawn(move || {
                rayon_core::spawn(move || {
                    begun.send(()).unwrap();
                    other.unwrap().install(|| held.pass());
                });
            })
            .unwrap();
        wait.recv().unwrap();
        let (here, there) = (Arc::clone(&front), Arc::clone(&back));
        let job = front.submit(move || there_and_back(&here, &there)).unwrap();
        job.join().unwrap();
        gate.open();
        for pool in [front, back] {
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The same in a part of a broadcast, which also runs on rayon's side.
#[test]
fn r2_a_thread_that_blocks_in_a_broadcast_is_replaced() {
    watched(|| {
        for threads in [1, 2] {
            let (front, back) = (pool(threads, 4, "front"), pool(threads, 4, "back"));
            for _ in 0..20 {
                let parts = front.broadcast(|_| there_and_back(&front, &back));
                assert_eq!(parts.len(), threads);
            }
            for pool in [front, back] {
                pool.shutdown();
                assert_conserved(&pool);
            }
        }
    });
}
