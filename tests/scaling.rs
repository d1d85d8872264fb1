//! Rules S1 to S5 on real pools: workers are added, parked and added again. `src/scaling/` tests
//! the policy itself.
mod support;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{Pool, PoolBuilder};
use support::*;

const NEVER: Duration = Duration::from_secs(3600);

fn builder() -> PoolBuilder {
    let builder = Pool::builder().capacity(10).scale_up_threshold(0.7);
    builder.scale_cooldown(NEVER).idle_timeout(NEVER)
}

/// For pools that add a worker for each waiting job.
fn scales_at_once() -> PoolBuilder {
    builder()
        .scale_up_threshold(0.0)
        .scale_cooldown(Duration::ZERO)
}

fn in_service(pool: &Pool) -> u64 {
    pool.metrics().workers_in_service
}

/// A job that waits for the gate.
fn held(pool: &Pool, gate: &Gate) {
    let gate = gate.clone();
    pool.spawn(move || gate.pass()).unwrap();
}

#[test]
fn s2_the_threshold_adds_a_worker_once_per_cooldown() {
    watched(|| {
        let pool = builder().workers(1..=4).build().unwrap();
        let gate = Gate::new();
        let first = occupy(&pool);
        for _ in 0..6 {
            held(&pool, &gate);
        }
        assert_eq!(in_service(&pool), 1, "six of ten are no pressure");
        held(&pool, &gate);
        assert_eq!(in_service(&pool), 2, "seven of ten are");
        // The second worker takes one; two more fill the queue again.
        wait_until(|| pool.metrics().depth == 6);
        for _ in 0..4 {
            held(&pool, &gate);
        }
        assert_eq!(in_service(&pool), 2, "once in a cooldown");
        assert_eq!(pool.metrics().scale_ups, 1);
        drop(first);
        gate.open();
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// go-adaptive-pool's fault 10: a few long jobs must not wait behind one worker.
#[test]
fn s2_a_backlog_that_lasts_for_a_cooldown_adds_workers() {
    watched(|| {
        let cooldown = Duration::from_millis(20);
        let builder = builder().workers(1..=8).capacity(1000);
        let pool = builder.scale_cooldown(cooldown).build().unwrap();
        let start = Instant::now();
        let gate = Gate::new();
        let barrier = Arc::new(std::sync::Barrier::new(9));
        for _ in 0..8 {
            let (gate, barrier) = (gate.clone(), Arc::clone(&barrier));
            let job = move || {
                barrier.wait();
                gate.pass();
            };
            pool.spawn(job).unwrap();
        }
        // All eight run at once, without any other event.
        barrier.wait();
        assert!(start.elapsed() >= cooldown);
        assert_eq!(in_service(&pool), 8);
        gate.open();
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// The backlog lies in the deque of the worker whose job submitted it. The other worker steals a
/// part at a time, and becomes idle in between.
#[test]
fn s2_a_backlog_in_the_deque_of_one_worker_adds_others() {
    const JOBS: u32 = 700;
    const JOB: Duration = Duration::from_millis(2);
    watched(|| {
        let builder = Pool::builder().capacity(10_000).workers(2..=3);
        let builder = builder.idle_timeout(NEVER).scale_cooldown(JOB * 120);
        let pool = Arc::new(builder.build().unwrap());
        let own = Arc::clone(&pool);
        let spin = || {
            let began = Instant::now();
            while began.elapsed() < JOB {}
        };
        let brought = pool.submit(move || (0..JOBS).for_each(|_| own.spawn(spin).unwrap()));
        brought.unwrap().join().unwrap();
        wait_until(|| pool.metrics().depth == 0);
        assert_eq!(pool.metrics().scale_ups, 1);
    });
}

#[test]
fn s2_a_pool_that_keeps_up_stays_as_it_is() {
    watched(|| {
        let builder = builder().workers(1..=4).capacity(100);
        let pool = builder
            .scale_cooldown(Duration::from_secs(5))
            .build()
            .unwrap();
        for _ in 0..if cfg!(miri) { 10 } else { 5000 } {
            pool.submit(|| ()).unwrap().join().unwrap();
        }
        assert_eq!(in_service(&pool), 1);
        assert_eq!(pool.metrics().scale_ups, 0);
    });
}

/// They return to service without new threads (S4).
#[test]
fn s3_idle_workers_are_parked_and_added_again() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=4)
            .idle_timeout(Duration::from_millis(20));
        let pool = pool.build().unwrap();
        for round in 0..5 {
            let held = fill_up(&pool, 4);
            assert_eq!(in_service(&pool), 4);
            assert_eq!(pool.metrics().workers_parked, 0);
            drop(held);
            wait_until(|| in_service(&pool) == 1);
            assert_eq!(pool.metrics().workers_parked, 3);
            assert_eq!(pool.metrics().threads, TIMER_THREAD + 4, "round {round}");
        }
        assert_eq!(pool.metrics().parks, 15);
        assert_eq!(pool.shutdown().completed, 20);
    });
}

/// Occupies `workers` workers, some of which have to be added first.
fn fill_up(pool: &Pool, workers: usize) -> Vec<Held> {
    (0..workers).map(|_| occupy(pool)).collect()
}

/// go-adaptive-pool's fault 3.
#[test]
fn s3_a_worker_that_runs_a_job_is_not_idle() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=3)
            .idle_timeout(Duration::from_millis(5));
        let pool = pool.build().unwrap();
        let held = fill_up(&pool, 3);
        for_a_while(Duration::from_millis(100), || {
            assert_eq!(in_service(&pool), 3);
        });
        drop(held);
        wait_until(|| in_service(&pool) == 1);
    });
}

