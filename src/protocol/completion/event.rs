//! The event of a batch: where its consumer waits for the next result.
//!
//! A worker that leaves a result checks afterwards whether the consumer waits for it. The consumer
//! announces what it waits for, and then checks once more for the result. With a fence between the
//! two on both sides, one of them observes the other.
//!
//! The worker that wakes the consumer takes the announcement back: until the consumer runs many
//! items may end, and one wake-up is enough. If the consumer finds nothing then, it announces again
//! before it checks again. In order it waits for one result, and no other wakes it.
//!
//! A consumer that leaves publishes that in the same word, and checks for results once more after a
//! fence. So each result that it does not observe is left by a thread that learns from
//! [`Event::notify`] that the consumer has left.

#[cfg(all(test, loom))]
mod model;

use std::cell::Cell;

use crate::{
    protocol::wait::{Condition, When},
    sync::{
        AtomicUsize, Mutex, Ordering,
        asymmetric::Fences,
        lock,
        thread::{self, Thread},
    },
};

/// A result's number among all that there are at a time: [`FIRST`] or more.
pub(crate) type Mark = usize;

/// The consumer does not wait.
const NONE: Mark = 0;
/// Any result will do.
pub(crate) const ANY: Mark = 1;
/// Nothing more: the consumer has left.
const LEFT: Mark = 2;
/// The least that a result can have.
pub(crate) const FIRST: Mark = 3;

pub(crate) struct Event {
    /// What is waited for.
    awaited: AtomicUsize,
    /// The thread that waits, or was the last to wait.
    waiter: Mutex<Option<Thread>>,
    fences: Fences,
}

impl Event {
    pub(crate) fn new(fences: Fences) -> Self {
        Self {
            awaited: AtomicUsize::new(NONE),
            waiter: Mutex::new(None),
            fences,
        }
    }

    /// This result was left. Returns whether the consumer has left, and may not have seen the
    /// result.
    #[inline]
    #[must_use]
    pub(crate) fn notify(&self, mark: Mark) -> bool {
        // Pairs with the heavy fences in `announce` and `leave`: we see what it announces, or it
        // sees the result.
        unless_mutant!("bell_no_fence_ring", self.fences.light());
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited == mark || awaited == ANY {
            self.wake(awaited);
        }
        awaited == LEFT
    }

    /// The consumer leaves. It observes what was left before this by threads that may not learn
    /// that it has left.
    pub(crate) fn leave(&self) {
        self.awaited.store(LEFT, Ordering::Relaxed);
        // Pairs with the light fence in `notify`.
        unless_mutant!("bell_no_fence_leave", self.fences.heavy());
    }

    #[cold]
    fn wake(&self, awaited: Mark) {
        if mutant!("bell_take_back_late") {
            self.unpark();
        }
        // The thread that takes it back wakes the consumer, and not before: what that announces
        // after its next check is to stay. If it has announced the same again meanwhile, it is
        // woken for nothing.
        let taken_back =
            self.awaited
                .compare_exchange(awaited, NONE, Ordering::Relaxed, Ordering::Relaxed);
        if taken_back.is_ok() && !mutant!("bell_take_back_late") {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(waiter) = &*lock(&self.waiter) {
            waiter.unpark();
        }
    }

    /// That `is_there` holds, which a result of this mark makes true: for the consumer.
    pub(crate) fn awaited<'a>(
        &'a self,
        mark: Mark,
        is_there: impl Fn() -> bool + 'a,
    ) -> impl Condition + 'a {
        let is_enrolled = Cell::new(false);
        let announce = move || {
            if !is_enrolled.replace(true) {
                *lock(&self.waiter) = Some(thread::current());
            }
            self.announce(mark);
        };
        let withdraw = || self.awaited.store(NONE, Ordering::Relaxed);
        When(is_there, announce, withdraw)
    }

    /// Publishes what is waited for, unless it still is published.
    fn announce(&self, mark: Mark) {
        if self.awaited.load(Ordering::Relaxed) == mark {
            return;
        }
        unless_mutant!("bell_deaf", self.awaited.store(mark, Ordering::Relaxed));
        // Pairs with the light fence in `notify`.
        unless_mutant!("bell_no_fence_wait", self.fences.heavy());
    }
}
