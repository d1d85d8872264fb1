//! Rule M1 and failure 32: counters and gauges, and their sums at rest.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, Snapshot};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

#[test]
fn m1_the_getters_agree_with_a_snapshot() {
    watched(|| {
        let builder = Pool::builder().workers(1..=3).capacity(8).max_threads(4);
        let pool = builder.name("getters").build().unwrap();
        assert_eq!(pool.name(), "getters");
        assert_eq!((pool.capacity(), pool.depth(), pool.workers()), (8, 0, 1));
        let held = occupy(&pool);
        let permit = pool.reserve().unwrap();
        let handle = pool.submit(|| ()).unwrap();
        assert_eq!(pool.depth(), 2);
        assert_eq!(pool.metrics().depth, 2);
        drop(permit);
        assert!(handle.cancel());
        assert_eq!(pool.depth(), 0);
        pool.set_capacity(5).unwrap();
        pool.resize(3).unwrap();
        assert_eq!((pool.capacity(), pool.workers()), (5, 3));
        assert_eq!(pool.metrics().workers_in_service, 3);
        held.release();
        pool.shutdown();
        assert_eq!((pool.capacity(), pool.depth(), pool.workers()), (5, 0, 0));
        assert_eq!(pool.name(), "getters");
    });
}

#[test]
fn m1_every_counter_counts_its_own() {
    watched(|| {
        let pool = pool(1, 2);
        let held = occupy(&pool);
        let handle = pool.submit(|| ()).unwrap();
        pool.spawn(|| panic!("in a job")).unwrap();
        for _ in 0..3 {
            assert!(pool.try_spawn(|| ()).is_err());
        }
        let soon = Duration::from_millis(1);
        for _ in 0..2 {
            assert!(pool.submit_timeout(soon, || ()).is_err());
        }
        assert!(handle.cancel());
        let own = Arc::clone(&pool);
        pool.spawn(move || {
            own.try_spawn(|| ()).unwrap();
            own.try_spawn(|| ()).unwrap();
            // Full: the job runs inline.
            own.spawn(|| ()).unwrap();
            own.submit(|| panic!("in a job")).map(drop).unwrap();
        })
        .unwrap();
        held.release();
        wait_until(|| pool.metrics().completed == 5);
        pool.close();
        for _ in 0..4 {
            assert!(pool.try_submit(|| ()).is_err());
        }
        pool.shutdown();
        let seen = pool.metrics();
        assert_eq!(
            (
                seen.rejected_full,
                seen.rejected_timed_out,
                seen.rejected_closed
            ),
            (3, 2, 4),
        );
        assert_eq!((seen.admitted, seen.submitted), (8, 17));
        assert_eq!((seen.completed, seen.panicked), (5, 2));
        assert_eq!((seen.cancelled, seen.dropped, seen.inlined), (1, 0, 2));
        assert_eq!((seen.started, seen.thread_start_failures), (7, 0));
        let worker = seen.per_worker[0];
        assert_eq!(
            (worker.started, worker.completed, worker.panicked),
            (7, 5, 2)
        );
        assert_conserved(&pool);
    });
}

#[test]
fn m1_every_gauge_shows_its_own() {
    watched(|| {
        let pool = pool(3, 2);
        let seen = pool.metrics();
        assert_eq!(
            (seen.depth, seen.capacity, seen.waiting_submitters),
            (0, 2, 0)
        );
        assert_eq!((seen.workers_in_service, seen.workers_busy), (3, 0));
        assert_eq!((seen.workers_idle, seen.workers_parked), (3, 0));
        assert_eq!(seen.threads, TIMER_THREAD + 3);
        let held = [occupy(&pool), occupy(&pool)];
        let seen = pool.metrics();
        assert_eq!((seen.workers_busy, seen.workers_idle), (2, 1));
        assert_eq!(
            seen.per_worker.iter().filter(|worker| worker.busy).count(),
            2
        );
        let third = occupy(&pool);
        pool.try_spawn(|| ()).unwrap();
        let permit = pool.try_reserve().unwrap();
        let own = Arc::clone(&pool);
        let blocked = thread::spawn(move || own.spawn(|| ()).unwrap());
        let mut task = Box::pin(pool.reserve_async());
        assert!(poll_once(&mut task).is_pending());
        wait_for_waiters(&pool, 2);
        let seen = pool.metrics();
        assert_eq!(
            (seen.depth, seen.workers_busy, seen.workers_idle),
            (2, 3, 0)
        );
        drop((task, permit, held, third));
        blocked.join().unwrap();
        pool.shutdown();
        let seen = pool.metrics();
        assert_eq!(
            (seen.workers_in_service, seen.workers_busy, seen.threads),
            (0, 0, 0)
        );
        assert_conserved(&pool);
    });
}

