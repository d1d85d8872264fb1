//! Rules D1 to D5: every form of shutdown, and its guarantees.
mod support;

use std::{
    panic,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, ShutdownError, ShutdownReport};
use support::*;

const SOON: Duration = Duration::from_millis(2);

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

fn report(completed: u64, panicked: u64, cancelled: u64, dropped: u64) -> ShutdownReport {
    let mut report = ShutdownReport::default();
    report.completed = completed;
    report.panicked = panicked;
    report.cancelled = cancelled;
    report.dropped = dropped;
    report
}

#[test]
fn d1_after_shutdown_no_thread_exists() {
    watched(|| {
        for end in 0..4 {
            let name = format!("d1-end{end}");
            let pool = Pool::builder().workers(3).name(&name).build().unwrap();
            pool.spawn(|| ()).unwrap();
            wait_until(|| threads_named(&name) == 4);
            match end {
                0 => drop(pool.shutdown()),
                1 => drop(pool.shutdown_timeout(Duration::MAX).unwrap()),
                2 => drop(pool.shutdown_now().unwrap()),
                _ => drop(pool),
            }
            // The kernel forgets a thread shortly after it was joined.
            let end = std::time::Instant::now() + Duration::from_millis(500);
            wait_until(|| threads_named(&name) == 0 || std::time::Instant::now() > end);
            assert_eq!(threads_named(&name), 0);
        }
    });
}

/// Covers fault 5 of go-adaptive-pool too.
#[test]
fn d1_no_job_code_runs_after_a_shutdown() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 200 };
        for round in 0..rounds {
            let pool = pool(2, 64);
            let running = Arc::new(AtomicUsize::new(0));
            for _ in 0..32 {
                let running = Arc::clone(&running);
                pool.spawn(move || {
                    running.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
                .unwrap();
            }
            let report = match round % 3 {
                0 => pool.shutdown(),
                1 => pool.shutdown_now().unwrap(),
                _ => pool.shutdown_timeout(Duration::MAX).unwrap(),
            };
            assert_eq!(running.load(Ordering::SeqCst), 0);
            assert_eq!(report.total(), 32);
            assert_eq!(pool.metrics().threads, 0);
            assert_conserved(&pool);
        }
    });
}

#[test]
fn d2_every_admitted_job_is_in_the_report() {
    watched(|| {
        let pool = pool(1, 16);
        let held = occupy(&pool);
        let fine = pool.submit(|| 7).unwrap();
        let panics = pool.submit(|| -> u8 { panic!("in a job") }).unwrap();
        let cancelled = pool.submit(|| 8).unwrap();
        assert!(cancelled.cancel());
        pool.spawn(|| panic!("detached")).unwrap();
        held.release();
        assert_eq!(pool.shutdown(), report(2, 2, 1, 0));
        assert_eq!(fine.join().unwrap(), 7);
        assert!(panics.join().unwrap_err().is_panic());
        assert!(cancelled.join().unwrap_err().is_cancelled());
        assert_conserved(&pool);
    });
}

#[test]
fn d2_the_handle_of_a_dropped_job_ends_as_cancelled() {
    watched(|| {
        let pool = pool(1, 16);
        let held = occupy(&pool);
        let drops = Drops::default();
        let handles: Vec<_> = (0..5)
            .map(|_| {
                let capture = drops.one();
                pool.submit(move || drop(capture)).unwrap()
            })
            .collect();
        pool.spawn(|| unreachable!()).unwrap();
        let own = Arc::clone(&pool);
        let closer = thread::spawn(move || own.shutdown_now());
        // They end while the first job still runs.
        for handle in handles {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
        assert_eq!(drops.count(), 5);
        held.release();
        assert_eq!(closer.join().unwrap().unwrap(), report(1, 0, 0, 6));
        assert_conserved(&pool);
    });
}

#[test]
fn d3_all_callers_of_a_concurrent_shutdown_get_the_same_answer() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 100 };
        for _ in 0..rounds {
            let pool = pool(2, 8);
            for _ in 0..8 {
                pool.spawn(thread::yield_now).unwrap();
            }
            let barrier = Arc::new(Barrier::new(4));
            let callers: Vec<_> = (0..4)
                .map(|n| {
                    let (pool, barrier) = (Arc::clone(&pool), Arc::clone(&barrier));
                    thread::spawn(move || {
                        barrier.wait();
                        match n {
                            0 => pool.shutdown_timeout(Duration::MAX).unwrap(),
                            1 => pool.shutdown_now().unwrap(),
                            _ => pool.shutdown(),
                        }
                    })
                })
                .collect();
            let reports: Vec<_> = callers.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(reports.iter().all(|report| *report == reports[0]));
            assert_eq!(reports[0].total(), 8);
            assert_eq!(pool.shutdown(), reports[0]);
            assert_eq!(pool.shutdown_now().unwrap(), reports[0]);
            assert_eq!(pool.shutdown_timeout(Duration::ZERO).unwrap(), reports[0]);
        }
    });
}

