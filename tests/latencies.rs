//! Rule M2: which times are recorded, and consistent counts.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{LatencySummary, Pool};
use support::*;

/// The tolerance for a machine that stalls now and then.
const MUCH: Duration = Duration::from_millis(40);

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

#[test]
fn m2_a_job_is_timed_from_its_place_to_its_end() {
    watched(|| {
        let pool = pool(1, 8);
        let held = occupy(&pool);
        let before = Instant::now();
        let job = pool.submit(|| spin(2 * MUCH)).unwrap();
        // The job has its place by now.
        let waits = Instant::now();
        spin(MUCH);
        let waited_at_least = waits.elapsed();
        held.release();
        job.join().unwrap();
        let within = before.elapsed();
        pool.shutdown();
        let seen = pool.metrics();
        let (wait, run) = (seen.queue_wait, seen.run_time);
        assert_eq!((wait.count, run.count), (2, 2));
        // One in a thousand, for the clock.
        let least = |time: Duration| time * 999 / 1000;
        assert!(
            wait.max >= least(waited_at_least) && wait.max <= within,
            "{wait}"
        );
        assert!(run.max >= least(2 * MUCH) && run.max <= within, "{run}");
        assert_eq!(seen.per_worker[0].run_time, run);
        assert_eq!(seen.per_worker[0].queue_wait, wait);
    });
}

#[test]
fn m2_percentiles_are_of_the_jobs() {
    watched(|| {
        let pool = pool(1, 256);
        for i in 0..100 {
            let time = if i % 10 == 9 { MUCH } else { Duration::ZERO };
            pool.spawn(move || spin(time)).unwrap();
        }
        pool.shutdown();
        let run = pool.metrics().run_time;
        assert!(run.p50 < MUCH / 2 && run.p99 >= MUCH * 98 / 100, "{run}");
        assert!(run.mean >= MUCH / 11, "{run}");
        let in_order = [run.p50, run.p90, run.p99, run.p999, run.max];
        assert!(in_order.is_sorted(), "{run}");
    });
}

#[test]
fn m2_a_wait_for_a_place_is_timed_and_others_are_counted() {
    watched(|| {
        let pool = pool(1, 1);
        let held = occupy(&pool);
        pool.spawn(|| ()).unwrap();
        let own = Arc::clone(&pool);
        let waiter = thread::spawn(move || own.spawn(|| ()).unwrap());
        wait_for_waiters(&pool, 1);
        let mut polled = Box::pin(pool.reserve_async());
        assert!(poll_once(&mut polled).is_pending());
        let mut dropped_early = Box::pin(pool.reserve_async());
        assert!(poll_once(&mut dropped_early).is_pending());
        let in_vain = pool.submit_timeout(MUCH, || ());
        assert!(in_vain.unwrap_err().is_timed_out());
        drop(dropped_early);
        held.release();
        waiter.join().unwrap();
        drop(block_on(polled).unwrap());
        pool.shutdown();
        let seen = pool.metrics();
        // Four places, and the wait that timed out.
        let wait = seen.admission_wait;
        assert_eq!((wait.count, seen.rejected_timed_out), (5, 1));
        assert!(wait.max >= MUCH * 98 / 100, "{wait}");
        assert_eq!(wait.count, seen.admitted + 2, "and a permit was not used");
    });
}

#[test]
fn m2_every_kind_of_job_is_timed_once() {
    watched(|| {
        let pool = pool(2, 4);
        for round in 0..20u64 {
            pool.scope(|scope| (0..10).for_each(|_| scope.spawn(|_| ())));
            pool.in_place_scope(|scope| (0..10).for_each(|_| scope.spawn(|_| ())));
            pool.install(|| pool.join(|| (), || ()));
            assert_eq!(pool.map(0..10u64, move |i| i + round).count(), 10);
            assert_eq!(pool.map_unordered(0..10, |_| ()).count(), 10);
            pool.for_each(0..10, |_| ());
            pool.submit(|| panic!("in a job"))
                .unwrap()
                .join()
                .unwrap_err();
            block_on(block_on(pool.submit_async(|| ())).unwrap()).unwrap();
            let cancelled = pool.submit(|| ()).unwrap();
            cancelled.cancel();
            pool.reserve().unwrap().spawn(|| ());
            drop(pool.reserve().unwrap());
        }
        pool.shutdown();
        assert_conserved(&pool);
        let seen = pool.metrics();
        assert_eq!(seen.run_time.count, seen.completed + seen.panicked);
        assert_eq!(seen.queue_wait.count, seen.started - seen.inlined);
        assert!(
            seen.admission_wait.count >= seen.admitted - seen.inlined,
            "{seen}"
        );
    });
}

