//! Workers that enter and leave service, and queues that grow and shrink.

use std::time::Duration;

use crate::explore::{Tally, check, explore, explore_in_time, together};
use adaptive_pool::{Pool, PoolBuilder};
use shuttle::thread::yield_now;

/// A pool that changes its size whenever it may.
fn lively(least: usize, most: usize) -> PoolBuilder {
    Pool::builder()
        .workers(least..=most)
        .max_threads(most)
        .capacity(2)
        .scale_up_threshold(0.5)
        .scale_cooldown(Duration::from_millis(1))
        .idle_timeout(Duration::from_millis(6))
        .latency_tracking(false)
}

#[test]
fn s2_jobs_add_workers_and_all_are_run() {
    explore_in_time("s2_jobs_add_workers_and_all_are_run", || {
        let pool = lively(1, 2).build().unwrap();
        let ran = Tally::default();
        let outside = || {
            for _ in 0..2 {
                pool.spawn(ran.job()).unwrap();
            }
        };
        together(&[&outside, &outside]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 4);
        check(&pool, report);
    });
}

#[test]
fn s4_a_pool_that_was_idle_runs_new_jobs() {
    explore_in_time("s4_a_pool_that_was_idle_runs_new_jobs", || {
        let pool = lively(1, 3).build().unwrap();
        for n in 0..3 {
            let handles: Vec<_> = (0..2).map(|_| pool.submit(move || n).unwrap()).collect();
            for handle in handles {
                assert_eq!(handle.join().unwrap(), n);
            }
        }
        check(&pool, pool.shutdown());
    });
}

#[test]
fn s1_a_resize_meets_jobs_and_strands_none() {
    explore_in_time("s1_a_resize_meets_jobs_and_strands_none", || {
        let pool = lively(1, 2).max_threads(3).build().unwrap();
        let ran = Tally::default();
        let resize = || {
            pool.resize(3).unwrap();
            pool.set_capacity(1).unwrap();
            pool.resize(1).unwrap();
        };
        let submit = || {
            for _ in 0..3 {
                pool.submit(ran.job()).unwrap().join().unwrap();
            }
        };
        let scope = || {
            pool.scope(|s| {
                s.spawn(|_| ran.add());
                s.spawn(|_| ran.add());
            });
        };
        together(&[&resize, &submit, &scope]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 5);
        check(&pool, report);
    });
}

#[test]
fn s1_a_resize_meets_the_end() {
    explore_in_time("s1_a_resize_meets_the_end", || {
        let pool = lively(1, 2).build().unwrap();
        let ran = Tally::default();
        let resize = || {
            pool.resize(2).unwrap();
            pool.resize(1).unwrap();
        };
        together(&[&resize, &|| drop(pool.spawn(ran.job())), &|| {
            _ = pool.shutdown()
        }]);
        let report = pool.shutdown();
        assert_eq!(report.completed as usize, ran.get());
        check(&pool, report);
    });
}

#[test]
fn a5_a_raised_capacity_admits_the_waiters() {
    explore("a5_a_raised_capacity_admits_the_waiters", || {
        let pool = lively(1, 1).capacity(1).build().unwrap();
        let (sender, receiver) = shuttle::sync::mpsc::channel();
        // The one worker is busy until both others were admitted.
        pool.spawn(move || (0..2).for_each(|_| receiver.recv().unwrap()))
            .unwrap();
        let outside = || {
            pool.spawn(|| ()).unwrap();
            sender.send(()).unwrap();
        };
        let raise = || {
            while pool.metrics().waiting_submitters == 0 {
                yield_now();
            }
            pool.set_capacity(3).unwrap();
        };
        together(&[&outside, &outside, &raise]);
        check(&pool, pool.shutdown());
    });
}
