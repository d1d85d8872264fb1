//! A hostile user: closures, wakers and thread-locals that call back into the pool from unexpected
//! places.
mod support;

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, RawWaker, RawWakerVTable, Waker},
    thread,
    time::{Duration, Instant},
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

/// Failure 34. A cancelled closure has the last reference to its pool.
#[test]
fn cancelling_a_closure_that_owns_the_pool_shuts_it_down() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let held = occupy(&pool);
        let (dropping, seen) = mpsc::channel();
        let owner = Arc::clone(&pool);
        let capture = on_drop(move || {
            dropping.send(()).unwrap();
            drop(owner);
        });
        let handle = pool.submit(move || drop(capture)).unwrap();
        drop(pool);
        let canceller = thread::spawn(move || assert!(handle.cancel()));
        seen.recv().unwrap();
        held.release();
        canceller.join().unwrap();
    });
}

/// Failure 34. The same, by an explicit call.
#[test]
fn a_cancelled_capture_may_shut_the_pool_down() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let held = occupy(&pool);
        let (dropping, seen) = mpsc::channel();
        let again = Arc::clone(&pool);
        let capture = on_drop(move || {
            dropping.send(()).unwrap();
            again.shutdown();
        });
        let handle = pool.submit(move || drop(capture)).unwrap();
        let canceller = thread::spawn(move || assert!(handle.cancel()));
        seen.recv().unwrap();
        held.release();
        canceller.join().unwrap();
        let report = pool.shutdown();
        assert_eq!((report.completed, report.cancelled), (1, 1));
    });
}

/// Failure 34. `shutdown_now` drops a closure that shuts the pool down once more.
#[test]
fn a_discarded_capture_may_shut_the_pool_down() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let held = occupy(&pool);
        let (dropping, seen) = mpsc::channel();
        let again = Arc::clone(&pool);
        let capture = on_drop(move || {
            dropping.send(()).unwrap();
            again.shutdown();
        });
        pool.spawn(move || drop(capture)).unwrap();
        let pool2 = Arc::clone(&pool);
        let closer = thread::spawn(move || pool2.shutdown_now().unwrap());
        seen.recv().unwrap();
        held.release();
        let report = closer.join().unwrap();
        assert_eq!((report.completed, report.dropped), (1, 1));
    });
}

/// The other worker finds the tombstone of a job that its waiter runs.
#[test]
fn a_joined_job_whose_tombstone_is_found_first() {
    watched(|| {
        let pool = Arc::new(pool(2, 4));
        let held = occupy(&pool);
        let inside = Arc::clone(&pool);
        let outer = pool
            .submit(move || {
                let here = Arc::clone(&inside);
                let job = inside
                    .submit(move || {
                        // The other worker has run the jobs behind this job's tombstone.
                        let (done, wait) = mpsc::channel();
                        here.spawn(move || done.send(()).unwrap()).unwrap();
                        held.release();
                        wait.recv().unwrap();
                        7
                    })
                    .unwrap();
                job.join().unwrap()
            })
            .unwrap();
        assert_eq!(outer.join().unwrap(), 7);
        assert_eq!(pool.shutdown().panicked, 0);
    });
}

/// A waker that panics when a worker that finishes a job calls it.
#[test]
fn a_waker_that_panics_does_not_end_the_worker() {
    let name = "a_waker_that_panics_does_not_end_the_worker";
    survives_in_child(name, || {
        watched(|| {
            let pool = pool(1, 4);
            let held = occupy(&pool);
            let mut handle = pool.submit(|| 7).unwrap();
            let waker = waker(|| panic!("waker"));
            assert!(
                Future::poll(Pin::new(&mut handle), &mut Context::from_waker(&waker)).is_pending()
            );
            held.release();
            wait_until(|| handle.is_finished());
            assert_eq!(handle.join().unwrap(), 7);
            assert_eq!(pool.submit(|| 8).unwrap().join().unwrap(), 8);
            assert_eq!(pool.shutdown().completed, 3);
        });
    });
}