#[test]
fn m2_inline_jobs_do_not_start_with_their_submitter() {
    watched(|| {
        let pool = pool(1, 2);
        let own = Arc::clone(&pool);
        let held = occupy(&pool);
        // The third in a row: it starts when the second ends.
        pool.spawn(|| ()).unwrap();
        let long = pool.submit(move || {
            (0..2).for_each(|_| own.try_spawn(|| ()).unwrap());
            spin(MUCH);
            (0..10).for_each(|_| own.spawn(|| ()).unwrap());
        });
        held.release();
        long.unwrap().join().unwrap();
        pool.shutdown();
        let seen = pool.metrics();
        assert_eq!((seen.inlined, seen.run_time.count), (10, 15));
        assert!(seen.run_time.p50 < MUCH / 2, "{seen}");
    });
}

#[test]
fn m2_a_job_waits_while_its_thread_is_busy() {
    watched(|| {
        let pool = pool(1, 2);
        for _ in 0..5 {
            // The thread becomes idle before it.
            spin(MUCH);
            pool.submit(|| ()).unwrap().join().unwrap();
        }
        let gate = Gate::new();
        let (began, begins) = mpsc::channel();
        let (own, passed) = (Arc::clone(&pool), gate.clone());
        let elsewhere = thread::spawn(move || {
            own.broadcast(|_| {
                began.send(()).unwrap();
                passed.pass();
            });
        });
        begins.recv().unwrap();
        let job = pool.submit(|| ()).unwrap();
        spin(MUCH);
        gate.open();
        job.join().unwrap();
        elsewhere.join().unwrap();
        pool.shutdown();
        let seen = pool.metrics();
        assert!(seen.queue_wait.max >= MUCH * 98 / 100, "{seen}");
        assert!(seen.run_time.max < MUCH / 2, "{seen}");
        // Most records are of the other jobs, which found the thread idle.
        assert!(seen.queue_wait.p50 > Duration::ZERO, "{seen}");
    });
}

#[test]
fn m2_consecutive_jobs_have_their_own_run_times() {
    watched(|| {
        let pool = pool(1, 64);
        let held = occupy(&pool);
        let jobs: Vec<_> = (0..8)
            .map(|_| pool.submit(|| spin(MUCH / 4)).unwrap())
            .collect();
        held.release();
        jobs.into_iter().for_each(|job| job.join().unwrap());
        pool.scope(|scope| (0..8).for_each(|_| scope.spawn(|_| spin(MUCH / 4))));
        pool.shutdown();
        let run = pool.metrics().run_time;
        assert!(run.p50 >= MUCH / 4 * 98 / 100, "{run}");
        assert!(run.p50 < MUCH / 2, "{run}");
    });
}

#[test]
fn m2_short_tasks_are_all_counted_and_longer_ones_are_seen() {
    watched(|| {
        for capacity in [1, 1024] {
            let pool = pool(2, capacity);
            let short = if cfg!(miri) { 50 } else { 5000 };
            pool.scope(|scope| (0..short).for_each(|_| scope.spawn(|_| ())));
            let run = pool.metrics().run_time;
            assert!(run.p90 < MUCH / 10, "{run}");
            // One in a fixed number is timed, whichever thread submits them.
            let long = MUCH / 4;
            pool.scope(|scope| (0..48).for_each(|_| scope.spawn(|_| spin(long))));
            (0..48).for_each(|_| pool.spawn(move || spin(long)).unwrap());
            pool.shutdown();
            assert_conserved(&pool);
            let seen = pool.metrics();
            assert!(seen.run_time.max >= long * 98 / 100, "{seen}");
        }
    });
}

