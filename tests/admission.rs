//! Rules A1 to A4, A6 and A7: bounded admission.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, Pool};
use support::*;

fn pool(workers: usize, capacity: usize) -> Pool {
    Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .build()
        .unwrap()
}

fn past() -> Instant {
    Instant::now()
        .checked_sub(Duration::from_secs(1))
        .unwrap_or_else(Instant::now)
}

#[test]
fn a1_capacity_jobs_wait_while_each_worker_runs_one() {
    watched(|| {
        let pool = pool(2, 3);
        let _held = [occupy(&pool), occupy(&pool)];
        for waiting in 1..=3 {
            pool.try_spawn(|| ()).unwrap();
            assert_eq!(pool.metrics().depth, waiting);
        }
        assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
        assert!(pool.try_submit(|| ()).unwrap_err().is_full());
        assert_eq!(pool.try_reserve().unwrap_err(), AdmissionError::Full);
        let seen = pool.metrics();
        assert_eq!((seen.admitted, seen.depth, seen.capacity), (5, 3, 3));
    });
}

/// Counted from outside the pool, from the admission to the first line of the job.
#[test]
fn a1_the_bound_holds_at_every_instant() {
    watched(|| {
        const CAPACITY: usize = 3;
        const WORKERS: usize = 2;
        let each = if cfg!(miri) { 50 } else { 5_000 };
        let pool = Arc::new(pool(WORKERS, CAPACITY));
        let waiting = Arc::new(AtomicUsize::new(0));
        let worst = Arc::new(AtomicUsize::new(0));
        let submitters: Vec<_> = (0..4)
            .map(|_| {
                let (pool, waiting, worst) =
                    (Arc::clone(&pool), Arc::clone(&waiting), Arc::clone(&worst));
                thread::spawn(move || {
                    for _ in 0..each {
                        let permit = pool.reserve().unwrap();
                        let now = waiting.fetch_add(1, Ordering::SeqCst) + 1;
                        worst.fetch_max(now, Ordering::SeqCst);
                        let waiting = Arc::clone(&waiting);
                        permit.spawn(move || {
                            waiting.fetch_sub(1, Ordering::SeqCst);
                        });
                        assert!(pool.metrics().depth <= CAPACITY as u64);
                    }
                })
            })
            .collect();
        for submitter in submitters {
            submitter.join().unwrap();
        }
        pool.shutdown();
        // Each worker may be between the release of its place and the first line of the job.
        let worst = worst.load(Ordering::SeqCst);
        assert!(worst <= CAPACITY + WORKERS, "{worst} waited");
        assert_conserved(&pool);
    });
}

