//! Waits for structured jobs: those of a scope, the other half of a join, an installed closure.
//!
//! # The count
//!
//! A *wait frame* on its owner's stack waits until a count of jobs is zero. The owner counts the
//! jobs that it begins and ends itself in `near`, by plain stores. Other threads count theirs in
//! `far`, which may go below zero; the sum is the count. Only the owner can form the sum, and while
//! it runs no other thread needs it. When the owner is about to park it moves `near` into `far`,
//! together with a bit that announces it. From then on the thread that brings `far` to zero unparks
//! it.
//!
//! The frame may be gone as soon as the owner can observe a count of zero. So the decrement is the
//! last access to it, and the thread to unpark is read before. A thread of the pool is found
//! through the pool, which outlives the stacks of its threads. The handle of any other thread is
//! cloned before the decrement, when the bit is observed. The decrement then succeeds only if the
//! word has not changed since. The words are in `countdown.rs`, with their models.
//!
//! # Why these waits cannot deadlock
//!
//! A worker that waits in a frame runs the structured jobs that were pushed on its own deque since
//! the frame began. They belong to the frame, or to a frame nested in it that has ended. (A push
//! for any other frame goes elsewhere: see `scope.rs`.) The worker also *leapfrogs* the thief of
//! the job it waits for, as below. It takes nothing else. So nothing that it runs can depend on
//! what the waiting frame holds, unless the program's own nesting makes it so.
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
        completion::countdown::{Ending, Tally},
        deque::Theft,
        wait::Condition,
    },
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::Place,
        wait::{Assist, Help, IfStarved, Spin, Waited, wait_until},
        worker::{self, Current},
    },
    sync::{
        AtomicUsize, Ordering, UnsafeCell,
        thread::{self, Thread},
    },
};

/// The owner of a frame.
enum Owner {
    /// A thread of the pool, by its slot.
    Worker(usize),
    Other {
        thread: Thread,
        /// Whether it is a thread of another pool, which may have to run these jobs itself: see
        /// `starvation.rs`.
        is_worker: bool,
    },
}

impl Owner {
    #[inline]
    fn new(inner: &Inner, current: Option<&Current>) -> Self {
        match current {
            Some(current) => Owner::Worker(current.index()),
            None => Owner::Other {
                thread: thread::current(),
                is_worker: worker::is_of_another(inner),
            },
        }
    }
}

/// The end of one job, for the frame that waits for it.
pub(crate) trait Completion {
    /// Begins the job, on another thread than its frame's.
    fn begin(&self, _: &Inner) {}

    /// Ends the job. The frame may be gone when this returns.
    fn end(&self, inner: &Inner);
}

/// The end of a job that a frame of a pool thread waits for. The runner is written only when the
/// job begins on another thread: most of these jobs are never stolen.
pub(crate) struct OfWorker {
    ending: Ending,
    /// The thread that runs the job, if it has begun elsewhere.
    runner: UnsafeCell<MaybeUninit<Runner>>,
}

/// The thread that runs a stolen job.
#[derive(Clone, Copy)]
pub(crate) struct Runner {
    pub(crate) slot: usize,
    /// The watermark of that thread's deque: jobs above it were pushed since the job began.
    pub(crate) mark: usize,
}

impl OfWorker {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            ending: Ending::new(),
            runner: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    fn runner(&self) -> Option<Runner> {
        // SAFETY: it was written before the job was published as begun, and is not written again.
        let read = |runner: *mut MaybeUninit<Runner>| unsafe { (*runner).assume_init() };
        self.ending.has_begun().then(|| self.runner.with_mut(read))
    }

    /// Blocks until the job has ended, on the owner's thread; `frame` is the frame that waits.
    #[cold]
    pub(crate) fn wait(&self, current: &Current, frame: *const ()) {
        let inner = current.inner();
        // Set when the oldest job belongs to a scope farther out. Each further claim of it would
        // cost two fences.
        let mut is_vain = false;
        // Takes a job that the runner has left on its deque.
        let mut leapfrog = || {
            let Some(runner) = self.runner().filter(|_| !is_vain) else {
                return Help::Nothing;
            };
            match current.leapfrog(runner.slot, runner.mark, || !self.ending.has_ended()) {
                Theft::Success(job) => {
                    let run = || job.run(current.context(), Place::Queue);
                    current.leave_to_loop(current.in_frame(frame, run));
                    return Help::Ran;
                }
                Theft::Unwanted => is_vain = true,
                Theft::Empty | Theft::Busy => {}
            }
            Help::Nothing
        };
        let ended = self.ending.for_owner(current.index());
        let waited = wait_until(inner, &[&ended], &mut leapfrog, Spin::Backoff, None);
        debug_assert_eq!(waited, Waited::Met);
    }
}

impl Completion for OfWorker {
    fn begin(&self, inner: &Inner) {
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
        self.ending.begin();
    }

    fn end(&self, inner: &Inner) {
        if let Some(slot) = self.ending.end() {
            inner.idle.unpark(slot);
        }
    }
}

/// The end of a job that a frame of a thread outside the pool waits for.
pub(crate) struct OfOther {
    thread: Thread,
    ending: Ending,
}

impl OfOther {
    /// Makes one for a frame of the calling thread.
    pub(crate) fn new() -> Self {
        Self {
            thread: thread::current(),
            ending: Ending::new(),
        }
    }