/// For every form of submission, and however few of the jobs are timed.
#[test]
fn m2_short_jobs_are_all_counted_on_each_worker() {
    watched(|| {
        let pool = pool(2, 64);
        let jobs = if cfg!(miri) { 50 } else { 20_000 };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..jobs).for_each(|_| pool.spawn(|| ()).unwrap()));
            }
        });
        pool.for_each(0..jobs, |_| ());
        pool.shutdown();
        assert_conserved(&pool);
        let seen = pool.metrics();
        assert_eq!(seen.run_time.count, 3 * jobs);
        for worker in &seen.per_worker {
            assert_eq!(worker.run_time.count, worker.completed);
            assert!(worker.queue_wait.count <= worker.started);
        }
        assert!(seen.run_time.p50 < MUCH && seen.run_time.mean > Duration::ZERO);
        assert!(seen.queue_wait.max > Duration::ZERO);
    });
}

/// One job in forty is long. Enough short ones come in a row for the pool to sample.
#[test]
#[cfg(not(miri))]
fn m2_long_jobs_among_short_ones_have_their_share() {
    watched(|| {
        let pool = pool(2, 64);
        let long = Duration::from_micros(20);
        for n in 0..100_000 {
            let time = (n % 40 == 7).then_some(long);
            pool.spawn(move || time.into_iter().for_each(spin)).unwrap();
        }
        pool.shutdown();
        let run = pool.metrics().run_time;
        assert!(run.p50 < long / 4 && run.p99 >= long * 98 / 100, "{run}");
        assert!(run.mean >= long / 40 / 2, "{run}");
    });
}

#[test]
fn m2_a_job_of_a_closed_pool_has_not_waited() {
    watched(|| {
        let pool = pool(1, 1);
        pool.close();
        assert_eq!(pool.install(|| 42), 42);
        assert!(pool.reserve().is_err());
        assert_eq!(pool.metrics().admission_wait.count, 0);
    });
}

#[test]
fn m2_without_tracking_nothing_is_timed() {
    watched(|| {
        let builder = Pool::builder()
            .workers(1)
            .capacity(1)
            .latency_tracking(false);
        let pool = Arc::new(builder.build().unwrap());
        let own = Arc::clone(&pool);
        let _full = pool.submit(move || (0..3).for_each(|_| own.spawn(|| ()).unwrap()));
        pool.submit(|| ()).unwrap().join().unwrap();
        pool.scope(|scope| scope.spawn(|_| ()));
        pool.shutdown();
        let seen = pool.metrics();
        let nothing = LatencySummary::default();
        assert_eq!(seen.run_time, nothing);
        assert_eq!(seen.queue_wait, nothing);
        assert_eq!(seen.admission_wait, nothing);
        assert!(seen.completed >= 4);
    });
}

#[test]
fn m2_no_count_goes_backwards_while_it_is_read() {
    watched(|| {
        let pool = pool(2, 4);
        let done = Arc::new(AtomicBool::new(false));
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let (pool, done) = (Arc::clone(&pool), Arc::clone(&done));
                thread::spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        pool.spawn(|| ()).unwrap();
                        let _ = pool.spawn_timeout(Duration::from_micros(1), || ());
                    }
                })
            })
            .collect();
        let mut last = [0; 3];
        let mut waits_seen = false;
        for _ in 0..if cfg!(miri) { 5 } else { 2000 } {
            let seen = pool.metrics();
            let now = [seen.admission_wait, seen.queue_wait, seen.run_time];
            for (latency, last) in now.iter().zip(&mut last) {
                assert!(latency.count >= *last, "{seen}");
                assert!(
                    latency.p999 <= latency.max && latency.mean <= latency.max,
                    "{seen}"
                );
                *last = latency.count;
            }
            waits_seen |= seen.admission_wait.max > Duration::ZERO;
        }
        done.store(true, Ordering::Relaxed);
        producers
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(waits_seen);
        pool.shutdown();
        assert_conserved(&pool);
        let seen = pool.metrics();
        let rejected = seen.rejected_timed_out;
        assert_eq!(seen.admission_wait.count, seen.admitted + rejected);
    });
}
