//! A pool in a process from which a filter of system calls takes `membarrier`: the fences of `fence.rs` do
//! without it, from the start or from then on.
#![cfg(all(target_os = "linux", not(miri)))]
mod support;

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use adaptive_pool::Pool;
use support::*;

/// One instruction of a filter: `linux/filter.h`.
const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Makes `membarrier` fail, in the calling thread and those that it starts, or in all. False if the
/// system does not let us.
fn forbid(error: i32, all_threads: bool) -> bool {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FAIL: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const SET_MODE_FILTER: libc::c_uint = 1;
    const ALL_THREADS: libc::c_uint = 1;
    let mut filter = [
        instruction(LOAD_NUMBER, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 1, libc::SYS_membarrier as u32),
        instruction(RETURN, 0, 0, FAIL | error as u32),
        instruction(RETURN, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let flags = if all_threads { ALL_THREADS } else { 0 };
    // SAFETY: it takes no pointer.
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

/// What a query of `membarrier` fails with.
fn failure() -> Option<i32> {
    // SAFETY: a query reads and writes no memory of ours.
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

/// Joins and scopes whose jobs are stolen, and workers that lie down in between.
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
        pool.submit(|| ()).unwrap().join().unwrap();
    }
}

fn pool() -> Pool {
    Pool::builder().workers(3).capacity(64).build().unwrap()
}

fn end(pool: &Pool) {
    pool.shutdown();
    assert_conserved(pool);
}

#[test]
fn r1_a_process_that_never_had_membarrier() {
    survives_in_child("r1_a_process_that_never_had_membarrier", || {
        if !forbid(libc::ENOSYS, true) {
            return println!("no filter to be had");
        }
        assert_eq!(failure(), Some(libc::ENOSYS));
        watched(|| {
            let pool = pool();
            work(&pool);
            end(&pool);
        });
    });
}

/// The filter comes while the workers steal from each other.
#[test]
fn r1_a_process_that_loses_membarrier() {
    survives_in_child("r1_a_process_that_loses_membarrier", || {
        watched(|| {
            let pool = pool();
            work(&pool);
            let is_forbidden = pool.in_place_scope(|s| {
                s.spawn(|_| work(&pool));
                forbid(libc::EPERM, true)
            });
            if !is_forbidden {
                return println!("no filter to be had");
            }
            assert_eq!(failure(), Some(libc::EPERM));
            work(&pool);
            end(&pool);
        });
    });
}

/// The filter comes in the middle of a recursion, which goes on with fences of which it did not know.
#[test]
fn r1_a_recursion_that_loses_membarrier() {
    survives_in_child("r1_a_recursion_that_loses_membarrier", || {
        watched(|| {
            let pool = pool();
            let is_forbidden = pool.install(|| {
                let parts = || {
                    // Whoever joins has pledged by now, and does not ask for each fence.
                    let (_, is_forbidden) = pool.join(
                        || sum(&pool, 0, 20_000),
                        || forbid(libc::EPERM, true) && failure().is_some(),
                    );
                    for to in 1..200 {
                        assert_eq!(sum(&pool, 0, 100 * to), 100 * to * (100 * to - 1) / 2);
                    }
                    is_forbidden
                };
                pool.join(parts, || sum(&pool, 0, 20_000)).0
            });
            if !is_forbidden {
                return println!("no filter to be had");
            }
            work(&pool);
            end(&pool);
        });
    });
}

/// One worker alone takes the call away from itself.
#[test]
fn r1_a_worker_that_loses_membarrier() {
    survives_in_child("r1_a_worker_that_loses_membarrier", || {
        watched(|| {
            let pool = pool();
            let is_forbidden = pool.install(|| forbid(libc::EPERM, false) && failure().is_some());
            if !is_forbidden {
                return println!("no filter to be had");
            }
            assert_eq!(failure(), None);
            work(&pool);
            end(&pool);
        });
    });
}
