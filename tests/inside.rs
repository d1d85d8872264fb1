//! Rule A8: on a worker of the same pool admission never blocks, and no nesting deadlocks on the
//! capacity. Also the use of other pools from a job.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, Pool};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

/// Runs `job` on the one worker of a pool whose queue, of one place, is full.
fn on_a_full_worker<T: Send + 'static>(job: impl FnOnce(&Pool) -> T + Send + 'static) -> T {
    let pool = pool(1, 1);
    let (filled, full) = mpsc::channel();
    let own = Arc::clone(&pool);
    let outer = pool
        .submit(move || {
            full.recv().unwrap();
            job(&own)
        })
        .unwrap();
    wait_until(|| pool.metrics().depth == 0);
    pool.try_spawn(|| ()).unwrap();
    filled.send(()).unwrap();
    let result = outer.join().unwrap();
    pool.shutdown();
    assert_conserved(&pool);
    result
}

/// Whether the job runs before the call returns, on the caller's thread.
fn here() -> (impl FnOnce() -> usize + Send + 'static, impl Fn() -> bool) {
    let (ran, caller) = (Arc::new(AtomicUsize::new(0)), thread::current().id());
    let count = Arc::clone(&ran);
    let job = move || {
        assert_eq!(thread::current().id(), caller);
        count.fetch_add(1, Ordering::SeqCst)
    };
    (job, move || ran.load(Ordering::SeqCst) == 1)
}

fn here_detached() -> (impl FnOnce() + Send + 'static, impl Fn() -> bool) {
    let (job, ran) = here();
    (
        move || {
            job();
        },
        ran,
    )
}

#[test]
fn a8_submit_on_a_full_worker_runs_inline() {
    watched(|| {
        on_a_full_worker(|pool| {
            let before = pool.metrics();
            let (job, ran) = here();
            let handle = pool.submit(job).unwrap();
            assert!(ran() && handle.is_finished());
            assert_eq!(handle.join().unwrap(), 0);
            let (job, ran) = here();
            drop(pool.submit_timeout(Duration::ZERO, job).unwrap());
            assert!(ran());
            let (job, ran) = here();
            drop(pool.submit_deadline(Instant::now(), job).unwrap());
            assert!(ran());
            let after = pool.metrics();
            assert_eq!(after.inlined - before.inlined, 3);
            assert_eq!(after.admitted - before.admitted, 3);
            assert_eq!(after.completed - before.completed, 3);
            assert_eq!(after.depth, 1, "the queue was not touched");
        });
    });
}

#[test]
fn a8_spawn_on_a_full_worker_runs_inline() {
    watched(|| {
        on_a_full_worker(|pool| {
            let (job, ran) = here_detached();
            pool.spawn(job).unwrap();
            assert!(ran());
            let (job, ran) = here_detached();
            pool.spawn_timeout(Duration::ZERO, job).unwrap();
            assert!(ran());
            assert_eq!(pool.metrics().inlined, 2);
        });
    });
}

#[test]
fn a8_a_panic_of_an_inline_job_stays_in_it() {
    watched(|| {
        on_a_full_worker(|pool| {
            pool.spawn(|| panic!("detached")).unwrap();
            let handle = pool.submit(|| -> u8 { panic!("with a handle") }).unwrap();
            assert!(handle.join().unwrap_err().is_panic());
            let seen = pool.metrics();
            assert_eq!((seen.inlined, seen.panicked), (2, 2));
        });
    });
}

#[test]
fn a8_the_try_forms_report_full_on_a_worker_too() {
    watched(|| {
        on_a_full_worker(|pool| {
            assert!(pool.try_submit(|| ()).unwrap_err().is_full());
            assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
            assert_eq!(pool.try_reserve().unwrap_err(), AdmissionError::Full);
            assert_eq!(pool.metrics().rejected_full, 3);
        });
    });
}

