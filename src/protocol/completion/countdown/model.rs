//! Loom models of the words of a wait frame. Each names the rule and the mutants that it kills.
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

use loom::cell::UnsafeCell;

use super::{Ending, Tally};
use crate::{
    protocol::{
        model::{Slots, explore},
        wait::{Condition, park_until},
    },
    sync::thread::{self, Thread, spawn},
};

/// The words that a frame waits on.
trait Words {
    fn take_away(&mut self);
}

impl Words for Tally {
    fn take_away(&mut self) {
        self.near.0.with_mut(|_| ());
        self.far.0.with_mut(|_| ());
    }
}

impl Words for Ending {
    fn take_away(&mut self) {
        self.0.with_mut(|_| ());
    }
}

/// The contents of the frame, where its jobs write their results.
struct Frame<W> {
    words: W,
    owner: UnsafeCell<Thread>,
    results: [UnsafeCell<usize>; 2],
}

/// A frame that stays in memory when it is taken away.
struct Stack<W>(std::cell::UnsafeCell<Frame<W>>);

// SAFETY: loom checks the accesses to all contents.
unsafe impl<W> Send for Stack<W> {}
// SAFETY: as above.
unsafe impl<W> Sync for Stack<W> {}

impl<W: Words> Stack<W> {
    /// Returns a frame of the calling thread.
    fn new(words: W) -> Arc<Self> {
        Arc::new(Self(std::cell::UnsafeCell::new(Frame {
            words,
            owner: UnsafeCell::new(thread::current()),
            results: array::from_fn(|_| UnsafeCell::new(0)),
        })))
    }

    fn frame(&self) -> &Frame<W> {
        // SAFETY: it is taken away only when no thread reads it; otherwise loom fails.
        unsafe { &*self.0.get() }
    }

    /// Runs a job that writes its result.
    fn run(&self, job: usize) {
        // SAFETY: each job has its own result; loom fails if another thread reads that meanwhile.
        self.frame().results[job].with_mut(|result| unsafe { *result = job + 1 });
    }

    fn owner(&self) -> Thread {
        // SAFETY: only the thread that takes the frame away writes it; loom fails if it has done
        // so.
        self.frame().owner.with(|owner| unsafe { (*owner).clone() })
    }

    /// Ends the wait. Returns the sum of the results.
    fn return_from_it(&self) -> usize {
        // SAFETY: all jobs have ended; loom fails if one may still access the frame.
        let frame = unsafe { &mut *self.0.get() };
        let results = frame.results.iter();
        // SAFETY: as above.
        let sum = results.map(|result| result.with_mut(|result| unsafe { *result }));
        let sum = sum.sum();
        frame.owner.with_mut(|_| ());
        frame.words.take_away();
        sum
    }
}

impl Tally {
    /// Waits as a scope does, without the spinning. `run_own` is what the owner does meanwhile.
    fn wait(&self, run_own: impl Fn() -> bool, has_own: impl Fn() -> bool) {
        while !self.is_met() {
            if !run_own() {
                park_until(&[self], &has_own, None);
            }
        }
    }
}

impl Ending {
    /// Waits for the end, as the owner of this number.
    fn wait(&self, waiting: usize) {
        if !self.has_ended() {
            park_until(&[&self.for_owner(waiting)], &|| false, None);
        }
    }
}

/// R6: two jobs of a worker's frame end elsewhere, one of which begins and ends a third; the
/// worker's thread is known without the frame. Kills `countdown_keep_near`, `countdown_look_late`,
/// `countdown_relaxed` and `countdown_silent`.
#[test]
fn r6_a_worker_waits_until_its_jobs_have_ended_elsewhere() {
    explore(|| {
        let stack = Stack::new(Tally::new());
        let tally = &stack.frame().words;
        let owner = thread::current();
        let jobs = [0, 1].map(|job| {
            tally.begin_near();
            let (stack, owner) = (Arc::clone(&stack), owner.clone());
            spawn(move || {
                let tally = &stack.frame().words;
                if job == 0 {
                    tally.begin_far();
                    assert!(!tally.end_far());
                }
                stack.run(job);
                if tally.end_far() {
                    owner.unpark();
                }
            })
        });
        tally.wait(|| false, || false);
        assert_eq!(stack.return_from_it(), 3);
        jobs.into_iter().for_each(|job| job.join().unwrap());
    });
}

