//! Rules R1, R2, R4 and R6: a job runs once, is never stranded, and contains its panic.
mod support;

use std::{
    any::Any,
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use adaptive_pool::Pool;
use support::*;

fn pool(workers: usize, capacity: usize) -> Pool {
    Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .build()
        .unwrap()
}

#[test]
fn r1_every_admitted_job_runs_exactly_once() {
    watched(|| {
        let each = if cfg!(miri) { 50 } else { 5_000 };
        for (workers, capacity) in [(1, 1), (2, 3), (4, 1024)] {
            let pool = Arc::new(pool(workers, capacity));
            let runs: Arc<Vec<AtomicUsize>> =
                Arc::new((0..4 * each).map(|_| AtomicUsize::new(0)).collect());
            let submitters: Vec<_> = (0..4)
                .map(|part| {
                    let (pool, runs) = (Arc::clone(&pool), Arc::clone(&runs));
                    thread::spawn(move || {
                        for id in part * each..(part + 1) * each {
                            let runs = Arc::clone(&runs);
                            let run = move || {
                                runs[id].fetch_add(1, Ordering::SeqCst);
                            };
                            match id % 3 {
                                0 => pool.spawn(run).unwrap(),
                                1 => drop(pool.submit(run).unwrap()),
                                _ => pool.reserve().unwrap().spawn(run),
                            }
                        }
                    })
                })
                .collect();
            for submitter in submitters {
                submitter.join().unwrap();
            }
            assert_eq!(pool.shutdown().completed as usize, 4 * each);
            assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r1_a_cancelled_job_does_not_run() {
    watched(|| {
        let pool = pool(1, 8);
        let held = occupy(&pool);
        let ran = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..8)
            .map(|_| {
                let ran = Arc::clone(&ran);
                pool.submit(move || ran.fetch_add(1, Ordering::SeqCst))
                    .unwrap()
            })
            .collect();
        for handle in handles.iter().step_by(2) {
            assert!(handle.cancel());
            assert!(!handle.cancel(), "only once");
            assert!(handle.is_finished());
        }
        held.release();
        let report = pool.shutdown();
        assert_eq!((report.completed, report.cancelled), (5, 4));
        assert_eq!(ran.load(Ordering::SeqCst), 4);
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.join().is_ok(), n % 2 == 1);
        }
    });
}

#[test]
fn r1_a_job_that_runs_cannot_be_cancelled() {
    watched(|| {
        let pool = pool(1, 1);
        let gate = Gate::new();
        let (begun, wait) = mpsc::channel();
        let held = gate.clone();
        let handle = pool
            .submit(move || {
                begun.send(()).unwrap();
                held.pass();
                7
            })
            .unwrap();
        wait.recv().unwrap();
        assert!(!handle.cancel());
        assert!(!handle.is_finished());
        gate.open();
        assert_eq!(handle.join().unwrap(), 7);
        assert_eq!(pool.shutdown().cancelled, 0);
    });
}

/// Failure 1. No other traffic: each job has only its own wake-up.
#[test]
fn r2_no_wake_up_is_lost_between_single_jobs() {
    watched(|| {
        let rounds = if cfg!(miri) { 20 } else { 10_000 };
        let mut random = Random(seed());
        for workers in [1, 2, 4] {
            let pool = pool(workers, 2);
            for _ in 0..rounds {
                let (done, wait) = mpsc::channel();
                pool.spawn(move || done.send(()).unwrap()).unwrap();
                wait.recv().unwrap();
                for _ in 0..random.below(40) {
                    std::hint::spin_loop();
                }
            }
        }
    });
}

/// As many jobs as workers, each of which waits for all others.
#[test]
fn r2_every_worker_in_service_is_woken_for_its_job() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 300 };
        for workers in [2, 4] {
            let pool = pool(workers, 8);
            for _ in 0..rounds {
                let barrier = Arc::new(std::sync::Barrier::new(workers));
                let handles: Vec<_> = (0..workers)
                    .map(|_| {
                        let barrier = Arc::clone(&barrier);
                        pool.submit(move || barrier.wait().is_leader()).unwrap()
                    })
                    .collect();
                let leaders = handles.into_iter().filter(|_| true);
                let leaders = leaders.filter_map(|handle| handle.join().unwrap().then_some(()));
                assert_eq!(leaders.count(), 1);
            }
        }
    });
}