/// A waker that panics when a worker grants its task a place.
#[test]
fn a_waker_that_panics_does_not_end_the_admission() {
    let name = "a_waker_that_panics_does_not_end_the_admission";
    survives_in_child(name, || {
        watched(|| {
            let pool = pool(1, 1);
            let held = fill(&pool, 1);
            let mut future = Box::pin(pool.reserve_async());
            let waker = waker(|| panic!("waker"));
            assert!(
                future
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            drop(held);
            wait_until(|| pool.metrics().waiting_submitters == 0);
            let permit = block_on(future).unwrap();
            assert_eq!(permit.submit(|| 7).join().unwrap(), 7);
            assert_eq!(pool.submit(|| 8).unwrap().join().unwrap(), 8);
            pool.shutdown();
            assert_conserved(&pool);
        });
    });
}

thread_local! {
    static LAST_WORDS: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) };
}

/// Failure 37, further: a worker's thread-local destructor owns the last reference.
#[test]
fn a_pool_that_is_dropped_by_a_workers_thread_local() {
    let name = "a_pool_that_is_dropped_by_a_workers_thread_local";
    survives_in_child(name, || {
        watched(|| {
            let pool = Arc::new(pool(1, 4));
            let (ended, wait) = mpsc::channel();
            let own = Arc::clone(&pool);
            let (begun, began) = mpsc::channel();
            let gate = Gate::new();
            let inside = gate.clone();
            pool.spawn(move || {
                own.shutdown();
                let last = on_drop(move || {
                    drop(own);
                    ended.send(()).unwrap();
                });
                LAST_WORDS.set(Some(Box::new(last)));
                begun.send(()).unwrap();
                inside.pass();
            })
            .unwrap();
            began.recv().unwrap();
            drop(pool);
            gate.open();
            wait.recv().unwrap();
        });
    });
}

/// Failure 37, further: a worker's thread-local destructor shuts its pool down while another thread
/// waits for that worker to end.
#[test]
fn a_workers_thread_local_may_shut_the_pool_down() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let own = Arc::clone(&pool);
        pool.spawn(move || {
            let last = on_drop(move || {
                own.shutdown();
            });
            LAST_WORDS.set(Some(Box::new(last)));
        })
        .unwrap();
        assert_eq!(pool.shutdown().completed, 1);
    });
}

/// Failure 37.
#[test]
fn thread_local_destructors_may_submit() {
    watched(|| {
        let pool = Arc::new(pool(1, 1));
        let ran = Arc::new(AtomicUsize::new(0));
        // An outside thread: admitted, and waited for.
        let (own, counts) = (Arc::clone(&pool), Arc::clone(&ran));
        thread::spawn(move || {
            LAST_WORDS.set(Some(Box::new(on_drop(move || {
                for _ in 0..4 {
                    let counts = Arc::clone(&counts);
                    own.submit(move || counts.fetch_add(1, Ordering::SeqCst))
                        .unwrap()
                        .join()
                        .unwrap();
                }
            }))));
        })
        .join()
        .unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 4);
        // The pool's own thread: its pool is closed by then.
        let (own, refused) = (Arc::clone(&pool), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&refused);
        pool.spawn(move || {
            LAST_WORDS.set(Some(Box::new(on_drop(move || {
                let closed = own.submit(|| ()).unwrap_err().is_closed();
                assert!(own.try_reserve().is_err());
                seen.store(closed, Ordering::SeqCst);
            }))));
        })
        .unwrap();
        pool.shutdown();
        assert!(refused.load(Ordering::SeqCst));
        assert_conserved(&pool);
    });
}