    /// Blocks until the job has ended, on the owner's thread. If that is another pool's thread, and
    /// this pool is starved, it runs the job itself, provided `take_back` returns it.
    pub(crate) fn wait(&self, inner: &Inner, take_back: impl Fn() -> Option<Job>) {
        let is_there = Cell::new(true);
        let mut run_it = IfStarved(
            || is_there.get(),
            || {
                let Some(job) = take_back() else {
                    is_there.set(false);
                    return Help::Nothing;
                };
                inner.check_drained(job.run(&JobContext::elsewhere(inner), Place::Queue));
                Help::Ran
            },
        );
        // The frame holds the thread to unpark, so the slot is irrelevant.
        let ended = self.ending.for_owner(0);
        let waited = wait_until(inner, &[&ended], &mut run_it, Spin::Adaptive, None);
        debug_assert_eq!(waited, Waited::Met);
    }
}

impl Completion for OfOther {
    fn end(&self, _: &Inner) {
        if let Some(thread) = self.ending.end_with(|| self.thread.clone()) {
            thread.unpark();
        }
    }
}

/// The count of jobs that a frame waits for.
pub(crate) struct Countdown {
    owner: Owner,
    tally: Tally,
    /// The number of jobs of this frame in the side list. Changed under the list's lock.
    pub(crate) side_list: AtomicUsize,
}

impl Countdown {
    /// Makes one for a frame of the calling thread, which waits for no job yet.
    #[inline]
    pub(crate) fn new(inner: &Inner, current: Option<&Current>) -> Self {
        Self {
            owner: Owner::new(inner, current),
            tally: Tally::new(),
            side_list: AtomicUsize::new(0),
        }
    }

    /// Whether the thread of this slot is the owner.
    #[inline]
    pub(crate) fn is_of(&self, slot: Option<usize>) -> bool {
        matches!(self.owner, Owner::Worker(owner) if Some(owner) == slot)
    }

    /// Whether the owner polls the side list while it waits: it is a worker of this pool, or of
    /// another one.
    pub(crate) fn takes_from_side(&self) -> bool {
        match self.owner {
            Owner::Worker(_) => true,
            Owner::Other { is_worker, .. } => is_worker,
        }
    }

    /// Counts one more job. `slot` is the calling thread's.
    #[inline]
    pub(crate) fn begin(&self, slot: Option<usize>) {
        if self.is_of(slot) {
            self.tally.begin_near();
        } else {
            self.tally.begin_far();
        }
    }

    /// Counts a job as ended. The frame may be gone when this returns.
    #[inline]
    pub(crate) fn end(&self, inner: &Inner, slot: Option<usize>) {
        if self.is_of(slot) {
            self.tally.end_near();
        } else {
            self.end_elsewhere(inner);
        }
    }

    /// Counts a job as ended on another thread than the owner's.
    #[inline(never)]
    fn end_elsewhere(&self, inner: &Inner) {
        match &self.owner {
            &Owner::Worker(owner) => {
                if self.tally.end_far() {
                    inner.idle.unpark(owner);
                }
            }
            Owner::Other { thread, .. } => {
                if let Some(thread) = self.tally.end_far_with(|| thread.clone()) {
                    thread.unpark();
                }
            }
        }
    }

    /// Unparks a parked owner, because a job of this frame was put into the side list.
    pub(crate) fn notified_of_side(&self, inner: &Inner) {
        if self.tally.is_awaited() {
            match &self.owner {
                &Owner::Worker(owner) => inner.idle.unpark(owner),
                Owner::Other { thread, .. } => thread.unpark(),
            }
        }
    }

    /// Blocks until no job is left, on the owner's thread. If the owner is a worker, `own` holds
    /// it, and the watermark above which its own jobs are.
    #[inline]
    pub(crate) fn wait(&self, inner: &Inner, own: Option<(&Current, usize)>) {
        if !self.tally.is_met() {
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
        // A worker polls for jobs between spins.
        let spin = own.map_or(Spin::Adaptive, |_| Spin::Backoff);
        let waited = wait_until(inner, &[&self.tally], &mut runs_own, spin, None);
        debug_assert_eq!(waited, Waited::Met);
    }

    fn is_of_a_worker(&self) -> bool {
        matches!(self.owner, Owner::Worker(_))
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
    fn run_stolen(&mut self, current: &Current) -> Help {
        if self.is_vain {
            return Help::Nothing;
        }
        match current.take_back(current.frame()) {
            Theft::Success(job) => {
                current.leave_to_loop(job.run(current.context(), Place::Queue));
                Help::Ran
            }
            Theft::Unwanted => {
                self.is_vain = true;
                Help::Nothing
            }
            Theft::Empty | Theft::Busy => Help::Nothing,
        }
    }
}

impl Assist for RunsOwn<'_> {
    fn help(&mut self, is_starved: bool) -> Help {
        let mut has_run = false;
        while self.run_one(is_starved) {
            has_run = true;
            if self.countdown.tally.is_met() {
                return Help::Ran;
            }
        }
        match self.own {
            _ if has_run => Help::Ran,
            Some((current, _)) => self.run_stolen(current),
            None => Help::Nothing,
        }
    }

    fn has_work(&self, is_starved: bool) -> bool {
        let is_its_turn = self.countdown.is_of_a_worker() || is_starved;
        is_its_turn && self.countdown.side_list.load(Ordering::Relaxed) != 0
    }
}
