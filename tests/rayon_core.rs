//! The pool's assumptions about rayon-core (`src/runtime/rayon_host`), one test each. If a test
//! fails with a new version, that folder changes before the range of versions in Cargo.toml does.
#![cfg(not(any(miri, shuttle)))]

use std::{
    ptr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder, Yield};

const LONG: Duration = Duration::from_secs(20);

/// A pool of which no thread was started.
fn unstarted(threads: usize) -> (ThreadPool, Vec<ThreadBuilder>) {
    let mut builders = Vec::new();
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .spawn_handler(|builder| {
            builders.push(builder);
            Ok(())
        })
        .build()
        .unwrap();
    (pool, builders)
}

fn start(builder: ThreadBuilder) -> JoinHandle<()> {
    thread::spawn(|| builder.run())
}

fn start_all(builders: Vec<ThreadBuilder>) -> Vec<JoinHandle<()>> {
    builders.into_iter().map(start).collect()
}

/// Runs `f` as a job on a pool of one thread.
fn on_one_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (pool, builders) = unstarted(1);
    let threads = start_all(builders);
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || sender.send(f()).unwrap());
    let result = receiver.recv_timeout(LONG).unwrap();
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    result
}

fn index_sender() -> (Sender<Option<usize>>, Receiver<Option<usize>>) {
    mpsc::channel()
}

#[test]
fn a_pool_is_as_wide_as_its_threads_before_they_are_started() {
    let (pool, builders) = unstarted(3);
    assert_eq!(pool.current_num_threads(), 3);
    assert!(builders.iter().map(ThreadBuilder::index).eq(0..3));
}

#[test]
fn a_thread_lives_as_long_as_run_and_ends_when_its_pool_is_dropped() {
    let (pool, builders) = unstarted(2);
    let threads = start_all(builders);
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_thread_that_is_started_after_the_drop_runs_what_was_spawned_and_ends() {
    let (pool, mut builders) = unstarted(1);
    let (sender, receiver) = index_sender();
    pool.spawn(move || sender.send(rayon_core::current_thread_index()).unwrap());
    drop(pool);
    start(builders.pop().unwrap()).join().unwrap();
    assert_eq!(receiver.try_recv(), Ok(Some(0)));
}

#[test]
fn a_spawn_from_outside_is_found_by_the_threads_that_were_started() {
    let (pool, mut builders) = unstarted(2);
    let second = start(builders.pop().unwrap());
    let (sender, receiver) = index_sender();
    pool.spawn(move || sender.send(rayon_core::current_thread_index()).unwrap());
    assert_eq!(receiver.recv_timeout(LONG), Ok(Some(1)));
    drop(pool);
    second.join().unwrap();
}

#[test]
fn a_broadcast_waits_for_each_thread_also_for_one_that_is_started_later() {
    let (pool, mut builders) = unstarted(2);
    let (sender, receiver) = index_sender();
    pool.spawn_broadcast(move |_| sender.send(rayon_core::current_thread_index()).unwrap());
    drop(pool);
    let second = start(builders.pop().unwrap());
    assert_eq!(receiver.recv_timeout(LONG), Ok(Some(1)));
    let first = start(builders.pop().unwrap());
    assert_eq!(receiver.recv_timeout(LONG), Ok(Some(0)));
    first.join().unwrap();
    second.join().unwrap();
}

#[test]
fn a_thread_runs_its_own_spawns_the_last_one_first() {
    let ran = on_one_thread(|| {
        let (sender, receiver) = mpsc::channel();
        for number in [1, 2] {
            let sender = sender.clone();
            rayon_core::spawn(move || sender.send(number).unwrap());
        }
        assert_eq!(rayon_core::yield_local(), Some(Yield::Executed));
        let after_one: Vec<_> = receiver.try_iter().collect();
        assert_eq!(rayon_core::yield_local(), Some(Yield::Executed));
        let after_two: Vec<_> = receiver.try_iter().collect();
        (after_one, after_two)
    });
    assert_eq!(ran, (vec![2], vec![1]), "one job each time");
}

#[test]
fn only_yield_now_takes_what_came_from_outside() {
    let (pool, builders) = unstarted(1);
    let threads = start_all(builders);
    let (begun, spawned) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let both = (Arc::clone(&begun), Arc::clone(&spawned));
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || {
        both.0.wait();
        both.1.wait();
        let yields = [
            rayon_core::yield_local(),
            rayon_core::yield_now(),
            rayon_core::yield_now(),
        ];
        sender.send(yields).unwrap();
    });
    begun.wait();
    pool.spawn(|| ());
    spawned.wait();
    let expected = [Yield::Idle, Yield::Executed, Yield::Idle].map(Some);
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), expected);
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn yields_outside_of_a_pool_do_nothing() {
    let yields = [rayon_core::yield_local(), rayon_core::yield_now()];
    assert_eq!(yields, [None; 2]);
}

