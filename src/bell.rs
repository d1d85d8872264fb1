//! What a consumer waits at for the next result.
//!
//! Who leaves a result looks afterwards whether somebody waits; who is about to wait says so, and looks once
//! more for a result. With a fence between the two on both sides, one of them sees the other.

#[cfg(all(test, loom))]
mod model;

use crate::{
    fence,
    sync::{
        AtomicBool, Mutex, Ordering, lock,
        thread::{self, Thread},
    },
};

pub(crate) struct Bell {
    is_awaited: AtomicBool,
    /// Who waits, or was the last who did.
    waiter: Mutex<Option<Thread>>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self {
            is_awaited: AtomicBool::new(false),
            waiter: Mutex::new(None),
        }
    }

    /// A result was left.
    #[inline]
    pub(crate) fn ring(&self) {
        // Pairs with the heavy fence in `wait`: we see that somebody waits, or he sees the result.
        if cfg!(not(mutant = "bell_no_fence_ring")) {
            fence::light();
        }
        if self.is_awaited.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if let Some(waiter) = &*lock(&self.waiter) {
            waiter.unpark();
        }
    }

    /// Runs `park`, which looks for a result, and parks the calling thread until there is one, or for as
    /// long as it likes. Who leaves one meanwhile unparks it. One thread waits at a bell.
    pub(crate) fn wait<R>(&self, park: impl FnOnce() -> R) -> R {
        *lock(&self.waiter) = Some(thread::current());
        if cfg!(not(mutant = "bell_deaf")) {
            self.is_awaited.store(true, Ordering::Relaxed);
        }
        // Pairs with the light fence in `ring`.
        if cfg!(not(mutant = "bell_no_fence_wait")) {
            fence::heavy();
        }
        let result = park();
        self.is_awaited.store(false, Ordering::Relaxed);
        result
    }
}
