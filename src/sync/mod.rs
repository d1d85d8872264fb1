//! The primitives under the pool: std's; loom's in a model; shuttle's where the whole pool is
//! explored.
//!
//! loom can explore a module that takes its atomics, locks and threads from here; any other module
//! is left out of loom builds. shuttle runs the whole pool on one thread of the system. So all code
//! of the pool blocks, reads the time, and keeps thread-local values through this module only.

#[macro_use]
mod mutants;

pub(crate) mod asymmetric;
pub(crate) mod backoff;
pub(crate) mod lock_order;
mod mutex;
#[cfg(all(test, not(loom)))]
mod poison;
pub(crate) mod process;
#[cfg(shuttle)]
pub mod simulated;
pub(crate) mod slots;
pub(crate) mod unwind;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(shuttle))]
pub(crate) use std::time::Instant;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    thread, thread_local,
};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use ::{crossbeam_deque, rayon_core};

#[cfg(not(loom))]
pub(crate) use self::mutex::{Condvar, wait, wait_timeout};
pub(crate) use self::{
    lock_order::Rank,
    mutex::{Mutex, MutexGuard, lock, try_lock},
};

#[cfg(shuttle)]
pub(crate) use crate::sync::simulated::{
    deques as crossbeam_deque,
    locals::thread_local,
    rayon as rayon_core,
    time::{Instant, thread},
};

/// Parking for models. loom's own `unpark` also wakes a thread that is blocked in a lock or a join,
/// and is no point at which loom switches threads. Its `park` never wakes spuriously.
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

    /// Never times out: a model has no timeouts.
    pub(crate) fn park_timeout(_: Duration) {
        park();
    }
}

/// An `UnsafeCell` with loom's closure interface, so that loom observes every access.
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

/// Adds one to a counter that only the calling thread writes: a plain load and a plain store.
#[inline(always)]
pub(crate) fn bump(counter: &AtomicU64) {
    // Release, so that a reader that acquires the count also observes what was done before it.
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Release,
    );
}