/// One thread helps rayon, one runs a job, and a third was never started. It has to be started.
#[test]
fn r2_a_thread_that_helps_rayon_is_not_taken_for_idle() {
    watched(|| {
        let pool = Pool::builder()
            .workers(1..=3)
            .max_threads(3)
            .scale_up_threshold(0.0)
            .scale_cooldown(Duration::ZERO)
            .build()
            .unwrap();
        // Two threads exist, and are idle.
        let held = [occupy(&pool), occupy(&pool)];
        drop(held);
        assert_eq!(pool.metrics().threads, TIMER_THREAD + 2);
        // They have probably returned to rayon. If not, the test shows nothing.
        let end = Instant::now() + Duration::from_millis(20);
        wait_until(|| Instant::now() >= end);
        let gate = Gate::new();
        let (both, begun) = mpsc::channel();
        let inside = gate.clone();
        let outer = pool
            .submit(move || {
                let wait = |gate: &Gate, both: &mpsc::Sender<()>| {
                    both.send(()).unwrap();
                    gate.pass();
                };
                let second = both.clone();
                rayon_core::join(|| wait(&inside, &both), || wait(&inside, &second));
            })
            .unwrap();
        begun.recv().unwrap();
        begun.recv().unwrap();
        let third = pool.submit(|| 7).unwrap();
        let third = third.join_timeout(Duration::from_secs(5));
        gate.open();
        outer.join().unwrap();
        let third = third.expect("stranded, with a thread left to be started");
        assert_eq!(third.unwrap(), 7);
    });
}

/// A panic in rayon's own detached spawn, inside a job, does not abort the process.
#[test]
fn r4_a_panic_in_rayons_spawn_goes_to_the_panic_handler() {
    let name = "r4_a_panic_in_rayons_spawn_goes_to_the_panic_handler";
    survives_in_child(name, || {
        watched(|| {
            let (handled, seen) = mpsc::channel();
            let pool = Pool::builder()
                .workers(1)
                .panic_handler(move |_| handled.send(()).unwrap())
                .build()
                .unwrap();
            pool.spawn(|| rayon_core::spawn(|| panic!("in rayon's spawn")))
                .unwrap();
            seen.recv().unwrap();
        });
    });
}

/// A8. The awaited job is in the queue of the thread that blocks on it.
#[test]
fn a8_a_handle_may_be_blocked_on_as_a_future_inside_a_job() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let own = Arc::clone(&pool);
        let outer = pool
            .submit(move || block_on(own.submit(|| 7).unwrap()).unwrap())
            .unwrap();
        let done = outer.join_timeout(Duration::from_secs(5));
        let Ok(result) = done else {
            // The worker is lost, so the pool cannot be dropped.
            std::mem::forget(pool);
            panic!("a job that awaits a job of its own pool hangs");
        };
        assert_eq!(result.unwrap(), 7);
    });
}

static UNCLONABLE: RawWakerVTable =
    RawWakerVTable::new(|_| panic!("in a clone"), |_| (), |_| (), |_| ());

fn unclonable() -> Waker {
    let raw = RawWaker::new(ptr::null(), &UNCLONABLE);
    // SAFETY: the functions of the table do not read the pointer.
    unsafe { Waker::from_raw(raw) }
}

fn undroppable() -> Waker {
    let guard = on_drop(|| panic!("in a drop"));
    waker(move || {
        let _ = &guard;
    })
}

#[test]
fn a2_a_waker_whose_clone_or_drop_panics_costs_no_place_and_no_count() {
    watched(|| {
        let pool = pool(1, 1);
        let held = occupy(&pool);
        pool.spawn(|| ()).unwrap();
        let mut future = Box::pin(pool.reserve_async());
        for _ in 0..2 {
            let poll = || {
                drop(
                    future
                        .as_mut()
                        .poll(&mut Context::from_waker(&unclonable())),
                )
            };
            assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
        }
        // Only the wait queue holds it now, and drops it: for another waker, and because the wait
        // ends.
        let waker = undroppable();
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        assert!(poll_once(&mut future).is_pending());
        let mut dropped_early = Box::pin(pool.reserve_async());
        let waker = undroppable();
        let polled = dropped_early
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        drop(dropped_early);
        held.release();
        drop(block_on(future).unwrap());
        pool.shutdown();
        assert_conserved(&pool);
        // Two jobs and a permit.
        assert_eq!(pool.metrics().admission_wait.count, 3);
    });
}