#[test]
fn d4_a_timeout_drops_what_has_not_started_and_counts_what_runs() {
    watched(|| {
        let pool = pool(2, 16);
        let held = [occupy(&pool), occupy(&pool)];
        let drops = Drops::default();
        let handles: Vec<_> = (0..3)
            .map(|_| {
                let capture = drops.one();
                pool.submit(move || drop(capture)).unwrap()
            })
            .collect();
        let Err(ShutdownError::TimedOut {
            report: said,
            running,
        }) = pool.shutdown_timeout(SOON)
        else {
            panic!("two jobs run")
        };
        assert_eq!((said, running), (report(0, 0, 0, 3), 2));
        assert_eq!(drops.count(), 3);
        assert!(handles.into_iter().all(|job| job.join().is_err()));
        // The error stays true: nothing else is dropped, and the running jobs end by themselves.
        let again = pool.shutdown_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(
            again,
            ShutdownError::TimedOut {
                report: said,
                running
            }
        );
        drop(held);
        assert_eq!(pool.shutdown(), report(2, 0, 0, 3));
        assert_conserved(&pool);
    });
}

#[test]
fn d4_a_shutdown_within_its_time_drops_nothing() {
    watched(|| {
        let pool = pool(1, 64);
        for _ in 0..50 {
            pool.spawn(thread::yield_now).unwrap();
        }
        let done = pool.shutdown_timeout(Duration::from_secs(50));
        assert_eq!(done.unwrap(), report(50, 0, 0, 0));
    });
}

/// The submitters race with the close; no job is lost.
#[test]
fn d4_a_short_shutdown_timeout_against_submitters() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        let mut random = Random(seed());
        for _ in 0..rounds {
            let pool = pool(2, 4);
            let ran = Arc::new(AtomicU64::new(0));
            let submitters: Vec<_> = (0..3)
                .map(|_| {
                    let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                    thread::spawn(move || {
                        let mut admitted = 0;
                        loop {
                            let ran = Arc::clone(&ran);
                            let job = move || {
                                ran.fetch_add(1, Ordering::SeqCst);
                            };
                            if pool.spawn(job).is_err() {
                                return admitted;
                            }
                            admitted += 1;
                        }
                    })
                })
                .collect();
            for _ in 0..random.below(200) {
                thread::yield_now();
            }
            let said = pool.shutdown_timeout(Duration::from_micros(random.below(50)));
            let after = ran.load(Ordering::SeqCst);
            let last = pool.shutdown();
            let admitted: u64 = submitters.into_iter().map(|one| one.join().unwrap()).sum();
            assert_eq!(last.total(), admitted);
            assert_eq!(last.completed, ran.load(Ordering::SeqCst));
            match said {
                Ok(report) => assert_eq!(report, last),
                Err(ShutdownError::TimedOut { report, running }) => {
                    assert_eq!(report.dropped, last.dropped);
                    assert_eq!(report.total() + running, admitted);
                    assert!(after <= report.completed + running);
                }
                Err(other) => panic!("{other}"),
            }
            assert_conserved(&pool);
        }
    });
}

/// Failure 13.
#[test]
fn d2_a_shutdown_against_submitters_loses_no_job() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 1_500 };
        for round in 0..rounds {
            let pool = pool(1 + round % 2, 1 + round % 3);
            let ran = Arc::new(AtomicUsize::new(0));
            let barrier = Arc::new(Barrier::new(5));
            let submitters: Vec<_> = (0..4)
                .map(|_| {
                    let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                    let barrier = Arc::clone(&barrier);
                    thread::spawn(move || {
                        barrier.wait();
                        let mut returned = 0;
                        for _ in 0..5 {
                            let ran = Arc::clone(&ran);
                            let job = move || {
                                ran.fetch_add(1, Ordering::SeqCst);
                            };
                            returned += usize::from(pool.spawn(job).is_err());
                        }
                        returned
                    })
                })
                .collect();
            barrier.wait();
            let report = pool.shutdown();
            let returned: usize = submitters.into_iter().map(|one| one.join().unwrap()).sum();
            assert_eq!(ran.load(Ordering::SeqCst) + returned, 20);
            assert_eq!(report.completed as usize, 20 - returned);
        }
    });
}