#[test]
fn yield_local_takes_what_was_broadcast_to_the_thread() {
    let (pool, builders) = unstarted(1);
    let threads = start_all(builders);
    let (begun, sent) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let both = (Arc::clone(&begun), Arc::clone(&sent));
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || {
        both.0.wait();
        both.1.wait();
        sender.send(rayon_core::yield_local()).unwrap();
    });
    begun.wait();
    pool.spawn_broadcast(|_| ());
    sent.wait();
    assert_eq!(receiver.recv_timeout(LONG), Ok(Some(Yield::Executed)));
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_nested_wait_runs_other_jobs_of_its_pool() {
    let (pool, builders) = unstarted(2);
    let threads = start_all(builders);
    let (begun, go) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || {
        rayon_core::scope(|scope| {
            scope.spawn(|_| {
                begun.store(true, SeqCst);
                while !go.load(SeqCst) {
                    thread::yield_now();
                }
            });
            while !begun.load(SeqCst) {
                thread::yield_now();
            }
            // The other thread is busy until this has run: here, in the wait at the scope's end.
            let go = Arc::clone(&go);
            rayon_core::spawn(move || go.store(true, SeqCst));
        });
        sender.send(()).unwrap();
    });
    assert_eq!(receiver.recv_timeout(LONG), Ok(()));
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

/// Sends the address of a job's stack frame.
#[inline(never)]
fn note_depth(depths: &Sender<usize>) {
    let here = 0_u8;
    depths.send(ptr::from_ref(&here).addr()).unwrap();
}

#[test]
fn a_nested_wait_is_deeper_in_the_stack_than_the_main_loop() {
    let (pool, builders) = unstarted(1);
    let threads = start_all(builders);
    let (sender, receiver) = mpsc::channel();
    let spawn = move |sender: &Sender<usize>| {
        let sender = sender.clone();
        move || note_depth(&sender)
    };
    let at_base = |sender| {
        pool.spawn(spawn(&sender));
        receiver.recv_timeout(LONG).unwrap()
    };
    let base = at_base(sender.clone());
    assert_eq!(at_base(sender.clone()), base, "the same way each time");

    type Wait = fn(Box<dyn FnOnce() + Send>);
    let nested: [Wait; 3] = [
        |job| {
            rayon_core::spawn(job);
            rayon_core::yield_local();
        },
        |job| {
            rayon_core::join(|| rayon_core::spawn(job), || ());
        },
        |job| {
            rayon_core::scope(|scope| {
                scope.spawn(|_| ());
                rayon_core::spawn(job);
            })
        },
    ];
    for wait in nested {
        let job = Box::new(spawn(&sender));
        pool.spawn(move || wait(job));
        let depth = receiver.recv_timeout(LONG).unwrap();
        assert!(depth < base, "stacks grow downwards: {depth:#x}, {base:#x}");
        // The pool takes half of the shallowest as its limit.
        assert!(base - depth >= 32, "{}", base - depth);
    }
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_panic_in_a_spawned_job_goes_to_the_handler_and_the_thread_lives_on() {
    let panics = Arc::new(AtomicUsize::new(0));
    let handler = Arc::clone(&panics);
    let mut builders = Vec::new();
    let pool = ThreadPoolBuilder::new()
        .num_threads(1)
        .panic_handler(move |_| {
            handler.fetch_add(1, SeqCst);
        })
        .spawn_handler(|builder| {
            builders.push(builder);
            Ok(())
        })
        .build()
        .unwrap();
    let threads = start_all(builders);
    pool.spawn(|| std::panic::resume_unwind(Box::new(())));
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || sender.send(()).unwrap());
    assert_eq!(receiver.recv_timeout(LONG), Ok(()));
    assert_eq!(panics.load(SeqCst), 1);
    drop(pool);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}
