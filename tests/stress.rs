//! Failure 39: every feature at once, from a seed. Each job's fate is counted exactly once.
mod support;

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use adaptive_pool::{JobError, Pool, ShutdownError};
use support::*;

/// The fates of the jobs, as observed by the jobs themselves and by their submitters.
#[derive(Default)]
struct Fates {
    begun: AtomicU64,
    returned: AtomicU64,
    panicked: AtomicU64,
    refused: AtomicU64,
    admitted: AtomicU64,
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

/// A job that detects a second run, and may panic, use rayon, or submit further jobs.
fn job(
    pool: &Arc<Pool>,
    fates: &Arc<Fates>,
    seed: u64,
    depth: u32,
) -> impl FnOnce() -> u64 + Send + 'static {
    let (pool, fates) = (Arc::clone(pool), Arc::clone(fates));
    let once = AtomicUsize::new(0);
    move || {
        assert_eq!(once.fetch_add(1, Ordering::SeqCst), 0, "run twice");
        one(&fates.begun);
        let mut random = Random(seed);
        match random.below(16) {
            0 => {
                one(&fates.panicked);
                std::panic::resume_unwind(Box::new(seed));
            }
            1 | 2 => {
                let (a, b) = rayon_core::join(|| seed / 2, || seed - seed / 2);
                assert_eq!(a + b, seed);
            }
            3 | 4 if depth > 0 => submit(&pool, &fates, &mut random, depth - 1),
            5 if depth > 0 => {
                rayon_core::join(
                    || submit(&pool, &fates, &mut Random(seed + 1), depth - 1),
                    || submit(&pool, &fates, &mut Random(seed + 2), depth - 1),
                );
            }
            6 => thread::yield_now(),
            7 => drop(pool.metrics()),
            _ => {}
        }
        one(&fates.returned);
        seed
    }
}

fn check(expected: u64, result: Result<u64, JobError>) {
    match result {
        Ok(seed) => assert_eq!(seed, expected),
        Err(error) if error.is_panic() => {
            assert_eq!(error.into_panic().downcast_ref(), Some(&expected));
        }
        Err(error) => assert!(error.is_cancelled()),
    }
}

/// Submits one job in a random form, and handles its handle in a random way.
fn submit(pool: &Arc<Pool>, fates: &Arc<Fates>, random: &mut Random, depth: u32) {
    let seed = random.below(1 << 40);
    let job = job(pool, fates, seed, depth);
    let detached = random.below(3) == 0;
    let micros = Duration::from_micros(random.below(300));
    if detached {
        let job = move || {
            job();
        };
        let outcome = match random.below(4) {
            0 => pool.try_spawn(job),
            1 => pool.spawn_timeout(micros, job),
            2 => match pool.reserve() {
                Ok(permit) => {
                    permit.spawn(job);
                    Ok(())
                }
                Err(_) => return one(&fates.refused),
            },
            _ => pool.spawn(job),
        };
        one(if outcome.is_ok() {
            &fates.admitted
        } else {
            &fates.refused
        });
        return;
    }
    let outcome = match random.below(6) {
        0 => pool.try_submit(job).map_err(drop),
        1 => pool.submit_timeout(micros, job).map_err(drop),
        2 => block_on(pool.submit_async(job)).map_err(drop),
        3 => {
            let mut future = Box::pin(pool.reserve_async());
            if poll_once(&mut future).is_pending() && random.below(2) == 0 {
                drop(future);
                return;
            }
            // A future that was ready takes a second place when it is polled again.
            drop(future);
            pool.try_submit(job).map_err(drop)
        }
        4 => pool
            .reserve_timeout(micros)
            .map(|permit| permit.submit(job))
            .map_err(drop),
        _ => pool.submit(job).map_err(drop),
    };
    let Ok(handle) = outcome else {
        return one(&fates.refused);
    };
    one(&fates.admitted);
    match random.below(7) {
        0 => check(seed, handle.join()),
        1 => drop(handle.cancel()),
        2 => drop(handle.cancel_on_drop()),
        3 => check(seed, block_on(handle)),
        4 => match handle.join_timeout(micros) {
            Ok(result) => check(seed, result),
            Err(handle) => drop(handle),
        },
        _ => drop(handle),
    }
}

fn round(seed: u64) {
    let mut random = Random(seed);
    let workers = 1 + random.below(3) as usize;
    let builder = Pool::builder().workers(1..=workers).max_threads(workers);
    let builder = builder.capacity(1 + random.below(20) as usize);
    let pool = Arc::new(builder.build().unwrap());
    let fates = Arc::new(Fates::default());
    let barrier = Arc::new(Barrier::new(4));
    let submitters: Vec<_> = (0..3)
        .map(|_| {
            let (pool, fates, barrier) =
                (Arc::clone(&pool), Arc::clone(&fates), Arc::clone(&barrier));
            let mut random = Random(random.below(1 << 40));
            let jobs = random.below(300);
            thread::spawn(move || {
                barrier.wait();
                for _ in 0..jobs {
                    submit(&pool, &fates, &mut random, 2);
                    if random.below(64) == 0 {
                        pool.set_capacity(1 + random.below(20) as usize).unwrap();
                    }
                }
            })
        })
        .collect();
    barrier.wait();
    // While they submit, or afterwards.
    let mut submitters = Some(submitters);
    let mut finish = || {
        for submitter in submitters.take().into_iter().flatten() {
            submitter.join().unwrap();
        }
    };
    if random.below(2) == 0 {
        finish();
    }
    for _ in 0..random.below(300) {
        thread::yield_now();
    }
    let said = match random.below(4) {
        0 => Ok(pool.shutdown()),
        1 => pool.shutdown_now(),
        2 => pool.shutdown_timeout(Duration::from_micros(random.below(200))),
        _ => {
            pool.close();
            pool.shutdown_timeout(Duration::MAX)
        }
    };
    finish();
    let report = pool.shutdown();
    match said {
        Ok(said) => assert_eq!(said, report),
        Err(ShutdownError::TimedOut { report: said, .. }) => {
            assert!(said.completed <= report.completed && said.total() <= report.total());
        }
        Err(other) => panic!("{other}"),
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let seen = pool.metrics();
    let context = format!("{report:?} {seen:?}");
    assert_eq!(count(&fates.returned), seen.completed, "{context}");
    assert_eq!(count(&fates.panicked), seen.panicked, "{context}");
    assert_eq!(
        count(&fates.begun),
        seen.completed + seen.panicked,
        "{context}"
    );
    assert_eq!(count(&fates.admitted), seen.admitted, "{context}");
    // A shutdown does not wait for permits: each submitter may have used one after it.
    let late = seen.admitted - report.total();
    assert!(late <= 3, "{context}");
    assert_conserved(&pool);
    assert_eq!(seen.threads, 0);
}

#[test]
fn r1_each_jobs_fate_is_counted_once_whatever_happens() {
    watched(|| {
        let mut random = Random(seed());
        let time = if cfg!(miri) { 200 } else { 5_000 };
        let mut rounds = 0;
        for_a_while(Duration::from_millis(time), || {
            let seed = random.below(u64::MAX >> 33);
            println!("round {rounds}: {seed}");
            round(seed);
            rounds += 1;
        });
        println!("{rounds} rounds");
    });
}
