//! Jobs that run inline: on the stack of whoever brought them, on top of each other.
//!
//! A chain of jobs each of which brings the next must need no more stack than a few of them. So when many are on
//! top of each other, the next is left for the outermost, which runs it before it returns. A scope that is opened
//! inside of such a job waits for its own jobs before that returns; so it opens a *level*, in which the count begins anew: what is
//! left within it is run within it.

use std::{cell::Cell, collections::VecDeque, mem::ManuallyDrop};

use crate::{inner::Inner, job::Job, site::Site};

/// How many inline jobs may be on top of each other. By feel: with this many, the jobs' own frames
/// are what a stack has to be made for.
const DEPTH: usize = if cfg!(shuttle) { 2 } else { 16 };

/// A job, and its pool: on a thread that is no pool's, those of several may be on top of each other.
type LeftJob = (*const Inner, Job);

/// Not dropped with what it lies in, so that a thread's own can be asked for to its very end: the outermost job drops it.
type Left = Option<ManuallyDrop<Box<VecDeque<LeftJob>>>>;

/// The inline jobs on one thread's stack, as far as the innermost level.
pub(crate) struct Nesting {
    depth: Cell<usize>,
    /// What is left for the outermost of them.
    left: Cell<Left>,
}

impl Nesting {
    pub(crate) const fn new() -> Self {
        Self {
            depth: Cell::new(0),
            left: Cell::new(None),
        }
    }

    /// Calls `f` with what is left.
    fn with_left<R>(&self, f: impl FnOnce(&mut VecDeque<LeftJob>) -> R) -> R {
        let mut left = self.left.take().unwrap_or_default();
        let result = f(&mut left);
        self.left.set(Some(left));
        result
    }

    /// Whether the next job is to be left for the outermost. If that has many already, it is not: a queue has to be bounded.
    #[inline]
    pub(crate) fn is_deep(&self) -> bool {
        self.depth.get() >= DEPTH && self.with_left(|left| left.len() < DEPTH)
    }

    /// Leaves a job for the outermost. To be called when it `is_deep`.
    ///
    /// # Safety
    /// The pool, whose job it is, is there until it has run.
    pub(crate) unsafe fn leave(&self, pool: &Inner, job: Job) {
        self.with_left(|left| left.push_back((pool, job)));
    }

    /// Runs an inline job, which does not unwind. If it is the outermost, also those that were left for it.
    #[inline]
    pub(crate) fn run(&self, run: impl FnOnce()) {
        let depth = self.depth.get();
        self.depth.set(depth + 1);
        run();
        if depth == 0 {
            let left = self.left.take();
            if left.is_some() {
                self.left.set(left);
                self.run_left();
            }
        }
        self.depth.set(depth);
    }

    #[cold]
    fn run_left(&self) {
        while let Some((pool, job)) = self.with_left(VecDeque::pop_front) {
            // SAFETY: who has left it sees to that.
            job.run(&Site::here(unsafe { &*pool }), false);
        }
        drop(self.left.take().map(ManuallyDrop::into_inner));
    }

    /// Runs `f`, which waits for the jobs that it brings, on a level of its own.
    #[inline]
    pub(crate) fn level<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.depth.get() == 0 {
            return f();
        }
        let _outer = Outer {
            nesting: self,
            depth: self.depth.replace(0),
            left: Cell::new(self.left.take()),
        };
        f()
    }
}

/// What was outside of a level, and is again when this is dropped.
struct Outer<'a> {
    nesting: &'a Nesting,
    depth: usize,
    left: Cell<Left>,
}

impl Drop for Outer<'_> {
    fn drop(&mut self) {
        self.nesting.depth.set(self.depth);
        self.nesting.left.set(self.left.take());
    }
}
