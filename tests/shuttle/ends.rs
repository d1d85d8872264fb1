//! Every form of shutdown.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use adaptive_pool::{ShutdownError, SubmitError};

use crate::explore::{Tally, check, check_counts, explore, explore_in_time, small, together};

#[test]
fn a6_submitters_at_a_full_queue_that_closes_are_admitted_or_refused() {
    explore(
        "a6_submitters_at_a_full_queue_that_closes_are_admitted_or_refused",
        || {
            let pool = small(1, 1).build().unwrap();
            let (ran, refused) = (Tally::default(), Tally::default());
            let outside = || {
                for _ in 0..2 {
                    match pool.spawn(ran.job()) {
                        Ok(()) => {}
                        Err(SubmitError::Closed(_)) => refused.add(),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            };
            together(&[&outside, &outside, &|| _ = pool.shutdown()]);
            let report = pool.shutdown();
            assert_eq!(ran.get() + refused.get(), 4);
            assert_eq!(report.completed as usize, ran.get());
            check(&pool, report);
        },
    );
}

#[test]
fn d3_two_shutdowns_get_one_answer() {
    explore("d3_two_shutdowns_get_one_answer", || {
        let pool = small(2, 2).build().unwrap();
        let ran = Tally::default();
        pool.spawn(ran.job()).unwrap();
        let shut_down = || {
            let report = pool.shutdown();
            assert_eq!(report.completed as usize, ran.get());
            check(&pool, report);
        };
        together(&[&shut_down, &shut_down, &|| drop(pool.spawn(ran.job()))]);
    });
}

#[test]
fn d2_dropped_jobs_are_counted_and_reported() {
    explore("d2_dropped_jobs_are_counted_and_reported", || {
        let pool = small(1, 2).build().unwrap();
        let ran = Tally::default();
        let outside = || {
            for _ in 0..2 {
                // It ends, in either way.
                if let Ok(handle) = pool.submit(ran.job()) {
                    drop(handle.join());
                }
            }
        };
        let shut_down = || {
            let report = pool.shutdown_now().unwrap();
            assert_eq!(report.completed as usize, ran.get());
            check(&pool, report);
        };
        together(&[&outside, &|| drop(pool.spawn(ran.job())), &shut_down]);
    });
}

#[test]
fn d4_the_jobs_of_a_scope_are_run_when_the_rest_is_dropped() {
    explore(
        "d4_the_jobs_of_a_scope_are_run_when_the_rest_is_dropped",
        || {
            let pool = small(2, 2).build().unwrap();
            let ran = Tally::default();
            let outside = || {
                pool.scope(|s| {
                    s.spawn(|s| s.spawn(|_| ran.add()));
                    s.spawn(|_| ran.add());
                });
                assert_eq!(ran.get(), 2);
                let sum: u32 = pool.map(0..2, |n| n).sum();
                assert_eq!(sum, 1);
            };
            together(&[&outside, &|| _ = pool.shutdown_now()]);
            check_counts(&pool);
        },
    );
}

#[test]
fn d4_the_error_of_a_shutdown_that_times_out_stays_true() {
    explore_in_time(
        "d4_the_error_of_a_shutdown_that_times_out_stays_true",
        || {
            let pool = small(1, 2).build().unwrap();
            let ran = Tally::default();
            for _ in 0..2 {
                pool.spawn(ran.job()).unwrap();
            }
            match pool.shutdown_timeout(Duration::from_millis(1)) {
                Ok(report) => assert_eq!(report.completed, 2),
                Err(ShutdownError::TimedOut { report, running }) => {
                    let last = pool.shutdown();
                    assert_eq!(last.dropped, report.dropped);
                    assert_eq!(last.completed, report.completed + running);
                }
                Err(other) => panic!("{other:?}"),
            }
            let report = pool.shutdown();
            assert_eq!(report.completed as usize, ran.get());
            check(&pool, report);
        },
    );
}

#[test]
fn d5_a_pool_that_its_own_job_drops_ends_and_is_not_waited_for() {
    explore(
        "d5_a_pool_that_its_own_job_drops_ends_and_is_not_waited_for",
        || {
            let pool = Arc::new(small(1, 1).build().unwrap());
            let own = Arc::clone(&pool);
            let ran = Tally::default();
            let tally = ran.clone();
            let handle = pool
                .submit(move || {
                    assert!(own.shutdown_now().is_err());
                    tally.add();
                    drop(own);
                })
                .unwrap();
            drop(pool);
            // Whichever owner was the last to drop it, the job is run.
            handle.join().unwrap();
            assert_eq!(ran.get(), 1);
        },
    );
}

#[test]
fn d6_a_scope_that_is_open_when_the_pool_closes_is_finished() {
    explore(
        "d6_a_scope_that_is_open_when_the_pool_closes_is_finished",
        || {
            let pool = small(2, 1).build().unwrap();
            let ran = Tally::default();
            let outside = || {
                pool.scope(|s| {
                    for _ in 0..3 {
                        s.spawn(|_| ran.add());
                    }
                });
                assert_eq!(ran.get(), 3);
            };
            together(&[&outside, &|| _ = pool.shutdown()]);
            check_counts(&pool);
        },
    );
}

#[test]
fn a2_a_permit_that_outlives_the_pool_runs_or_drops_its_job() {
    explore(
        "a2_a_permit_that_outlives_the_pool_runs_or_drops_its_job",
        || {
            let pool = small(1, 2).build().unwrap();
            let ran = Tally::default();
            let holder = || {
                if let Ok(permit) = pool.reserve() {
                    permit.submit(ran.job()).join().unwrap();
                }
            };
            together(&[&holder, &|| drop(pool.reserve()), &|| _ = pool.shutdown()]);
            assert_eq!(pool.metrics().completed as usize, ran.get());
            check_counts(&pool);
        },
    );
}

#[test]
fn r4_a_panic_stays_in_its_job() {
    explore("r4_a_panic_stays_in_its_job", || {
        let pool = small(2, 2).build().unwrap();
        let ran = Tally::default();
        // Not `panic!`, which would be reported for each schedule.
        let handle = pool.submit(|| resume_unwind(Box::new("a job"))).unwrap();
        pool.spawn(ran.job()).unwrap();
        let ended: Result<(), _> = handle.join();
        assert!(ended.is_err());
        let report = pool.shutdown();
        assert_eq!((report.panicked, ran.get()), (1, 1));
        check(&pool, report);
    });
}