#[test]
fn a2_an_unused_permit_gives_its_place_back() {
    watched(|| {
        let pool = pool(1, 2);
        let permits = [pool.reserve().unwrap(), pool.try_reserve().unwrap()];
        assert_eq!(pool.metrics().depth, 2);
        assert_eq!(pool.try_reserve().unwrap_err(), AdmissionError::Full);
        drop(permits);
        assert_eq!(pool.metrics().depth, 0);
        let both = [pool.try_reserve().unwrap(), pool.try_reserve().unwrap()];
        assert!(pool.try_reserve().is_err());
        drop(both);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn a2_a_place_is_free_once_its_job_has_started() {
    watched(|| {
        let pool = pool(1, 1);
        let held = occupy(&pool);
        assert_eq!(pool.metrics().depth, 0);
        pool.try_spawn(|| ()).unwrap();
        assert_eq!(pool.metrics().depth, 1);
        held.release();
        wait_until(|| pool.metrics().depth == 0);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// A waiter that is due gets the next free place without the help of a worker.
#[test]
fn a2_a_cancelled_job_frees_its_place_and_its_closure_at_once() {
    watched(|| {
        let pool = pool(1, 1);
        let _held = occupy(&pool);
        let drops = Drops::default();
        let capture = drops.one();
        let handle = pool.try_submit(move || drop(capture)).unwrap();
        assert!(pool.try_spawn(|| ()).is_err());
        assert!(handle.cancel());
        assert_eq!(drops.count(), 1);
        pool.try_spawn(|| ()).unwrap();
    });
}

/// Failure 4.
#[test]
fn a2_no_panic_leaks_a_place() {
    watched(|| {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !thread::panicking() {
                    panic!("dropped");
                }
            }
        }
        let pool = pool(1, 1);
        let free = |pool: &Pool| {
            wait_until(|| pool.metrics().depth == 0);
            drop(pool.try_reserve().expect("a place was lost"));
        };
        let joined = pool.submit(|| panic!("body")).unwrap().join();
        assert!(joined.unwrap_err().is_panic());
        free(&pool);
        pool.spawn(|| panic!("body")).unwrap();
        free(&pool);
        let bomb = Bomb;
        let joined = pool.submit(move || drop(bomb)).unwrap().join();
        assert!(joined.unwrap_err().is_panic());
        free(&pool);
        let bomb = Bomb;
        pool.spawn(move || {
            let _captured = &bomb;
        })
        .unwrap();
        free(&pool);
        drop(pool.submit(|| Bomb).unwrap());
        free(&pool);
        let held = occupy(&pool);
        let bomb = Bomb;
        let handle = pool.submit(move || drop(bomb)).unwrap();
        assert!(handle.cancel());
        drop(pool.try_reserve().expect("a place was lost"));
        held.release();
        free(&pool);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn a3_with_room_free_every_form_is_admitted_at_once() {
    watched(|| {
        let pool = pool(1, 16);
        let zero = Duration::ZERO;
        let _held = occupy(&pool);
        drop(pool.reserve().unwrap());
        drop(pool.reserve_timeout(zero).unwrap());
        drop(pool.reserve_deadline(past()).unwrap());
        drop(pool.try_reserve().unwrap());
        let Poll::Ready(Ok(permit)) = poll_once(&mut Box::pin(pool.reserve_async())) else {
            panic!("a future waits, although there is room");
        };
        drop(permit);
        drop(pool.submit(|| ()).unwrap());
        drop(pool.submit_timeout(zero, || ()).unwrap());
        drop(pool.submit_deadline(past(), || ()).unwrap());
        drop(pool.try_submit(|| ()).unwrap());
        assert!(poll_once(&mut Box::pin(pool.submit_async(|| ()))).is_ready());
        pool.spawn(|| ()).unwrap();
        pool.try_spawn(|| ()).unwrap();
        pool.spawn_timeout(zero, || ()).unwrap();
        assert_eq!(pool.metrics().depth, 8);
    });
}

/// A place that a worker reserved for its own future jobs is still available to others, by every
/// form and for waiters.
#[test]
fn a3_places_in_a_permit_cache_are_available_to_others() {
    watched(|| {
        const CAPACITY: u64 = 256;
        let pool = Arc::new(pool(1, CAPACITY as usize));
        let (begun, wait) = mpsc::channel();
        let (go, turns) = mpsc::channel();
        let worker = {
            let pool = Arc::clone(&pool);
            move || {
                for jobs in [1, 2] {
                    (0..jobs).for_each(|_| pool.spawn(|| ()).unwrap());
                    begun.send(()).unwrap();
                    turns.recv().unwrap();
                }
            }
        };
        pool.spawn(worker).unwrap();
        wait.recv().unwrap();
        let seen = pool.metrics();
        assert_eq!((seen.depth, seen.admitted), (1, 2));
        for depth in 2..=CAPACITY {
            pool.try_spawn(|| ()).unwrap();
            assert_eq!(pool.metrics().depth, depth);
        }
        assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
        assert_eq!(pool.metrics().inlined, 0);
        // The next job of the worker finds no place either.
        go.send(()).unwrap();
        wait.recv().unwrap();
        let seen = pool.metrics();
        assert_eq!((seen.inlined, seen.depth), (2, CAPACITY));
        go.send(()).unwrap();
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn a4_a_refused_job_comes_back_un_run_and_un_dropped() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        let drops = Drops::default();
        let job = |n: u32| {
            let capture = drops.one();
            move || {
                let _capture = &capture;
                n
            }
        };
        let soon = Duration::from_millis(1);
        let full = pool.try_submit(job(1)).unwrap_err();
        let timed_out = pool.submit_timeout(soon, job(2)).unwrap_err();
        let past_due = pool.submit_deadline(past(), job(3)).unwrap_err();
        let spawned = pool.try_spawn({
            let job = job(4);
            move || {
                job();
            }
        });
        assert_eq!(full.reason(), AdmissionError::Full);
        assert_eq!(timed_out.reason(), AdmissionError::TimedOut);
        assert_eq!(past_due.reason(), AdmissionError::TimedOut);
        assert!(spawned.as_ref().unwrap_err().is_full());
        assert!(pool.spawn_timeout(soon, || ()).unwrap_err().is_timed_out());
        let waits = pool.reserve_timeout(soon).unwrap_err();
        assert_eq!(waits, AdmissionError::TimedOut);
        pool.close();
        let closed = pool.submit(job(5)).unwrap_err();
        assert_eq!(closed.reason(), AdmissionError::Closed);
        let from_async = block_on(pool.submit_async(job(6))).unwrap_err();
        assert_eq!(from_async.reason(), AdmissionError::Closed);
        assert_eq!(drops.count(), 0);
        assert_eq!(format!("{full:?} {full}"), "Full(..) the queue is full");
        let results: Vec<u32> = [full, timed_out, past_due, closed, from_async]
            .into_iter()
            .map(|refused| refused.into_job()())
            .collect();
        assert_eq!(results, [1, 2, 3, 5, 6]);
        drop(spawned);
        assert_eq!(drops.count(), 6);
        drop(held);
        let seen = pool.metrics();
        assert_eq!(
            (
                seen.rejected_full,
                seen.rejected_timed_out,
                seen.rejected_closed
            ),
            (3, 4, 2),
        );
    });
}

#[test]
fn a6_closing_wakes_every_blocked_submitter() {
    watched(|| {
        let pool = Arc::new(pool(1, 1));
        let held = fill(&pool, 1);
        let mut task = Box::pin(pool.reserve_async());
        let (waker, woken) = counting_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(task.as_mut().poll(&mut cx).is_pending());
        let submitters: Vec<_> = (0..6)
            .map(|n| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || match n {
                    0 | 1 => pool.submit(|| ()).unwrap_err().reason(),
                    2 => pool.spawn(|| ()).unwrap_err().reason(),
                    3 => pool.reserve().unwrap_err(),
                    4 => pool
                        .spawn_timeout(Duration::from_secs(50), || ())
                        .unwrap_err()
                        .reason(),
                    _ => block_on(pool.submit_async(|| ())).unwrap_err().reason(),
                })
            })
            .collect();
        wait_for_waiters(&pool, 7);
        pool.close();
        for submitter in submitters {
            assert_eq!(submitter.join().unwrap(), AdmissionError::Closed);
        }
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        let Poll::Ready(Err(reason)) = poll_once(&mut task) else {
            panic!("the task was not woken");
        };
        assert_eq!(reason, AdmissionError::Closed);
        assert!(pool.is_closed());
        assert_eq!(pool.metrics().rejected_closed, 7);
        drop(held);
        // The queued jobs still run.
        assert_eq!(pool.shutdown().completed, 2);
    });
}

/// Failure 9.
#[test]
fn a6_closed_stays_closed() {
    watched(|| {
        let pool = pool(1, 4);
        let permit = pool.reserve().unwrap();
        let handle = pool.submit(|| ()).unwrap();
        pool.close();
        pool.close();
        pool.set_capacity(8).unwrap();
        drop(permit);
        handle.join().unwrap();
        for _ in 0..3 {
            assert!(pool.is_closed());
            assert!(pool.try_submit(|| ()).unwrap_err().is_closed());
            let zero = Duration::ZERO;
            assert!(pool.submit_timeout(zero, || ()).unwrap_err().is_closed());
            assert_eq!(pool.reserve().unwrap_err(), AdmissionError::Closed);
            pool.set_capacity(1).unwrap();
        }
    });
}

#[test]
fn a7_the_admission_timeout_ends_with_admission() {
    watched(|| {
        let pool = pool(1, 2);
        let held = occupy(&pool);
        let soon = Duration::from_millis(1);
        let ran = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&ran);
        let first = pool
            .submit_timeout(soon, move || counts.fetch_add(1, Ordering::SeqCst))
            .unwrap();
        let counts = Arc::clone(&ran);
        let second = pool
            .submit_deadline(Instant::now() + soon, move || {
                counts.fetch_add(1, Ordering::SeqCst)
            })
            .unwrap();
        let over = Instant::now() + 3 * soon;
        wait_until(|| Instant::now() >= over);
        held.release();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (0, 1));
        assert_eq!(ran.load(Ordering::SeqCst), 2);
    });
}

/// Failure 24.
#[test]
fn no_duration_overflows() {
    watched(|| {
        let pool = Arc::new(pool(1, 1));
        let held = fill(&pool, 1);
        let times = [Duration::MAX, Duration::from_secs(u64::MAX / 2)];
        let waiting: Vec<_> = times
            .into_iter()
            .map(|time| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.submit_timeout(time, || 7).unwrap().join_timeout(time))
            })
            .collect();
        wait_for_waiters(&pool, 2);
        let zero = pool.submit_timeout(Duration::ZERO, || ()).unwrap_err();
        assert!(zero.is_timed_out());
        drop(held);
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().unwrap().unwrap(), 7);
        }
        assert_eq!(pool.shutdown_timeout(Duration::MAX).unwrap().completed, 4);
    });
}

