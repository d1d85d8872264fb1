//! Locks that are poisoned on purpose, for the test that no use of a pool depends on poison.
//!
//! On a thread that has asked for it, each lock of the crate is poisoned before it is taken, by a
//! panic under it. It stays poisoned for every thread that takes it later.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{AdmissionError::TimedOut, Pool, Workers};

thread_local! {
    static POISONS: Cell<bool> = const { Cell::new(false) };
}

/// The files in which poisoned locks were taken.
static TAKEN_IN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Makes the calling thread poison what it locks, from now on.
fn begin() {
    POISONS.set(true);
}

/// Called before each lock.
#[track_caller]
pub(super) fn poison<T>(mutex: &Mutex<T>) {
    // A thread that is panicking poisons nothing.
    if !POISONS.get() || thread::panicking() {
        return;
    }
    let file = Location::caller().file();
    TAKEN_IN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(file);
    if !mutex.is_poisoned() {
        // Not by `panic!`, which would print a message.
        let poisoned = catch_unwind(AssertUnwindSafe(|| {
            let _guard = mutex.lock();
            resume_unwind(Box::new(()));
        }));
        assert!(poisoned.is_err());
    }
}

/// Makes a pool of which every thread poisons, except the timer thread.
fn pool(workers: impl Into<Workers>, capacity: usize) -> Pool {
    let builder = Pool::builder().workers(workers).max_threads(3);
    let builder = builder.capacity(capacity).start_handler(|_| begin());
    let builder = builder.scale_cooldown(Duration::from_millis(1));
    builder.idle_timeout(Duration::ZERO).build().unwrap()
}

fn submits(pool: &Pool) {
    let handles: Vec<_> = (0..50).map(|i| pool.submit(move || i).unwrap()).collect();
    let sum: u64 = handles
        .into_iter()
        .map(|handle| handle.join().unwrap())
        .sum();
    assert_eq!(sum, 49 * 50 / 2);
    let panicking = pool.submit(|| resume_unwind(Box::new(()))).unwrap();
    assert!(panicking.join().is_err());
    // Some of these wait in the line.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                begin();
                for i in 0..100 {
                    let job = pool.submit_timeout(Duration::from_secs(20), move || i);
                    assert_eq!(job.unwrap().join().unwrap(), i);
                }
            });
        }
    });
}

/// Parts that can only end together: one of them is stolen.
fn thefts(pool: &Pool) {
    let both = Barrier::new(2);
    pool.scope(|scope| {
        scope.spawn(|scope| {
            both.wait();
            // A side entry: this is not the thread that waits for it.
            scope.spawn(|_| {
                both.wait();
            });
        });
        both.wait();
        both.wait();
    });
    pool.join(|| both.wait(), || both.wait());
    let panicking = || pool.scope(|scope| scope.spawn(|_| resume_unwind(Box::new(7))));
    let payload = catch_unwind(AssertUnwindSafe(panicking)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&7));
}

fn batches(pool: &Pool) {
    assert!(pool.map(0..100, |i| i).eq(0..100));
    assert_eq!(pool.map_unordered(0..100, |i| i).sum::<u32>(), 4950);
    // The result of a lone item is hardly ever there before the consumer waits for it.
    for i in 0..20 {
        assert!(pool.map([i], |i| i).eq([i]));
    }
    pool.in_place_scope(|scope| {
        assert!(scope.map(0..100, |i| i).eq(0..100));
        assert_eq!(scope.map_unordered(0..100, |i| i).sum::<u32>(), 4950);
    });
    let sum = AtomicU32::new(0);
    pool.for_each(0..100, |i| {
        sum.fetch_add(i, Relaxed);
    });
    assert_eq!(sum.into_inner(), 4950);
    assert!(!pool.broadcast(|_| ()).is_empty());
    assert!(!pool.install(|| pool.broadcast(|_| ())).is_empty());
}

