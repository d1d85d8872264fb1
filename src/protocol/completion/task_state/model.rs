//! Loom models of the state of a job with a handle. Each names the rule and the mutants that it
//! kills.
//!
//! To loom, the free of the allocation is a write to the slot of the wake and to the value. It
//! fails if that does not come after every other access.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use loom::cell::UnsafeCell;

use super::{HandleEnd, QueueEnd, Wake, task};
use crate::{
    protocol::model::explore,
    sync::thread::{self, spawn},
};

/// A value that counts its drops, and reads its result at each.
struct Probe {
    result: UnsafeCell<usize>,
    drops: Arc<AtomicUsize>,
}

// SAFETY: one thread at a time has the cell, or loom fails.
unsafe impl Sync for Probe {}

impl Probe {
    fn task() -> (QueueEnd<Self>, HandleEnd<Self>, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        let (queue, handle) = task(Self {
            result: UnsafeCell::new(0),
            drops: Arc::clone(&drops),
        });
        (queue, handle, drops)
    }

    /// Writes the result. By the end that has claimed the job.
    fn write(&self) {
        // SAFETY: loom checks that no other thread is here.
        self.result.with_mut(|result| unsafe { *result = 42 });
    }

    /// Reads the result. By the handle, once the job is done.
    fn read(&self) -> usize {
        // SAFETY: as above.
        self.result.with(|result| unsafe { *result })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.write();
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn run(queue: QueueEnd<Probe>) {
    assert!(queue.claim());
    queue.write();
    queue.finish();
}

/// R1, D2: a thread that waits for a job is woken at its end. Kills `task_mute` and
/// `task_leave_early`.
#[test]
fn d2_a_thread_that_waits_for_a_job_is_notified_of_its_end() {
    explore(|| {
        let (queue, mut handle, drops) = Probe::task();
        let job = spawn(move || run(queue));
        if !handle.awaits(Wake::Thread(thread::current())) {
            while !handle.is_done() {
                thread::park();
            }
        }
        assert_eq!(handle.read(), 42);
        drop(handle);
        job.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// D2: a task that is not ready is polled again, by the waker of its last poll. Kills `task_unseen`
/// and `task_torn_wake`.
#[test]
fn d2_a_task_that_awaits_a_job_is_woken_at_its_end() {
    explore(|| {
        let (queue, mut handle, _) = Probe::task();
        let job = spawn(move || run(queue));
        // A first poll, with the waker of a task that is gone.
        let earlier = Wake::Task(Waker::noop().clone());
        if !handle.awaits(earlier) {
            loom::future::block_on(poll_fn(|cx| {
                if handle.is_done() || handle.awaits(Wake::Task(cx.waker().clone())) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
        }
        assert_eq!(handle.read(), 42);
        job.join().unwrap();
    });
}

/// R1: of a worker and two cancellers one gets the closure. Kills `task_torn_claim`.
#[test]
fn r1_one_of_three_claims_the_job() {
    explore(|| {
        let (queue, handle, drops) = Probe::task();
        let handle = Arc::new(handle);
        let worker = spawn(move || {
            let won = queue.claim();
            if won {
                queue.write();
                queue.finish();
            }
            won
        });
        let cancel = |handle: &HandleEnd<Probe>| {
            let won = handle.claim();
            if won {
                handle.write();
                handle.finish();
            }
            won
        };
        let other = {
            let handle = Arc::clone(&handle);
            spawn(move || cancel(&handle))
        };
        let here = cancel(&handle);
        let won = [worker, other].map(|thread| thread.join().unwrap());
        let winners = won.into_iter().filter(|&won| won).count() + usize::from(here);
        assert_eq!(winners, 1);
        assert!(handle.is_done());
        drop(handle);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// R6: a handle that observes the end of a job observes its result. Kills `task_relaxed_finish`.
#[test]
fn r6_a_handle_that_sees_the_end_sees_the_result() {
    explore(|| {
        let (queue, mut handle, _) = Probe::task();
        let job = spawn(move || run(queue));
        if handle.is_done() || handle.awaits(Wake::Thread(thread::current())) {
            assert_eq!(handle.read(), 42);
        }
        job.join().unwrap();
    });
}

/// R1, R6: a job ends while its handle is dropped. Its value is dropped once, by the end that
/// observes the result. Kills `task_relaxed_leave`, `task_relaxed_look` and `task_torn_leave`.
#[test]
fn r1_the_last_of_two_ends_drops_the_value() {
    explore(|| {
        let (queue, handle, drops) = Probe::task();
        let job = spawn(move || run(queue));
        drop(handle);
        job.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// As above, for a job that its handle has cancelled: the queue has its tombstone.
#[test]
fn r1_the_last_end_of_a_tombstone_drops_the_value() {
    explore(|| {
        let (queue, handle, drops) = Probe::task();
        let worker = spawn(move || {
            if queue.claim() {
                queue.write();
                queue.finish();
            }
        });
        if handle.claim() {
            handle.write();
            handle.finish();
        }
        drop(handle);
        worker.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}
