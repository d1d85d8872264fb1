//! Rule S4: every thread of a pool inherits from the thread that called `build`, whatever makes it
//! start, and whenever.
#![cfg(all(target_os = "linux", not(miri)))]
mod support;

use std::{
    io, mem,
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, PoolBuilder};
use support::*;

/// The inherited traits that are visible from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Traits {
    cores: Vec<usize>,
    blocks_usr1: bool,
    nice: i32,
    timer_slack: i32,
    policy: i32,
}

/// Checks the result of a call that returns a negative number on failure.
fn checked(result: i32) -> i32 {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    result
}

/// The traits of the calling thread.
fn traits() -> Traits {
    // SAFETY: all zeros are an empty set.
    let mut cores: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is valid for a write of a set.
    checked(unsafe { libc::sched_getaffinity(0, size_of_val(&cores), &raw mut cores) });
    // SAFETY: all zeros are a valid set.
    let mut blocked: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is valid for a write of a set; nothing is changed.
    checked(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked) });
    Traits {
        // SAFETY: no preconditions.
        cores: (0..1024)
            .filter(|&core| unsafe { libc::CPU_ISSET(core, &cores) })
            .collect(),
        // SAFETY: it is a set, and a signal.
        blocks_usr1: unsafe { libc::sigismember(&raw const blocked, libc::SIGUSR1) } == 1,
        // SAFETY: no preconditions.
        nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) },
        // SAFETY: no preconditions.
        timer_slack: checked(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }),
        // SAFETY: no preconditions.
        policy: checked(unsafe { libc::sched_getscheduler(0) }),
    }
}

/// Makes the calling thread unlike any pool's thread: pinned to one core, with a blocked signal and
/// a low priority.
fn become_odd() {
    let last = *traits().cores.last().unwrap();
    // SAFETY: all zeros are an empty set.
    let mut cores: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: it is a core.
    unsafe { libc::CPU_SET(last, &mut cores) };
    // SAFETY: the pointer is valid for a read of a set.
    checked(unsafe { libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores) });
    // SAFETY: all zeros are a valid set.
    let mut blocked: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: it is a set, and a signal.
    checked(unsafe { libc::sigaddset(&raw mut blocked, libc::SIGUSR1) });
    let before = std::ptr::null_mut();
    // SAFETY: the pointer is valid for a read of a set.
    checked(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, before) });
    // SAFETY: no preconditions.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) });
    // SAFETY: no preconditions.
    checked(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 123_456u64) });
    let policy = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is valid for a read.
    checked(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const policy) });
}

/// Runs `f` on an odd thread.
fn oddly<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let run = || {
        become_odd();
        f()
    };
    thread::scope(|s| s.spawn(run).join().unwrap())
}

/// The traits of `count` threads that are all in a job of this pool at once, submitted by an odd
/// one.
fn of_workers(pool: &Pool, workers: usize) -> Vec<Traits> {
    let barrier = Arc::new(Barrier::new(workers));
    let jobs: Vec<_> = (0..workers)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            let job = move || {
                barrier.wait();
                traits()
            };
            pool.submit(job).unwrap()
        })
        .collect();
    jobs.into_iter().map(|job| job.join().unwrap()).collect()
}

fn scales_at_once() -> PoolBuilder {
    let builder = Pool::builder().scale_up_threshold(0.0);
    builder.scale_cooldown(Duration::ZERO)
}

fn assert_all(found: &[Traits], expected: &Traits) {
    for (thread, traits) in found.iter().enumerate() {
        assert_eq!(traits, expected, "thread {thread}");
    }
}

#[test]
fn s4_threads_that_are_added_inherit_from_the_builder() {
    watched(|| {
        let pool = scales_at_once().workers(1..=4).capacity(8).build().unwrap();
        let found = oddly(|| of_workers(&pool, 4));
        assert_all(&found, &traits());
    });
}

#[test]
fn s4_threads_of_an_odd_builder_are_odd() {
    watched(|| {
        let (pool, odd) = oddly(|| {
            let pool = scales_at_once().workers(1..=4).capacity(8).build().unwrap();
            (pool, traits())
        });
        assert_ne!(odd, traits());
        assert_all(&of_workers(&pool, 4), &odd);
    });
}

/// The second one is beyond the width of rayon's pool, and therefore a spare thread.
#[test]
fn s4_threads_of_a_resize_inherit_from_the_builder() {
    watched(|| {
        for width in [1, 3] {
            let builder = scales_at_once()
                .workers(1..=width)
                .max_threads(4)
                .capacity(8);
            let pool = builder.build().unwrap();
            let found = oddly(|| {
                pool.resize(4).unwrap();
                of_workers(&pool, 4)
            });
            assert_all(&found, &traits());
        }
    });
}

/// A spare thread replaces a worker that waits, even in a pool of fixed size. The awaited thread
/// starts it.
#[test]
fn s4_spare_threads_inherit_from_the_builder() {
    watched(|| {
        let expected = traits();
        let build = || Pool::builder().workers(1).capacity(8).build().unwrap();
        let (a, b) = (build(), build());
        let found = oddly(|| {
            a.install(|| {
                become_odd();
                b.install(|| {
                    become_odd();
                    // On a spare thread of the first pool, which is started here.
                    a.install(|| (traits(), b.install(traits)))
                })
            })
        });
        assert_all(&[found.0, found.1], &expected);
    });
}

#[test]
fn s4_threads_of_a_broadcast_inherit_from_the_builder() {
    watched(|| {
        let pool = Pool::builder().workers(1..=3).build().unwrap();
        // So that the thread is in rayon, and has to be probed.
        for_a_while(Duration::from_millis(30), thread::yield_now);
        oddly(|| pool.broadcast(|_| ()));
        wait_until(|| pool.broadcast(|_| ()).len() == 3);
        let found = oddly(|| pool.broadcast(|_| traits()));
        assert_all(&found, &traits());
    });
}

/// The timer thread itself.
#[test]
fn s4_every_thread_of_the_process_inherits_from_the_builder() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=2)
            .name("s4-odd")
            .build()
            .unwrap();
        let (done, ended) = mpsc::channel();
        oddly(|| {
            drop(of_workers(&pool, 2));
            done.send(()).unwrap();
        });
        ended.recv().unwrap();
        let seen = |task: &std::path::Path| {
            let status = std::fs::read_to_string(task.join("status")).ok()?;
            let is_its = status.starts_with("Name:\ts4-odd");
            let line = |name| status.lines().find(|line| line.starts_with(name));
            let lines = ["SigBlk:", "Cpus_allowed_list:", "CapEff:", "Seccomp:"].map(line);
            is_its.then(|| lines.map(|line| line.map(str::to_owned)))
        };
        let here = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let found: Vec<_> = tasks
            .filter_map(|task| seen(&task.unwrap().path()))
            .collect();
        assert_eq!(found.len() as u64, pool.metrics().threads);
        for line in found.iter().flatten().flatten() {
            assert!(here.contains(line.as_str()), "{line}");
        }
    });
}
