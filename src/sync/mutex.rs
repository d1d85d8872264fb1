//! The lock of the library: a mutex with a rank, which ignores poison.
//!
//! No code of the pool panics while it holds a lock, and user code never runs under one: see
//! [`lock_order`](crate::sync::lock_order).

use std::{
    ops::{Deref, DerefMut},
    sync::{PoisonError, TryLockError},
    time::Duration,
};

use super::lock_order::{Held, Order, Rank};

#[cfg(loom)]
use loom::sync as system;
#[cfg(shuttle)]
use shuttle::sync as system;
#[cfg(not(any(loom, shuttle)))]
use std::sync as system;

#[cfg(not(loom))]
pub(crate) use system::Condvar;

/// A lock with its place in the order of all locks.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    order: Order,
    mutex: system::Mutex<T>,
}

/// Must be dropped on the thread that acquired it.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: system::MutexGuard<'a, T>,
    held: Held,
}

impl<T> Mutex<T> {
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        Self {
            order: Order::new(rank),
            mutex: system::Mutex::new(value),
        }
    }

    #[cfg(any(loom, shuttle))]
    pub(crate) fn new(rank: Rank, value: T) -> Self {
        Self {
            order: Order::new(rank),
            mutex: system::Mutex::new(value),
        }
    }

    pub(crate) fn into_inner(self) -> T {
        let value = self.mutex.into_inner();
        value.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Locks.
#[cfg_attr(all(any(test, debug_assertions), not(loom)), track_caller)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.order.check();
    #[cfg(all(test, not(loom)))]
    super::poison::poison(&mutex.mutex);
    let guard = mutex.mutex.lock().unwrap_or_else(PoisonError::into_inner);
    MutexGuard {
        guard,
        held: mutex.order.held(),
    }
}

/// As `lock`, unless another thread holds the lock.
#[cfg_attr(all(any(test, debug_assertions), not(loom)), track_caller)]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    #[cfg(all(test, not(loom)))]
    super::poison::poison(&mutex.mutex);
    let guard = match mutex.mutex.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    Some(MutexGuard {
        guard,
        held: mutex.order.held(),
    })
}

/// Waits for a notification about what the mutex protects. The lock counts as held meanwhile.
#[cfg(not(loom))]
pub(crate) fn wait<'a, T>(news: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let MutexGuard { guard, held } = guard;
    let guard = news.wait(guard).unwrap_or_else(PoisonError::into_inner);
    MutexGuard { guard, held }
}

/// As `wait`, for at most the timeout.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn wait_timeout<'a, T>(
    news: &Condvar,
    _: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
) -> MutexGuard<'a, T> {
    let MutexGuard { guard, held } = guard;
    let (guard, _) = news
        .wait_timeout(guard, timeout)
        .unwrap_or_else(PoisonError::into_inner);
    MutexGuard { guard, held }
}

/// shuttle's own wait never times out. This one always ends, by its timeout or spuriously.
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
