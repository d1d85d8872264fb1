//! Injected faults: threads that fail to start from the n-th on, spurious wake-ups, hooks that
//! always panic, payloads that find no memory. Failures 19, 23, 25, 26 and 38.
#![cfg(all(target_os = "linux", not(miri)))]
mod support;

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, BuildError, Pool, PoolBuilder};
use support::*;

/// Far more memory than anything else here takes, so that room for stacks is the limit.
const STACK: usize = 1 << 30;

/// For pools that add a worker for each waiting job.
fn scales_at_once() -> PoolBuilder {
    let builder = Pool::builder().scale_up_threshold(0.0);
    builder.scale_cooldown(Duration::ZERO)
}

/// The limit of the process's memory. The hard limit stays, so that this one can be lifted again.
fn set_limit(bytes: Option<usize>) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for a write of an `rlimit`.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    limit.rlim_cur = bytes.map_or(limit.rlim_max, |bytes| bytes as libc::rlim_t);
    // SAFETY: the pointer is valid for a read of an `rlimit`.
    let failed = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
}

/// From now on there is room for the stacks of `threads` more threads: the next start fails.
fn room_for_threads(threads: usize) {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').next().unwrap().parse().unwrap();
    set_limit(Some(pages * 4096 + threads * STACK + STACK / 2));
}

/// Submits `jobs` jobs that block, and returns whether all of them soon run at once. Then lets them
/// end, and the workers return to rayon.
fn are_all_busy(pool: &Pool, jobs: u64) -> bool {
    let gate = Gate::new();
    for _ in 0..jobs {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap();
    }
    let end = Instant::now() + Duration::from_millis(50);
    wait_until(|| pool.metrics().workers_busy == jobs || Instant::now() >= end);
    let are_busy = pool.metrics().workers_busy == jobs;
    gate.open();
    wait_until(|| pool.metrics().workers_busy == 0);
    for_a_while(Duration::from_millis(20), thread::yield_now);
    are_busy
}

/// S4, failure 23: of a build that needs four threads, the n-th start fails.
#[test]
fn s4_a_start_that_fails_at_build_leaves_a_pool_or_nothing() {
    let name = "s4_a_start_that_fails_at_build_leaves_a_pool_or_nothing";
    survives_in_child(name, || {
        watched(|| {
            for room in 0..=4 {
                room_for_threads(room);
                let builder = Pool::builder().workers(4).stack_size(STACK);
                let built = builder.name("few").build();
                if room == 0 {
                    let error = built.unwrap_err();
                    assert!(matches!(error, BuildError::Thread { index: 0, .. }));
                    wait_until(|| threads_named("few") == 0);
                    set_limit(None);
                    continue;
                }
                let pool = built.unwrap();
                let seen = pool.metrics();
                assert_eq!(seen.threads, TIMER_THREAD + room as u64);
                assert_eq!(seen.thread_start_failures, u64::from(room < 4));
                let jobs: Vec<_> = (0..200).map(|n| pool.submit(move || n).unwrap()).collect();
                for (n, job) in jobs.into_iter().enumerate() {
                    assert_eq!(job.join().unwrap(), n);
                }
                // A failed start is retried when it is needed, once a thread has returned to rayon.
                set_limit(None);
                wait_until(|| are_all_busy(&pool, 4));
                assert_eq!(pool.metrics().threads, TIMER_THREAD + 4);
                pool.shutdown();
                assert_conserved(&pool);
                wait_until(|| threads_named("few") == 0);
            }
        });
    });
}

/// S4, failure 23.
#[test]
fn s4_a_refused_start_is_tried_again_while_all_others_are_busy() {
    let name = "s4_a_refused_start_is_tried_again_while_all_others_are_busy";
    survives_in_child(name, || {
        watched(|| {
            let builder = scales_at_once()
                .workers(1..=2)
                .max_threads(2)
                .stack_size(STACK);
            let pool = builder.build().unwrap();
            room_for_threads(0);
            let held = occupy(&pool);
            let job = pool.submit(|| 7).unwrap();
            // More than once, at growing intervals.
            wait_until(|| pool.metrics().thread_start_failures > 2);
            set_limit(None);
            assert_eq!(job.join().unwrap(), 7);
            drop(held);
        });
    });
}

