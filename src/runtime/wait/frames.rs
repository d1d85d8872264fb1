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
//! cloned before the decrement, when the bit is observed, and the decrement succeeds only if the
//! word has not changed since. The words are in `countdown.rs`, with their models.
//!
//! # Why these waits cannot deadlock
//!
//! A worker that waits in a frame runs the structured jobs that were pushed on its own deque since
//! the frame began: they are the frame's own, or of a frame nested in it that has ended (a push for
//! any other frame goes elsewhere: see `scope.rs`). And it *leapfrogs* the thief of what it waits
//! for, as below. It takes nothing else. So nothing that it runs can depend on what the waiting
//! frame holds, unless the program's own nesting makes it so.
//!
//! Suppose that some workers are blocked for ever. Take one, X, which is blocked in a frame for a
//! job k. X has run what was on its own deque. So k is running on another worker Y, or lies in Y's
//! deque, below the watermark of every frame on Y's stack (above it, Y would run it). In the second
//! case Y had k before it began the job y that it runs now from its loop, since a worker inside of
//! a job takes nothing into its deque for which others wait. (In rayon's waits this argument does
//! not hold.) In both cases the last job that Y has begun, at the top of its stack, began after the
//! one at the top of X's, of which k is a descendant. If Y is blocked too, that job waits for a
//! descendant of its own, on a worker whose last job began still later. A chain of ever later
//! beginnings cannot come back to X, and it is finite; its last worker is not blocked in such a
//! wait. So that worker runs on, and the chain unwinds. (What lies in an injector or in the side
//! list is taken by a worker that is blocked in nothing, or by a spare thread in the place of a
//! blocked one; and the job that a worker of another pool waits for, by that worker itself if there
//! is neither: see `starvation.rs`. What users do to each other with locks, channels and handles is
//! theirs.)
//!
//! # Leapfrogging
//!
//! A thread that waits for what another one runs takes work from that one, for the same end (Wagner
//! and Calder, 1993). It takes only jobs for which a frame on that thread waits, on top of what it
//! waits for itself: they end before that does. What is not wanted any more when it is claimed is
//! given back. Searchers may have missed it meanwhile, as they miss what another searcher has
//! claimed; but a leapfrogging thread is no searcher, so it checks again for them.
//!
//! **A half of a join.** The thread that begins it writes its own index and its deque's watermark
//! into the frame. What lies above that watermark was pushed since, on top of the half. It is taken
//! only if the half has not ended when it is claimed: what that thread pushes later, for others,
//! comes after the end, which is observed then.
//!
//! **A scope.** A thief that has stolen jobs of it, and had none of its own, publishes the scope as
//! its deque's *steal origin*, and clears that before its loop runs anything else than what lies in
//! that deque. Meanwhile it pushes there jobs of this scope, and of frames on its own stack, on top
//! of one of them; those of scopes farther out go elsewhere. A job is taken only if the scope is
//! still the steal origin when it is claimed: what the thief pushes for others comes after it has
//! cleared that. The scope's own jobs need no such proof, and come in batches.
//!
//! While a worker runs what it has taken so, the frame that waits is still its nearest one: a scope
//! farther out gets nothing on this deque.

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
    /// A thread of the pool.
    Seat(usize),
    Other {
        thread: Thread,
        /// It is another pool's, which may have to run these jobs itself: see `starvation.rs`.
        is_worker: bool,
    },
}

impl Owner {
    #[inline]
    fn new(inner: &Inner, current: Option<&Current>) -> Self {
        match current {
            Some(current) => Owner::Seat(current.index()),
            None => Owner::Other {
                thread: thread::current(),
                is_worker: worker::is_of_another(inner),
            },
        }
    }
}

/// The end of one job, for the frame that waits for it.
pub(crate) trait Completion {
    /// The job begins, on another thread than its frame's.
    fn begin(&self, _: &Inner) {}

    /// The job has ended. After it, the frame may be gone.
    fn end(&self, inner: &Inner);
}

/// For a frame of a thread of the pool. The thread is written only when it is about to park: most
/// of these jobs are never stolen.
pub(crate) struct OfWorker {
    ending: Ending,
    /// The thread that runs it, when it has begun elsewhere.
    runner: UnsafeCell<MaybeUninit<Runner>>,
}

/// The thread that runs a stolen job.
#[derive(Clone, Copy)]
pub(crate) struct Runner {
    pub(crate) slot: usize,
    /// What lies above it in that thread's deque was pushed since the job began.
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

