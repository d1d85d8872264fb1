//! Rule R5 and failure 38: the heap allocations of a job, and flat memory. The allocator counts for
//! the whole process, so the tests run one at a time.
mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
};

use adaptive_pool::Pool;
use support::*;

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's obligations are forwarded.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's obligations are forwarded.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn pool(workers: usize, capacity: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    builder.build().unwrap()
}

const JOBS: u64 = if cfg!(miri) { 200 } else { 10_000 };

/// The number of allocations of `f`, after warm-up.
fn allocations(mut f: impl FnMut()) -> u64 {
    f();
    f();
    let before = COUNT.load(Ordering::SeqCst);
    f();
    COUNT.load(Ordering::SeqCst) - before
}

/// The minimum of several measurements. On a busy machine a worker is idle long enough between two
/// jobs to go back to rayon, and each activation allocates.
fn least_allocations(mut f: impl FnMut()) -> u64 {
    let counts = [(); 5].map(|()| allocations(&mut f));
    counts.into_iter().min().unwrap()
}

/// Four words.
fn spawn_all(pool: &Pool) {
    let sum = Arc::new(AtomicU64::new(0));
    for n in 0..JOBS {
        let own = Arc::clone(&sum);
        let (a, b, c) = (n, n + 1, n + 2);
        let job = move || {
            own.fetch_add(a + b + c, Ordering::Relaxed);
        };
        assert_eq!(size_of_val(&job), 4 * size_of::<usize>());
        pool.spawn(job).unwrap();
    }
    // Reading metrics would allocate.
    wait_until(|| Arc::strong_count(&sum) == 1);
    assert_eq!(sum.load(Ordering::SeqCst), 3 * JOBS * (JOBS + 1) / 2);
}

#[test]
fn r5_a_detached_job_costs_no_allocation() {
    let _turn = turn();
    watched(|| {
        // Never full, so that no submitter blocks.
        let pool = pool(2, JOBS as usize);
        let made = least_allocations(|| spawn_all(&pool));
        // The blocks of the queue hold 63 jobs.
        println!("{made} for {JOBS} jobs");
        assert!(made < JOBS / 50, "{made} for {JOBS} jobs");
    });
}

#[test]
fn r5_a_detached_job_of_a_blocked_submitter_costs_no_allocation() {
    let _turn = turn();
    watched(|| {
        let pool = pool(1, 4);
        let made = least_allocations(|| spawn_all(&pool));
        println!("{made} for {JOBS} jobs");
        assert!(made < JOBS / 50, "{made} for {JOBS} jobs");
    });
}

#[test]
fn r5_a_job_that_spawns_costs_no_allocation() {
    let _turn = turn();
    fn chain(pool: Arc<Pool>, left: u64) {
        if left > 0 {
            let own = Arc::clone(&pool);
            own.spawn(move || chain(pool, left - 1)).unwrap();
        }
    }
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let made = least_allocations(|| {
            chain(Arc::clone(&pool), JOBS);
            wait_until(|| Arc::strong_count(&pool) == 1);
        });
        println!("{made} for {JOBS} jobs");
        assert!(made < JOBS / 50, "{made} for {JOBS} jobs");
    });
}

#[test]
fn r5_a_handle_costs_one_allocation() {
    let _turn = turn();
    watched(|| {
        // No thread is activated: how often that allocates depends on when the worker becomes idle.
        let pool = pool(1, JOBS as usize);
        let mut handles = Vec::with_capacity(JOBS as usize);
        let made = allocations(|| {
            let held = occupy(&pool);
            for n in 0..JOBS {
                handles.push(pool.submit(move || n).unwrap());
            }
            held.release();
            for (n, handle) in (0..).zip(handles.drain(..)) {
                assert_eq!(handle.join().unwrap(), n);
            }
        });
        println!("{made} for {JOBS} jobs");
        assert!(
            // Also the blocks of the injector.
            (JOBS..JOBS + JOBS / 50).contains(&made),
            "{made} for {JOBS}"
        );
    });
}

/// The increase of live memory by `f`, after warm-up.
fn growth(mut f: impl FnMut()) -> i64 {
    f();
    let before = LIVE.load(Ordering::SeqCst);
    f();
    LIVE.load(Ordering::SeqCst) - before
}

#[test]
fn memory_stays_flat_over_a_million_jobs() {
    let _turn = turn();
    watched(|| {
        let rounds = if cfg!(miri) { 100 } else { 500_000 };
        let pool = pool(2, 256);
        let grown = growth(|| {
            for _ in 0..rounds {
                pool.spawn(|| ()).unwrap();
            }
            wait_until(|| pool.metrics().depth == 0);
        });
        assert!(grown.abs() < 256 << 10, "{grown} bytes");
        let rounds = rounds / 4;
        let grown = growth(|| {
            for n in 0..rounds {
                drop(pool.submit(move || n).unwrap());
            }
            wait_until(|| pool.metrics().depth == 0);
        });
        assert!(grown.abs() < 256 << 10, "{grown} bytes");
    });
}

