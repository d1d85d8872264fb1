//! Waiting for structured jobs: those of a scope, the other half of a join, an installed closure.
//!
//! # The countdown
//!
//! A frame on somebody's stack, the *owner's*, waits until a count of jobs is zero. What the owner
//! itself begins and ends is counted in `near`, by plain stores. What other threads begin and end is
//! counted in `far`, which may go below zero; the sum is the count. Only the owner can form it, and
//! while it runs nobody else needs to. When it is about to block it moves `near` into `far`, together
//! with a bit that says so. From then on who brings the count in `far` to zero wakes it.
//!
//! The frame may be gone as soon as the owner can see a count of zero. So the last access to it is
//! the decrement; whom to wake is read before it. A slot's thread is found through the pool, which
//! outlives its threads' stacks. Another thread's handle is cloned before the decrement, when the
//! waiting bit is seen, and the decrement succeeds only if that has not changed. The words themselves are
//! in `countdown.rs`, where models explore them.
//!
//! # Why these waits cannot deadlock
//!
//! A worker that waits in a frame runs the structured jobs that were pushed on its own deque since
//! the frame began: they are the frame's own, or of a frame nested in it that has ended (a push for
//! any other frame goes elsewhere: see `scope.rs`). And it *leapfrogs* who has stolen what it waits for, below. It takes
//! nothing else, so nothing it runs can depend on what the waiting frame holds, unless the program's own nesting
//! makes it so.
//!
//! Suppose that some workers are blocked for ever. Take one, X, blocked in a frame for a job k. As X
//! has run what was on its own deque, k is running on another worker Y, or lies in Y's deque, below
//! the mark of every frame on Y's stack (above it, Y would run it). In the second case Y had k
//! before it began the job y that it runs now from its loop, since a worker that is inside of a job
//! takes nothing into its deque for which others wait (in rayon's waits this argument does not hold). In both cases the
//! last job that Y has begun, at the top of its stack, began after the one at the top of X's, of which k is a descendant.
//! If Y is blocked too, that job waits for a descendant of its own, on a worker whose last job began still later. A
//! chain of ever later beginnings cannot come back to X, and it is finite; its last worker is not blocked in such a wait.
//! So it runs on, and the chain unwinds. (What is in an
//! injector or in the list of side_list is taken by a worker that is blocked in nothing, or by a spare thread in the place of
//! one that is; and what a worker of another pool waits for, by that worker itself if there is neither: see
//! `starvation.rs`. What users do to each other with locks, channels and handles is theirs.)
//!
//! # Whom a worker leapfrogs
//!
//! Who waits for what another thread runs takes work from that one, for the same end. (This is leapfrogging: Wagner and
//! Calder, 1993.) It takes only jobs for which a frame on that thread waits, on top of what is waited for itself: they
//! end before that does. What is not wanted when it is claimed is given back. Others may have missed it meanwhile, as
//! they do what a searcher has claimed; but whoever leapfrogs is no searcher, and looks again for them.
//!
//! **A half of a join.** Who begins it writes into its frame which thread he is, and his deque's mark. What lies above
//! that mark was pushed since, on top of the half. It is taken only if the half has not ended when it is claimed already:
//! what that thread pushes later, for others, comes after the end, which is seen then.
//!
//! **A scope.** Who has stolen jobs of it, when he had none of his own, says in his deque that he *serves* it, and takes
//! that back before his loop runs anything else than what lies in that deque. Meanwhile he pushes there jobs of this
//! scope, and of frames on his own stack, on top of one of them; those of scopes farther out go elsewhere. A job
//! is taken only if he serves the scope when it is claimed already: what he pushes for others comes after he has taken
//! that back. The scope's own jobs need no such proof, and come in batches.
//!
//! While a worker runs what it has taken so, the frame that waits is still its nearest one: a scope farther out gets
//! nothing on this deque.

use std::{cell::Cell, mem::MaybeUninit};

use crate::{
    protocol::{
        completion::countdown::{Ending, Tally},
        deque::Theft,
    },
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Job, Place},
        wait::{
            spin::linger,
            starvation::{self, Blocked},
        },
        worker::{self, Current},
    },
    sync::{
        AtomicUsize, Ordering, UnsafeCell,
        backoff::Backoff,
        thread::{self, Thread},
    },
};

/// Whose frame it is.
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

/// For a frame of a thread of the pool. Which one is written only when it is about to block: most of these
/// jobs are never stolen.
pub(crate) struct OfWorker {
    ending: Ending,
    /// Who runs it, when it has begun elsewhere.
    runner: UnsafeCell<MaybeUninit<Runner>>,
}