/// A held place without a job keeps no worker awake, and its release notifies none.
#[test]
fn s3_idle_workers_are_parked_while_a_permit_is_held() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=3)
            .idle_timeout(Duration::from_millis(20));
        let pool = pool.build().unwrap();
        for is_given_back in [false, true] {
            let held = fill_up(&pool, 3);
            let permit = pool.reserve().unwrap();
            drop(held);
            let permit = (!is_given_back).then_some(permit);
            wait_until(|| in_service(&pool) == 1);
            assert_eq!(pool.metrics().depth, u64::from(permit.is_some()));
        }
    });
}

/// The same for a place granted to a task that does not take it up.
#[test]
fn s3_idle_workers_are_parked_beside_an_unclaimed_grant() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=2)
            .capacity(1)
            .idle_timeout(Duration::from_millis(50));
        let pool = pool.build().unwrap();
        let held = fill_up(&pool, 2);
        let first = pool.reserve().unwrap();
        let mut waits = pin!(pool.reserve_async());
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        drop(first);
        drop(held);
        wait_until(|| in_service(&pool) == 1);
        assert_eq!(pool.metrics().depth, 1);
        assert!(waits.as_mut().poll(&mut context).is_ready());
    });
}

/// No other event marks the moment: a quiet pool above its minimum.
#[test]
fn s5_a_pool_that_has_parked_its_workers_uses_no_time() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=3)
            .idle_timeout(Duration::from_millis(10));
        let pool = pool.build().unwrap();
        drop(fill_up(&pool, 3));
        wait_until(|| in_service(&pool) == 1);
        assert_eq!(pool.metrics().parks, 2);
        assert_eq!(pool.metrics().workers_idle, 1);
    });
}

