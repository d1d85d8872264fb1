//! Rule R3 through other rayon pools: a job that returns from there is served while every worker
//! waits inside one.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use adaptive_pool::Pool;
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use support::*;

/// The ways back.
#[derive(Clone, Copy, Debug)]
enum Back {
    Install,
    Join,
    Scope,
    InPlaceScope,
    Submit,
    SubmitAsync,
    Spawn,
    Reserve,
    Map,
    MapUnordered,
    ForEach,
    Many,
}

const WAYS: [Back; 12] = [
    Back::Install,
    Back::Join,
    Back::Scope,
    Back::InPlaceScope,
    Back::Submit,
    Back::SubmitAsync,
    Back::Spawn,
    Back::Reserve,
    Back::Map,
    Back::MapUnordered,
    Back::ForEach,
    Back::Many,
];

/// Returns to the pool from a foreign thread, and has a job there produce a seven.
fn back(pool: &Pool, way: Back) -> u32 {
    let sum = AtomicU32::new(0);
    let add = || {
        sum.fetch_add(7, Ordering::Relaxed);
    };
    match way {
        Back::Install => return pool.install(|| 7),
        Back::Join => return pool.join(|| 0, || 7).1,
        Back::Scope => pool.scope(|s| s.spawn(|_| add())),
        Back::InPlaceScope => pool.in_place_scope(|s| s.spawn(|_| add())),
        Back::Submit => return pool.submit(|| 7).unwrap().join().unwrap(),
        Back::SubmitAsync => {
            let job = async { pool.submit_async(|| 7).await.unwrap().await };
            return block_on(job).unwrap();
        }
        Back::Spawn => {
            let (send, sent) = mpsc::channel();
            pool.spawn(move || send.send(7).unwrap()).unwrap();
            return sent.recv().unwrap();
        }
        Back::Reserve => return pool.reserve().unwrap().submit(|| 7).join().unwrap(),
        Back::Map => return pool.map([()], |()| 7).sum(),
        Back::MapUnordered => return pool.map_unordered([()], |()| 7).sum(),
        Back::ForEach => pool.for_each([()], |()| add()),
        // More than fit into the queue at once.
        Back::Many => {
            let jobs = (0..200).map(|n| {
                let handle = pool.submit(move || u32::from(n == 0) * 7);
                handle.unwrap()
            });
            return jobs.map(|job| job.join().unwrap()).sum();
        }
    }
    sum.into_inner()
}

fn rayon(threads: usize) -> ThreadPool {
    let builder = ThreadPoolBuilder::new().num_threads(threads);
    builder.build().unwrap()
}

/// As many jobs as workers enter the other pool at once, and return from there.
fn all_go(pool: &Arc<Pool>, other: &Arc<ThreadPool>, jobs: usize, way: Back) {
    let handles: Vec<_> = (0..jobs)
        .map(|_| {
            let (own, other) = (Arc::clone(pool), Arc::clone(other));
            let job = move || match way {
                // The pool's threads have other ways into rayon's pools.
                Back::Scope => {
                    let mut came = 0;
                    other.scope(|s| s.spawn(|_| came = back(&own, way)));
                    came
                }
                Back::Join => other.join(|| (), || back(&own, way)).1,
                _ => other.install(|| back(&own, way)),
            };
            pool.submit(job).unwrap()
        })
        .collect();
    for handle in handles {
        assert_eq!(handle.join().unwrap(), 7, "{way:?}");
    }
}

#[test]
#[cfg(not(miri))]
fn r3_a_job_that_returns_through_another_rayon_pool_is_served() {
    watched(|| {
        for (workers, threads) in [(1, 1), (2, 2), (2, 4), (4, 4)] {
            let builder = Pool::builder().workers(workers).capacity(8);
            let pool = Arc::new(builder.build().unwrap());
            let other = Arc::new(rayon(threads));
            for way in WAYS {
                all_go(&pool, &other, workers, way);
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Jobs that are already queued when the last worker leaves are served as well.
#[test]
#[cfg(not(miri))]
fn r3_a_job_queued_before_the_last_worker_left_is_served() {
    watched(|| {
        let pool = Arc::new(Pool::builder().workers(1).capacity(8).build().unwrap());
        let other = Arc::new(rayon(1));
        for _ in 0..20 {
            let held = occupy(&pool);
            let (send, sent) = mpsc::channel();
            let first = Arc::clone(&other);
            let first = pool.submit(move || first.install(move || sent.recv().unwrap()));
            pool.spawn(move || send.send(7).unwrap()).unwrap();
            held.release();
            assert_eq!(first.unwrap().join().unwrap(), 7);
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The worker's own job, which no other worker reaches.
#[test]
#[cfg(not(miri))]
fn r3_a_job_submitted_before_its_worker_left_is_served() {
    watched(|| {
        let pool = Arc::new(Pool::builder().workers(1).capacity(8).build().unwrap());
        let other = Arc::new(rayon(1));
        let own = Arc::clone(&pool);
        let job = move || {
            let (send, sent) = mpsc::channel();
            own.spawn(move || send.send(7).unwrap()).unwrap();
            other.install(move || sent.recv().unwrap())
        };
        assert_eq!(pool.submit(job).unwrap().join().unwrap(), 7);
        pool.shutdown();
    });
}

/// On a spare thread.
#[test]
#[cfg(not(miri))]
fn r3_a_spare_thread_that_left_is_found_too() {
    watched(|| {
        let build = || Arc::new(Pool::builder().workers(1).capacity(8).build().unwrap());
        let (a, b) = (build(), build());
        let other = rayon(2);
        let came = a.install(|| b.install(|| a.install(|| other.install(|| a.install(|| 7)))));
        assert_eq!(came, 7);
        a.shutdown();
        b.shutdown();
    });
}

/// S5: nothing ticks after the observed wait is over.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn s5_nothing_ticks_when_the_queue_is_empty_again() {
    let name = "s5_nothing_ticks_when_the_queue_is_empty_again";
    survives_in_child(name, || {
        watched(|| {
            let pool = Pool::builder().workers(1).capacity(8).build().unwrap();
            let held = fill(&pool, 1);
            for_a_while(Duration::from_millis(50), std::thread::yield_now);
            drop(held);
            pool.submit(|| ()).unwrap().join().unwrap();
            std::thread::park_timeout(Duration::from_millis(500));
            let before = cpu_time();
            std::thread::park_timeout(Duration::from_secs(1));
            let used = cpu_time() - before;
            assert!(used < Duration::from_millis(5), "{used:?}");
        });
    });
}
