//! Random small programs: several outside threads use one pool, and its jobs use each other.

use std::{sync::Arc, time::Duration};

use adaptive_pool::{Pool, Scope, simulated::rayon};
use shuttle::rand::{Rng, thread_rng};

use crate::explore::{Tally, check_counts, explore_in_time, together};

/// Counts of a program: started jobs, and their fates.
#[derive(Clone, Default)]
struct Counts {
    brought: Tally,
    ran: Tally,
    refused: Tally,
    lost: Tally,
}

fn choose(of: u32) -> u32 {
    thread_rng().gen_range(0..of)
}

/// A job that does a little of everything, down to this depth.
fn job(pool: &Arc<Pool>, counts: &Counts, depth: u32) -> impl FnOnce() + Send + use<> {
    let (pool, counts) = (Arc::downgrade(pool), counts.clone());
    counts.brought.add();
    move || {
        counts.ran.add();
        // The outside threads hold it until all jobs have ended.
        let pool = pool.upgrade().unwrap();
        if depth > 0 && choose(2) == 0 {
            act(&pool, &counts, depth - 1);
        }
    }
}

fn scoped(s: &Scope<'_>, ran: &Tally, depth: u32) {
    ran.add();
    if depth > 0 && choose(2) == 0 {
        let tally = ran.clone();
        s.spawn(move |s| scoped(s, &tally, depth - 1));
    }
}

/// One action of an outside thread or a job.
fn act(pool: &Arc<Pool>, counts: &Counts, depth: u32) {
    let refuse = || counts.refused.add();
    match choose(12) {
        0 => pool
            .spawn(job(pool, counts, depth))
            .unwrap_or_else(|_| refuse()),
        1 => drop(
            pool.try_spawn(job(pool, counts, depth))
                .map_err(|_| refuse()),
        ),
        2 => {
            let timeout = Duration::from_millis(1);
            if pool
                .spawn_timeout(timeout, job(pool, counts, depth))
                .is_err()
            {
                refuse();
            }
        }
        3 => match pool.submit(job(pool, counts, depth)) {
            Ok(handle) => match handle.join() {
                Ok(()) => {}
                Err(error) if error.is_cancelled() => counts.lost.add(),
                Err(other) => panic!("{other:?}"),
            },
            Err(_) => refuse(),
        },
        4 => match pool.submit(job(pool, counts, depth)) {
            Ok(handle) => {
                if handle.cancel() {
                    counts.lost.add();
                }
            }
            Err(_) => refuse(),
        },
        5 => match pool.reserve() {
            Ok(permit) if choose(2) == 0 => permit.spawn(job(pool, counts, depth)),
            _ => {}
        },
        6 | 7 => {
            let (ran, n) = (Tally::default(), choose(3));
            pool.scope(|s| {
                for _ in 0..n {
                    s.spawn(|s| scoped(s, &ran, depth));
                }
            });
            assert!(ran.get() >= n as usize);
        }
        8 => {
            let (a, b) = pool.join(|| choose(2), || choose(2));
            assert!(a + b < 4);
        }
        9 => {
            let yielded = pool.map(0..3, |n| n).take(choose(4) as usize).count();
            assert!(yielded < 4);
        }
        10 => drop(pool.broadcast(|context| context.index())),
        _ => {
            let own = Arc::clone(pool);
            let ran = Tally::default();
            let half = ran.job();
            rayon::join(
                || pool.install(|| ran.add()),
                move || {
                    own.in_place_scope(|s| s.spawn(|_| half()));
                },
            );
            assert_eq!(ran.get(), 2);
        }
    }
}

fn program(workers: std::ops::RangeInclusive<usize>) {
    let pool = Pool::builder()
        .workers(workers.clone())
        .max_threads(*workers.end())
        .capacity(1 + choose(3) as usize)
        .scale_up_threshold(0.5)
        .scale_cooldown(Duration::from_millis(1))
        .idle_timeout(Duration::from_millis(6))
        .latency_tracking(false)
        .build()
        .unwrap();
    let pool = Arc::new(pool);
    let counts = Counts::default();
    let outside = || {
        for _ in 0..1 + choose(3) {
            act(&pool, &counts, 2);
        }
    };
    let last = || match choose(4) {
        0 => pool.close(),
        1 => _ = pool.shutdown_timeout(Duration::from_millis(2)),
        2 => _ = pool.shutdown_now(),
        _ => {
            pool.resize(workers.clone()).unwrap();
            pool.set_capacity(1 + choose(3) as usize).unwrap();
            act(&pool, &counts, 1);
        }
    };
    together(&[&outside, &outside, &last]);
    let report = pool.shutdown();
    check_counts(&pool);
    let gone = counts.ran.get() + counts.refused.get() + counts.lost.get();
    // Jobs dropped un-run without a handle appear only in the report.
    assert!(gone <= counts.brought.get());
    assert!(gone + report.dropped as usize >= counts.brought.get());
}

#[test]
fn random_programs_on_one_worker_end() {
    explore_in_time("random_programs_on_one_worker_end", || program(1..=1));
}

#[test]
fn random_programs_on_two_workers_end() {
    explore_in_time("random_programs_on_two_workers_end", || program(2..=2));
}

#[test]
fn random_programs_on_workers_that_come_and_go_end() {
    explore_in_time("random_programs_on_workers_that_come_and_go_end", || {
        program(1..=3)
    });
}
