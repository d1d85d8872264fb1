//! The primitives that the pool stands on: std's, or loom's when a model runs.
//!
//! A module that takes its atomics, locks and threads from here can be explored by loom as it is;
//! one that does not is left out of loom builds.

#[cfg(all(test, not(loom)))]
mod poison;

use std::sync::TryLockError;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
};
pub(crate) use std::time::Instant;
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread, thread_local,
};

#[cfg(not(loom))]
pub(crate) use ::rayon_core;

/// Parking for models. loom's own `unpark` also wakes a thread that is blocked in a lock or a join,
/// and is no point at which another thread may come in between; and its `park` never wakes by itself.
#[cfg(loom)]
pub(crate) mod thread {
    use std::sync::Arc;

    use loom::sync::Notify;
    pub(crate) use loom::thread::{spawn, yield_now};

    loom::thread_local! {
        static TOKEN: Arc<Notify> = Arc::new(Notify::new());
    }

    #[derive(Debug, Clone)]
    pub(crate) struct Thread(Arc<Notify>);

    impl Thread {
        pub(crate) fn unpark(&self) {
            self.0.notify();
        }
    }

    pub(crate) fn current() -> Thread {
        Thread(TOKEN.with(Arc::clone))
    }

    pub(crate) fn park() {
        TOKEN.with(|token| token.wait());
    }
}

/// An `UnsafeCell` with loom's closure interface, so that loom can see every access.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Locks, and takes no notice of poison: nothing of ours can panic while it holds a lock, and user
/// code never runs under one.
#[cfg_attr(all(test, not(loom)), track_caller)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(all(test, not(loom)))]
    poison::poison(mutex);
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// As `lock`, unless somebody has the lock.
#[cfg_attr(all(test, not(loom)), track_caller)]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    #[cfg(all(test, not(loom)))]
    poison::poison(mutex);
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Adds one to a counter that only the calling thread writes: a plain load and a plain store.
#[inline(always)]
pub(crate) fn bump(counter: &AtomicU64) {
    // Release, so that a reader that acquires the count also sees what was done before it.
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Release,
    );
}
