//! Rule A5: waiting submitters are served in order, and one that gives up strands no other.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, Pool};
use support::*;

fn pool(workers: usize, capacity: usize) -> Pool {
    Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .build()
        .unwrap()
}

/// A waiting task is granted the first free place, so the order is exact.
#[test]
fn a5_waiting_tasks_are_served_in_order_of_arrival() {
    watched(|| {
        let pool = pool(1, 1);
        let permit = pool.reserve().unwrap();
        let mut line: Vec<_> = (0..5).map(|_| Box::pin(pool.reserve_async())).collect();
        assert!(line.iter_mut().all(|task| poll_once(task).is_pending()));
        assert_eq!(pool.metrics().waiting_submitters, 5);
        let mut granted = permit;
        for _ in 0..5 {
            drop(granted);
            // No newcomer may take a place that a waiter is due.
            assert_eq!(pool.try_reserve().unwrap_err(), AdmissionError::Full);
            for later in line.iter_mut().skip(1) {
                assert!(poll_once(later).is_pending());
            }
            let Poll::Ready(next) = poll_once(&mut line[0]) else {
                panic!("the one in front was not served");
            };
            granted = next.unwrap();
            drop(line.remove(0));
        }
    });
}

/// The others arrive one after another, so their order is known.
#[test]
fn a5_blocked_threads_are_served_in_order_of_arrival() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 20 };
        for _ in 0..rounds {
            let pool = Arc::new(pool(1, 1));
            let held = fill(&pool, 1);
            let (send, order) = mpsc::channel();
            let waiters: Vec<_> = (0..4u64)
                .map(|n| {
                    let (own, send) = (Arc::clone(&pool), send.clone());
                    let waiter =
                        thread::spawn(move || own.spawn(move || send.send(n).unwrap()).unwrap());
                    wait_for_waiters(&pool, n + 1);
                    waiter
                })
                .collect();
            drop(held);
            for waiter in waiters {
                waiter.join().unwrap();
            }
            pool.shutdown();
            // With capacity 1 an admitted job is alone in the queue.
            assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        }
    });
}

/// Failure 10.
#[test]
fn a5_a_blocked_submitter_is_not_starved_by_submitters_that_never_block() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let stop = Arc::new(AtomicBool::new(false));
        let hammers: Vec<_> = (0..4)
            .map(|_| {
                let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if pool.try_spawn(|| ()).is_err() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let rounds = if cfg!(miri) { 5 } else { 300 };
        for round in 0..rounds {
            let served = pool.spawn_timeout(Duration::from_secs(10), || ());
            assert!(served.is_ok(), "starved in round {round}");
        }
        stop.store(true, Ordering::Relaxed);
        for hammer in hammers {
            hammer.join().unwrap();
        }
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Failure 7.
#[test]
fn a5_a_dropped_future_passes_its_place_on() {
    watched(|| {
        let pool = pool(1, 1);
        let permit = pool.reserve().unwrap();
        let mut first = Box::pin(pool.reserve_async());
        let mut second = Box::pin(pool.reserve_async());
        let (wakes_second, woken) = counting_waker();
        assert!(poll_once(&mut first).is_pending());
        let mut cx = Context::from_waker(&wakes_second);
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(permit);
        assert_eq!(
            woken.load(Ordering::SeqCst),
            0,
            "it is the first one's turn"
        );
        drop(first);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert!(matches!(poll_once(&mut second), Poll::Ready(Ok(_))));
        assert_eq!(pool.metrics().depth, 0);
    });
}

/// Failure 7, without a grant: the first waiter leaves, and the waiters behind it are still served.
#[test]
fn a5_a_first_waiter_that_gives_up_strands_no_other() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 50 };
        for _ in 0..rounds {
            let pool = Arc::new(pool(1, 1));
            let held = fill(&pool, 1);
            let own = Arc::clone(&pool);
            let impatient =
                thread::spawn(move || own.spawn_timeout(Duration::from_millis(3), || ()).is_ok());
            wait_until(|| pool.metrics().waiting_submitters == 1 || impatient.is_finished());
            let own = Arc::clone(&pool);
            let behind = thread::spawn(move || own.spawn(|| ()));
            assert!(!impatient.join().unwrap());
            wait_for_waiters(&pool, 1);
            drop(held);
            behind.join().unwrap().unwrap();
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// A grant that meets a timeout is either used or passed on.
#[test]
fn a5_a_timeout_that_meets_its_grant_loses_no_place() {
    watched(|| {
        let rounds = if cfg!(miri) { 20 } else { 3_000 };
        let pool = Arc::new(pool(1, 1));
        let (turns, turn) = mpsc::channel::<Duration>();
        let own = Arc::clone(&pool);
        let impatient = thread::spawn(move || {
            let mut won = 0;
            for timeout in turn {
                won += u64::from(own.reserve_timeout(timeout).is_ok());
            }
            won
        });
        let mut random = Random(seed());
        for _ in 0..rounds {
            let Ok(permit) = pool.reserve() else {
                unreachable!()
            };
            let micros = random.below(60);
            turns.send(Duration::from_micros(micros)).unwrap();
            let end = Instant::now() + Duration::from_micros(random.below(90));
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            drop(permit);
        }
        drop(turns);
        let won = impatient.join().unwrap();
        println!("won {won} of {rounds}");
        drop(pool.try_reserve().expect("the place was lost"));
        assert_eq!(pool.metrics().depth, 0);
    });
}

/// One place is free, which is too few to wake a batched waiter. Its timeout comes first, and finds
/// the place.
#[test]
fn a5_a_timeout_that_finds_a_place_takes_it_or_leaves_it_free() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 200 };
        let builder = Pool::builder().workers(1).max_threads(1).capacity(8);
        let pool = builder.build().unwrap();
        let (tokens, token) = mpsc::channel::<()>();
        let token = Arc::new(std::sync::Mutex::new(token));
        let mut won = 0;
        for _ in 0..rounds {
            loop {
                let token = Arc::clone(&token);
                let job = move || {
                    let _closed = token.lock().unwrap().recv();
                };
                let _full = pool.try_spawn(job);
                let seen = pool.metrics();
                if (seen.workers_busy, seen.depth) == (1, 8) {
                    break;
                }
            }
            thread::scope(|s| {
                let wait = || pool.reserve_timeout(Duration::from_micros(800)).is_ok();
                let impatient = s.spawn(wait);
                wait_until(|| pool.metrics().waiting_submitters == 1 || impatient.is_finished());
                tokens.send(()).unwrap();
                won += u64::from(impatient.join().unwrap());
            });
            wait_until(|| pool.metrics().depth == 7);
        }
        println!("won {won} of {rounds}");
        drop(tokens);
        pool.shutdown();
        assert_conserved(&pool);
    });
}
