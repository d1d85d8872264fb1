//! Handles: forgotten, joined late, joined from elsewhere; and unusual closures.
mod support;

use std::{
    cell::Cell,
    pin::Pin,
    sync::{Arc, atomic::Ordering, mpsc},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{JobHandle, Permit, Pool, PoolBuilder, ShutdownError, Snapshot};
use support::*;

fn pool(workers: usize, capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    Arc::new(builder.build().unwrap())
}

/// A2: the queue is swept of cancelled jobs several times, and keeps the others in order.
#[test]
fn a2_a_sweep_keeps_what_is_alive() {
    watched(|| {
        let pool = pool(1, 64);
        let held = occupy(&pool);
        let (sender, receiver) = mpsc::channel();
        let mut handles = Vec::new();
        for n in 0..2000 {
            assert!(pool.submit(|| unreachable!()).unwrap().cancel());
            if n % 100 == 0 {
                let (sender, large) = (sender.clone(), [n; 100]);
                match n / 100 % 3 {
                    0 => pool.spawn(move || sender.send(n).unwrap()).unwrap(),
                    1 => pool.spawn(move || sender.send(large[99]).unwrap()).unwrap(),
                    _ => {
                        let job = pool.submit(move || sender.send(large[99]).unwrap());
                        handles.push(job.unwrap());
                    }
                }
            }
        }
        held.release();
        drop(sender);
        assert!(receiver.into_iter().eq((0..20).map(|n| n * 100)));
        handles.into_iter().for_each(|job| job.join().unwrap());
        pool.shutdown();
        assert_eq!(pool.metrics().completed, 21);
        assert_conserved(&pool);
    });
}

/// `Debug` of handles, permits and errors requires nothing of the user's types.
#[test]
fn handles_and_errors_format_without_bounds() {
    struct Mute;
    watched(|| {
        let pool = pool(1, 1);
        let held = occupy(&pool);
        let handle = pool.submit(|| Mute).unwrap();
        assert_eq!(format!("{handle:?}"), "JobHandle { finished: false, .. }");
        let full = pool.try_submit(|| Mute).unwrap_err();
        assert_eq!(format!("{full:?}"), "Full(..)");
        let late = pool.submit_timeout(Duration::ZERO, || Mute).unwrap_err();
        assert_eq!(format!("{late:?}"), "TimedOut(..)");
        assert!(handle.cancel());
        assert_eq!(format!("{handle:?}"), "JobHandle { finished: true, .. }");
        let error = handle.join().map(|Mute| ()).unwrap_err();
        assert_eq!(format!("{error:?}"), "Cancelled");
        let permit = pool.reserve().unwrap();
        let printed = format!("{permit:?}");
        assert!(
            printed.starts_with("Permit { inner: Inner { name: "),
            "{printed}"
        );
        drop(permit);
        held.release();
        let payloads: [(fn(), &str); 3] = [
            (|| std::panic::panic_any("text"), "text"),
            (|| std::panic::panic_any(String::from("owned")), "owned"),
            (
                || std::panic::panic_any(7),
                "a payload that is not a string",
            ),
        ];
        for (job, text) in payloads {
            let error = pool.submit(job).unwrap().join().unwrap_err();
            assert_eq!(format!("{error:?}"), format!("Panicked({text:?})"));
            assert_eq!(error.to_string(), format!("the job panicked: {text}"));
        }
        let contexts = pool.broadcast(|context| format!("{context:?}"));
        assert_eq!(contexts, ["BroadcastContext { index: 0, num_threads: 1 }"]);
        pool.close();
        let closed = pool.submit(|| Mute).unwrap_err();
        assert_eq!(format!("{closed:?}"), "Closed(..)");
    });
}

/// Failure 22.
#[test]
fn send_and_sync_of_the_public_types() {
    fn send_sync<T: Send + Sync>() {}
    fn send<T: Send>(_: &T) {}
    send_sync::<Pool>();
    send_sync::<PoolBuilder>();
    send_sync::<Permit<'_>>();
    send_sync::<JobHandle<Cell<u8>>>();
    send_sync::<Snapshot>();
    send_sync::<ShutdownError>();
    send_sync::<adaptive_pool::BuildError>();
    fn unpin<T: Unpin>() {}
    unpin::<JobHandle<std::marker::PhantomPinned>>();
    fn unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    unwind_safe::<Pool>();
    unwind_safe::<JobHandle<u8>>();
    let pool = pool(1, 1);
    send(&pool.reserve_async());
    send(&pool.submit_async(|| ()));
}

/// Failure 8.
#[test]
fn the_place_is_free_when_the_handle_is_done() {
    watched(|| {
        let rounds = if cfg!(miri) { 50 } else { 100_000 };
        let pool = pool(1, 1);
        for n in 0..rounds {
            let handle = pool.try_submit(move || n);
            let handle = handle.unwrap_or_else(|error| panic!("round {n}: {error}"));
            assert_eq!(handle.join().unwrap(), n);
        }
    });
}

#[test]
fn handles_outlive_their_pool() {
    watched(|| {
        let pool = pool(1, 8);
        let held = occupy(&pool);
        let value = pool.submit(|| 7).unwrap();
        let panics = pool.submit(|| -> u8 { panic!("in a job") }).unwrap();
        let cancelled = pool.submit(|| 8).unwrap();
        let dropped = pool.submit(|| String::from("never taken")).unwrap();
        assert!(cancelled.cancel());
        held.release();
        drop(Arc::into_inner(pool).unwrap());
        assert!(value.is_finished() && !value.cancel());
        assert_eq!(value.join().unwrap(), 7);
        assert!(block_on(panics).unwrap_err().is_panic());
        let late = cancelled.join_timeout(Duration::ZERO).unwrap();
        assert!(late.unwrap_err().is_cancelled());
        drop(dropped.cancel_on_drop());
    });
}

#[test]
fn a_handle_is_joined_on_a_worker_of_another_pool() {
    watched(|| {
        let (a, b) = (pool(1, 4), pool(1, 4));
        let held = occupy(&a);
        let job = a.submit(|| 7).unwrap();
        let joined = b.submit(move || job.join().unwrap()).unwrap();
        // It is not run there: it belongs to another pool.
        wait_until(|| b.metrics().workers_busy == 1);
        assert_eq!(a.metrics().depth, 1);
        held.release();
        assert_eq!(joined.join().unwrap(), 7);
        assert_eq!(a.metrics().completed, 2);
    });
}

#[test]
fn a_forgotten_handle_or_future_holds_nothing_up() {
    watched(|| {
        let pool = pool(1, 4);
        let held = occupy(&pool);
        std::mem::forget(pool.submit(|| 7).unwrap());
        let pending: JobHandle<u32> = pool.submit(|| 7).unwrap();
        let mut pending = Box::pin(pending);
        assert!(poll_once(&mut pending).is_pending());
        std::mem::forget(pending);
        for _ in 0..2 {
            pool.spawn(|| ()).unwrap();
        }
        let mut waiting = Box::pin(pool.reserve_async());
        assert!(poll_once(&mut waiting).is_pending());
        std::mem::forget(waiting);
        let mut behind = Box::pin(pool.submit_async(|| 8));
        assert!(poll_once(&mut behind).is_pending());
        held.release();
        assert_eq!(block_on(block_on(behind).unwrap()).unwrap(), 8);
        // The place granted to the forgotten future is lost, but blocks no submitter.
        let report = pool.shutdown();
        assert_eq!(report.completed, 6);
        assert_eq!(pool.metrics().depth, 1);
    });
}

#[test]
fn a_handle_polled_after_its_end_returns_cancelled() {
    watched(|| {
        let pool = pool(1, 4);
        let mut handle = Box::pin(pool.submit(|| 7).unwrap());
        wait_until(|| handle.is_finished());
        assert!(matches!(poll_once(&mut handle), Poll::Ready(Ok(7))));
        let again = poll_once(&mut handle);
        assert!(matches!(again, Poll::Ready(Err(error)) if error.is_cancelled()));
    });
}

#[test]
fn only_the_last_waker_is_called() {
    watched(|| {
        let pool = pool(1, 4);
        let held = occupy(&pool);
        let mut handle = pool.submit(|| 7).unwrap();
        let (first, early) = counting_waker();
        let (second, late) = counting_waker();
        for waker in [&first, &second] {
            let mut cx = Context::from_waker(waker);
            assert!(Pin::new(&mut handle).poll(&mut cx).is_pending());
        }
        held.release();
        pool.shutdown();
        let woken = (early.load(Ordering::SeqCst), late.load(Ordering::SeqCst));
        assert_eq!(woken, (0, 1));
        assert_eq!(handle.join().unwrap(), 7);
    });
}

/// The grant is lost when the job's state is dropped: in the drop of a capture, and in a waker.
#[test]
fn user_code_may_use_the_pool_from_drops_and_wakers() {
    watched(|| {
        let pool = pool(1, 2);
        let held = occupy(&pool);
        let (send, seen) = mpsc::channel();
        let (own, sends) = (Arc::clone(&pool), send.clone());
        let capture = on_drop(move || {
            // The place of the cancelled job may be free already; one is free in any case.
            own.try_spawn(move || sends.send("from a drop").unwrap())
                .unwrap();
        });
        assert!(pool.submit(move || drop(capture)).unwrap().cancel());
        while pool.try_spawn(|| ()).is_ok() {}
        let mut waiting = Box::pin(pool.reserve_async());
        let own = Arc::clone(&pool);
        let waker = waker(move || {
            let send = send.clone();
            own.spawn(move || send.send("from a waker").unwrap())
                .unwrap();
            own.metrics();
            own.close();
        });
        let mut cx = Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        held.release();
        let mut both = [seen.recv().unwrap(), seen.recv().unwrap()];
        both.sort_unstable();
        assert_eq!(both, ["from a drop", "from a waker"]);
        drop(waiting);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn cancel_races_with_the_start_and_one_of_them_wins() {
    watched(|| {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let pool = pool(1, 4);
        let mut random = Random(seed());
        let mut won = 0;
        for n in 0..rounds {
            let drops = Drops::default();
            let capture = drops.one();
            let handle = pool.submit(move || {
                drop(capture);
                n
            });
            let handle = handle.unwrap();
            for _ in 0..random.below(300) {
                std::hint::spin_loop();
            }
            let cancelled = handle.cancel();
            won += u64::from(cancelled);
            match handle.join() {
                Ok(value) => assert!(value == n && !cancelled),
                Err(error) => assert!(error.is_cancelled() && cancelled),
            }
            assert_eq!(drops.count(), 1);
        }
        let report = pool.shutdown();
        assert_eq!((report.cancelled, report.completed), (won, rounds - won));
        assert_conserved(&pool);
    });
}

#[test]
fn join_timeout_returns_the_handle() {
    watched(|| {
        let pool = pool(1, 4);
        let held = occupy(&pool);
        let mut handle = pool.submit(|| 7).unwrap();
        for _ in 0..3 {
            let begin = Instant::now();
            let time = Duration::from_millis(2);
            handle = handle.join_timeout(time).unwrap_err();
            assert!(begin.elapsed() >= time);
        }
        held.release();
        assert_eq!(handle.join_timeout(Duration::MAX).unwrap().unwrap(), 7);
    });
}

#[test]
fn closures_and_results_of_every_shape() {
    #[repr(align(64))]
    #[derive(Clone, Copy)]
    struct Aligned(u8);
    struct Zero;
    watched(|| {
        let pool = pool(2, 8);
        let aligned = Aligned(7);
        let address = move || {
            let own = aligned;
            (std::ptr::from_ref(&own) as usize % 64, own.0)
        };
        assert_eq!(pool.submit(address).unwrap().join().unwrap(), (0, 7));
        let (send, seen) = mpsc::channel();
        pool.spawn(move || send.send(address()).unwrap()).unwrap();
        assert_eq!(seen.recv().unwrap(), (0, 7));
        let job = pool.submit(move || Aligned(8)).unwrap();
        let result = Box::new(job.join().unwrap());
        assert_eq!(
            (std::ptr::from_ref(&*result) as usize % 64, result.0),
            (0, 8)
        );
        fn nothing() {}
        pool.spawn(nothing).unwrap();
        pool.submit(nothing).unwrap().join().unwrap();
        let _zero: Zero = pool.submit(|| Zero).unwrap().join().unwrap();
        let boxed: Box<dyn FnOnce() -> usize + Send> = Box::new(|| 9);
        assert_eq!(pool.submit(boxed).unwrap().join().unwrap(), 9);
        for words in [3usize, 4, 5] {
            let large = vec![words; words];
            let array: [usize; 5] = std::array::from_fn(|n| n * words);
            let job = pool.submit(move || (large.len(), array[4])).unwrap();
            assert_eq!(job.join().unwrap(), (words, 4 * words));
        }
    });
}

#[test]
fn a_job_may_close_its_pool() {
    watched(|| {
        let pool = pool(1, 4);
        let own = Arc::clone(&pool);
        let outer = pool.submit(move || {
            let queued = own.submit(|| 7).unwrap();
            own.close();
            assert!(own.submit(|| ()).unwrap_err().is_closed());
            assert!(own.reserve().is_err());
            own.set_capacity(9).unwrap();
            queued.join().unwrap()
        });
        assert_eq!(outer.unwrap().join().unwrap(), 7);
        assert_eq!(pool.shutdown().completed, 2);
    });
}

#[test]
fn set_capacity_with_many_waiters() {
    watched(|| {
        let pool = pool(1, 64);
        let held = fill(&pool, 1);
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let own = Arc::clone(&pool);
                thread::spawn(move || own.submit(|| 1).unwrap().join().unwrap())
            })
            .collect();
        wait_for_waiters(&pool, 20);
        pool.set_capacity(1).unwrap();
        drop(held);
        let sum: u32 = waiting.into_iter().map(|one| one.join().unwrap()).sum();
        assert_eq!(sum, 20);
        assert_eq!(pool.shutdown().completed, 85);
        assert_conserved(&pool);
    });
}
