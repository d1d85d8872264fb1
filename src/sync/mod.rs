//! The primitives that the pool stands on: std's, or loom's when a model runs, or shuttle's when the
//! whole pool is explored.
//!
//! A module that takes its atomics, locks and threads from here can be explored by loom as it is;
//! one that does not is left out of loom builds. shuttle runs the whole pool, on one thread of the
//! system, so that nothing in it may block, look at the time, or keep thread-local values but through here.

#[macro_use]
mod mutants;

pub(crate) mod asymmetric;
pub(crate) mod backoff;
#[cfg(all(test, not(loom)))]
mod poison;
pub(crate) mod process;
#[cfg(shuttle)]
pub mod simulated;
pub(crate) mod slots;
pub(crate) mod unwind;

use std::sync::TryLockError;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};
use std::time::Duration;
#[cfg(not(shuttle))]
pub(crate) use std::time::Instant;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread, thread_local,
};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use ::{crossbeam_deque, rayon_core};

#[cfg(shuttle)]
pub(crate) use crate::sync::simulated::{
    deques as crossbeam_deque,
    locals::thread_local,
    rayon as rayon_core,
    time::{Instant, thread},
};

/// Parking for models. loom's own `unpark` also wakes a thread that is blocked in a lock or a join,
/// and is no point at which another thread may come in between; and its `park` never wakes by itself.
#[cfg(loom)]
pub(crate) mod thread {
    use std::{sync::Arc, time::Duration};

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

    /// A model has no timeouts: this one does not end by its own.
    pub(crate) fn park_timeout(_: Duration) {
        park();
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
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
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

/// Waits for news of what the mutex protects, for so long at most.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn wait_timeout<'a, T>(
    news: &Condvar,
    _: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
) -> MutexGuard<'a, T> {
    news.wait_timeout(guard, timeout)
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .0
}

/// shuttle's wait never ends by its timeout; this one always does, or for no reason before that.
#[cfg(shuttle)]
pub(crate) fn wait_timeout<'a, T>(
    _: &Condvar,
    mutex: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
) -> MutexGuard<'a, T> {
    drop(guard);
    crate::sync::simulated::time::wait_some(timeout);
    lock(mutex)
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
