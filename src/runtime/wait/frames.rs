//! Waits for structured jobs: those of a scope, the other half of a join, an installed closure.
//!
//! A *wait frame* on its owner's stack waits until a count of jobs is zero, or until one job has
//! ended: [`Countdown`] and [`JobEnd`]. The words are latches (`protocol/completion/latch.rs`),
//! which find and unpark the owner by themselves, whichever thread it is. This module defines what
//! the owner runs meanwhile.
//!
//! # Why these waits cannot deadlock
//!
//! A worker that waits in a frame runs the structured jobs that were pushed on its own deque since
//! the frame began. They belong to the frame, or to a frame nested in it that has ended. (A push
//! for any other frame goes elsewhere: see `scope/spawn.rs`.) The worker also *leapfrogs* the thief
//! of the job it waits for, as below, and takes the frame's own jobs from the side list. It takes
//! nothing else. So nothing that it runs can depend on what the waiting frame holds, unless the
//! program's own nesting makes it so.
//!
//! Suppose that some workers are blocked for ever. Take one, X, which is blocked in a frame for a
//! job k. X has run the jobs on its own deque. So k either runs on another worker Y, or is in Y's
//! deque, below the watermark of every frame on Y's stack. (Above a watermark, Y would run it.) In
//! the second case Y had k before it began its present job y from its loop. A worker inside a job
//! never takes a job into its deque for which other threads wait. (In rayon's waits this argument
//! does not hold.)
//!
//! In both cases compare the last jobs that X and Y have begun, at the top of their stacks. Y's
//! began after X's, of which k is a descendant. If Y is blocked too, its last job waits for a
//! descendant of its own, on a worker whose last job began still later. A chain of ever later
//! beginnings cannot return to X, and it is finite. Its last worker is not blocked in such a wait.
//! So that worker runs on, and the chain unwinds.
//!
//! A worker that is not blocked takes the jobs in the injectors and in the side list. So does a
//! spare thread in the place of a blocked worker. If there is neither, a worker of another pool
//! that waits for the job runs it: see `starvation.rs`. This proof does not cover the locks,
//! channels and handles by which user code blocks.
//!
//! # Leapfrogging
//!
//! A thread that waits for a job takes work from the thread that runs it (Wagner and Calder, 1993).
//! It takes only jobs for which a frame on that thread waits, on top of the awaited job: they end
//! before that does. A job that is no longer wanted when it is claimed is given back. Searchers may
//! have missed it meanwhile, as they miss what another searcher has claimed. A leapfrogging thread
//! is no searcher, so it checks the queues again on their behalf.
//!
//! **A half of a join.** The thread that begins it writes its own index and its deque's watermark
//! into the frame. A job above that watermark was pushed since, on top of the half. It is taken
//! only if the half has not ended when the job is claimed. A job that the runner pushes later, for
//! other frames, comes after the end, which the claim then observes.
//!
//! **A scope.** A thief that has stolen jobs of a scope, and had none of its own, publishes the
//! scope as its deque's *steal origin*. It clears that before its loop runs anything from outside
//! that deque. Meanwhile it pushes there jobs of this scope, and of frames on its own stack on top
//! of a job of the scope. Jobs of scopes farther out go elsewhere. A job is taken only if the scope
//! is still the steal origin when it is claimed. The thief clears the origin before it pushes jobs
//! for other frames. The scope's own jobs need no such proof, and come in batches.
//!
//! While a worker runs a leapfrogged job, the waiting frame is still its nearest one: a scope
//! farther out pushes no job on this deque.

use std::{cell::Cell, mem::MaybeUninit};

use crate::{
    protocol::{
        completion::latch::{CountLatch, Latch},
        deque::Theft,
        wait::Condition,
    },
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::Place,
        wait::{Assist, Assisted, IfStarved, Spin, Waited, wait_until},
        worker::{self, Current},
    },
    sync::{AtomicUsize, Ordering, UnsafeCell},
};

/// The end of one job, for the frame that waits for it. The runner is written only when the half of
/// a join begins on another thread: most halves are never stolen.
pub(crate) struct JobEnd {
    latch: Latch,
    /// The thread that runs the job, if it has begun elsewhere.
    runner: UnsafeCell<MaybeUninit<Runner>>,
}

/// The thread that runs a stolen job.
#[derive(Clone, Copy)]
struct Runner {
    slot: usize,
    /// The watermark of that thread's deque: jobs above it were pushed since the job began.
    mark: usize,
}