#[test]
fn a_larger_capacity_admits_waiters_that_fit() {
    watched(|| {
        let pool = Arc::new(pool(1, 1));
        let held = fill(&pool, 1);
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.spawn(|| ()).unwrap())
            })
            .collect();
        wait_for_waiters(&pool, 4);
        pool.set_capacity(3).unwrap();
        wait_for_waiters(&pool, 2);
        assert_eq!((pool.metrics().depth, pool.metrics().capacity), (3, 3));
        pool.set_capacity(5).unwrap();
        for waiting in waiting {
            waiting.join().unwrap();
        }
        assert_eq!(pool.metrics().depth, 5);
        drop(held);
        assert_eq!(pool.shutdown().completed, 6);
        assert_conserved(&pool);
    });
}

#[test]
fn a_smaller_capacity_admits_no_job_until_the_queue_has_drained() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let held = occupy(&pool);
        let mut handles: Vec<_> = (0..4).map(|n| pool.submit(move || n).unwrap()).collect();
        pool.set_capacity(2).unwrap();
        assert_eq!(pool.metrics().depth, 4);
        for _ in 0..2 {
            assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
            assert!(handles.pop().unwrap().cancel());
        }
        assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
        assert!(handles.pop().unwrap().cancel());
        pool.try_spawn(|| ()).unwrap();
        assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
        held.release();
        assert_eq!(pool.shutdown().completed, 3);
        assert_conserved(&pool);
    });
}
