//! Catching panics of user code that no caller can receive.

use std::{
    any::Any,
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::sync::lock_order::assert_none_held;

/// Runs user code, and drops the payload if it panics.
pub(crate) fn quietly(f: impl FnOnce()) {
    assert_none_held();
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        drop_payload(payload);
    }
}

/// Drops a panic payload. If that panics too, the new payload is leaked: dropping it may panic
/// again without end.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    assert_none_held();
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        mem::forget(second);
    }
}

/// A value whose drop must not panic, since it may happen while another panic is under way.
pub(crate) struct DroppedQuietly<T>(ManuallyDrop<T>);

impl<T> DroppedQuietly<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and not used again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Drop for DroppedQuietly<T> {
    fn drop(&mut self) {
        // SAFETY: the value is not used again.
        let value = unsafe { ManuallyDrop::take(&mut self.0) };
        quietly(move || drop(value));
    }
}