/// Runs `jobs` jobs, which can only end together.
fn meets(pool: &Pool, jobs: usize) {
    let all = Arc::new(Barrier::new(jobs));
    let meet = |_| {
        let all = Arc::clone(&all);
        pool.submit(move || all.wait().is_leader()).unwrap()
    };
    let handles: Vec<_> = (0..jobs).map(meet).collect();
    let leaders = handles
        .into_iter()
        .map(|handle| usize::from(handle.join().unwrap()));
    assert_eq!(leaders.sum::<usize>(), 1);
}

/// Sweeps the tombstones of cancelled jobs out of the queue, and waits for a full one.
fn cancels(pool: &Pool) {
    let (held, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let both = (Arc::clone(&held), Arc::clone(&go));
    pool.spawn(move || {
        both.0.wait();
        both.1.wait();
    })
    .unwrap();
    held.wait();
    for _ in 0..1000 {
        assert!(pool.submit(|| ()).unwrap().cancel());
    }
    assert!(pool.inner.queue.injected() <= 300);
    // A submitter that finds no place waits in the line until its timeout.
    pool.spawn(|| ()).unwrap();
    let late = pool.submit_timeout(Duration::from_millis(2), || ());
    assert_eq!(late.unwrap_err().reason(), TimedOut);
    go.wait();
}

/// Goes from one pool into the other and back, deeper than they have threads.
fn bounces(pool: &Pool, other: &Pool, levels: u32) -> u32 {
    if levels == 0 {
        return 0;
    }
    1 + other.install(|| bounces(other, pool, levels - 1))
}

fn everything() {
    begin();
    let two = pool(2, 4);
    submits(&two);
    thefts(&two);
    batches(&two);
    let (one, other) = (pool(1, 1), pool(1, 1));
    cancels(&one);
    batches(&one);
    assert_eq!(bounces(&one, &other, 60), 60);
    let growing = pool(1..=3, 4);
    meets(&growing, 3);
    growing.resize(2).unwrap();
    meets(&growing, 2);
    growing.set_capacity(1).unwrap();
    submits(&growing);
    for pool in [two, one, other, growing] {
        let seen = pool.metrics();
        let report = pool.shutdown();
        assert_eq!(report.total(), seen.admitted, "{seen:?}");
    }
}

/// Failure 35. Every kind of lock is poisoned, here and on the pools' threads; no use of a pool
/// fails.
#[test]
#[cfg_attr(miri, ignore = "many threads, and no unsafe code of its own")]
fn r4_a_lock_that_is_poisoned_is_taken_all_the_same() {
    let (done, ended) = mpsc::channel();
    let test = thread::spawn(move || {
        everything();
        done.send(()).unwrap();
    });
    let in_time = ended.recv_timeout(Duration::from_secs(60));
    assert_ne!(in_time, Err(RecvTimeoutError::Timeout), "hangs");
    test.join().unwrap();
    // None is missing: these are all files that take a lock.
    let taken_in = TAKEN_IN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut files = Vec::new();
    files_that_lock(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    assert!(files.len() > 10, "{files:?}");
    files.retain(|file| !taken_in.iter().any(|taken_in| file.ends_with(taken_in)));
    assert!(files.is_empty(), "{files:?}, not in {taken_in:?}");
}

/// Finds the files that lock, except tests, what is built for shuttle alone, and what the timer
/// thread and new threads lock: these do not poison.
fn files_that_lock(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["simulated", "model", "tests"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            files_that_lock(&path, files);
        } else if !["model.rs", "tests.rs", "frozen.rs", "poison.rs", "start.rs"].contains(&name) {
            let text = fs::read_to_string(&path).unwrap();
            // Not `block`.
            let is_lock = |at: usize| !text.as_bytes()[at - 1].is_ascii_alphabetic();
            if text.match_indices("lock(&").any(|(at, _)| is_lock(at)) {
                files.push(path);
            }
        }
    }
}