#[test]
fn r4_the_handle_reports_the_panic() {
    watched(|| {
        let pool = pool(1, 4);
        let job = pool
            .submit(|| -> u8 { panic!("number {}", std::hint::black_box(7)) })
            .unwrap();
        let error = job.join().unwrap_err();
        assert_eq!(error.to_string(), "the job panicked: number 7");
        assert!(error.is_panic() && !error.is_cancelled());
        let payload = error.into_panic();
        assert_eq!(payload.downcast_ref::<String>().unwrap(), "number 7");
        let job = pool.submit(|| panic::panic_any(42u64)).unwrap();
        let payload = block_on(job).unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&42u64));
        assert_eq!(pool.submit(|| 8).unwrap().join().unwrap(), 8);
    });
}

#[test]
fn r4_a_detached_jobs_panic_goes_to_the_handler() {
    watched(|| {
        let (send, payloads) = mpsc::channel();
        let send = Mutex::new(send);
        let pool = Pool::builder()
            .workers(1)
            .panic_handler(move |payload: Box<dyn Any + Send>| {
                let text = payload.downcast_ref::<&str>().unwrap();
                send.lock().unwrap().send(*text).unwrap();
            })
            .build()
            .unwrap();
        pool.spawn(|| panic!("spawned")).unwrap();
        pool.try_spawn(|| panic!("tried")).unwrap();
        pool.reserve().unwrap().spawn(|| panic!("permitted"));
        // With a handle the panic belongs to the handle, even if that is dropped.
        drop(pool.submit(|| panic!("with a handle")).unwrap());
        assert_eq!(pool.shutdown().panicked, 4);
        let seen: Vec<_> = payloads.try_iter().collect();
        assert_eq!(seen, ["spawned", "tried", "permitted"]);
        assert_conserved(&pool);
    });
}

/// A payload or a value whose drop panics with another of its kind.
struct Nasty(u32);

impl Drop for Nasty {
    fn drop(&mut self) {
        if self.0 > 0 && !thread::panicking() {
            panic::panic_any(Nasty(self.0 - 1));
        }
    }
}

/// Failure 18, as in tokio's tests: all combinations of the place of the panic and the fate of the
/// handle.
#[test]
fn r4_worker_places_and_counters_survive_every_panic() {
    #[derive(Clone, Copy, Debug)]
    enum Where {
        Body,
        NastyBody,
        Capture,
        Result,
    }
    #[derive(Clone, Copy, Debug)]
    enum Then {
        Join,
        JoinTimeout,
        Await,
        DropEarly,
        DropLate,
        Forget,
        Cancel,
        CancelOnDrop,
    }
    watched(|| {
        let pool = Arc::new(pool(1, 1));
        for at in [Where::Body, Where::NastyBody, Where::Capture, Where::Result] {
            for then in [
                Then::Join,
                Then::JoinTimeout,
                Then::Await,
                Then::DropEarly,
                Then::DropLate,
                Then::Forget,
                Then::Cancel,
                Then::CancelOnDrop,
            ] {
                for depth in [1, 3] {
                    let mut held = Some(occupy(&pool));
                    let capture = matches!(at, Where::Capture).then(|| Nasty(depth));
                    let handle = pool
                        .submit(move || {
                            match at {
                                Where::Body => panic!("body"),
                                Where::NastyBody => panic::panic_any(Nasty(depth)),
                                Where::Capture => drop(capture),
                                Where::Result => {}
                            }
                            matches!(at, Where::Result).then(|| Nasty(depth))
                        })
                        .unwrap();
                    let quietly = |f: &mut dyn FnMut()| {
                        if let Err(payload) = panic::catch_unwind(panic::AssertUnwindSafe(f)) {
                            std::mem::forget(payload);
                        }
                    };
                    match then {
                        Then::DropEarly => drop(handle),
                        Then::Cancel => assert!(handle.cancel(), "{at:?}"),
                        Then::CancelOnDrop => drop(handle.cancel_on_drop()),
                        Then::Forget => std::mem::forget(handle),
                        Then::DropLate => {
                            held.take();
                            wait_until(|| handle.is_finished());
                            drop(handle);
                        }
                        Then::Join | Then::JoinTimeout | Then::Await => {
                            held.take();
                            let mut handle = Some(handle);
                            quietly(&mut || {
                                let handle = handle.take().unwrap();
                                let result = match then {
                                    Then::Join => handle.join(),
                                    Then::Await => block_on(handle),
                                    _ => handle.join_timeout(Duration::MAX).unwrap(),
                                };
                                assert_eq!(result.is_ok(), matches!(at, Where::Result));
                                drop(result);
                            });
                        }
                    }
                    drop(held);
                    // The worker lives, and the place is free.
                    assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
                    assert!(pool.try_reserve().is_ok(), "{at:?} {then:?}");
                }
            }
        }
        assert_eq!(pool.metrics().threads, TIMER_THREAD + 1);
        assert_eq!(pool.shutdown().cancelled, 16);
        assert_conserved(&pool);
    });
}