/// S4, failure 23: of the threads that are added later, the n-th start fails.
#[test]
fn s4_a_start_that_fails_later_stops_no_other_thread() {
    let name = "s4_a_start_that_fails_later_stops_no_other_thread";
    survives_in_child(name, || {
        watched(|| {
            for room in 0..=3 {
                let builder = scales_at_once().workers(1..=4).max_threads(4).capacity(4);
                let pool = builder.stack_size(STACK).build().unwrap();
                room_for_threads(room);
                let held: Vec<_> = (0..=room).map(|_| occupy(&pool)).collect();
                assert_eq!(pool.metrics().threads, TIMER_THREAD + 1 + room as u64);
                // These need a thread that does not exist, while all others are busy.
                let jobs: Vec<_> = (0..4).map(|n| pool.submit(move || n).unwrap()).collect();
                wait_until(|| pool.metrics().thread_start_failures > 0 || room == 3);
                assert_eq!(pool.metrics().threads, TIMER_THREAD + 1 + room as u64);
                drop(held);
                for (n, job) in jobs.into_iter().enumerate() {
                    assert_eq!(job.join().unwrap(), n);
                }
                set_limit(None);
                pool.shutdown();
                assert_conserved(&pool);
            }
        });
    });
}

/// S4, failure 23: if the timer thread cannot be started, the build fails and leaves no thread
/// behind.
#[test]
fn s4_a_refused_timer_thread_is_an_error_of_the_build() {
    let name = "s4_a_refused_timer_thread_is_an_error_of_the_build";
    survives_in_child(name, || {
        watched(|| {
            let most = |threads: libc::rlim_t| {
                let limit = libc::rlimit {
                    rlim_cur: threads,
                    rlim_max: threads,
                };
                // SAFETY: the pointer is valid for a read of an `rlimit`.
                let failed = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) };
                assert_eq!(failed, 0, "{}", io::Error::last_os_error());
            };
            // A user without other processes. The limit applies only without privileges.
            // SAFETY: no preconditions.
            if unsafe { libc::setresuid(65_123, 65_123, 65_123) } != 0 {
                return;
            }
            let here = fs::read_dir("/proc/self/task").unwrap().count() as libc::rlim_t;
            most(here + 2);
            let error = Pool::builder().workers(2).name("kept").build().unwrap_err();
            assert!(
                matches!(error, BuildError::Thread { index: 2, .. }),
                "{error:?}"
            );
            wait_until(|| threads_named("kept") == 0);
            let pool = Pool::builder().workers(1).name("kept").build().unwrap();
            assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
        });
    });
}

/// A8, failures 12 and 23: pools that wait for each other, with no spare thread or only some.
#[test]
fn a8_pools_that_wait_for_each_other_do_without_spare_threads() {
    fn bounce(pools: &Arc<[Pool; 2]>, left: u64) -> u64 {
        if left == 0 {
            return 0;
        }
        let own = Arc::clone(pools);
        let job = pools[left as usize % 2].submit(move || 1 + bounce(&own, left - 1));
        job.unwrap().join().unwrap()
    }

    let name = "a8_pools_that_wait_for_each_other_do_without_spare_threads";
    survives_in_child(name, || {
        watched(|| {
            for room in 0..=3 {
                let builder = || Pool::builder().workers(1).capacity(1).stack_size(STACK);
                let pools = Arc::new([builder().build().unwrap(), builder().build().unwrap()]);
                room_for_threads(room);
                assert_eq!(bounce(&pools, 12), 12);
                let failures: u64 = pools
                    .iter()
                    .map(|p| p.metrics().thread_start_failures)
                    .sum();
                assert!(failures > 0, "{room} spare threads were enough");
                set_limit(None);
                for pool in pools.iter() {
                    pool.shutdown();
                    assert_conserved(pool);
                }
            }
        });
    });
}

/// R4, failure 38: a job that finds no memory for its payload reports that, and the next one runs.
#[test]
fn r4_a_payload_that_finds_no_memory_fails_only_its_job() {
    let name = "r4_a_payload_that_finds_no_memory_fails_only_its_job";
    survives_in_child(name, || {
        watched(|| {
            let pool = Pool::builder().workers(2).capacity(4).build().unwrap();
            room_for_threads(0);
            let jobs: Vec<_> = (0..200)
                .map(|n| {
                    let bytes = if n % 2 == 0 { STACK } else { 1000 };
                    let job = move || {
                        let mut payload: Vec<u8> = Vec::new();
                        // Half of these panic with the failed allocation's message.
                        let got = payload.try_reserve_exact(bytes);
                        if n % 4 == 0 {
                            got.map_err(panic::panic_any).unwrap();
                        }
                        payload.capacity() >= bytes
                    };
                    pool.submit(job).unwrap()
                })
                .collect();
            for (n, job) in jobs.into_iter().enumerate() {
                match job.join() {
                    Ok(had_room) => assert_eq!(had_room, n % 2 != 0, "{n}"),
                    Err(error) => assert!(error.is_panic() && n % 4 == 0, "{n}"),
                }
            }
            let report = pool.shutdown();
            assert_eq!((report.completed, report.panicked), (150, 50));
            assert_conserved(&pool);
        });
    });
}