/// Who runs a stolen job.
#[derive(Clone, Copy)]
pub(crate) struct Runner {
    pub(crate) slot: usize,
    /// What lies above it in his deque was pushed since he began.
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
        // SAFETY: it was written before the job was said to have begun, and is not written again.
        let read = |runner: *mut MaybeUninit<Runner>| unsafe { (*runner).assume_init() };
        self.ending.has_begun().then(|| self.runner.with_mut(read))
    }

    /// Waits for the end, on the owner's thread; `frame` is the one that waits.
    #[cold]
    pub(crate) fn wait(&self, current: &Current, frame: *const ()) {
        let inner = current.inner();
        self.leapfrog(current, frame);
        self.ending.await_end(current.index());
        let has_ended = || self.ending.has_ended();
        // Only a thread of another pool is told that this one is starvation.
        let end = starvation::block(inner, None, has_ended, || false);
        debug_assert_eq!(end, Blocked::Done);
    }

    /// Runs what whoever runs the job leaves to others, until it has ended, or nothing has come for a short while.
    fn leapfrog(&self, current: &Current, frame: *const ()) {
        let is_due = || !self.ending.has_ended();
        let mut backoff = Backoff::new();
        while is_due() {
            match self
                .runner()
                .map_or(Theft::Empty, |runner| current.leapfrog(runner, is_due))
            {
                Theft::Success(job) => {
                    current.in_frame(frame, || job.run(current.context(), Place::Queue));
                    backoff.reset();
                }
                // A job of a scope farther out lies in front. It would cost two fences each time.
                Theft::Unwanted => return,
                Theft::Empty | Theft::Busy if backoff.snooze() => {}
                Theft::Empty | Theft::Busy => return,
            }
        }
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
            // SAFETY: the job is ours, and nobody reads this before it is said to have begun.
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

    /// Waits for the end, on the owner's thread. If that is another pool's, and this one is starvation, it
    /// runs the job itself, if `take_back` still gives it.
    pub(crate) fn wait(&self, inner: &Inner, take_back: impl Fn() -> Option<Job>) {
        linger(None, || self.ending.has_ended());
        // The frame tells who is to be woken.
        self.ending.await_end(0);
        let has_ended = || self.ending.has_ended();
        let is_there = Cell::new(true);
        while starvation::block(inner, None, has_ended, || is_there.get()) == Blocked::Starved {
            match take_back() {
                Some(job) => {
                    job.run(&JobContext::elsewhere(inner), Place::Queue);
                    // No worker of its pool runs dry after it.
                    inner.check_drained();
                }
                None => is_there.set(false),
            }
        }
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
    /// How many jobs of this frame are in the list of side_list. Changed under its lock.
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

    /// Whether the owner looks for side_list while it waits: it is a worker of this pool, or of another.
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

    /// A side_entry of this frame was put into the list: if the owner is blocked, it is to run it.
    pub(crate) fn notified_of_side(&self, inner: &Inner) {
        if self.tally.is_awaited() {
            match &self.owner {
                &Owner::Seat(owner) => inner.idle.unpark(owner),
                Owner::Other { thread, .. } => thread.unpark(),
            }
        }
    }

    /// Waits until no job is left, on the owner's thread. `own` says where its own jobs are, if it
    /// is a worker.
    pub(crate) fn wait(&self, inner: &Inner, own: Option<(&Current, usize)>) {
        // A worker looks for jobs that it may run meanwhile.
        if own.is_none() {
            linger(None, || self.tally.is_zero());
        }
        let mut backoff = Backoff::new();
        // What is its own is for the workers of this pool, unless there are none.
        let mut is_starved = false;
        let mut leapfrogs = false;
        // Whether to look into the deques of others. If what was claimed was not wanted, it would be for nothing again.
        let mut looks = true;
        while !self.tally.is_zero() {
            if let Some((current, _)) = own {
                if leapfrogs {
                    inner.timing.next_follows(current.slots().times);
                } else {
                    inner.timing.next_does_not_follow(current.slots().times);
                }
            }
            leapfrogs = self.run_own(inner, own, is_starved);
            if let (Some((current, _)), false) = (own, leapfrogs) {
                if looks {
                    match current.take_back(current.frame()) {
                        Theft::Success(job) => {
                            job.run(current.context(), Place::Queue);
                            leapfrogs = true;
                        }
                        Theft::Unwanted => looks = false,
                        Theft::Empty | Theft::Busy => {}
                    }
                }
            }
            if leapfrogs {
                backoff.reset();
            } else if !(own.is_some() && backoff.snooze()) {
                is_starved = self.block(inner) == Blocked::Starved;
                looks = true;
                backoff.reset();
            }
        }
    }

    /// Runs one job that was pushed above the mark, or a side_entry.
    #[inline]
    fn run_own(&self, inner: &Inner, own: Option<(&Current, usize)>, is_starved: bool) -> bool {
        if let Some((current, mark)) = own {
            let local = current.local();
            if local.is_some_and(|local| local.run_structured(mark, current.context())) {
                return true;
            }
        }
        if self.side_list.load(Ordering::Relaxed) == 0 || !(self.is_of_a_worker() || is_starved) {
            return false;
        }
        let Some(job) = inner.queue.take_from_side_of(self) else {
            return false;
        };
        job.run(&JobContext::here(inner), Place::Queue);
        // The thread may be another pool's, or with rayon: no worker of its pool runs dry after it.
        inner.check_drained();
        true
    }

    fn is_of_a_worker(&self) -> bool {
        matches!(self.owner, Owner::Seat(_))
    }

    /// Blocks until there may be a reason to look again.
    #[cold]
    fn block(&self, inner: &Inner) -> Blocked {
        let has_strays = || self.side_list.load(Ordering::Relaxed) != 0;
        let done = || self.tally.has_ended() || (self.is_of_a_worker() && has_strays());
        self.tally
            .block(|| starvation::block(inner, None, done, has_strays))
    }
}