#[test]
fn d5_a_shutdown_inside_a_job_does_not_hang() {
    watched(|| {
        let pool = pool(1, 4);
        let own = Arc::clone(&pool);
        let outer = pool.submit(move || {
            let inside = ShutdownError::InsideJob;
            assert_eq!(own.shutdown_timeout(Duration::MAX).unwrap_err(), inside);
            assert_eq!(own.shutdown_now().unwrap_err(), inside);
            assert!(!own.is_closed(), "nothing was changed");
            assert_eq!(own.submit(|| 7).unwrap().join().unwrap(), 7);
            own.spawn(|| ()).unwrap();
            let now = own.shutdown();
            assert!(own.is_closed());
            now
        });
        assert_eq!(outer.unwrap().join().unwrap(), report(1, 0, 0, 0));
        assert_eq!(pool.shutdown(), report(3, 0, 0, 0));
    });
}

/// Failure 15, where the job runs on the submitting thread outside the pool: the queue is full, or
/// the pool is closed. Of a batch, some items run with counters of that thread's own.
#[test]
fn d5_a_shutdown_inside_a_job_on_its_callers_thread_does_not_hang() {
    watched(|| {
        let inside = |pool: &Pool| {
            let forms = [pool.shutdown_timeout(Duration::MAX), pool.shutdown_now()];
            assert!(
                forms
                    .iter()
                    .all(|end| *end == Err(ShutdownError::InsideJob))
            );
            pool.shutdown();
        };
        for way in 0..3 {
            let pool = pool(1, 1);
            let other = Pool::builder().workers(1).capacity(1).build().unwrap();
            other.close();
            let held = fill(&pool, 1);
            pool.close();
            let ran = AtomicUsize::new(0);
            let job = || {
                inside(&pool);
                ran.fetch_add(1, Ordering::Relaxed);
            };
            match way {
                0 => pool.in_place_scope(|s| s.spawn(|_| job())),
                1 => pool.for_each(0..20, |_| job()),
                // Beneath a job of another pool.
                _ => pool.in_place_scope(|s| {
                    s.spawn(|_| other.in_place_scope(|s| s.spawn(|_| job())));
                }),
            }
            assert_eq!(ran.load(Ordering::Relaxed), if way == 1 { 20 } else { 1 });
            drop(held);
            // Outside the job it waits.
            let ended = pool.shutdown().total();
            assert_eq!(ended, 2 + if way == 1 { 20 } else { 1 });
            assert_conserved(&pool);
        }
    });
}

/// Failure 15. The threads end by themselves, and the queued jobs run.
#[test]
fn d5_a_pool_that_is_dropped_in_its_own_job_ends_by_itself() {
    let name = "d5_a_pool_that_is_dropped_in_its_own_job_ends_by_itself";
    survives_in_child(name, || {
        watched(|| {
            let pool = Pool::builder().workers(2).capacity(4).name("d5-drop");
            let pool = Arc::new(pool.build().unwrap());
            let gate = Gate::new();
            let (own, held) = (Arc::clone(&pool), gate.clone());
            let outer = pool.submit(move || {
                held.pass();
                drop(own);
            });
            let later = pool.submit(|| 7).unwrap();
            drop(pool);
            gate.open();
            outer.unwrap().join().unwrap();
            assert_eq!(later.join().unwrap(), 7);
            wait_until(|| threads_named("d5-drop") == 0);
        });
    });
}