/// Failure 19: every hook panics on every thread, with a payload whose drop panics. Also on threads
/// that are added later, and on spare threads.
#[test]
fn r4_hooks_that_always_panic_change_no_count() {
    watched(|| {
        let bomb = || panic::panic_any(on_drop(|| panic!("the payload")));
        let threads = Arc::new(AtomicU64::new(0));
        let (starts, exits) = (Arc::clone(&threads), Arc::clone(&threads));
        let pool = scales_at_once()
            .workers(1..=3)
            .max_threads(3)
            .idle_timeout(Duration::ZERO)
            .start_handler(move |_| {
                starts.fetch_add(1, Ordering::SeqCst);
                bomb();
            })
            .exit_handler(move |_| {
                exits.fetch_sub(1, Ordering::SeqCst);
                bomb();
            })
            .panic_handler(move |payload| {
                // During another panic, that of its drop, this would abort.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
                bomb();
            })
            .build()
            .unwrap();
        let pool = Arc::new(pool);
        for _ in 0..20 {
            // All three, and again after they were parked.
            drop([occupy(&pool), occupy(&pool), occupy(&pool)]);
            // While it waits, another thread may replace it.
            let own = Arc::clone(&pool);
            let job = pool.submit(move || {
                own.in_place_scope(|s| (0..5).for_each(|_| s.spawn(|_| ())));
                panic!("a job");
            });
            assert!(job.unwrap().join().unwrap_err().is_panic());
            pool.spawn(move || panic::panic_any("detached")).unwrap();
        }
        let report = pool.shutdown();
        assert_eq!((report.completed, report.panicked), (20 * 3 + 20 * 5, 40));
        assert_eq!(threads.load(Ordering::SeqCst), 0, "each start has its exit");
        assert_conserved(&pool);
    });
}

/// Unparks all these threads repeatedly.
fn with_chaos<R>(threads: &Mutex<Vec<Thread>>, f: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|s| {
        s.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let all = threads.lock().unwrap().clone();
                all.iter().for_each(Thread::unpark);
                rounds.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        // Also on a panic, so that this ends.
        let _done = on_drop(|| done.store(true, Ordering::Release));
        wait_until(|| rounds.load(Ordering::Relaxed) > 0);
        f()
    })
}

/// A pool whose threads are in a list, together with this one.
fn listed(builder: PoolBuilder) -> (Pool, Arc<Mutex<Vec<Thread>>>) {
    let threads = Arc::new(Mutex::new(vec![thread::current()]));
    let list = Arc::clone(&threads);
    let builder = builder.start_handler(move |_| list.lock().unwrap().push(thread::current()));
    (builder.build().unwrap(), threads)
}

