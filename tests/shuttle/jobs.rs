//! Submitted jobs and their submitters.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use adaptive_pool::{Pool, SubmitError};
use shuttle::future;

use crate::explore::{Tally, check, explore, explore_in_time, small, together};

#[test]
fn r1_a_job_runs_once_and_the_pool_ends() {
    explore("r1_a_job_runs_once_and_the_pool_ends", || {
        let pool = small(1, 1).build().unwrap();
        let ran = Tally::default();
        pool.spawn(ran.job()).unwrap();
        let report = pool.shutdown();
        assert_eq!(ran.get(), 1);
        check(&pool, report);
    });
}

#[test]
fn r2_a_job_that_comes_to_an_idle_pool_is_run() {
    explore("r2_a_job_that_comes_to_an_idle_pool_is_run", || {
        let pool = small(2, 2).build().unwrap();
        // Each is awaited before the next arrives, so that the workers go idle in between.
        for n in 0..3 {
            assert_eq!(pool.submit(move || n).unwrap().join().unwrap(), n);
        }
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r2_a_job_that_waits_for_a_later_one_has_a_worker_beside_it() {
    explore(
        "r2_a_job_that_waits_for_a_later_one_has_a_worker_beside_it",
        || {
            let pool = small(2, 2).build().unwrap();
            let (sender, receiver) = shuttle::sync::mpsc::channel();
            // A wait unknown to the pool: the second job needs the second worker.
            let first = pool.submit(move || receiver.recv().unwrap()).unwrap();
            pool.spawn(move || sender.send(7).unwrap()).unwrap();
            assert_eq!(first.join().unwrap(), 7);
            check(&pool, pool.shutdown());
        },
    );
}

#[test]
fn a5_two_outside_threads_get_through_a_full_queue() {
    explore("a5_two_outside_threads_get_through_a_full_queue", || {
        let pool = small(1, 1).build().unwrap();
        let ran = Tally::default();
        let outside = || {
            for _ in 0..3 {
                pool.spawn(ran.job()).unwrap();
            }
        };
        together(&[&outside, &outside]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 6);
        check(&pool, report);
    });
}

#[test]
fn a2_a_permit_that_meets_another_is_used_or_returned() {
    explore("a2_a_permit_that_meets_another_is_used_or_returned", || {
        let pool = small(1, 1).build().unwrap();
        let ran = Tally::default();
        together(&[
            &|| drop(pool.reserve()),
            &|| pool.reserve().unwrap().spawn(ran.job()),
            &|| pool.spawn(ran.job()).unwrap(),
        ]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 2);
        check(&pool, report);
    });
}

#[test]
fn a5_a_waiter_that_gives_up_strands_no_other() {
    explore_in_time("a5_a_waiter_that_gives_up_strands_no_other", || {
        let pool = small(1, 1).build().unwrap();
        let (ran, refused) = (Tally::default(), Tally::default());
        let outside = || pool.spawn(ran.job()).unwrap();
        let impatient = || match pool.spawn_timeout(Duration::from_millis(2), ran.job()) {
            Ok(()) => {}
            Err(SubmitError::TimedOut(_)) => refused.add(),
            Err(other) => panic!("{other:?}"),
        };
        together(&[&impatient, &outside, &outside]);
        let report = pool.shutdown();
        assert_eq!(ran.get() + refused.get(), 3);
        check(&pool, report);
    });
}

#[test]
fn a5_a_future_that_is_dropped_passes_its_place_on() {
    explore("a5_a_future_that_is_dropped_passes_its_place_on", || {
        let pool = small(1, 1).build().unwrap();
        let ran = Tally::default();
        // Polled once or twice, then dropped, granted or not.
        let fickle = || {
            future::block_on(async {
                let mut place = pin!(pool.reserve_async());
                let mut polls = 0;
                poll_fn(|cx| {
                    polls += 1;
                    match place.as_mut().poll(cx) {
                        Poll::Pending if polls < 2 => {
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                        _ => Poll::Ready(()),
                    }
                })
                .await;
            });
        };
        let steady = || {
            let job = ran.job();
            future::block_on(async { pool.submit_async(job).await.unwrap().await.unwrap() });
        };
        together(&[&fickle, &steady, &|| pool.spawn(ran.job()).unwrap()]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 2);
        check(&pool, report);
    });
}

#[test]
fn d2_every_handle_ends_under_concurrent_cancels() {
    explore("d2_every_handle_ends_under_concurrent_cancels", || {
        let pool = small(2, 2).build().unwrap();
        let ran = Tally::default();
        let handles: Vec<_> = (0..3).map(|_| pool.submit(ran.job()).unwrap()).collect();
        let cancelled = AtomicU64::new(0);
        let cancel = |index: usize| {
            cancelled.fetch_add(u64::from(handles[index].cancel()), Ordering::Relaxed);
        };
        together(&[&|| cancel(0), &|| (0..2).for_each(cancel)]);
        let cancelled = cancelled.into_inner();
        let joined = handles.into_iter().map(|handle| handle.join());
        let ends = joined.filter(|end| matches!(end, Err(error) if error.is_cancelled()));
        assert_eq!(ends.count() as u64, cancelled);
        let report = pool.shutdown();
        assert_eq!(report.cancelled, cancelled);
        assert_eq!(ran.get() as u64, 3 - cancelled);
        check(&pool, report);
    });
}

#[test]
fn a8_jobs_that_submit_into_a_full_queue_run_inline() {
    explore("a8_jobs_that_submit_into_a_full_queue_run_inline", || {
        let pool = Arc::new(small(2, 1).build().unwrap());
        let ran = Tally::default();
        let (own, tally) = (Arc::clone(&pool), ran.clone());
        let handle = pool
            .submit(move || {
                for _ in 0..3 {
                    own.spawn(tally.job()).unwrap();
                }
                own.submit(tally.job()).unwrap().join().unwrap();
            })
            .unwrap();
        handle.join().unwrap();
        let report = pool.shutdown();
        assert_eq!(ran.get(), 4);
        check(&pool, report);
    });
}

/// A8: chains whose links run in place, are queued over the capacity, or are deferred, beside a
/// thread that fills the queue.
#[test]
fn a8_overdrawn_jobs_run_once() {
    fn chain(pool: &Arc<Pool>, ran: &Tally, links: usize) {
        ran.add();
        if links == 0 {
            return;
        }
        for _ in 0..2 {
            let (own, tally) = (Arc::downgrade(pool), ran.clone());
            let job = move || {
                let Some(pool) = own.upgrade() else { return };
                chain(&pool, &tally, links - 1);
            };
            match links % 2 {
                0 => pool.spawn(job).unwrap(),
                _ => drop(pool.submit(job).unwrap().join()),
            }
        }
        let tally = ran.clone();
        let deferred = pool.admit().deferred();
        deferred.spawn(move || tally.add()).unwrap();
    }
    explore("a8_overdrawn_jobs_run_once", || {
        let pool = Arc::new(small(2, 1).build().unwrap());
        let ran = Tally::default();
        let filler = || {
            for _ in 0..2 {
                pool.spawn(ran.job()).unwrap();
            }
        };
        let submitter = || {
            let (own, tally) = (Arc::clone(&pool), ran.clone());
            pool.submit(move || chain(&own, &tally, 3))
                .unwrap()
                .join()
                .unwrap();
        };
        together(&[&filler, &submitter]);
        // No handle here waits for a dropped link.
        while pool.metrics().completed < pool.metrics().admitted {
            shuttle::thread::yield_now();
        }
        let report = pool.shutdown();
        // 15 links. 7 of them have submitted others, and one more job each. And the filler's job.
        assert_eq!(ran.get(), 15 + 7 + 2);
        check(&pool, report);
        assert_eq!(pool.metrics().overdrawn_now, 0);
    });
}