/// Detached: the capture, the payload and the handler's own panic.
#[test]
fn r4_detached_panics_of_every_kind() {
    watched(|| {
        for handler in [false, true] {
            let builder = Pool::builder().workers(1).capacity(1);
            let pool = if handler {
                builder.panic_handler(|payload| {
                    drop(payload);
                    panic::panic_any(Nasty(3));
                })
            } else {
                builder
            };
            let pool = pool.build().unwrap();
            for depth in 0..4 {
                pool.spawn(move || panic::panic_any(Nasty(depth))).unwrap();
                let capture = Nasty(depth + 1);
                pool.spawn(move || drop(capture)).unwrap();
            }
            assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
            let report = pool.shutdown();
            assert_eq!((report.completed, report.panicked), (1, 8));
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r6_earlier_writes_are_visible_to_the_job_and_back() {
    watched(|| {
        let rounds = if cfg!(miri) { 10 } else { 2_000 };
        let pool = pool(2, 4);
        // Plain memory, so that miri and ThreadSanitizer check the ordering.
        struct Shared(std::cell::UnsafeCell<u64>);
        // SAFETY: each access below is ordered by a submit, or by the end of a job.
        unsafe impl Sync for Shared {}
        let shared = Arc::new(Shared(std::cell::UnsafeCell::new(0)));
        for round in 0..rounds {
            // SAFETY: the job of the previous round has ended.
            unsafe { *shared.0.get() += 1 };
            let own = Arc::clone(&shared);
            // SAFETY: the submitter accesses it only after the job has ended.
            let job = move || unsafe {
                *own.0.get() += 1;
            };
            match round % 4 {
                0 => pool.submit(job).unwrap().join().unwrap(),
                1 => block_on(pool.submit(job).unwrap()).unwrap(),
                2 => block_on(block_on(pool.submit_async(job)).unwrap()).unwrap(),
                _ => {
                    let handle = pool.reserve().unwrap().submit(job);
                    wait_until(|| handle.is_finished());
                }
            }
            // SAFETY: the job has ended.
            assert_eq!(unsafe { *shared.0.get() }, 2 * (round + 1));
        }
    });
}

/// Failure 33.
#[test]
fn work_from_outside_starts_beside_a_job_that_respawns_itself() {
    fn forever(pool: Arc<Pool>, runs: Arc<AtomicUsize>, stop: Arc<AtomicUsize>) {
        runs.fetch_add(1, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) == 0 {
            let own = Arc::clone(&pool);
            let _closed = own.spawn(move || forever(pool, runs, stop));
        }
    }
    watched(|| {
        let pool = Arc::new(pool(1, 64));
        let (runs, stop) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        for _ in 0..4 {
            let own = (Arc::clone(&pool), Arc::clone(&runs), Arc::clone(&stop));
            pool.spawn(move || forever(own.0, own.1, own.2)).unwrap();
        }
        let rounds = if cfg!(miri) { 3 } else { 200 };
        for _ in 0..rounds {
            pool.submit(|| ()).unwrap().join().unwrap();
        }
        stop.store(1, Ordering::SeqCst);
        pool.shutdown();
        assert_conserved(&pool);
    });
}