/// A3, failure 25: a submitter that waits for a place keeps waiting after a spurious wake-up.
#[test]
fn a3_a_spurious_wake_up_grants_no_place_and_ends_no_timeout() {
    watched(|| {
        let (pool, threads) = listed(Pool::builder().workers(1).capacity(1));
        let held = fill(&pool, 1);
        with_chaos(&threads, || {
            for _ in 0..20 {
                let timeout = Duration::from_millis(5);
                let begun = Instant::now();
                let refused = pool.reserve_timeout(timeout).unwrap_err();
                assert_eq!(refused, AdmissionError::TimedOut);
                assert!(begun.elapsed() >= timeout, "{:?}", begun.elapsed());
            }
        });
        thread::scope(|s| {
            let submitter = s.spawn(|| pool.submit(|| 7).unwrap().join().unwrap());
            wait_for_waiters(&pool, 1);
            for _ in 0..10_000 {
                submitter.thread().unpark();
            }
            assert_eq!(pool.metrics().waiting_submitters, 1);
            assert_eq!(pool.metrics().depth, 1);
            drop(held);
            assert_eq!(submitter.join().unwrap(), 7);
        });
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// R3, failure 25: a wait for a job, a scope or a broadcast ends when that has ended, and not
/// before.
#[test]
fn r3_a_spurious_wake_up_ends_no_wait() {
    watched(|| {
        let (pool, threads) = listed(Pool::builder().workers(2).capacity(4));
        with_chaos(&threads, || {
            for n in 0..300 {
                let gate = Gate::new();
                let door = gate.clone();
                let job = pool.submit(move || {
                    door.pass();
                    n
                });
                let timeout = Duration::from_micros(200);
                let begun = Instant::now();
                let job = job.unwrap().join_timeout(timeout).unwrap_err();
                assert!(begun.elapsed() >= timeout);
                gate.open();
                assert_eq!(job.join().unwrap(), n);

                let ran = AtomicU64::new(0);
                let count = || {
                    for _ in 0..1000 {
                        std::hint::spin_loop();
                    }
                    ran.fetch_add(1, Ordering::Relaxed);
                };
                pool.in_place_scope(|s| (0..6).for_each(|_| s.spawn(|_| count())));
                assert_eq!(ran.load(Ordering::Relaxed), 6);
                pool.scope(|s| (0..6).for_each(|_| s.spawn(|_| count())));
                assert_eq!(ran.load(Ordering::Relaxed), 12);
                pool.install(count);
                assert_eq!(ran.load(Ordering::Relaxed), 13);
                assert_eq!(pool.broadcast(|_| count()).len(), 2);
                assert_eq!(ran.load(Ordering::Relaxed), 15);
            }
            for _ in 0..30 {
                // Long enough for the broadcast to block until the jobs are released.
                let held = [occupy(&pool), occupy(&pool)];
                let released = AtomicBool::new(false);
                let released = &released;
                thread::scope(|s| {
                    s.spawn(move || {
                        for_a_while(Duration::from_millis(1), thread::yield_now);
                        released.store(true, Ordering::Relaxed);
                        drop(held);
                    });
                    let seen = pool.broadcast(|_| released.load(Ordering::Relaxed));
                    assert_eq!(seen, [true, true]);
                });
            }
        });
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// R1, failure 25: workers that wake spuriously lose no job, take none twice, and are still woken
/// for the next, with scaling and resizes on top.
#[test]
fn r1_r2_workers_that_wake_spuriously_lose_no_job() {
    watched(|| {
        let builder = scales_at_once().workers(1..=3).max_threads(4).capacity(3);
        let (pool, threads) = listed(builder.idle_timeout(Duration::from_millis(1)));
        let ran = Arc::new(AtomicU64::new(0));
        let mut submitted = 0;
        with_chaos(&threads, || {
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                for _ in 0..submitted % 7 {
                    let ran = Arc::clone(&ran);
                    pool.spawn(move || {
                        ran.fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap();
                    submitted += 1;
                }
                let count = Arc::clone(&ran);
                let job = pool.submit(move || count.fetch_add(1, Ordering::Relaxed));
                submitted += 1;
                job.unwrap().join().unwrap();
                if submitted % 50 == 0 {
                    pool.resize(1..=1 + submitted as usize % 4).unwrap();
                }
            }
        });
        let report = pool.shutdown();
        assert_eq!(report.completed, submitted);
        assert_eq!(ran.load(Ordering::Relaxed), submitted);
        assert_conserved(&pool);
    });
}

/// The number of context switches, voluntary and involuntary, of each thread of this name.
fn switches(name: &str) -> BTreeMap<PathBuf, u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |path: PathBuf| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let is_named = status.starts_with(&format!("Name:\t{name}"));
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        let counts = counts.map(|line| line.rsplit('\t').next()?.parse::<u64>().ok());
        Some((path, counts.sum::<Option<u64>>()?)).filter(|_| is_named)
    };
    tasks.filter_map(|task| of(task.unwrap().path())).collect()
}

/// The same, once none of them has run for a while.
fn switches_at_rest(name: &str) -> BTreeMap<PathBuf, u64> {
    loop {
        let before = switches(name);
        for_a_while(Duration::from_millis(20), thread::yield_now);
        if switches(name) == before {
            return before;
        }
    }
}

/// R2, failure 26. The threads sleep in rayon, which wakes up to two more than requested.
#[test]
fn r2_one_job_wakes_few_of_many_sleepers() {
    watched(|| {
        let builder = Pool::builder().workers(16).capacity(16).name("herd");
        let pool = builder.idle_timeout(Duration::MAX).build().unwrap();
        let woken_by = |jobs: usize| {
            let before = switches_at_rest("herd");
            drop((0..jobs).map(|_| occupy(&pool)).collect::<Vec<_>>());
            let after = switches_at_rest("herd");
            assert_eq!(
                (before.len(), after.len()),
                (17, 17),
                "with the timer thread"
            );
            let is_woken = |thread: &&PathBuf| before[*thread] != after[*thread];
            after.keys().filter(is_woken).count()
        };
        assert_eq!(woken_by(16), 16, "as many jobs at once wake all");
        let woken: Vec<_> = (0..10).map(|_| woken_by(1)).collect();
        assert!(woken.iter().all(|n| (1..=4).contains(n)), "{woken:?}");
    });
}
