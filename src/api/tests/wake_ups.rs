//! R2, by a count: one job is one wake-up, for every way to submit it.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Wake},
    time::{Duration, Instant},
};

use crate::{Pool, sync::thread};

/// The state of both workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Idle, each on its parker.
    Idle,
    /// In rayon.
    InRayon,
}

const WORKERS: usize = 2;

fn pool() -> Pool {
    Pool::builder().workers(WORKERS).build().unwrap()
}

/// Waits until both workers are in this state, and none is awake.
fn await_rest(pool: &Pool, state: State) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let [searching, idle, in_rayon, activating] =
            crate::protocol::idle::tests::census(&pool.inner.idle);
        let is_at_rest = match state {
            State::Idle => idle == 2,
            // A worker also counts as in rayon while it polls rayon for work.
            State::InRayon => in_rayon == 2 && !pool.inner.threads.is_any_in_loop(WORKERS),
        };
        if is_at_rest && searching + activating == 0 {
            return;
        }
        if state == State::Idle && in_rayon > 0 {
            // They went to rayon already. Both run a job, so that they become idle after it.
            let both = Barrier::new(2);
            pool.in_place_scope(|scope| {
                (0..2).for_each(|_| {
                    scope.spawn(|_| {
                        both.wait();
                    });
                });
            });
        }
        assert!(Instant::now() < end, "{state:?}");
        std::hint::spin_loop();
    }
}

/// Counts wake-ups while `submit_one` submits a single job, and waits for it. Returns how many
/// workers were woken.
fn wake_ups(pool: &Pool, state: State, submit_one: impl Fn(&Pool)) -> u64 {
    await_rest(pool, state);
    let before = pool.inner.idle.wake_ups();
    submit_one(pool);
    // A woken worker may still be about to search.
    await_rest(pool, State::InRayon);
    pool.inner.idle.wake_ups() - before
}

/// Checks that at least one and at most `most` workers are woken, in both states. Repeats this,
/// since each round leaves the pool in a different state.
fn check(most: u64, submit_one: impl Fn(&Pool)) {
    let pool = pool();
    submit_one(&pool);
    for state in [State::Idle, State::InRayon] {
        for round in 0..3 {
            let woken = wake_ups(&pool, state, &submit_one);
            assert!((1..=most).contains(&woken), "{state:?}, {round}: {woken}");
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn r2_a_lone_submit_wakes_one() {
    check(1, |pool| pool.submit(|| ()).unwrap().join().unwrap());
}

#[test]
fn r2_a_lone_spawn_wakes_one() {
    check(1, |pool| pool.spawn(|| ()).unwrap());
}

#[test]
fn r2_a_lone_permit_wakes_one() {
    check(1, |pool| pool.reserve().unwrap().spawn(|| ()));
    check(1, |pool| {
        let permit = pool.try_reserve().unwrap();
        permit.submit(|| ()).join().unwrap();
    });
}

#[test]
fn r2_a_lone_async_submit_wakes_one() {
    check(1, |pool| {
        block_on(block_on(pool.submit_async(|| ())).unwrap()).unwrap();
    });
    check(1, |pool| {
        block_on(pool.reserve_async()).unwrap().spawn(|| ())
    });
}

#[test]
fn r2_a_lone_install_wakes_one() {
    check(1, |pool| pool.install(|| ()));
    check(1, |pool| pool.scope(|_| ()));
}

#[test]
fn r2_a_lone_job_of_a_scope_wakes_one() {
    check(1, |pool| pool.in_place_scope(|scope| scope.spawn(|_| ())));
}

/// A body, and a job of it that another worker may take. If the body's worker blocks meanwhile, a
/// third may be woken to take its place.
#[test]
fn r2_two_jobs_wake_two_and_one_for_a_place_that_is_left() {
    check(3, |pool| pool.scope(|scope| scope.spawn(|_| ())));
    check(3, |pool| {
        pool.join(|| (), || ());
    });
}

#[test]
fn r2_a_lone_item_wakes_one() {
    check(1, |pool| pool.for_each(0..1, |_| ()));
    check(1, |pool| assert_eq!(pool.map(0..1, |_| ()).count(), 1));
    check(1, |pool| {
        assert_eq!(pool.map_unordered(0..1, |_| ()).count(), 1)
    });
}

/// The worker that submits the job is awake: the first wake-up is its own.
#[test]
fn r2_a_job_that_a_worker_submits_wakes_one_more() {
    check(2, |pool| pool.install(|| pool.spawn(|| ()).unwrap()));
    check(2, |pool| {
        pool.install(|| drop(pool.submit(|| ()).unwrap()));
    });
    check(2, |pool| {
        pool.install(|| pool.in_place_scope(|scope| scope.spawn(|_| ())))
    });
}
