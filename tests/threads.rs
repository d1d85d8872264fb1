//! Rule S4, thread names, hooks and stacks; failures 19 and 35.
mod support;

use std::{
    collections::BTreeSet,
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, PoolBuilder};
use support::*;

/// For pools that add a worker for each waiting job.
fn scales_at_once() -> PoolBuilder {
    let builder = Pool::builder().scale_up_threshold(0.0);
    builder.scale_cooldown(Duration::ZERO)
}

#[test]
fn s4_the_minimum_is_started_at_build_and_the_others_when_needed() {
    watched(|| {
        let builder = scales_at_once().workers(1..=3).max_threads(5).capacity(8);
        let pool = builder.name("s4-first").build().unwrap();
        assert_eq!(pool.metrics().threads, TIMER_THREAD + 1);
        assert_eq!(pool.metrics().per_worker.len(), 3);
        // One job at a time needs one thread.
        for _ in 0..200 {
            pool.submit(|| ()).unwrap().join().unwrap();
        }
        let mut held = vec![occupy(&pool)];
        held.push(occupy(&pool));
        assert!(pool.metrics().threads >= TIMER_THREAD + 2);
        held.push(occupy(&pool));
        assert_eq!(pool.metrics().threads, TIMER_THREAD + 3);
        assert_eq!(pool.metrics().workers_busy, 3);
        // No more than the maximum, however many jobs there are.
        for _ in 0..8 {
            pool.try_spawn(|| ()).unwrap();
        }
        assert!(pool.try_spawn(|| ()).is_err());
        assert_eq!(pool.metrics().threads, TIMER_THREAD + 3);
        assert_eq!(threads_named("s4-first"), 4);
    });
}

#[test]
fn s4_an_idle_thread_returns_to_service() {
    watched(|| {
        let pool = scales_at_once()
            .workers(1..=4)
            .max_threads(6)
            .build()
            .unwrap();
        drop([occupy(&pool), occupy(&pool), occupy(&pool), occupy(&pool)]);
        let rounds = if cfg!(miri) { 3 } else { 30 };
        for _ in 0..rounds {
            // From running to in rayon.
            let end = std::time::Instant::now() + Duration::from_millis(15);
            wait_until(|| std::time::Instant::now() >= end);
            drop([occupy(&pool), occupy(&pool)]);
            wait_until(|| pool.metrics().workers_busy == 0);
        }
        let threads = pool.metrics().threads;
        assert_eq!(threads, TIMER_THREAD + 4, "one for each worker in service");
    });
}

#[test]
fn threads_are_named() {
    watched(|| {
        let builder = Pool::builder().workers(3).name("in gest");
        let pool = builder.build().unwrap();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let names: BTreeSet<_> = (0..3)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                let job = move || {
                    barrier.wait();
                    thread::current().name().unwrap().to_owned()
                };
                pool.submit(job).unwrap()
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|job| job.join().unwrap())
            .collect();
        let names: Vec<_> = names.into_iter().collect();
        assert_eq!(names, ["in gest-0", "in gest-1", "in gest-2"]);
    });
}

#[test]
fn hooks_are_called_once_for_each_thread() {
    watched(|| {
        let (starts, exits) = <(Arc<Mutex<Vec<usize>>>, Arc<Mutex<Vec<usize>>>)>::default();
        let (on_start, on_exit) = (Arc::clone(&starts), Arc::clone(&exits));
        let pool = Pool::builder()
            .workers(1..=3)
            .max_threads(3)
            .name("hooked")
            .start_handler(move |index| {
                let name = format!("hooked-{index}");
                assert_eq!(thread::current().name(), Some(name.as_str()));
                on_start.lock().unwrap().push(index);
            })
            .exit_handler(move |index| on_exit.lock().unwrap().push(index))
            .build()
            .unwrap();
        drop([occupy(&pool), occupy(&pool)]);
        wait_until(|| starts.lock().unwrap().len() == 2);
        assert!(exits.lock().unwrap().is_empty());
        pool.shutdown();
        let sorted = |indices: &Mutex<Vec<usize>>| {
            let mut indices = indices.lock().unwrap().clone();
            indices.sort_unstable();
            indices
        };
        assert_eq!(sorted(&starts), [0, 1], "the third was never needed");
        assert_eq!(sorted(&exits), [0, 1]);
    });
}