/// The same in the other places where user code runs on a worker, outside a job.
#[test]
fn d5_a_pool_that_is_dropped_by_a_result_a_payload_or_the_panic_handler() {
    let name = "d5_a_pool_that_is_dropped_by_a_result_a_payload_or_the_panic_handler";
    survives_in_child(name, || {
        watched(|| {
            for way in 0..4 {
                let slot = Arc::new(std::sync::Mutex::new(None::<Arc<Pool>>));
                let handler = Arc::clone(&slot);
                let pool = Pool::builder()
                    .workers(1)
                    .name("d5-way")
                    .panic_handler(move |_| drop(handler.lock().unwrap().take()))
                    .build();
                let pool = Arc::new(pool.unwrap());
                let gate = Gate::new();
                let (own, held) = (Arc::clone(&pool), gate.clone());
                match way {
                    0 => drop(pool.submit(move || {
                        held.pass();
                        own
                    })),
                    1 => drop(pool.submit(move || {
                        held.pass();
                        panic::panic_any(own);
                    })),
                    2 => pool
                        .spawn(move || {
                            held.pass();
                            panic::panic_any(own);
                        })
                        .unwrap(),
                    _ => {
                        *slot.lock().unwrap() = Some(own);
                        pool.spawn(move || {
                            held.pass();
                            panic!("in a job");
                        })
                        .unwrap();
                    }
                }
                drop(pool);
                gate.open();
                wait_until(|| threads_named("d5-way") == 0);
            }
        });
    });
}

/// Failure 16.
#[test]
fn a_pool_that_is_dropped_by_a_panic_lets_the_payload_through() {
    watched(|| {
        let (done, ran) = mpsc::channel();
        let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let pool = pool(1, 4);
            for _ in 0..3 {
                let done = done.clone();
                pool.spawn(move || done.send(()).unwrap()).unwrap();
            }
            pool.spawn(|| panic!("in a job")).unwrap();
            panic::panic_any(42u8);
        }));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&42u8));
        assert_eq!(ran.try_iter().count(), 3);
    });
}

/// Failure 17.
#[test]
fn a_panic_in_the_drop_of_a_job_that_never_ran() {
    watched(|| {
        let pool = pool(1, 8);
        let held = occupy(&pool);
        let drops = Drops::default();
        for n in 0..6 {
            let counted = drops.one();
            let bomb = on_drop(move || {
                drop(counted);
                panic!("dropped");
            });
            let job = move || drop(bomb);
            match n % 3 {
                0 => pool.spawn(job).unwrap(),
                1 => drop(pool.submit(job).unwrap()),
                _ => assert!(pool.submit(job).unwrap().cancel()),
            }
        }
        let own = Arc::clone(&pool);
        let closer = thread::spawn(move || own.shutdown_now().unwrap());
        wait_until(|| drops.count() == 6);
        held.release();
        assert_eq!(closer.join().unwrap(), report(1, 0, 2, 4));
        assert_conserved(&pool);
    });
}

#[test]
fn a_permit_that_outlives_the_shutdown_is_harmless() {
    watched(|| {
        for now in [false, true] {
            let pool = pool(1, 4);
            let permits: Vec<_> = (0..4).map(|_| pool.reserve().unwrap()).collect();
            let report = if now {
                pool.shutdown_now().unwrap()
            } else {
                pool.shutdown()
            };
            assert_eq!(report.total(), 0);
            let caller = thread::current().id();
            let mut permits = permits.into_iter();
            let first = permits.next().unwrap();
            let job = first.submit(move || thread::current().id() == caller);
            assert!(job.is_finished());
            match job.join() {
                Ok(here) => assert!(here && !now),
                Err(error) => assert!(error.is_cancelled() && now),
            }
            let drops = Drops::default();
            let capture = drops.one();
            permits.next().unwrap().spawn(move || drop(capture));
            assert_eq!(drops.count(), 1);
            drop(permits.next());
            std::mem::forget(permits);
            assert_eq!(pool.metrics().depth, 1, "the permit that was forgotten");
            let seen = pool.metrics();
            let (ran, dropped) = (seen.completed, seen.dropped);
            assert_eq!((ran, dropped), if now { (0, 2) } else { (2, 0) });
            assert_eq!((seen.admitted, seen.started), (2, ran));
            assert_eq!(seen.inlined, ran);
        }
    });
}

#[test]
fn close_lets_queued_jobs_run() {
    watched(|| {
        let pool = pool(1, 8);
        let held = occupy(&pool);
        let jobs: Vec<_> = (0..8).map(|n| pool.submit(move || n).unwrap()).collect();
        let own = Arc::clone(&pool);
        pool.close();
        held.release();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.join().unwrap(), n);
        }
        assert_eq!(own.metrics().threads, TIMER_THREAD + 1, "the threads stay");
        assert_eq!(pool.shutdown(), report(9, 0, 0, 0));
    });
}
