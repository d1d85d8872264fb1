//! Rule S5 and failure 42: an idle pool uses no CPU time. In processes of their own, since CPU time
//! is counted per process.
mod support;

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use adaptive_pool::Pool;
use support::*;

const IDLE: Duration = Duration::from_secs(3);
const ALLOWED: Duration = Duration::from_millis(30);

/// The CPU time of the process while this thread waits.
fn time_of_idling() -> Duration {
    let before = cpu_time();
    let (_keep, never) = mpsc::channel::<()>();
    assert_eq!(never.recv_timeout(IDLE), Err(RecvTimeoutError::Timeout));
    cpu_time() - before
}

fn pool() -> Pool {
    let builder = Pool::builder().workers(1..=4).max_threads(4).capacity(8);
    let builder = builder
        .scale_up_threshold(0.0)
        .scale_cooldown(Duration::ZERO);
    builder.idle_timeout(Duration::ZERO).build().unwrap()
}

#[test]
fn s5_a_new_pool_uses_no_cpu_time() {
    survives_in_child("s5_a_new_pool_uses_no_cpu_time", || {
        let _pool = pool();
        let used = time_of_idling();
        assert!(used < ALLOWED, "{used:?}");
    });
}

#[test]
fn s5_a_pool_after_a_burst_uses_no_cpu_time() {
    survives_in_child("s5_a_pool_after_a_burst_uses_no_cpu_time", || {
        let pool = pool();
        drop([occupy(&pool), occupy(&pool), occupy(&pool), occupy(&pool)]);
        for _ in 0..10_000 {
            pool.spawn(|| assert_eq!(rayon_core::join(|| 1, || 2), (1, 2)))
                .unwrap();
        }
        wait_until(|| pool.metrics().depth == 0);
        let used = time_of_idling();
        assert!(used < ALLOWED, "{used:?}");
    });
}

/// Waiting threads use none either: workers in a job, a blocked submitter, a joining thread.
#[test]
fn s5_a_pool_whose_threads_all_wait_uses_no_cpu_time() {
    survives_in_child("s5_a_pool_whose_threads_all_wait_uses_no_cpu_time", || {
        let pool = Pool::builder().workers(2).capacity(1).build().unwrap();
        let held = fill(&pool, 2);
        let gate = Gate::new();
        std::thread::scope(|s| {
            s.spawn(|| pool.submit(|| 7).unwrap().join().unwrap());
            s.spawn(|| pool.spawn_timeout(Duration::from_secs(50), || ()).unwrap());
            let waiting = gate.clone();
            s.spawn(move || waiting.pass());
            wait_for_waiters(&pool, 2);
            let used = time_of_idling();
            gate.open();
            drop(held);
            assert!(used < ALLOWED, "{used:?}");
        });
    });
}