/// Failures 19 and 35.
#[test]
fn hooks_that_panic_end_nothing() {
    watched(|| {
        let panics = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&panics);
        let pool = Pool::builder()
            .workers(2)
            .start_handler(|index| panic!("start of {index}"))
            .exit_handler(|index| panic!("exit of {index}"))
            .panic_handler(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                panic!("the handler itself");
            })
            .build()
            .unwrap();
        for _ in 0..3 {
            pool.spawn(|| panic!("a job")).unwrap();
        }
        for n in 0..20 {
            assert_eq!(pool.submit(move || n).unwrap().join().unwrap(), n);
        }
        drop([occupy(&pool), occupy(&pool)]);
        let report = pool.shutdown();
        assert_eq!((report.completed, report.panicked), (22, 3));
        assert_eq!(panics.load(Ordering::SeqCst), 2 + 3 + 2);
        assert_eq!(pool.metrics().threads, 0);
        assert_conserved(&pool);
    });
}

/// Without a panic handler, the payload of a hook's panic is dropped, whatever its drop does.
#[test]
fn a_hooks_payload_may_panic_when_it_is_dropped() {
    watched(|| {
        let pool = Pool::builder()
            .workers(1)
            .start_handler(|_| panic::panic_any(on_drop(|| panic!("the payload"))))
            .build()
            .unwrap();
        assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
    });
}

/// A hook is user code on a worker: it may use the pool, and cannot deadlock on it.
#[test]
fn hooks_may_use_the_pool() {
    watched(|| {
        let slot = Arc::new(Mutex::new(None::<std::sync::Weak<Pool>>));
        let of = |slot: &Arc<Mutex<Option<std::sync::Weak<Pool>>>>| {
            let slot = Arc::clone(slot);
            move || {
                slot.lock()
                    .unwrap()
                    .as_ref()
                    .and_then(|pool| pool.upgrade())
            }
        };
        let (at_start, at_exit, at_panic) = (of(&slot), of(&slot), of(&slot));
        let (submits, seen) = mpsc::channel();
        let (exits, exited) = mpsc::channel();
        let pool = Pool::builder()
            .workers(1..=2)
            .max_threads(2)
            .capacity(1)
            .start_handler(move |index| {
                // The first one starts before the pool exists.
                if let Some(pool) = at_start().filter(|_| index == 1) {
                    for n in 0..3 {
                        let submits = submits.clone();
                        pool.spawn(move || submits.send(n).unwrap()).unwrap();
                    }
                }
            })
            .exit_handler(move |_| {
                let pool = at_exit().unwrap();
                assert!(pool.submit(|| ()).unwrap_err().is_closed());
                exits.send(pool.shutdown().total()).unwrap();
            })
            .panic_handler(move |_| drop(at_panic().unwrap().submit(|| ()).unwrap().join()))
            .build()
            .unwrap();
        let pool = Arc::new(pool);
        *slot.lock().unwrap() = Some(Arc::downgrade(&pool));
        drop([occupy(&pool), occupy(&pool)]);
        for _ in 0..3 {
            seen.recv().unwrap();
        }
        pool.spawn(|| panic!("to the handler")).unwrap();
        wait_until(|| pool.metrics().completed == 6);
        let report = pool.shutdown();
        assert_eq!((report.panicked, report.completed), (1, 6));
        assert_eq!(exited.try_iter().collect::<Vec<_>>(), [7, 7]);
        assert_conserved(&pool);
    });
}

fn deep(left: usize) -> usize {
    let frame = std::hint::black_box([left as u8; 1024]);
    match left {
        0 => usize::from(frame[0]),
        _ => deep(left - 1) + usize::from(std::hint::black_box(&frame)[1] == left as u8),
    }
}

#[test]
fn the_stack_is_as_large_as_asked_for() {
    watched(|| {
        let builder = Pool::builder().workers(1).stack_size(64 << 20);
        let pool = builder.build().unwrap();
        // 20 MB and more; a thread has 2 MB by default.
        assert_eq!(
            pool.submit(|| deep(20_000)).unwrap().join().unwrap(),
            20_000
        );
    });
}

/// The smallest accepted size; `tests/builder.rs` checks that.
const SMALLEST: usize = 64 << 10;

