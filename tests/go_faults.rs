//! The faults of go-adaptive-pool, one test for each that applies.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, Pool, ShutdownError};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

/// There, it always panics.
#[test]
fn go_fault_1_a_submitter_blocked_on_a_full_queue_survives_the_shutdown() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        let blocked: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.submit(|| 7).unwrap_err())
            })
            .collect();
        wait_for_waiters(&pool, 4);
        let own = Arc::clone(&pool);
        let closer = thread::spawn(move || own.shutdown());
        for submitter in blocked {
            let refused = submitter.join().expect("it panicked");
            assert_eq!(refused.reason(), AdmissionError::Closed);
            assert_eq!(refused.into_job()(), 7);
        }
        drop(held);
        assert_eq!(closer.join().unwrap().completed, 2);
    });
}

/// There, 0 of 50 accepted jobs ran, and 50 were counted as processed.
#[test]
fn go_fault_2_the_submit_timeout_is_not_the_jobs_deadline() {
    watched(|| {
        let pool = pool(1, 50);
        let held = occupy(&pool);
        let ran = Arc::new(AtomicUsize::new(0));
        let soon = Duration::from_millis(1);
        for _ in 0..50 {
            let ran = Arc::clone(&ran);
            pool.spawn_timeout(soon, move || {
                ran.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        }
        let over = Instant::now() + 5 * soon;
        wait_until(|| Instant::now() >= over);
        held.release();
        assert_eq!(pool.shutdown().completed, 51);
        assert_eq!(ran.load(Ordering::SeqCst), 50);
    });
}

/// There, both deadlock.
#[test]
fn go_fault_4_a_job_may_submit_to_its_full_pool_and_shut_it_down() {
    watched(|| {
        let pool = pool(1, 1);
        let own = Arc::clone(&pool);
        let outer = pool.submit(move || {
            while own.try_spawn(|| ()).is_ok() {}
            let sum: u32 = (0..5)
                .map(|n| own.submit(move || n).unwrap().join().unwrap())
                .sum();
            let inside = own.shutdown_timeout(Duration::from_secs(50)).unwrap_err();
            assert_eq!(inside, ShutdownError::InsideJob);
            own.shutdown();
            sum
        });
        assert_eq!(outer.unwrap().join().unwrap(), 10);
        assert_eq!(pool.shutdown().completed, 7);
    });
}

/// There, 21 jobs were done when the shutdown returned, and 41 a second later.
#[test]
fn go_fault_5_a_forced_shutdown_counts_the_running_jobs() {
    watched(|| {
        let pool = pool(2, 16);
        let ended = Arc::new(AtomicUsize::new(0));
        let gate = Gate::new();
        for _ in 0..10 {
            let (gate, ended) = (gate.clone(), Arc::clone(&ended));
            pool.spawn(move || {
                gate.pass();
                ended.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        }
        wait_until(|| pool.metrics().workers_busy == 2);
        let soon = Duration::from_millis(2);
        let Err(ShutdownError::TimedOut { report, running }) = pool.shutdown_timeout(soon) else {
            panic!("ten jobs wait at the gate");
        };
        assert_eq!((report.total(), report.dropped, running), (8, 8, 2));
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        // The second call does not claim success either.
        let again = pool.shutdown_timeout(Duration::ZERO).unwrap_err();
        assert!(matches!(again, ShutdownError::TimedOut { running: 2, .. }));
        gate.open();
        let last = pool.shutdown();
        assert_eq!((last.completed, last.dropped), (2, 8));
        assert_eq!(ended.load(Ordering::SeqCst), 2);
    });
}

/// There, they are only logged.
#[test]
fn go_fault_6_jobs_that_were_dropped_are_reported() {
    watched(|| {
        let pool = pool(1, 16);
        let held = occupy(&pool);
        let jobs: Vec<_> = (0..7).map(|_| pool.submit(|| ()).unwrap()).collect();
        let soon = Duration::from_millis(1);
        let error = pool.shutdown_timeout(soon).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the shutdown timed out: 1 jobs are still running, 7 were dropped",
        );
        assert!(
            jobs.into_iter()
                .all(|job| job.join().unwrap_err().is_cancelled())
        );
        held.release();
        assert_eq!(pool.shutdown().dropped, 7);
        assert_eq!(pool.metrics().dropped, 7);
    });
}

/// There, 507 of 1000 were refused, and never as "full".
#[test]
fn go_fault_7_with_room_free_an_expired_deadline_is_admitted() {
    watched(|| {
        let pool = pool(1, 1000);
        let held = occupy(&pool);
        let past = Instant::now();
        for n in 0..1000 {
            match n % 2 {
                0 => drop(pool.submit_deadline(past, || ()).unwrap()),
                _ => pool.spawn_timeout(Duration::ZERO, || ()).unwrap(),
            }
        }
        assert!(pool.try_spawn(|| ()).unwrap_err().is_full());
        let late = pool.submit_deadline(past, || ()).unwrap_err();
        assert!(late.is_timed_out());
        held.release();
        assert_eq!(pool.shutdown().completed, 1001);
    });
}