/// R6: the same, where the thread that unparks the owner finds it through the frame. Kills
/// `countdown_read_late`, `countdown_relaxed` and `countdown_torn_end`.
#[test]
fn r6_an_outside_thread_waits_until_its_jobs_have_ended_elsewhere() {
    explore(|| {
        let stack = Stack::new(Tally::new());
        let tally = &stack.frame().words;
        let jobs = [0, 1].map(|job| {
            tally.begin_far();
            let stack = Arc::clone(&stack);
            spawn(move || {
                stack.run(job);
                let waiting = stack.frame().words.end_far_with(|| stack.owner());
                if let Some(owner) = waiting {
                    owner.unpark();
                }
            })
        });
        tally.wait(|| false, || false);
        assert_eq!(stack.return_from_it(), 3);
        jobs.into_iter().for_each(|job| job.join().unwrap());
    });
}

/// R3: a job of the frame leaves a side entry that only the owner takes, which may be about to
/// block. Kills `countdown_no_fence_block` and `countdown_no_fence_side`.
#[test]
fn r3_a_worker_that_blocks_is_notified_of_a_side_job_of_its_frame() {
    explore(|| {
        let stack = Stack::new(Tally::new());
        let tally = &stack.frame().words;
        let side_list = Arc::new(Slots::<2>::new());
        let owner = thread::current();
        tally.begin_near();
        let job = {
            let (stack, side_list) = (Arc::clone(&stack), Arc::clone(&side_list));
            spawn(move || {
                let tally = &stack.frame().words;
                tally.begin_far();
                side_list.push(1);
                if tally.is_awaited() {
                    owner.unpark();
                }
                stack.run(0);
                if tally.end_far() {
                    owner.unpark();
                }
            })
        };
        let ran = Count::new(0);
        let run_side_job = || {
            let side_entry = side_list.take();
            if let Some(side_entry) = side_entry {
                stack.run(side_entry);
                tally.end_near();
                ran.fetch_add(1, Relaxed);
            }
            side_entry.is_some()
        };
        tally.wait(run_side_job, || side_list.has_work());
        assert_eq!(ran.load(Relaxed), 1);
        assert_eq!(stack.return_from_it(), 3);
        job.join().unwrap();
    });
}

/// R6: the other half of a join, or an installed closure. Kills `countdown_relaxed`, `ending_unseen`,
/// `ending_read_late` and `ending_torn`.
#[test]
fn r6_a_waiter_for_one_job_sees_its_end() {
    explore(|| {
        let stack = Stack::new(Ending::new());
        let ending = &stack.frame().words;
        let job = {
            let stack = Arc::clone(&stack);
            spawn(move || {
                stack.run(0);
                let waiting = stack.frame().words.end_with(|| stack.owner());
                if let Some(owner) = waiting {
                    owner.unpark();
                }
            })
        };
        ending.wait(0);
        assert_eq!(stack.return_from_it(), 1);
        job.join().unwrap();
    });
}

/// R3: a thread that waits for a job observes its runner as soon as it has begun, and is unparked
/// at its end all the same. Kills `ending_relaxed_begin` and `ending_unseen`.
#[test]
fn r3_a_waiter_for_a_job_sees_the_thread_that_runs_it() {
    const OWNER: usize = 3;
    explore(|| {
        let frame = Arc::new((Ending::new(), UnsafeCell::new(0)));
        let owner = thread::current();
        let job = {
            let frame = Arc::clone(&frame);
            spawn(move || {
                let (ending, runner) = &*frame;
                // SAFETY: the job has not been published as begun.
                runner.with_mut(|runner| unsafe { *runner = 1 });
                ending.begin();
                if let Some(waiting) = ending.end() {
                    assert_eq!(waiting, OWNER);
                    owner.unpark();
                }
            })
        };
        let (ending, runner) = &*frame;
        // SAFETY: the job has been published as begun, and the runner is not written again.
        let runner = || runner.with(|runner| unsafe { *runner });
        assert!(!ending.has_begun() || runner() == 1);
        ending.wait(OWNER);
        assert!(ending.has_begun() && runner() == 1);
        job.join().unwrap();
    });
}

/// R6: as above for a worker, whose number is in the word itself. Kills `countdown_relaxed`,
/// `ending_unseen` and `ending_torn`.
#[test]
fn r6_a_worker_waits_for_one_job_by_its_number() {
    const OWNER: usize = 3;
    explore(|| {
        let stack = Stack::new(Ending::new());
        let ending = &stack.frame().words;
        let owner = thread::current();
        let job = {
            let stack = Arc::clone(&stack);
            spawn(move || {
                stack.run(0);
                if let Some(waiting) = stack.frame().words.end() {
                    assert_eq!(waiting, OWNER);
                    owner.unpark();
                }
            })
        };
        ending.wait(OWNER);
        assert_eq!(stack.return_from_it(), 1);
        job.join().unwrap();
    });
}
