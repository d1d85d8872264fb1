//! The event of a batch, on which its consumer waits for the next result.
//!
//! A worker that publishes a result checks afterwards whether the consumer waits for it. The
//! consumer announces what it waits for, and then checks once more for the result. With a fence
//! between the two on both sides, one of them observes the other.
//!
//! The worker that wakes the consumer takes the announcement back: many items may end before the
//! consumer runs, and one wake-up is enough. If the consumer then finds no result, it announces
//! again before it checks again. An ordered consumer waits for one result, and no other result
//! wakes it.
//!
//! A consumer that leaves publishes that in the same word, and checks for results once more after a
//! fence. So if it does not observe a result, the thread that published that result learns from
//! [`Event::notify`] that the consumer has left.

#[cfg(all(test, loom))]
mod model;

use std::cell::Cell;

use crate::{
    protocol::wait::{Condition, When},
    sync::{
        AtomicUsize, Mutex, Ordering, Rank,
        asymmetric::Fences,
        lock,
        thread::{self, Thread},
    },
};

/// Identifies a result among all that exist at a time: [`FIRST`] or more.
pub(crate) type Mark = usize;

/// The consumer does not wait.
const NONE: Mark = 0;
/// The consumer waits for any result.
pub(crate) const ANY: Mark = 1;
/// The consumer has left, and waits for nothing more.
const LEFT: Mark = 2;
/// The least mark of a result.
pub(crate) const FIRST: Mark = 3;

pub(crate) struct Event {
    /// The mark that the consumer waits for.
    awaited: AtomicUsize,
    /// The thread that waits, or was the last to wait.
    waiter: Mutex<Option<Thread>>,
    fences: Fences,
}

impl Event {
    pub(crate) fn new(fences: Fences) -> Self {
        Self {
            awaited: AtomicUsize::new(NONE),
            waiter: Mutex::new(Rank::BatchEvent, None),
            fences,
        }
    }

    /// Wakes the consumer if it waits for this result, which was published. Returns whether the
    /// consumer has left, and may not have observed the result.
    #[inline]
    #[must_use]
    pub(crate) fn notify(&self, mark: Mark) -> bool {
        // Pairs with the heavy fences in `announce` and `leave`: we see what it announces, or it
        // sees the result.
        unless_mutant!("event_no_fence_set", self.fences.light());
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited == mark || awaited == ANY {
            self.wake(awaited);
        }
        awaited == LEFT
    }

    /// Records that the consumer leaves. After it, the consumer observes every result whose thread
    /// may not learn of that.
    pub(crate) fn leave(&self) {
        self.awaited.store(LEFT, Ordering::Relaxed);
        // Pairs with the light fence in `notify`.
        unless_mutant!("event_no_fence_leave", self.fences.heavy());
    }

    #[cold]
    fn wake(&self, awaited: Mark) {
        if mutant!("event_withdraw_late") {
            self.unpark();
        }
        // The thread that takes the announcement back wakes the consumer, and not before: what the
        // consumer announces after its next check has to stay. If it has announced the same mark
        // again meanwhile, the wake-up is spurious.
        let taken_back =
            self.awaited
                .compare_exchange(awaited, NONE, Ordering::Relaxed, Ordering::Relaxed);
        if taken_back.is_ok() && !mutant!("event_withdraw_late") {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(waiter) = &*lock(&self.waiter) {
            waiter.unpark();
        }
    }

    /// Returns the consumer's condition that `is_there` holds. A result of this mark makes it true.
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

    /// Publishes what the consumer waits for, unless that is published already.
    fn announce(&self, mark: Mark) {
        if self.awaited.load(Ordering::Relaxed) == mark {
            return;
        }
        unless_mutant!(
            "event_wake_unseen",
            self.awaited.store(mark, Ordering::Relaxed)
        );
        // Pairs with the light fence in `notify`.
        unless_mutant!("event_no_fence_wait", self.fences.heavy());
    }
}
