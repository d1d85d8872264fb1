//! R9, for each wait: after a yield that cost a time slice, yields are banned, and waits block
//! until the ban is over.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Pool, sync::backoff::simulation::Simulation};

/// How long a job runs, so that the thread that waits for it yields.
const RUN_TIME: Duration = Duration::from_millis(5);

fn pool(workers: usize, capacity: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    builder.build().unwrap()
}

/// Spins until the condition holds, or for `at_most`. Returns whether it held.
fn spin_until(is_so: impl Fn() -> bool, at_most: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < at_most {
        if is_so() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

fn await_that(is_so: impl Fn() -> bool) {
    assert!(spin_until(is_so, Duration::from_secs(60)));
}

type Job<'a> = &'a (dyn Fn() + Sync);

/// Checks a `wait`, which runs the job on another thread, and waits for it.
fn check(wait: impl Fn(&Arc<Simulation>, Job)) {
    let simulation = Simulation::new();
    let yields = || simulation.yields();
    let wait_until = |is_so: &(dyn Fn() -> bool + Sync)| {
        // Some waits spin instead of yielding.
        let found = (0..1_000).any(|_| {
            wait(&simulation, &|| {
                spin_until(is_so, RUN_TIME);
            });
            is_so()
        });
        assert!(found);
    };
    wait_until(&|| yields() > 0);
    simulation.lose_next();
    wait_until(&|| simulation.is_banned());
    let before = yields();
    for _ in 0..40 {
        wait(&simulation, &|| {
            spin_until(|| false, Duration::from_micros(200));
        });
    }
    assert_eq!(yields(), before, "a thread yields during a ban");
    simulation.end_ban();
    wait_until(&|| yields() > before);
}

/// The same for a wait on a thread outside the pool.
fn check_outside(wait: impl Fn(&Pool, Job)) {
    let pool = pool(2, 1024);
    check(|simulation, job| simulation.run(|| wait(&pool, job)));
}

/// The same for a wait on a worker.
fn check_inside(wait: impl Fn(&Pool, Job) + Sync) {
    let pool = pool(2, 1024);
    check(|simulation, job| pool.install(|| simulation.run(|| wait(&pool, job))));
}

/// The function of a batch: the first item is the job.
fn first(job: Job) -> impl Fn(u32) + Send + Sync {
    move |item| {
        if item == 0 {
            job();
        }
    }
}

/// Returns a job for a handle, which may borrow nothing.
fn detached(job: Job<'_>) -> impl FnOnce() + Send + 'static {
    // SAFETY: each caller waits for its end before it returns.
    let job: Job<'static> = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
    move || job()
}

/// Calls `f` with a job that runs `job`, and with a wait for its start.
fn with_start(job: Job, f: impl FnOnce(Job, Job)) {
    let has_started = AtomicBool::new(false);
    let both = || {
        has_started.store(true, Ordering::SeqCst);
        job();
    };
    f(&both, &|| await_that(|| has_started.load(Ordering::SeqCst)));
}

#[test]
fn r9_join_of_a_handle_blocks() {
    check_outside(|pool, job| pool.submit(detached(job)).unwrap().join().unwrap());
}

#[test]
fn r9_join_timeout_of_a_handle_blocks() {
    check_outside(|pool, job| {
        let handle = pool.submit(detached(job)).unwrap();
        let joined = handle.join_timeout(Duration::from_secs(60));
        joined.ok().unwrap().unwrap();
    });
}

#[test]
fn r9_install_blocks() {
    check_outside(|pool, job| pool.install(job));
}

#[test]
fn r9_a_join_from_outside_blocks() {
    check_outside(|pool, job| {
        pool.join(job, || ());
    });
}

#[test]
fn r9_a_scope_blocks() {
    check_outside(|pool, job| pool.scope(|scope| scope.spawn(|_| job())));
}

#[test]
fn r9_an_in_place_scope_blocks() {
    check_outside(|pool, job| pool.in_place_scope(|scope| scope.spawn(|_| job())));
}

#[test]
fn r9_a_broadcast_blocks() {
    check_outside(|pool, job| {
        pool.broadcast(|_| job());
    });
}

#[test]
fn r9_for_each_blocks() {
    check_outside(|pool, job| pool.for_each(0..1, |_| job()));
}

#[test]
fn r9_map_blocks() {
    check_outside(|pool, job| {
        pool.in_place_scope(|scope| assert_eq!(scope.map(0..64, first(job)).count(), 64));
    });
}

#[test]
fn r9_map_unordered_blocks() {
    check_outside(|pool, job| {
        pool.in_place_scope(|scope| {
            assert_eq!(scope.map_unordered(0..64, first(job)).count(), 64);
        });
    });
}

#[test]
fn r9_a_submitter_that_waits_for_a_place_blocks() {
    let pool = pool(1, 1);
    check(|simulation, job| {
        with_start(job, |job, await_start| {
            let running = pool.submit(detached(job)).unwrap();
            await_start();
            let waiting = pool.submit(|| ()).unwrap();
            simulation.run(|| drop(pool.reserve().unwrap()));
            running.join().unwrap();
            waiting.join().unwrap();
        });
    });
}

#[test]
fn r9_a_worker_that_waits_for_a_half_blocks() {
    check_inside(|pool, job| {
        with_start(job, |job, await_start| {
            pool.join(await_start, job);
        });
    });
}

#[test]
fn r9_a_worker_that_waits_in_a_scope_blocks() {
    check_inside(|pool, job| {
        with_start(job, |job, await_start| {
            pool.in_place_scope(|scope| {
                scope.spawn(|_| job());
                await_start();
            });
        });
    });
}

#[test]
fn r9_a_worker_that_joins_a_handle_blocks() {
    check_inside(|pool, job| {
        with_start(job, |job, await_start| {
            let handle = pool.submit(detached(job)).unwrap();
            await_start();
            handle.join().unwrap();
        });
    });
}

#[test]
fn r9_a_worker_that_broadcasts_blocks() {
    let both = Barrier::new(2);
    check_inside(|pool, job| {
        let own = std::thread::current().id();
        pool.broadcast(|_| {
            both.wait();
            if std::thread::current().id() != own {
                job();
            }
        });
    });
}

#[test]
fn r9_a_worker_that_waits_for_another_pool_blocks() {
    let other = pool(1, 1024);
    check_inside(|_, job| other.install(job));
}

/// The workers' own yields, while they search for the next job.
#[test]
fn r9_a_worker_without_jobs_becomes_idle() {
    let simulation = Simulation::new();
    let of_workers = Arc::clone(&simulation);
    let builder = Pool::builder().workers(2);
    let builder = builder.start_handler(move |_| of_workers.enter());
    let pool = builder.build().unwrap();
    let yields = || simulation.yields();
    let trip = || pool.submit(|| ()).unwrap().join().unwrap();
    let trip_until = |is_so: &dyn Fn() -> bool| {
        await_that(|| {
            trip();
            is_so()
        });
    };
    trip_until(&|| yields() > 0);
    simulation.lose_next();
    trip_until(&|| simulation.is_banned());
    let before = yields();
    (0..100).for_each(|_| trip());
    assert_eq!(yields(), before, "a thread yields during a ban");
    simulation.end_ban();
    trip_until(&|| yields() > before);
}
