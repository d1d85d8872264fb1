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
//! the decrement; whom to wake is read before it. A seat's thread is found through the pool, which
//! outlives its threads' stacks. Another thread's handle is cloned before the decrement, when the
//! waiting bit is seen, and the decrement succeeds only if that has not changed.
//!
//! # Why these waits cannot deadlock
//!
//! A worker that waits in a frame runs the structured jobs that were pushed on its own deque since
//! the frame began: they are the frame's own, or of a frame nested in it that has ended (a push for
//! any other frame goes elsewhere: see `scope.rs`). It takes nothing else, so nothing it runs can
//! depend on what the waiting frame holds, unless the program's own nesting makes it so.
//!
//! Suppose that some workers are blocked for ever. Take one, X, blocked in a frame for a job k. As X
//! has run what was on its own deque, k is running on another worker Y, or lies in Y's deque, below
//! the mark of every frame on Y's stack (above it, Y would run it). In the second case Y had k
//! before it began the job y that it runs now from its loop, since a worker that is inside of a job
//! takes nothing from others (but strays of its own frame; and in rayon's waits, where this argument
//! does not hold). In both cases y began after X began its own job x, of which k is a
//! descendant. If y is blocked too, it waits for a descendant of its own, on a worker whose job began
//! still later. A chain of ever later beginnings cannot come back to X, and it is finite; its last
//! worker is not blocked in such a wait. So it runs on, and the chain unwinds. (What is in an
//! injector or in the list of strays is taken by a worker that is blocked in nothing, or by a spare thread in the place of
//! one that is; and what a worker of another pool waits for, by that worker itself if there is neither: see
//! `stuck.rs`. What users do to each other with locks, channels and handles is theirs.)

use std::{
    cell::Cell,
    sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    thread::{self, Thread},
};

use crossbeam_utils::Backoff;

use crate::{
    inner::Inner,
    job::Job,
    site::Site,
    stuck::{self, Blocked},
    worker::{self, Current},
};

/// One job, in the units of `far`; the bit below says that the owner is about to block.
const JOB: u64 = 2;
const WAITING: u64 = 1;

