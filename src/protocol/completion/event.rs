//! What a consumer waits at for the next result.
//!
//! Who leaves a result looks afterwards whether somebody waits for it; who is about to wait says so, and looks once
//! more for the result. With a fence between the two on both sides, one of them sees the other.
//!
//! Who wakes the consumer takes back what he has said: until he runs many items may end, and one wake-up is
//! enough. If he finds nothing then, he says it again before he looks again. In order he waits for one
//! result, and no other wakes him.
//!
//! A consumer that leaves says that in the same word, and looks for results once more after a fence. So each result
//! that it does not see there is left by a thread that is told by [`Event::notify`] that the consumer has left.

#[cfg(all(test, loom))]
mod model;

use crate::sync::{
    AtomicUsize, Mutex, Ordering,
    asymmetric::Fences,
    lock,
    thread::{self, Thread},
};

/// A result's number among all that there are at a time: [`FIRST`] or more.
pub(crate) type Mark = usize;

/// Nobody waits.
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
    /// Who waits, or was the last who did.
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

    /// This result was left. Returns whether the consumer has left, and may not have seen the result.
    #[inline]
    #[must_use]
    pub(crate) fn notify(&self, mark: Mark) -> bool {
        // Pairs with the heavy fences in `say` and `leave`: we see what the consumer says, or it sees the result.
        if cfg!(not(mutant = "bell_no_fence_ring")) {
            self.fences.light();
        }
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited == mark || awaited == ANY {
            self.wake(awaited);
        }
        awaited == LEFT
    }

    /// The consumer leaves. It sees what was left before this, of which nobody else may know that it has left.
    pub(crate) fn leave(&self) {
        self.awaited.store(LEFT, Ordering::Relaxed);
        // Pairs with the light fence in `notify`.
        if cfg!(not(mutant = "bell_no_fence_leave")) {
            self.fences.heavy();
        }
    }

    #[cold]
    fn wake(&self, awaited: Mark) {
        if cfg!(mutant = "bell_take_back_late") {
            self.unpark();
        }
        // Whoever takes it back wakes him, and not before: what he says when he has looked again is to stay. If he
        // has said the same again meanwhile, he is woken for nothing.
        let taken_back =
            self.awaited
                .compare_exchange(awaited, NONE, Ordering::Relaxed, Ordering::Relaxed);
        if taken_back.is_ok() && cfg!(not(mutant = "bell_take_back_late")) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(waiter) = &*lock(&self.waiter) {
            waiter.unpark();
        }
    }

    /// Runs `park`, which parks the calling thread until the result of this mark is there, or for as long as it likes.
    /// Before each look for it, it calls what it is given. Who leaves the result meanwhile unparks the thread.
    /// One thread waits at a event.
    pub(crate) fn wait<R>(&self, mark: Mark, park: impl FnOnce(&dyn Fn()) -> R) -> R {
        *lock(&self.waiter) = Some(thread::current());
        let result = park(&|| self.say(mark));
        self.awaited.store(NONE, Ordering::Relaxed);
        result
    }

    /// Says what is waited for, if that was not said or was taken back.
    fn say(&self, mark: Mark) {
        if self.awaited.load(Ordering::Relaxed) == mark {
            return;
        }
        if cfg!(not(mutant = "bell_deaf")) {
            self.awaited.store(mark, Ordering::Relaxed);
        }
        // Pairs with the light fence in `notify`.
        if cfg!(not(mutant = "bell_no_fence_wait")) {
            self.fences.heavy();
        }
    }
}