    /// Waits for the end, on the owner's thread; `frame` is the one that waits.
    #[cold]
    pub(crate) fn wait(&self, current: &Current, frame: *const ()) {
        let inner = current.inner();
        // A job of a scope farther out lies in front. To claim it again would cost two fences each
        // time.
        let mut is_vain = false;
        // The thread that runs the job leaves others on its deque.
        let mut leapfrog = || {
            let Some(runner) = self.runner().filter(|_| !is_vain) else {
                return Help::Nothing;
            };
            match current.leapfrog(runner.slot, runner.mark, || !self.ending.has_ended()) {
                Theft::Success(job) => {
                    current.in_frame(frame, || job.run(current.context(), Place::Queue));
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
            // SAFETY: the job is ours, and no thread reads this before it is published as begun.
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

/// For a frame of another thread than the pool's.
pub(crate) struct OfOther {
    thread: Thread,
    ending: Ending,
}

impl OfOther {
    /// For a frame of the calling thread.
    pub(crate) fn new() -> Self {
        Self {
            thread: thread::current(),
            ending: Ending::new(),
        }
    }

    /// Waits for the end, on the owner's thread. If that is another pool's, and this one is
    /// starved, it runs the job itself, if `take_back` still gives it.
    pub(crate) fn wait(&self, inner: &Inner, take_back: impl Fn() -> Option<Job>) {
        let is_there = Cell::new(true);
        let mut run_it = IfStarved(
            || is_there.get(),
            || {
                let Some(job) = take_back() else {
                    is_there.set(false);
                    return Help::Nothing;
                };
                job.run(&JobContext::elsewhere(inner), Place::Queue);
                // No worker of its pool becomes idle after it.
                inner.check_drained();
                Help::Ran
            },
        );
        // The frame tells which thread is to be unparked.
        let ended = self.ending.for_owner(0);
        let waited = wait_until(inner, &[&ended], &mut run_it, Spin::Adaptive, None);
        debug_assert_eq!(waited, Waited::Met);
    }
}

impl Completion for OfOther {
    fn end(&self, _: &Inner) {
        if let Some(thread) = self.ending.end_telling(|| self.thread.clone()) {
            thread.unpark();
        }
    }
}

/// Counts the jobs that a frame waits for.
pub(crate) struct Countdown {
    owner: Owner,
    tally: Tally,
    /// How many jobs of this frame are in the side list. Changed under the list's lock.
    pub(crate) side_list: AtomicUsize,
}

impl Countdown {
    /// For a frame of the calling thread, which waits for no job yet.
    #[inline]
    pub(crate) fn new(inner: &Inner, current: Option<&Current>) -> Self {
        Self {
            owner: Owner::new(inner, current),
            tally: Tally::new(),
            side_list: AtomicUsize::new(0),
        }
    }

    /// Whether the owner is this slot.
    #[inline]
    pub(crate) fn is_of(&self, slot: Option<usize>) -> bool {
        matches!(self.owner, Owner::Seat(owner) if Some(owner) == slot)
    }

    /// Whether the owner polls the side list while it waits: it is a worker of this pool, or of
    /// another.
    pub(crate) fn takes_from_side(&self) -> bool {
        match self.owner {
            Owner::Seat(_) => true,
            Owner::Other { is_worker, .. } => is_worker,
        }
    }

    /// One more job. `slot` is the calling thread's.
    #[inline]
    pub(crate) fn begin(&self, slot: Option<usize>) {
        if self.is_of(slot) {
            self.tally.begin_near();
        } else {
            self.tally.begin_far();
        }
    }

    /// A job has ended. After it, the frame may be gone.
    #[inline]
    pub(crate) fn end(&self, inner: &Inner, slot: Option<usize>) {
        if self.is_of(slot) {
            self.tally.end_near();
        } else {
            self.end_elsewhere(inner);
        }
    }

    /// The same on another thread than the owner's.
    #[inline(never)]
    fn end_elsewhere(&self, inner: &Inner) {
        match &self.owner {
            &Owner::Seat(owner) => {
                if self.tally.end_far() {
                    inner.idle.unpark(owner);
                }
            }
            Owner::Other { thread, .. } => {
                if let Some(thread) = self.tally.end_far_telling(|| thread.clone()) {
                    thread.unpark();
                }
            }
        }
    }

    /// A job of this frame was put into the side list: if the owner is parked, it is to run it.
    pub(crate) fn notified_of_side(&self, inner: &Inner) {
        if self.tally.is_awaited() {
            match &self.owner {
                &Owner::Seat(owner) => inner.idle.unpark(owner),
                Owner::Other { thread, .. } => thread.unpark(),
            }
        }
    }

    /// Waits until no job is left, on the owner's thread. `own` is the owner, if it is a worker,
    /// and the watermark above which its own jobs lie.
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
        // A worker polls for jobs that it may run meanwhile.
        let spin = own.map_or(Spin::Adaptive, |_| Spin::Backoff);
        let waited = wait_until(inner, &[&self.tally], &mut runs_own, spin, None);
        debug_assert_eq!(waited, Waited::Met);
    }

    fn is_of_a_worker(&self) -> bool {
        matches!(self.owner, Owner::Seat(_))
    }
}

/// The owner of a frame runs the frame's own jobs.
struct RunsOwn<'a> {
    countdown: &'a Countdown,
    inner: &'a Inner,
    own: Option<(&'a Current<'a>, usize)>,
    /// What was claimed in the deques of others was not wanted, and would not be again.
    is_vain: bool,
}

impl RunsOwn<'_> {
    /// Runs one job that was pushed above the watermark, or lies in the side list.
    #[inline]
    fn run_one(&mut self, is_starved: bool) -> bool {
        if let Some((current, mark)) = self.own {
            let local = current.local();
            if local.is_some_and(|local| local.run_structured(mark, current.context())) {
                return true;
            }
        }
        // What is in the list is for the workers of this pool, unless there are none.
        self.has_work(is_starved) && self.run_of_side_list()
    }

    fn run_of_side_list(&mut self) -> bool {
        // The thread may have parked since it stole in vain.
        self.is_vain = false;
        let Some(job) = self.inner.queue.take_from_side_of(self.countdown) else {
            return false;
        };
        job.run(&JobContext::here(self.inner), Place::Queue);
        // The thread may be another pool's, or with rayon: no worker of its pool becomes idle after
        // it.
        self.inner.check_drained();
        true
    }

    /// Runs a job of the frame that a thief has in its deque.
    fn run_stolen(&mut self, current: &Current) -> Help {
        if self.is_vain {
            return Help::Nothing;
        }
        match current.take_back(current.frame()) {
            Theft::Success(job) => {
                job.run(current.context(), Place::Queue);
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