/// Whose frame it is.
enum Owner {
    /// A thread of the pool.
    Seat(usize),
    Other {
        thread: Thread,
        /// It is another pool's, which may have to run these jobs itself: see `stuck.rs`.
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
pub(crate) struct Completion {
    owner: Owner,
    state: AtomicU8,
}

const UNDER_WAY: u8 = 0;
const AWAITED: u8 = 1;
const ENDED: u8 = 2;

impl Completion {
    /// For a frame of the calling thread.
    #[inline]
    pub(crate) fn new(inner: &Inner, current: Option<&Current>) -> Self {
        Self {
            owner: Owner::new(inner, current),
            state: AtomicU8::new(UNDER_WAY),
        }
    }

    /// The job has ended. After it, the frame may be gone.
    pub(crate) fn end(&self, inner: &Inner) {
        // Release: who sees the end sees what the job did. Acquire: for who wakes.
        let end = || self.state.swap(ENDED, Ordering::AcqRel) == AWAITED;
        match &self.owner {
            &Owner::Seat(owner) => {
                if end() {
                    inner.sleep.unpark(owner);
                }
            }
            Owner::Other { thread, .. } => {
                let thread = thread.clone();
                if end() {
                    thread.unpark();
                }
            }
        }
    }

    /// Waits for the end, on the owner's thread. If that is another pool's, and this one is stuck, it
    /// runs the job itself, if `take_back` still gives it.
    #[cold]
    pub(crate) fn wait(&self, inner: &Inner, take_back: impl Fn() -> Option<Job>) {
        let has_ended = || self.state.load(Ordering::Acquire) == ENDED;
        let backoff = Backoff::new();
        while !has_ended() && !backoff.is_completed() {
            backoff.snooze();
        }
        // Fails if it has ended.
        let _ =
            self.state
                .compare_exchange(UNDER_WAY, AWAITED, Ordering::Relaxed, Ordering::Relaxed);
        let is_there = Cell::new(true);
        while stuck::block(inner, None, has_ended, || is_there.get()) == Blocked::Stuck {
            match take_back() {
                Some(job) => {
                    job.run(&Site { inner, seat: None }, true);
                    // No worker of its pool runs dry after it.
                    inner.look_if_drained();
                }
                None => is_there.set(false),
            }
        }
    }
}

/// Counts the jobs that a frame waits for.
pub(crate) struct Countdown {
    owner: Owner,
    /// Written by the owner alone.
    near: AtomicU64,
    far: AtomicU64,
    /// How many jobs of this frame are in the list of strays. Changed under its lock.
    pub(crate) strays: AtomicUsize,
}

impl Countdown {
    /// For a frame of the calling thread, which waits for no job yet.
    #[inline]
    pub(crate) fn new(inner: &Inner, current: Option<&Current>) -> Self {
        Self {
            owner: Owner::new(inner, current),
            near: AtomicU64::new(0),
            far: AtomicU64::new(0),
            strays: AtomicUsize::new(0),
        }
    }

    /// Whether the owner is this seat.
    #[inline]
    pub(crate) fn is_of(&self, seat: Option<usize>) -> bool {
        matches!(self.owner, Owner::Seat(owner) if Some(owner) == seat)
    }

    /// Whether the owner looks for strays while it waits: it is a worker of this pool, or of another.
    pub(crate) fn takes_strays(&self) -> bool {
        match self.owner {
            Owner::Seat(_) => true,
            Owner::Other { is_worker, .. } => is_worker,
        }
    }

    #[inline]
    fn add_near(&self, n: u64) {
        let near = self.near.load(Ordering::Relaxed);
        self.near.store(near.wrapping_add(n), Ordering::Relaxed);
    }

    /// One more job. `seat` is the calling thread's.
    #[inline]
    pub(crate) fn begin(&self, seat: Option<usize>) {
        if self.is_of(seat) {
            self.add_near(JOB);
        } else {
            // Relaxed: the caller is in a job of the frame, or in its body, so it is not zero.
            self.far.fetch_add(JOB, Ordering::Relaxed);
        }
    }

    /// A job has ended. After it, the frame may be gone.
    #[inline]
    pub(crate) fn end(&self, inner: &Inner, seat: Option<usize>) {
        if self.is_of(seat) {
            self.add_near(JOB.wrapping_neg());
            return;
        }
        match &self.owner {
            &Owner::Seat(owner) => {
                // Release: who sees the count sees what the job did. Acquire: for who wakes.
                if self.far.fetch_sub(JOB, Ordering::AcqRel) == JOB | WAITING {
                    inner.sleep.unpark(owner);
                }
            }
            Owner::Other { thread, .. } => {
                let mut far = self.far.load(Ordering::Relaxed);
                loop {
                    let wake = (far == JOB | WAITING).then(|| thread.clone());
                    match self.far.compare_exchange_weak(
                        far,
                        far.wrapping_sub(JOB),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => {
                            if let Some(thread) = wake {
                                thread.unpark();
                            }
                            return;
                        }
                        Err(now) => far = now,
                    }
                }
            }
        }
    }

    /// Whether no job is left. For the owner.
    #[inline]
    fn is_zero(&self) -> bool {
        let near = self.near.load(Ordering::Relaxed);
        self.far.load(Ordering::Acquire).wrapping_add(near) == 0
    }

    /// A stray of this frame was put into the list: if the owner is blocked, it is to run it.
    pub(crate) fn told_of_stray(&self, inner: &Inner) {
        // Pairs with the fence in `block`: we see that the owner is about to block, or it sees the
        // stray.
        fence(Ordering::SeqCst);
        if self.far.load(Ordering::Relaxed) & WAITING != 0 {
            match &self.owner {
                &Owner::Seat(owner) => inner.sleep.unpark(owner),
                Owner::Other { thread, .. } => thread.unpark(),
            }
        }
    }

    /// Waits until no job is left, on the owner's thread. `own` says where its own jobs are, if it
    /// is a worker.
    pub(crate) fn wait(&self, inner: &Inner, own: Option<(&Current, usize)>) {
        let backoff = Backoff::new();
        // What is its own is for the workers of this pool, unless there are none.
        let mut is_stuck = false;
        while !self.is_zero() {
            if self.run_own(inner, own, is_stuck) {
                backoff.reset();
            } else if backoff.is_completed() {
                is_stuck = self.block(inner) == Blocked::Stuck;
                backoff.reset();
            } else {
                backoff.snooze();
            }
        }
    }

    /// Runs one job that was pushed above the mark, or a stray.
    #[inline]
    fn run_own(&self, inner: &Inner, own: Option<(&Current, usize)>, is_stuck: bool) -> bool {
        if let Some((current, mark)) = own {
            let local = current.local();
            if local.is_some_and(|local| local.run_structured(mark, &current.site())) {
                return true;
            }
        }
        if self.strays.load(Ordering::Relaxed) == 0 || !(self.is_of_a_seat() || is_stuck) {
            return false;
        }
        let Some(job) = inner.queue.take_stray_of(self) else {
            return false;
        };
        let seat = worker::seat_in(inner);
        job.run(&Site { inner, seat }, true);
        // The thread may be another pool's, or with rayon: no worker of its pool runs dry after it.
        inner.look_if_drained();
        true
    }

    fn is_of_a_seat(&self) -> bool {
        matches!(self.owner, Owner::Seat(_))
    }

    /// Blocks until there may be a reason to look again.
    #[cold]
    fn block(&self, inner: &Inner) -> Blocked {
        let near = self.near.swap(0, Ordering::Relaxed);
        // AcqRel: as in `end` and `is_zero`.
        self.far
            .fetch_add(near.wrapping_add(WAITING), Ordering::AcqRel);
        // Pairs with the fence in `told_of_stray`.
        fence(Ordering::SeqCst);
        let has_strays = || self.strays.load(Ordering::Relaxed) != 0;
        let done = || {
            self.far.load(Ordering::Acquire) & !WAITING == 0
                || (self.is_of_a_seat() && has_strays())
        };
        let blocked = stuck::block(inner, None, done, has_strays);
        self.far.fetch_sub(WAITING, Ordering::AcqRel);
        blocked
    }
}