#[test]
fn s1_the_workers_are_within_their_range_at_every_instant() {
    watched(|| {
        let mut random = Random(seed());
        let pool = Arc::new(
            scales_at_once()
                .workers(2..=5)
                .idle_timeout(Duration::from_micros(200))
                .build()
                .unwrap(),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
            thread::spawn(move || {
                let mut seen = 0;
                while !stop.load(Ordering::Relaxed) {
                    let workers = in_service(&pool);
                    assert!((2..=5).contains(&workers), "{workers}");
                    seen |= 1 << workers;
                }
                seen
            })
        };
        let bursts = if cfg!(miri) { 3 } else { 60 };
        for _ in 0..bursts {
            let jobs: Vec<_> = (0..random.below(40))
                .map(|n| {
                    pool.submit(move || (0..n * 100).fold(0, |a, b| a ^ b))
                        .unwrap()
                })
                .collect();
            for job in jobs {
                job.join().unwrap();
            }
            let pause = Duration::from_micros(random.below(8000));
            let end = Instant::now() + pause;
            wait_until(|| Instant::now() >= end);
        }
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        assert!(cfg!(miri) || u32::count_ones(seen) > 1, "it never scaled");
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn s1_resize_brings_the_workers_into_the_range() {
    watched(|| {
        let pool = builder().workers(1).max_threads(6).build().unwrap();
        let gate = Gate::new();
        pool.resize(4).unwrap();
        assert_eq!(in_service(&pool), 4);
        let held = fill_up(&pool, 4);
        // Fewer than run: they finish their jobs first.
        pool.resize(2).unwrap();
        assert_eq!(in_service(&pool), 2);
        assert_eq!(pool.metrics().workers_busy, 4);
        drop(held);
        wait_until(|| pool.metrics().workers_busy == 0);
        // Only two run now.
        let held = fill_up(&pool, 2);
        self::held(&pool, &gate);
        for_a_while(Duration::from_millis(20), || {
            assert_eq!(pool.metrics().workers_busy, 2);
        });
        pool.resize(3..=6).unwrap();
        wait_until(|| pool.metrics().workers_busy == 3);
        drop(held);
        gate.open();
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn s1_an_invalid_range_is_refused_and_changes_nothing() {
    watched(|| {
        let pool = builder().workers(1..=2).max_threads(4).build().unwrap();
        let say = |error: adaptive_pool::BuildError| error.to_string();
        let error = say(pool.resize(5).unwrap_err());
        assert_eq!(error, "workers = 5: at most as many as max_threads");
        assert!(say(pool.resize(0).unwrap_err()).starts_with("workers = 0"));
        #[expect(clippy::reversed_empty_ranges)]
        let error = say(pool.resize(3..=2).unwrap_err());
        assert!(error.starts_with("workers = 3..=2"), "{error}");
        assert_eq!(in_service(&pool), 1);
    });
}

/// Growing while every worker is blocked in a wait, and from inside a job.
#[test]
fn s1_resize_from_inside_a_job() {
    watched(|| {
        let pool = Arc::new(builder().workers(1).max_threads(4).build().unwrap());
        let own = Arc::clone(&pool);
        let job = move || {
            own.resize(3).unwrap();
            let held = fill(&own, 2);
            own.resize(1).unwrap();
            drop(held);
            own.metrics().workers_in_service
        };
        assert_eq!(pool.submit(job).unwrap().join().unwrap(), 1);
        wait_until(|| pool.metrics().workers_busy == 0);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn s1_a_storm_of_resizes_loses_nothing() {
    watched(|| {
        let seed = seed();
        for round in 0..if cfg!(miri) { 1 } else { 4 } {
            let builder = scales_at_once().workers(1..=2).max_threads(6).capacity(8);
            let pool = builder.idle_timeout(Duration::ZERO).build().unwrap();
            let jobs = if cfg!(miri) { 20 } else { 500 };
            let done = AtomicBool::new(false);
            thread::scope(|threads| {
                let (pool, done) = (&pool, &done);
                threads.spawn(move || {
                    let mut random = Random(seed ^ round);
                    while !done.load(Ordering::Relaxed) {
                        let least = 1 + random.below(6) as usize;
                        let most = least + random.below(7 - least as u64) as usize;
                        pool.resize(least..=most).unwrap();
                        let capacity = 1 + random.below(8) as usize;
                        pool.set_capacity(capacity).unwrap();
                    }
                });
                let submitters = [0, 1].map(|own| {
                    threads.spawn(move || {
                        for n in 0..jobs {
                            let inner = move || pool.join(|| n, || own).0;
                            assert_eq!(pool.install(inner), n);
                            pool.spawn(|| ()).unwrap();
                        }
                    })
                });
                submitters
                    .into_iter()
                    .for_each(|thread| thread.join().unwrap());
                if round % 2 == 0 {
                    // The pool ends in the middle of it.
                    pool.shutdown();
                }
                done.store(true, Ordering::Relaxed);
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// R2: an activation found no thread, since the only one is busy with rayon's work. After a resize
/// there is another.
#[test]
fn r2_an_activation_that_found_no_thread_finds_one_after_a_resize() {
    watched(|| {
        let pool = Pool::builder().workers(1).max_threads(2).build().unwrap();
        let (begun, wait) = mpsc::channel();
        let gate = Gate::new();
        let held = gate.clone();
        pool.spawn(move || {
            rayon_core::spawn(move || {
                begun.send(()).unwrap();
                held.pass();
            });
        })
        .unwrap();
        wait.recv().unwrap();
        let job = pool.submit(|| ()).unwrap();
        pool.resize(2).unwrap();
        job.join().unwrap();
        gate.open();
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// S4: a thread that fails to start is counted, and the jobs run on the existing threads.
#[test]
#[cfg(not(miri))]
fn s4_a_thread_that_cannot_be_started_later_is_no_error() {
    const STACK: usize = 1 << 28;

    let name = "s4_a_thread_that_cannot_be_started_later_is_no_error";
    survives_in_child(name, || {
        watched(|| {
            let builder = scales_at_once().workers(1..=3).stack_size(STACK);
            let pool = builder.build().unwrap();
            limit_memory(STACK / 2);
            let jobs: Vec<_> = (0..100).map(|n| pool.submit(move || n).unwrap()).collect();
            for (n, job) in jobs.into_iter().enumerate() {
                assert_eq!(job.join().unwrap(), n);
            }
            assert!(pool.metrics().thread_start_failures > 0);
            assert_eq!(pool.metrics().threads, TIMER_THREAD + 1);
            assert_eq!(pool.shutdown().completed, 100);
        });
    });
}