impl JobEnd {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            latch: Latch::new(),
            runner: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Begins the job on another thread than its frame's, so that the owner may leapfrog it.
    pub(crate) fn begin(&self, inner: &Inner) {
        let Some(current) = worker::current_of(inner) else {
            return;
        };
        let runner = Runner {
            slot: current.index(),
            mark: current.mark(),
        };
        self.runner.with_mut(|own| {
            // SAFETY: this thread owns the job, and no thread reads this before the job is
            // published as begun.
            unsafe { (*own).write(runner) };
        });
        self.latch.begin();
    }

    /// Ends the job. The frame may be gone when this returns.
    pub(crate) fn end(&self) {
        self.latch.end();
    }

    fn runner(&self) -> Option<Runner> {
        // SAFETY: it was written before the job was published as begun, and is not written again.
        let read = |runner: *mut MaybeUninit<Runner>| unsafe { (*runner).assume_init() };
        self.latch.has_begun().then(|| self.runner.with_mut(read))
    }

    /// Blocks until the job has ended, on the owner's thread, which is one of the pool's. `frame`
    /// is the frame that waits.
    #[cold]
    pub(crate) fn wait(&self, current: &Current, frame: *const ()) {
        // Set when the oldest job belongs to a scope farther out. Each further claim of it would
        // cost two fences.
        let mut is_vain = false;
        // Takes a job that the runner has left on its deque.
        let mut leapfrog = || {
            let Some(runner) = self.runner().filter(|_| !is_vain) else {
                return Assisted::Nothing;
            };
            match current.leapfrog(runner.slot, runner.mark, || !self.latch.is_met()) {
                Theft::Success(job) => {
                    let run = || job.run(current.context(), Place::Queue);
                    current.leave_to_loop(current.in_frame(frame, run));
                    return Assisted::Ran;
                }
                Theft::Unwanted => is_vain = true,
                Theft::Empty | Theft::Busy => {}
            }
            Assisted::Nothing
        };
        self.latch
            .await_end(|ended| await_jobs(current.inner(), ended, &mut leapfrog, Spin::Backoff));
    }

    /// Blocks until the job has ended, on the owner's thread, which is not the pool's. If that is
    /// another pool's thread, and this pool is starved, it runs the job itself, provided
    /// `take_back` returns it.
    pub(crate) fn wait_outside(&self, inner: &Inner, take_back: impl Fn() -> Option<Job>) {
        let is_there = Cell::new(true);
        let mut run_it = IfStarved(
            || is_there.get(),
            || {
                let Some(job) = take_back() else {
                    is_there.set(false);
                    return Assisted::Nothing;
                };
                inner.check_drained(job.run(&JobContext::elsewhere(inner), Place::Queue));
                Assisted::Ran
            },
        );
        self.latch
            .await_end(|ended| await_jobs(inner, ended, &mut run_it, Spin::Adaptive));
    }
}

/// Waits until the jobs of a frame have `ended`.
fn await_jobs(inner: &Inner, ended: &dyn Condition, assist: &mut dyn Assist, spin: Spin<'_>) {
    let waited = wait_until(inner, &[ended], assist, spin, None);
    debug_assert_eq!(waited, Waited::Met);
}

/// The count of jobs that a frame waits for.
pub(crate) struct Countdown {
    /// The owner's slot, if it is a thread of this pool.
    owner: Option<usize>,
    /// Whether the owner is a thread of this pool, or of another one, which may have to run these
    /// jobs itself: see `starvation.rs`.
    is_of_worker: bool,
    latch: CountLatch,
    /// The number of jobs of this frame in the side list. Changed under the list's lock.
    pub(crate) side_list: AtomicUsize,
}

impl Countdown {
    /// Makes one for a frame of the calling thread, which waits for no job yet.
    #[inline]
    pub(crate) fn new(inner: &Inner, current: Option<&Current>) -> Self {
        Self {
            owner: current.map(Current::index),
            is_of_worker: current.is_some() || worker::is_of_another(inner),
            latch: CountLatch::new(),
            side_list: AtomicUsize::new(0),
        }
    }

    /// Whether the thread of this slot is the owner.
    #[inline]
    pub(crate) fn is_of(&self, slot: Option<usize>) -> bool {
        slot.is_some() && self.owner == slot
    }

    /// Whether the owner polls the side list while it waits.
    pub(crate) fn takes_from_side(&self) -> bool {
        self.is_of_worker
    }

