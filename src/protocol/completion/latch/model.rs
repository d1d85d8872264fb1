//! Loom models of the latches. Each names the rule and the mutants that it kills.
//!
//! When the wait is over, the owner does to the frame what its return does: it takes the frame
//! away. To loom that is a write to each of the frame's words. It fails if the write does not come
//! after the last access of every thread.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicUsize as Count, Ordering::Relaxed},
    },
};

use loom::{cell::UnsafeCell, thread::JoinHandle};

use super::{CountLatch, Latch};
use crate::{
    protocol::{
        model::{Slots, explore},
        wait::park_until,
    },
    sync::thread::spawn,
};

/// A latch of either kind.
trait AnyLatch {
    fn take_away(&mut self);
}

impl AnyLatch for Latch {
    fn take_away(&mut self) {
        self.word.with_mut(|_| ());
        self.owner.with_mut(|_| ());
    }
}

impl AnyLatch for CountLatch {
    fn take_away(&mut self) {
        self.near.0.with_mut(|_| ());
        self.far.0.take_away();
    }
}

/// The contents of the frame, where its jobs write their results.
struct Frame<L> {
    latch: L,
    results: [UnsafeCell<usize>; 2],
}

/// A frame that stays in memory when it is taken away.
struct Stack<L>(std::cell::UnsafeCell<Frame<L>>);

// SAFETY: loom checks the accesses to all contents.
unsafe impl<L> Send for Stack<L> {}
// SAFETY: as above.
unsafe impl<L> Sync for Stack<L> {}

impl<L: AnyLatch> Stack<L> {
    /// Returns a frame of the calling thread.
    fn new(latch: L) -> Arc<Self> {
        Arc::new(Self(std::cell::UnsafeCell::new(Frame {
            latch,
            results: array::from_fn(|_| UnsafeCell::new(0)),
        })))
    }

    fn frame(&self) -> &Frame<L> {
        // SAFETY: it is taken away only when no thread reads it; otherwise loom fails.
        unsafe { &*self.0.get() }
    }

    /// Runs a job that writes its result.
    fn run(&self, job: usize) {
        // SAFETY: each job has its own result; loom fails if another thread reads that meanwhile.
        self.frame().results[job].with_mut(|result| unsafe { *result = job + 1 });
    }

    /// Ends the wait. Returns the sum of the results.
    fn return_from_it(&self) -> usize {
        // SAFETY: all jobs have ended; loom fails if one may still access the frame.
        let frame = unsafe { &mut *self.0.get() };
        let results = frame.results.iter();
        // SAFETY: as above.
        let sum = results.map(|result| result.with_mut(|result| unsafe { *result }));
        let sum = sum.sum();
        frame.latch.take_away();
        sum
    }
}

impl CountLatch {
    /// Waits as a scope does, without the spinning. `run_own` is what the owner does meanwhile.
    fn wait(&self, run_own: impl Fn() -> bool, has_own: impl Fn() -> bool) {
        self.await_end(|ended| {
            while !self.is_met() {
                if !run_own() {
                    park_until(&[ended], &has_own, None);
                }
            }
        });
    }
}

impl Latch {
    /// Waits for the end.
    fn wait(&self) {
        if !self.is_met() {
            self.await_end(|ended| park_until(&[ended], &|| false, None));
        }
    }
}

/// R6: two jobs of a frame end elsewhere, one of which begins and ends a third. Kills
/// `latch_announce_blind`, `latch_keep_near`, `latch_read_late`, `latch_relaxed`, `latch_silent`
/// and `latch_torn_end`.
#[test]
fn r6_a_thread_waits_until_its_jobs_have_ended_elsewhere() {
    explore(|| {
        let stack = Stack::new(CountLatch::new());
        let latch = &stack.frame().latch;
        let jobs = [0, 1].map(|job| {
            latch.begin_near();
            let stack = Arc::clone(&stack);
            spawn(move || {
                let latch = &stack.frame().latch;
                if job == 0 {
                    latch.begin_far();
                    latch.end_far();
                }
                stack.run(job);
                latch.end_far();
            })
        });
        latch.wait(|| false, || false);
        assert_eq!(stack.return_from_it(), 3);
        jobs.into_iter().for_each(|job| job.join().unwrap());
    });
}

