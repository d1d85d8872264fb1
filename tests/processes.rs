//! Failures that would kill the process, each in a process of its own: stack overflows (failure
//! 27), and values of extreme sizes.
mod support;

use std::sync::{Arc, mpsc};

use adaptive_pool::Pool;
use support::*;

const SMALL: usize = 256 << 10;

fn pool(capacity: usize) -> Arc<Pool> {
    let builder = Pool::builder().workers(1).capacity(capacity);
    Arc::new(builder.stack_size(SMALL).build().unwrap())
}

fn chain(pool: Arc<Pool>, left: u32, done: mpsc::Sender<()>) {
    if left == 0 {
        return done.send(()).unwrap();
    }
    let own = Arc::clone(&pool);
    own.spawn(move || chain(pool, left - 1, done)).unwrap();
}

/// Failure 27.
#[test]
fn chained_spawns_need_no_stack() {
    survives_in_child("chained_spawns_need_no_stack", || {
        watched(|| {
            for capacity in [1, 64] {
                let pool = pool(capacity);
                let (done, ended) = mpsc::channel();
                chain(Arc::clone(&pool), 10_000, done);
                ended.recv().unwrap();
            }
        });
    });
}

/// Failure 27, worst case: an unrelated job that cannot start before the chain ends takes the only
/// place, so every link of the chain runs inline.
#[test]
fn chained_spawns_on_a_full_worker_need_no_stack() {
    survives_in_child("chained_spawns_on_a_full_worker_need_no_stack", || {
        watched(|| {
            let pool = pool(1);
            let (done, ended) = mpsc::channel();
            let own = Arc::clone(&pool);
            let first = move || {
                own.try_spawn(|| ()).unwrap();
                chain(Arc::clone(&own), 10_000, done);
            };
            pool.spawn(first).unwrap();
            ended.recv().unwrap();
        });
    });
}

/// Failure 27. Nesting in the program takes stack in proportion, and no more.
#[test]
fn nested_waits_take_little_stack() {
    fn nest(pool: Arc<Pool>, left: u64) -> u64 {
        if left == 0 {
            return 0;
        }
        let own = Arc::clone(&pool);
        1 + pool
            .submit(move || nest(own, left - 1))
            .unwrap()
            .join()
            .unwrap()
    }
    survives_in_child("nested_waits_take_little_stack", || {
        watched(|| {
            let builder = Pool::builder().workers(2).capacity(4);
            let pool = Arc::new(builder.stack_size(512 << 20).build().unwrap());
            let own = Arc::clone(&pool);
            let nested = pool.submit(move || nest(own, 100_000)).unwrap();
            assert_eq!(nested.join().unwrap(), 100_000);
        });
    });
}

/// A wide tree on one worker: the second half of each pair runs inline or by the join, never on top
/// of an unrelated job.
#[test]
fn a_wide_tree_fits_on_a_small_stack() {
    fn tree(pool: Arc<Pool>, depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let halves: Vec<_> = (0..8)
            .map(|_| {
                let own = Arc::clone(&pool);
                pool.submit(move || tree(own, depth - 1)).unwrap()
            })
            .collect();
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    }
    survives_in_child("a_wide_tree_fits_on_a_small_stack", || {
        watched(|| {
            for capacity in [1, 10, 1024] {
                let pool = pool(capacity);
                let own = Arc::clone(&pool);
                let leaves = pool.submit(move || tree(own, 4)).unwrap();
                assert_eq!(leaves.join().unwrap(), 4096);
            }
        });
    });
}

/// A closure is moved a few times on its way. A megabyte of it has to fit on the usual stacks of a
/// few megabytes.
#[test]
fn a_closure_may_own_a_megabyte() {
    const LARGE: usize = 1 << 20;
    survives_in_child("a_closure_may_own_a_megabyte", || {
        let test = || {
            let builder = Pool::builder().workers(1).capacity(4);
            let pool = builder.stack_size(16 << 20).build().unwrap();
            let data = [7u8; LARGE];
            let job = pool.submit(move || data.iter().map(|&b| u64::from(b)).sum::<u64>());
            assert_eq!(job.unwrap().join().unwrap(), 7 << 20);
            let data = [8u8; LARGE];
            pool.spawn(move || assert_eq!(data[LARGE - 1], 8)).unwrap();
            let data = pool.submit(move || [9u8; LARGE]).unwrap().join().unwrap();
            assert_eq!(data[0], 9);
            assert_eq!(pool.shutdown().completed, 3);
        };
        let thread = std::thread::Builder::new().stack_size(32 << 20);
        thread.spawn(test).unwrap().join().unwrap();
    });
}