/// The worker is busy, so only the sweep removes the tombstones of the cancelled jobs.
#[test]
fn a2_the_tombstones_of_cancelled_jobs_are_bounded() {
    let _turn = turn();
    watched(|| {
        let rounds = if cfg!(miri) { 600 } else { 300_000 };
        let pool = pool(1, 4);
        let held = occupy(&pool);
        // One live job among the tombstones.
        let alive = pool.submit(|| 7).unwrap();
        let before = LIVE.load(Ordering::SeqCst);
        let mut worst = 0;
        for n in 0..rounds {
            let handle = pool.try_submit(move || [n; 64]).unwrap();
            match n % 2 {
                0 => assert!(handle.cancel()),
                _ => drop(handle.cancel_on_drop()),
            }
            worst = worst.max(LIVE.load(Ordering::SeqCst) - before);
        }
        // 256 tombstones of about 600 bytes, and the blocks of the queue.
        assert!(worst < 512 << 10, "{worst} bytes");
        assert_eq!(pool.metrics().cancelled, rounds as u64);
        held.release();
        assert_eq!(alive.join().unwrap(), 7);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Threads that are allowed but never started cost no memory. `max-threads` in the benches measures
/// their cost in time.
#[test]
fn s4_threads_that_were_never_started_cost_nothing() {
    let _turn = turn();
    watched(|| {
        let cost = |max_threads: usize| {
            let (count, live) = (COUNT.load(Ordering::SeqCst), LIVE.load(Ordering::SeqCst));
            let builder = Pool::builder().workers(2).capacity(64);
            let pool = builder.max_threads(max_threads).build().unwrap();
            // Both threads have started.
            assert_eq!(pool.broadcast(|context| context.index()), [0, 1]);
            let bytes = LIVE.load(Ordering::SeqCst) - live;
            let count = COUNT.load(Ordering::SeqCst) - count;
            for n in 0..100 {
                assert_eq!(pool.submit(move || n).unwrap().join().unwrap(), n);
                pool.scope(|s| s.spawn(|_| ()));
                pool.for_each(0..8, |_| ());
            }
            assert_eq!(pool.metrics().per_worker.len(), 2);
            let shown = allocations(|| drop(pool.metrics()));
            (bytes, count, shown)
        };
        // The median of several runs: the threads of the previous pool may still be ending, and
        // allocate and free.
        let median = |max_threads| {
            let costs = [(); 5].map(|()| cost(max_threads));
            let middle = |mut of: [i64; 5]| {
                of.sort_unstable();
                of[2]
            };
            (
                middle(costs.map(|cost| cost.0)),
                middle(costs.map(|cost| cost.1 as i64)),
                middle(costs.map(|cost| cost.2 as i64)),
            )
        };
        let (bytes, count, shown) = median(2);
        for max_threads in [64, 1024, 32_767] {
            let (more_bytes, more_count, more_shown) = median(max_threads);
            assert!(
                more_bytes < bytes + 4096,
                "{more_bytes} bytes, and {bytes} for two"
            );
            assert!(
                more_count < count + 32,
                "{more_count} allocations, and {count} for two"
            );
            assert_eq!(more_shown, shown, "allocations of a snapshot");
        }
    });
}

#[test]
fn a_pool_leaves_nothing_behind() {
    let _turn = turn();
    // A backtrace, if enabled, caches megabytes of symbols.
    std::panic::set_hook(Box::new(|_| ()));
    watched(|| {
        let grown = growth(|| {
            for _ in 0..50 {
                let pool = pool(2, 16);
                let held = occupy(&pool);
                let mut task = Box::pin(pool.reserve_async());
                let _ready = poll_once(&mut task);
                drop(task);
                let jobs: Vec<_> = (0..8)
                    .map(|n| pool.submit(move || vec![n; 100]).unwrap())
                    .collect();
                assert!(jobs[3].cancel() || jobs[3].is_finished());
                pool.spawn(|| panic!("in a job")).unwrap();
                let closer = thread::scope(|s| {
                    let closer = s.spawn(|| pool.shutdown_now().unwrap());
                    wait_until(|| pool.is_closed());
                    held.release();
                    closer.join().unwrap()
                });
                assert_eq!(closer.total(), 10);
                drop(jobs);
            }
        });
        // A leaked pool would have 40 KiB. crossbeam keeps 2 KiB for each ended thread until other
        // threads have stolen often enough; the leak sanitizer distinguishes the two.
        assert!(grown < 50 * (16 << 10), "{grown} bytes");
    });
}