/// R3: a job of the frame leaves a side entry that only the owner takes, which may be about to
/// park. Kills `latch_no_fence_announce` and `latch_no_fence_notify`.
#[test]
fn r3_a_worker_that_parks_is_notified_of_a_side_job_of_its_frame() {
    explore(|| {
        let stack = Stack::new(CountLatch::new());
        let latch = &stack.frame().latch;
        let side_list = Arc::new(Slots::<2>::new());
        latch.begin_near();
        let job = {
            let (stack, side_list) = (Arc::clone(&stack), Arc::clone(&side_list));
            spawn(move || {
                let latch = &stack.frame().latch;
                latch.begin_far();
                side_list.push(1);
                latch.notify();
                stack.run(0);
                latch.end_far();
            })
        };
        let ran = Count::new(0);
        let run_side_entry = || {
            let side_entry = side_list.take();
            if let Some(side_entry) = side_entry {
                stack.run(side_entry);
                latch.end_near();
                ran.fetch_add(1, Relaxed);
            }
            side_entry.is_some()
        };
        latch.wait(run_side_entry, || side_list.has_work());
        assert_eq!(ran.load(Relaxed), 1);
        assert_eq!(stack.return_from_it(), 3);
        job.join().unwrap();
    });
}

/// Runs the one job of the frame on another thread.
fn run_elsewhere(stack: &Arc<Stack<Latch>>) -> JoinHandle<()> {
    let stack = Arc::clone(stack);
    spawn(move || {
        stack.run(0);
        stack.frame().latch.end();
    })
}

/// R3: a wait may be interrupted at any time, and begins again. Kills `latch_withdraw_blind`.
#[test]
fn r3_a_wait_that_is_interrupted_meets_the_last_end() {
    explore(|| {
        let stack = Stack::new(Latch::new());
        let latch = &stack.frame().latch;
        let job = run_elsewhere(&stack);
        let interruptions = Count::new(0);
        let is_interrupted = || interruptions.fetch_add(1, Relaxed) == 0;
        latch.await_end(|ended| {
            while !latch.is_met() {
                park_until(&[ended], &is_interrupted, None);
            }
        });
        assert_eq!(stack.return_from_it(), 1);
        job.join().unwrap();
    });
}

/// R6: the other half of a join, or an installed closure. Kills `latch_announce_blind`,
/// `latch_read_late`, `latch_relaxed`, `latch_silent` and `latch_torn_end`.
#[test]
fn r6_a_waiter_for_one_job_sees_its_end() {
    explore(|| {
        let stack = Stack::new(Latch::new());
        let latch = &stack.frame().latch;
        let job = run_elsewhere(&stack);
        latch.wait();
        assert_eq!(stack.return_from_it(), 1);
        job.join().unwrap();
    });
}

/// R3: a thread that waits for a job observes its runner as soon as it has begun, and is unparked
/// at its end all the same. Kills `latch_relaxed_begin`.
#[test]
fn r3_a_waiter_for_a_job_sees_the_thread_that_runs_it() {
    explore(|| {
        let frame = Arc::new((Latch::new(), UnsafeCell::new(0)));
        let job = {
            let frame = Arc::clone(&frame);
            spawn(move || {
                let (latch, runner) = &*frame;
                // SAFETY: the job has not been published as begun.
                runner.with_mut(|runner| unsafe { *runner = 1 });
                latch.begin();
                latch.end();
            })
        };
        let (latch, runner) = &*frame;
        // SAFETY: the job has been published as begun, and the runner is not written again.
        let runner = || runner.with(|runner| unsafe { *runner });
        assert!(!latch.has_begun() || runner() == 1);
        latch.wait();
        assert!(latch.has_begun() && runner() == 1);
        job.join().unwrap();
    });
}