#[test]
fn a8_reserve_on_a_full_worker_grants_a_permit_without_a_place() {
    watched(|| {
        on_a_full_worker(|pool| {
            let permits = [
                pool.reserve().unwrap(),
                pool.reserve_timeout(Duration::ZERO).unwrap(),
                pool.reserve_deadline(Instant::now()).unwrap(),
                block_on(pool.reserve_async()).unwrap(),
            ];
            assert_eq!(pool.metrics().depth, 1);
            for permit in permits {
                let (job, ran) = here_detached();
                permit.spawn(job);
                assert!(ran());
            }
            let (job, ran) = here();
            let handle = pool.reserve().unwrap().submit(job);
            assert!(ran());
            assert_eq!(handle.join().unwrap(), 0);
            drop(pool.reserve().unwrap());
            assert_eq!(pool.metrics().depth, 1, "it had no place to give back");
            assert_eq!(pool.metrics().inlined, 5);
            let (job, ran) = here();
            drop(block_on(pool.submit_async(job)).unwrap());
            assert!(ran());
        });
    });
}

/// Failure 11.
#[test]
fn a8_a_handle_is_joined_inside_a_job_of_a_pool_of_one() {
    watched(|| {
        on_a_full_worker(|pool| {
            let inline = pool.submit(|| 1).unwrap();
            assert_eq!(inline.join().unwrap(), 1);
        });
        let pool = pool(1, 1);
        let own = Arc::clone(&pool);
        let outer = pool.submit(move || {
            let (job, ran) = here();
            let queued = own.submit(job).unwrap();
            assert!(!ran() && own.metrics().depth == 1);
            assert_eq!(queued.join().unwrap(), 0);
            assert_eq!(own.metrics().depth, 0);
            let (job, _) = here();
            let queued = own.submit(job).unwrap();
            queued.join_timeout(Duration::ZERO).unwrap().unwrap()
        });
        assert_eq!(outer.unwrap().join().unwrap(), 0);
        assert_eq!(pool.metrics().inlined, 0, "they had places");
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Failure 28. The awaited job has not started, and an unrelated job that takes the lock is in
/// front of it. That job must not run on top of the waiting frame.
#[test]
fn r3_a_lock_may_be_held_across_the_join_of_a_handle() {
    for workers in [1, 2] {
        watched(move || {
            let rounds = if cfg!(miri) { 2 } else { 200 };
            for _ in 0..rounds {
                let pool = pool(workers, 8);
                let mutex = Arc::new(std::sync::Mutex::new(0));
                let jobs: Vec<_> = (0..4)
                    .map(|_| {
                        let (own, mutex) = (Arc::clone(&pool), Arc::clone(&mutex));
                        pool.submit(move || {
                            let part = own.submit(|| 1).unwrap();
                            let mut sum = mutex.lock().unwrap();
                            *sum += part.join().unwrap();
                        })
                        .unwrap()
                    })
                    .collect();
                for job in jobs {
                    job.join().unwrap();
                }
                assert_eq!(*mutex.lock().unwrap(), 4);
            }
        });
    }
}

/// Failure 28, other half: the awaited job runs elsewhere, and an unrelated job is queued.
#[test]
fn r3_an_unrelated_job_is_not_run_on_top_of_a_wait() {
    watched(|| {
        let pool = pool(2, 8);
        let mutex = Arc::new(std::sync::Mutex::new(()));
        let gate = Gate::new();
        let (begun, wait) = mpsc::channel();
        let held = gate.clone();
        let part = pool
            .submit(move || {
                begun.send(()).unwrap();
                held.pass();
            })
            .unwrap();
        wait.recv().unwrap();
        let (locked, wait) = mpsc::channel();
        let locks = Arc::clone(&mutex);
        let outer = pool.submit(move || {
            let _guard = locks.lock().unwrap();
            locked.send(()).unwrap();
            part.join().unwrap();
        });
        let outer = outer.unwrap();
        let locks = Arc::clone(&mutex);
        let unrelated = pool.submit(move || drop(locks.lock().unwrap())).unwrap();
        wait.recv().unwrap();
        let soon = Duration::from_millis(20);
        let unrelated = unrelated.join_timeout(soon).unwrap_err();
        gate.open();
        outer.join().unwrap();
        unrelated.join().unwrap();
    });
}

fn tree(pool: &Arc<Pool>, depth: u32) -> u64 {
    if depth == 0 {
        return 1;
    }
    let halves: Vec<_> = (0..2)
        .map(|_| {
            let own = Arc::clone(pool);
            pool.submit(move || tree(&own, depth - 1)).unwrap()
        })
        .collect();
    halves.into_iter().map(|half| half.join().unwrap()).sum()
}

#[test]
fn a8_no_nesting_deadlocks_on_the_capacity() {
    watched(|| {
        let depth = if cfg!(miri) { 4 } else { 10 };
        for (workers, capacity) in [(1, 1), (1, 3), (2, 1), (2, 4), (3, 2)] {
            let pool = pool(workers, capacity);
            let own = Arc::clone(&pool);
            let leaves = pool.submit(move || tree(&own, depth)).unwrap();
            assert_eq!(leaves.join().unwrap(), 1 << depth);
            pool.shutdown();
            assert_eq!(pool.metrics().admitted, (1 << (depth + 1)) - 1);
            assert_conserved(&pool);
        }
    });
}

/// Many producers inside, while the queue is full of unrelated jobs from outside.
#[test]
fn a8_producers_inside_and_outside_share_one_place() {
    watched(|| {
        let each = if cfg!(miri) { 10 } else { 500 };
        let pool = pool(2, 1);
        let ran = Arc::new(AtomicUsize::new(0));
        let outside: Vec<_> = (0..2)
            .map(|_| {
                let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                thread::spawn(move || {
                    for _ in 0..each {
                        let (own, counts) = (Arc::clone(&pool), Arc::clone(&ran));
                        pool.spawn(move || {
                            for _ in 0..3 {
                                let counts = Arc::clone(&counts);
                                own.spawn(move || {
                                    counts.fetch_add(1, Ordering::SeqCst);
                                })
                                .unwrap();
                            }
                        })
                        .unwrap();
                    }
                })
            })
            .collect();
        for thread in outside {
            thread.join().unwrap();
        }
        // Jobs inside may still submit: the pool is closed only after they are done.
        wait_until(|| ran.load(Ordering::SeqCst) == 6 * each);
        assert_eq!(pool.shutdown().completed as usize, 8 * each);
        assert_conserved(&pool);
    });
}

fn bounce(from: Arc<Pool>, to: Arc<Pool>, left: u32, done: mpsc::Sender<()>) {
    if left == 0 {
        return done.send(()).unwrap();
    }
    let next = Arc::clone(&to);
    next.spawn(move || bounce(to, from, left - 1, done))
        .unwrap();
}

/// Failure 12. Three balls for four places (two that run, two that wait): none can block both.
#[test]
fn jobs_bounce_between_two_pools_of_one() {
    watched(|| {
        let (a, b) = (pool(1, 1), pool(1, 1));
        let (done, ended) = mpsc::channel();
        for _ in 0..3 {
            let ball = (Arc::clone(&a), Arc::clone(&b), done.clone());
            a.spawn(move || bounce(ball.0, ball.1, 100, ball.2))
                .unwrap();
        }
        for _ in 0..3 {
            ended.recv().unwrap();
        }
        a.shutdown();
        b.shutdown();
        assert_conserved(&a);
        assert_conserved(&b);
    });
}

/// Failure 12, nested: a worker that is blocked in another pool still belongs to A.
#[test]
fn pools_a_to_b_to_a_with_joins() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 100 };
        let (a, b) = (pool(2, 1), pool(1, 1));
        for round in 0..rounds {
            let (own, other) = (Arc::clone(&a), Arc::clone(&b));
            let outer = a.submit(move || {
                let inner = other.submit(move || {
                    let back = own.submit(move || round).unwrap();
                    back.join().unwrap()
                });
                inner.unwrap().join().unwrap()
            });
            assert_eq!(outer.unwrap().join().unwrap(), round);
        }
    });
}

/// A pool that lives inside a job of another.
#[test]
fn a_pool_may_be_built_and_dropped_inside_a_job() {
    watched(|| {
        let outer = pool(1, 1);
        let sum = outer.submit(|| {
            let inner = pool(2, 1);
            let handles: Vec<_> = (0..20u64)
                .map(|n| inner.submit(move || n).unwrap())
                .collect();
            drop(inner);
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .sum::<u64>()
        });
        assert_eq!(sum.unwrap().join().unwrap(), 190);
    });
}