/// A steal is one batch from another worker's deque.
#[test]
fn m1_steals_are_counted() {
    watched(|| {
        let pool = pool(2, 8);
        let own = Arc::clone(&pool);
        let outer = pool.submit(move || {
            let (send, receive) = std::sync::mpsc::channel();
            own.in_place_scope(|s| {
                for _ in 0..2 {
                    let send = send.clone();
                    s.spawn(move |_| send.send(()).unwrap());
                }
                receive.recv().unwrap();
                receive.recv().unwrap();
            });
        });
        outer.unwrap().join().unwrap();
        pool.shutdown();
        let seen = pool.metrics();
        let by_worker: u64 = seen.per_worker.iter().map(|worker| worker.steals).sum();
        assert!(seen.steals >= 1 && seen.steals == by_worker, "{seen:?}");
    });
}

fn assert_monotone(before: &Snapshot, now: &Snapshot) {
    let counters = |seen: &Snapshot| {
        [
            seen.submitted,
            seen.admitted,
            seen.started,
            seen.completed,
            seen.panicked,
            seen.cancelled,
            seen.dropped,
            seen.inlined,
            seen.overdrawn,
            seen.steals,
            seen.rejected_full,
            seen.rejected_timed_out,
            seen.rejected_closed,
        ]
    };
    for (before, now) in counters(before).into_iter().zip(counters(now)) {
        assert!(before <= now, "{before} to {now}");
    }
    let ended = now.completed + now.panicked + now.cancelled + now.dropped;
    assert!(
        ended <= now.admitted,
        "more ended than were let in: {now:?}"
    );
    assert!(now.completed + now.panicked <= now.started, "{now:?}");
    assert!(now.depth <= now.capacity, "{now:?}");
    assert!(now.workers_busy <= now.threads.max(2), "{now:?}");
}

/// Failure 32.
#[test]
fn m1_no_counter_goes_backwards_while_the_pool_works() {
    watched(|| {
        let pool = pool(2, 8);
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
                thread::spawn(move || {
                    let mut before = pool.metrics();
                    let mut reads = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let now = pool.metrics();
                        assert_monotone(&before, &now);
                        before = now;
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let jobs = if cfg!(miri) { 100 } else { 20_000 };
        for n in 0..jobs {
            match n % 7 {
                0 => pool
                    .spawn(|| std::panic::resume_unwind(Box::new(())))
                    .unwrap(),
                1 => drop(pool.submit(|| ()).unwrap().cancel()),
                2 => drop(pool.try_spawn(|| ())),
                3 => drop(pool.spawn_timeout(Duration::ZERO, || ())),
                4 => {
                    let own = Arc::clone(&pool);
                    pool.spawn(move || own.spawn(|| ()).unwrap_or(())).unwrap();
                }
                _ => pool.spawn(|| ()).unwrap(),
            }
        }
        wait_until(|| pool.metrics().depth == 0);
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            println!("{} reads", reader.join().unwrap());
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn metrics_can_be_read_inside_a_job_and_after_the_end() {
    watched(|| {
        let pool = pool(1, 2);
        let own = Arc::clone(&pool);
        let seen = pool.submit(move || own.metrics()).unwrap().join().unwrap();
        assert_eq!((seen.started, seen.completed, seen.workers_busy), (1, 0, 1));
        let report = pool.shutdown();
        let seen = pool.metrics();
        assert_eq!(report.completed, seen.completed);
        assert_eq!(seen.clone().admitted, 1);
    });
}