#[test]
fn the_smallest_stack_is_enough_for_a_small_job() {
    let name = "the_smallest_stack_is_enough_for_a_small_job";
    survives_in_child(name, || {
        watched(|| {
            let pool = Pool::builder().workers(2).stack_size(SMALLEST);
            let pool = pool.build().unwrap();
            let jobs: Vec<_> = (0..100).map(|n| pool.submit(move || n).unwrap()).collect();
            assert!(
                jobs.into_iter()
                    .enumerate()
                    .all(|(n, job)| job.join().unwrap() == n)
            );
        });
    });
}

/// Everything that a job may call, in such numbers that deques grow, others steal, and crossbeam
/// defers garbage.
fn call_all(pool: &'static Pool) {
    const MANY: usize = 3_000;

    (0..MANY).for_each(|_| pool.spawn(|| ()).unwrap());
    let handles: Vec<_> = (0..500).map(|n| pool.submit(move || n).unwrap()).collect();
    handles
        .into_iter()
        .for_each(|handle| assert!(handle.join().is_ok()));
    pool.scope(|s| {
        (0..MANY).for_each(|_| s.spawn(|s| s.spawn(|_| ())));
        assert_eq!(s.map(0..500, |n| n).count(), 500);
    });
    assert_eq!(pool.map(0..MANY, |n| n).count(), MANY);
    assert_eq!(pool.map_unordered(0..MANY, |n| n).count(), MANY);
    pool.for_each(0..MANY, |_| ());
    pool.join(|| pool.join(|| (), || ()), || pool.install(|| ()));
    pool.broadcast(|_| ());
    assert!(pool.metrics().completed > 0);
}

#[test]
#[cfg(not(miri))]
fn the_smallest_stack_is_enough_for_everything_a_job_calls() {
    let name = "the_smallest_stack_is_enough_for_everything_a_job_calls";
    survives_in_child(name, || {
        watched(|| {
            for (workers, capacity) in [(1, 1), (2, 4096), (3, 64)] {
                let builder = scales_at_once().workers(1..=workers).capacity(capacity);
                let builder = builder.stack_size(SMALLEST);
                let builder = builder.start_handler(|_| ()).exit_handler(|_| ());
                let pool: &'static Pool = Box::leak(Box::new(builder.build().unwrap()));
                for _ in 0..3 {
                    pool.submit(move || call_all(pool)).unwrap().join().unwrap();
                    thread::scope(|s| {
                        s.spawn(|| call_all(pool));
                        s.spawn(|| call_all(pool));
                    });
                }
                pool.shutdown();
                assert_conserved(pool);
            }
        });
    });
}

/// The names of this process's threads with this prefix, as the kernel keeps them.
#[cfg(all(target_os = "linux", not(miri)))]
fn names_in_the_system(prefix: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.ok()?.path()));
    let names = names.map(|name| name.trim_end().to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The kernel keeps 15 bytes of a name.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn truncated_thread_names_distinguish_threads() {
    let name = "truncated_thread_names_distinguish_threads";
    // No pool of another test.
    survives_in_child(name, || {
        watched(|| {
            for (given, kept) in [
                (None, "adaptive"),
                (Some("short"), "short"),
                (Some("a name that is longer than that"), "a name t"),
                // The cut would fall within a character.
                (
                    Some("ein l\u{e4}\u{e4}\u{e4}\u{e4}ngerer Name"),
                    "ein l\u{e4}",
                ),
            ] {
                let builder = Pool::builder().workers(12).capacity(12);
                let pool = match given {
                    Some(name) => builder.name(name).build().unwrap(),
                    None => builder.build().unwrap(),
                };
                let barrier = Arc::new(std::sync::Barrier::new(13));
                let wait = || {
                    let barrier = Arc::clone(&barrier);
                    move || {
                        barrier.wait();
                    }
                };
                let jobs: Vec<_> = (0..12).map(|_| pool.submit(wait()).unwrap()).collect();
                wait_until(|| names_in_the_system(kept).len() >= 13);
                let names = names_in_the_system(kept);
                let distinct: BTreeSet<_> = names.iter().collect();
                assert_eq!((names.len(), distinct.len()), (13, 13), "{names:?}");
                let has = |suffix: &str| names.iter().any(|name| name.ends_with(suffix));
                assert!((0..12).all(|index| has(&format!("-{index}"))), "{names:?}");
                assert!(has("-timer"), "{names:?}");
                wait()();
                jobs.into_iter().for_each(|job| job.join().unwrap());
            }
        });
    });
}
