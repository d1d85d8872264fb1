//! Pools with and without asymmetric fences, under filters of system calls that remove
//! `membarrier`. Without it from the start, a pool works. If it is lost later, the process aborts
//! with a message, unless the pool's option forbids the call.
#![cfg(all(target_os = "linux", not(miri)))]
mod support;

use std::{
    io,
    os::unix::process::ExitStatusExt,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use adaptive_pool::Pool;
use support::*;

/// One instruction of a filter: `linux/filter.h`.
const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The action of a filter on `membarrier`: `linux/seccomp.h`.
const FAIL: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;

/// Filters `membarrier`, in the calling thread and its future threads, or in all threads. Returns
/// false if the system refuses.
fn forbid(action: u32, all_threads: bool) -> bool {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const SET_MODE_FILTER: libc::c_uint = 1;
    const ALL_THREADS: libc::c_uint = 1;
    let mut filter = [
        instruction(LOAD_NUMBER, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 1, libc::SYS_membarrier as u32),
        instruction(RETURN, 0, 0, action),
        instruction(RETURN, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let flags = if all_threads { ALL_THREADS } else { 0 };
    // SAFETY: the call takes no pointer.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return false;
    }
    // SAFETY: the program and its instructions are valid, and are copied.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            &raw const program,
        ) == 0
    }
}

/// The error of a `membarrier` query.
fn failure() -> Option<i32> {
    // SAFETY: a query accesses no memory of the process.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    (outcome < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
}

fn sum(pool: &Pool, from: u64, to: u64) -> u64 {
    if to - from == 1 {
        return from;
    }
    let middle = from.midpoint(to);
    let (left, right) = pool.join(|| sum(pool, from, middle), || sum(pool, middle, to));
    left + right
}

/// Every feature with asymmetric fences: joins and scopes whose jobs are stolen, workers that park
/// in between, batches, and blocked submitters.
fn work(pool: &Pool) {
    for _ in 0..50 {
        assert_eq!(pool.install(|| sum(pool, 0, 2000)), 1999 * 1000);
        let total = AtomicU64::new(0);
        pool.scope(|s| {
            for n in 0..200 {
                let total = &total;
                s.spawn(move |s| {
                    s.spawn(move |_| {
                        total.fetch_add(n, Ordering::Relaxed);
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 199 * 100);
        assert_eq!(pool.map(0..500, |n| 2 * n).sum::<u64>(), 499 * 500);
        assert_eq!(pool.map_unordered(0..500, |n| n).sum::<u64>(), 499 * 250);
        let handles: Vec<_> = (0..200).map(|n| pool.submit(move || n).unwrap()).collect();
        let results = handles.into_iter().map(|handle| handle.join().unwrap());
        assert_eq!(results.sum::<u64>(), 199 * 100);
    }
}

fn pool(asymmetric_fences: bool) -> Pool {
    let builder = Pool::builder().workers(3).capacity(64);
    builder
        .asymmetric_fences(asymmetric_fences)
        .build()
        .unwrap()
}

fn end(pool: &Pool) {
    pool.shutdown();
    assert_conserved(pool);
}

/// Runs in a child process, as the test of this name, until the library aborts it.
fn aborts_in_child(name: &str, body: impl FnOnce(Pool) + Send + 'static) {
    let Some(output) = in_child(name, || watched(move || body(pool(true)))) else {
        return;
    };
    if String::from_utf8_lossy(&output.stdout).contains(NO_FILTER) {
        return;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    for part in ["adaptive-pool", "membarrier", "asymmetric_fences(false)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

const NO_FILTER: &str = "no filter to be had";

#[test]
fn r1_a_process_that_never_had_membarrier() {
    survives_in_child("r1_a_process_that_never_had_membarrier", || {
        if !forbid(FAIL | libc::ENOSYS as u32, true) {
            return println!("{NO_FILTER}");
        }
        assert_eq!(failure(), Some(libc::ENOSYS));
        watched(|| {
            let pool = pool(true);
            work(&pool);
            end(&pool);
        });
    });
}

#[test]
fn r1_a_pool_built_after_membarrier_was_lost_does_without() {
    survives_in_child(
        "r1_a_pool_built_after_membarrier_was_lost_does_without",
        || {
            watched(|| {
                let first = pool(true);
                work(&first);
                end(&first);
                if !forbid(FAIL | libc::EPERM as u32, true) {
                    return println!("{NO_FILTER}");
                }
                let second = pool(true);
                work(&second);
                end(&second);
            });
        },
    );
}

/// The filter starts while the workers steal from each other.
#[test]
fn r1_a_process_that_loses_membarrier_aborts() {
    aborts_in_child("r1_a_process_that_loses_membarrier_aborts", |pool| {
        work(&pool);
        let is_forbidden = pool.in_place_scope(|s| {
            s.spawn(|_| work(&pool));
            forbid(FAIL | libc::EPERM as u32, true)
        });
        if !is_forbidden {
            return println!("{NO_FILTER}");
        }
        loop {
            work(&pool);
        }
    });
}

/// Only one worker loses the call.
#[test]
fn r1_a_worker_that_loses_membarrier_aborts() {
    aborts_in_child("r1_a_worker_that_loses_membarrier_aborts", |pool| {
        let filter = || forbid(FAIL | libc::EPERM as u32, false) && failure().is_some();
        if !pool.install(filter) {
            return println!("{NO_FILTER}");
        }
        assert_eq!(failure(), None);
        loop {
            work(&pool);
        }
    });
}

/// The filter would kill the process.
#[test]
fn r1_a_pool_without_asymmetric_fences_never_calls_membarrier() {
    let name = "r1_a_pool_without_asymmetric_fences_never_calls_membarrier";
    survives_in_child(name, || {
        if !forbid(KILL, true) {
            return println!("{NO_FILTER}");
        }
        watched(|| {
            let pool = pool(false);
            work(&pool);
            end(&pool);
        });
    });
}

/// The threads of each pool also work for the other.
#[test]
fn r1_pools_with_and_without_asymmetric_fences_work_side_by_side() {
    watched(|| {
        let pools = [true, false].map(pool);
        thread::scope(|s| {
            for (here, there) in [(0, 1), (1, 0)] {
                let [here, there] = [here, there].map(|at| &pools[at]);
                s.spawn(|| work(here));
                s.spawn(|| here.install(|| work(there)));
            }
        });
        pools.iter().for_each(end);
    });
}
