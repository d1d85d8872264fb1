//! Failure 36: the use of pools in a forked child, its parent's and its own, whatever the parent's
//! threads were doing.
#![cfg(all(target_os = "linux", not(miri)))]
mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use adaptive_pool::{IteratorExt, Pool, ShutdownError};
#[cfg(feature = "prometheus")]
use prometheus::core::Collector;
use support::*;

fn pool(workers: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(4);
    builder.build().unwrap()
}

/// Runs `child` in a forked child, which has to end normally within seconds.
fn fork(child: impl FnOnce()) {
    // SAFETY: the child uses what this test is about, and the allocator, which handles forks
    // itself.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no preconditions. The alarm ends a child that hangs.
        unsafe { libc::alarm(20) };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: no preconditions. It skips the leak checker's search for the parent's threads.
        unsafe { libc::_exit(i32::from(ran.is_err())) };
    }
    assert!(pid > 0, "{}", io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: the pointer is valid for a write.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((ended, status), (pid, 0), "14: the child hangs");
}

/// Uses every feature of a pool of the child's own.
fn uses_its_own() {
    let pool = Pool::builder().workers(1..=2).capacity(2).build().unwrap();
    assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
    assert_eq!(pool.install(|| pool.join(|| 1, || 2)), (1, 2));
    assert_eq!(pool.map(0..20, |n| n * n).sum::<i32>(), 2470);
    assert_eq!(pool.shutdown().dropped, 0);
    assert_eq!(pool.metrics().threads, 0);
}

/// Two pools of the child's own that wait for each other and starve.
fn waits_between_its_own() {
    let (a, b) = (pool(1), pool(1));
    let bounced = a.install(|| b.install(|| a.install(|| b.submit(|| 7).unwrap().join())));
    assert_eq!(bounced.unwrap(), 7);
}

/// An inherited pool is a closed one.
fn leaves_alone(pool: &Pool) {
    assert!(pool.is_closed());
    assert!(pool.submit(|| ()).unwrap_err().is_closed());
    assert!(pool.try_submit(|| ()).unwrap_err().is_closed());
    assert!(pool.spawn(|| ()).unwrap_err().is_closed());
    assert!(pool.try_spawn(|| ()).unwrap_err().is_closed());
    let soon = Duration::from_millis(1);
    assert!(pool.spawn_timeout(soon, || ()).unwrap_err().is_closed());
    assert!(pool.submit_timeout(soon, || ()).unwrap_err().is_closed());
    assert!(pool.reserve().is_err() && pool.try_reserve().is_err());
    assert!(poll_once(&mut Box::pin(pool.reserve_async())).is_ready());
    assert!(poll_once(&mut Box::pin(pool.submit_async(|| ()))).is_ready());
    let here = thread::current().id();
    let is_here = || assert_eq!(thread::current().id(), here);
    pool.install(is_here);
    pool.join(is_here, is_here);
    pool.scope(|s| s.spawn(move |_| is_here()));
    pool.in_place_scope(|s| {
        s.spawn(move |_| is_here());
        assert_eq!(s.map(0..9, |n| n).sum::<i32>(), 36);
    });
    pool.for_each(0..9, |_| is_here());
    assert_eq!(pool.map(0..9, |n| n).collect::<Vec<_>>().len(), 9);
    assert_eq!((0..9).par_map_unordered(pool, |n| n).sum::<i32>(), 36);
    assert_eq!(pool.broadcast(|context| context.index()), []);
    pool.resize(1).unwrap();
    pool.set_capacity(9).unwrap();
    let seen = pool.metrics();
    assert_eq!(
        (seen.threads, seen.depth, seen.workers_in_service),
        (0, 0, 0)
    );
    #[cfg(feature = "prometheus")]
    assert!(!pool.collector().collect().is_empty());
    assert!(format!("{pool:?}{seen}").contains("closed"));
    pool.close();
    assert!(!matches!(
        pool.shutdown_now(),
        Err(ShutdownError::InsideJob)
    ));
    assert!(pool.shutdown_timeout(soon).is_ok());
    pool.shutdown();
}

/// Forks repeatedly, while the parent's threads do `busy` in all of their pools.
///
/// Most threads have started by then: while one starts or ends, it holds a lock of std's, which no
/// thread of a child can acquire.
fn while_it_is_busy(name: &str, busy: impl Fn(&[Pool; 2]) + Sync, child: impl Fn([Pool; 2])) {
    // Not `watched`: the fork copies this thread, with its borrows. The alarm ends a child that
    // hangs.
    survives_in_child(name, || {
        let pools = [pool(2), pool(2)];
        let is_over = AtomicBool::new(false);
        let rounds = AtomicUsize::new(0);
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        busy(&pools);
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            wait_until(|| rounds.load(Ordering::Relaxed) >= 1000);
            for _ in 0..100 {
                fork(|| {
                    // SAFETY: the child does not reach the end of this scope, where they would be
                    // dropped again.
                    let own = unsafe { std::ptr::read(&raw const pools) };
                    child(own);
                });
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for pool in &pools {
            assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
            pool.shutdown();
            assert_conserved(pool);
        }
    });
}

#[test]
fn a_forked_childs_own_pools_work_while_the_parents_wait_for_each_other() {
    let name = "a_forked_childs_own_pools_work_while_the_parents_wait_for_each_other";
    let bounce = |[a, b]: &[Pool; 2]| a.install(|| b.install(|| ()));
    while_it_is_busy(name, bounce, |pools| {
        waits_between_its_own();
        uses_its_own();
        drop(pools);
    });
}

#[test]
fn a_forked_childs_inherited_pools_are_closed_whatever_locks_were_held() {
    let name = "a_forked_childs_inherited_pools_are_closed_whatever_locks_were_held";
    let use_all = |[a, b]: &[Pool; 2]| {
        a.metrics();
        a.submit(|| ()).unwrap().join().unwrap();
        drop(b.reserve().unwrap());
        b.set_capacity(4).unwrap();
        b.resize(1..=2).unwrap();
        let scope = |pool: &Pool| pool.scope(|s| (0..20).for_each(|_| s.spawn(|_| ())));
        scope(a);
        a.install(|| scope(b));
    };
    while_it_is_busy(name, use_all, |pools| {
        leaves_alone(&pools[0]);
        waits_between_its_own();
        // Silently.
        drop(pools);
    });
}

#[test]
fn a_job_that_forks_has_a_child_that_is_no_worker() {
    let name = "a_job_that_forks_has_a_child_that_is_no_worker";
    survives_in_child(name, || {
        watched(|| {
            let pool = Arc::new(pool(1));
            let own = Arc::clone(&pool);
            let job = move || {
                fork(|| {
                    leaves_alone(&own);
                    uses_its_own();
                    waits_between_its_own();
                });
            };
            pool.submit(job).unwrap().join().unwrap();
            pool.shutdown();
            assert_conserved(&pool);
        });
    });
}

#[test]
fn a_childs_child_may_do_the_same() {
    let name = "a_childs_child_may_do_the_same";
    survives_in_child(name, || {
        let inherited = pool(1);
        fork(|| {
            leaves_alone(&inherited);
            let own = pool(1);
            fork(|| {
                leaves_alone(&inherited);
                leaves_alone(&own);
                uses_its_own();
            });
            assert_eq!(own.submit(|| 7).unwrap().join().unwrap(), 7);
        });
    });
}
