//! A value with two owners, on two threads mostly; the last to leave drops it.
//!
//! A flag is all that they share: nobody else can come to own it. Who leaves first sets it, by a read-modify-write
//! with which both would find out who was first; who finds it set has come last, and needs none.
//! `Arc` counts any number of owners, and needs five of these for two; each waits until what was written
//! before has got to memory that mostly was another thread's a moment ago.

#[cfg(all(test, loom))]
mod model;

use std::{marker::PhantomData, mem, ops::Deref, ptr::NonNull};

use crate::sync::{AtomicBool, Ordering};

/// One end of what two own.
pub(crate) struct Twin<T: ?Sized> {
    shared: NonNull<Shared<T>>,
    marker: PhantomData<Shared<T>>,
}

/// What two own.
pub(crate) struct Shared<T: ?Sized> {
    is_left: AtomicBool,
    value: T,
}

// SAFETY: both ends give out references to the value, and the last drops it, on whatever thread it is.
unsafe impl<T: ?Sized + Send + Sync> Send for Twin<T> {}
// SAFETY: as for Send.
unsafe impl<T: ?Sized + Send + Sync> Sync for Twin<T> {}

// What it points to stays where it is.
impl<T: ?Sized> Unpin for Twin<T> {}

impl<T> Twin<T> {
    /// Both ends.
    pub(crate) fn new(value: T) -> (Self, Self) {
        let shared = Box::new(Shared {
            is_left: AtomicBool::new(false),
            value,
        });
        let shared = NonNull::from(Box::leak(shared));
        let end = || Self {
            shared,
            marker: PhantomData,
        };
        (end(), end())
    }

    /// This end, with a type that tells less of the value.
    ///
    /// # Safety
    /// `unsize` gives back the pointer that it is given, coerced.
    pub(crate) unsafe fn coerce<U: ?Sized>(
        self,
        unsize: impl FnOnce(*mut Shared<T>) -> *mut Shared<U>,
    ) -> Twin<U> {
        let shared = unsize(self.shared.as_ptr());
        mem::forget(self);
        Twin {
            // SAFETY: it is not null, since it was not before.
            shared: unsafe { NonNull::new_unchecked(shared) },
            marker: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for Twin<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it is there until both ends are dropped, and nobody has it to himself before.
        unsafe { &self.shared.as_ref().value }
    }
}

impl<T: ?Sized> Drop for Twin<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `deref`.
        let is_left = unsafe { &self.shared.as_ref().is_left };
        // Acquire: who drops it sees what the other has done. Release: the other sees what we have.
        let acquire = if cfg!(mutant = "twin_relaxed_look") {
            Ordering::Relaxed
        } else {
            Ordering::Acquire
        };
        let is_last = is_left.load(acquire) || {
            if cfg!(mutant = "twin_torn_leave") {
                is_left.store(true, Ordering::Release);
                false
            } else {
                let order = if cfg!(mutant = "twin_relaxed_leave") {
                    Ordering::Relaxed
                } else {
                    Ordering::AcqRel
                };
                is_left.swap(true, order)
            }
        };
        if is_last {
            // SAFETY: it came from a box, and the other end is gone.
            drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_last_end_drops_the_value() {
        let value = Arc::new(7);
        for drop_first in [0, 1] {
            let (one, other) = Twin::new(Arc::clone(&value));
            let mut ends = [Some(one), Some(other)];
            ends[drop_first] = None;
            assert_eq!(Arc::strong_count(&value), 2);
            assert!(ends.iter().flatten().all(|end| ***end == 7));
            drop(ends);
            assert_eq!(Arc::strong_count(&value), 1);
        }
    }

    #[test]
    fn an_end_of_another_type_drops_it_as_well() {
        let value = Arc::new(7);
        let (one, other) = Twin::new(Arc::clone(&value));
        // SAFETY: it is coerced.
        let other = unsafe { other.coerce::<dyn Send + Sync>(|shared| shared) };
        drop(one);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(other);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
