//! Rule D5 on an ending thread: its thread-local values use pools while they are dropped, in any
//! order.
mod support;

use std::{
    cell::RefCell,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, ShutdownError};
use support::*;

/// Runs its closure when the thread ends.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

thread_local! {
    static FIRST: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
    static LAST: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
}

/// Uses the pool, so that everything it needs on this thread exists.
fn use_it(pool: &Pool) {
    let mut ran = false;
    pool.in_place_scope(|s| s.spawn(|_| ran = true));
    assert!(ran);
    pool.for_each(0..3, |_| ());
}

/// Runs `end` while a thread ends: in a value created before the thread used a pool, and in one
/// created after it.
fn at_the_end(pool: &Arc<Pool>, end: fn(Arc<Pool>)) {
    for is_before in [true, false] {
        let (done, ended) = mpsc::channel();
        let own = Arc::clone(pool);
        let thread = thread::spawn(move || {
            let at_end = Arc::clone(&own);
            let value = AtEnd(Some(Box::new(move || {
                end(at_end);
                done.send(()).unwrap();
            })));
            if is_before {
                FIRST.set(value);
                use_it(&own);
            } else {
                use_it(&own);
                LAST.set(value);
            }
        });
        thread.join().unwrap();
        ended
            .recv()
            .expect("the value was dropped, and its pool with it");
    }
}

/// In a job that runs on the calling thread, since the pool is closed.
fn in_a_job(pool: &Pool, f: impl Fn() + Sync) {
    pool.in_place_scope(|s| s.spawn(|_| f()));
    pool.scope(|s| s.spawn(|s| s.spawn(|_| f())));
    pool.for_each(0..2, |_| f());
}

fn closed() -> Arc<Pool> {
    let pool = Arc::new(Pool::builder().workers(1).capacity(1).build().unwrap());
    pool.close();
    pool
}

#[test]
fn d5_a_shutdown_in_a_job_of_an_ending_thread_returns() {
    watched(|| {
        let pool = closed();
        at_the_end(&pool, |pool| {
            in_a_job(&pool, || {
                assert!(matches!(pool.shutdown_now(), Err(ShutdownError::InsideJob)));
                let timed = pool.shutdown_timeout(Duration::from_secs(60));
                assert!(matches!(timed, Err(ShutdownError::InsideJob)));
            });
            in_a_job(&pool, || assert_eq!(pool.shutdown().dropped, 0));
        });
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn d5_the_last_owner_may_go_in_a_job_of_an_ending_thread() {
    watched(|| {
        for is_before in [true, false] {
            let name = format!("d5-end-{is_before}");
            let builder = Pool::builder().workers(1).capacity(1).name(&name);
            let pool = Arc::new(builder.build().unwrap());
            let permit_pool = Arc::clone(&pool);
            thread::spawn(move || {
                let last = Arc::clone(&pool);
                let value = AtEnd(Some(Box::new(move || {
                    last.close();
                    // The job on this thread is the last owner of the pool.
                    let (inner, own) = (Arc::clone(&last), last);
                    inner.in_place_scope(move |s| s.spawn(move |_| drop(own)));
                    drop(inner);
                })));
                if is_before {
                    FIRST.set(value);
                }
                use_it(&pool);
                drop(permit_pool);
                drop(pool);
            })
            .join()
            .unwrap();
            wait_until(|| threads_named(&name) == 0);
        }
    });
}

/// A pool's own exit handler runs on a thread that is about to end, and so do that thread's values.
#[test]
fn d5_another_pool_may_be_shut_down_in_a_job_of_an_exit_handler() {
    watched(|| {
        let other = closed();
        let own = Arc::clone(&other);
        let pool = Pool::builder()
            .workers(1)
            .exit_handler(move |_| {
                let at_end = Arc::clone(&own);
                FIRST.set(AtEnd(Some(Box::new(move || {
                    in_a_job(&at_end, || assert_eq!(at_end.shutdown().dropped, 0));
                }))));
                in_a_job(&own, || assert_eq!(own.shutdown().dropped, 0));
            })
            .build()
            .unwrap();
        pool.submit(|| 7).unwrap().join().unwrap();
        pool.shutdown();
        other.shutdown();
    });
}