    /// Counts one more job. `slot` is the calling thread's.
    #[inline]
    pub(crate) fn begin(&self, slot: Option<usize>) {
        if self.is_of(slot) {
            self.latch.begin_near();
        } else {
            self.latch.begin_far();
        }
    }

    /// Counts a job as ended. The frame may be gone when this returns.
    #[inline]
    pub(crate) fn end(&self, slot: Option<usize>) {
        if self.is_of(slot) {
            self.latch.end_near();
        } else {
            self.latch.end_far();
        }
    }

    /// Unparks a parked owner, because a job of this frame was put into the side list.
    pub(crate) fn notified_of_side(&self) {
        self.latch.notify();
    }

    /// Blocks until no job is left, on the owner's thread. If the owner is a worker, `own` holds
    /// it, and the watermark above which its own jobs are.
    #[inline]
    pub(crate) fn wait(&self, inner: &Inner, own: Option<(&Current, usize)>) {
        if !self.latch.is_met() {
            self.wait_for_jobs(inner, own);
        }
    }

    fn wait_for_jobs(&self, inner: &Inner, own: Option<(&Current, usize)>) {
        let mut runs_own = RunsOwn {
            countdown: self,
            inner,
            own,
            is_vain: false,
        };
        // Most scopes of a worker end here: no thief has a job of theirs.
        if own.is_some() && runs_own.assist(false) == Assisted::Ran && self.latch.is_met() {
            return;
        }
        self.wait_for_others(inner, &mut runs_own);
    }

    #[inline(never)]
    fn wait_for_others(&self, inner: &Inner, runs_own: &mut RunsOwn) {
        // A worker polls for jobs between spins.
        let spin = runs_own.own.map_or(Spin::Adaptive, |_| Spin::Backoff);
        self.latch
            .await_end(|ended| await_jobs(inner, ended, runs_own, spin));
    }
}

/// Runs the frame's own jobs on its owner's thread.
struct RunsOwn<'a> {
    countdown: &'a Countdown,
    inner: &'a Inner,
    own: Option<(&'a Current<'a>, usize)>,
    /// Whether a claim in another deque returned an unwanted job. Further claims would too.
    is_vain: bool,
}

impl RunsOwn<'_> {
    /// Runs one job that was pushed above the watermark, or is in the side list.
    #[inline]
    fn run_one(&mut self, is_starved: bool) -> bool {
        if let Some((current, mark)) = self.own {
            let local = current.local();
            let ended = local.and_then(|local| local.run_structured(mark, current.context()));
            if let Some(ended) = ended {
                current.leave_to_loop(ended);
                return true;
            }
        }
        // The workers of this pool run the jobs in the list, unless it has none.
        self.has_work(is_starved) && self.run_of_side_list()
    }

    fn run_of_side_list(&mut self) -> bool {
        // The thread may have parked since the claim that was in vain.
        self.is_vain = false;
        let Some(job) = self.inner.queue.take_from_side_of(self.countdown) else {
            return false;
        };
        // The thread may be another pool's, or in rayon, and not have a loop.
        let ended = job.run(&JobContext::here(self.inner), Place::Queue);
        self.inner.check_drained(ended);
        true
    }

    /// Runs a job of the frame that a thief has in its deque.
    fn run_stolen(&mut self, current: &Current) -> Assisted {
        if self.is_vain {
            return Assisted::Nothing;
        }
        match current.take_back(current.frame()) {
            Theft::Success(job) => {
                current.leave_to_loop(job.run(current.context(), Place::Queue));
                Assisted::Ran
            }
            Theft::Unwanted => {
                self.is_vain = true;
                Assisted::Nothing
            }
            Theft::Empty | Theft::Busy => Assisted::Nothing,
        }
    }
}

impl Assist for RunsOwn<'_> {
    fn assist(&mut self, is_starved: bool) -> Assisted {
        let mut has_run = false;
        while self.run_one(is_starved) {
            has_run = true;
            if self.countdown.latch.is_met() {
                return Assisted::Ran;
            }
        }
        match self.own {
            _ if has_run => Assisted::Ran,
            Some((current, _)) => self.run_stolen(current),
            None => Assisted::Nothing,
        }
    }

    fn has_work(&self, is_starved: bool) -> bool {
        let is_its_turn = self.countdown.owner.is_some() || is_starved;
        is_its_turn && self.countdown.side_list.load(Ordering::Relaxed) != 0
    }
}
