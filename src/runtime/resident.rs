//! The pool that a handle stands for, in whichever process that is.
//!
//! In a forked child there is none of a pool's threads, and any of its locks may be held for ever. So what the
//! handle gives out there is an *heir*: a pool of the same options that has ended, and never had a thread. It
//! refuses what a closed pool refuses, does on the caller's thread what a closed pool does there, and
//! nothing in it waits. The pool itself is left as it is, and nothing of it is touched.

use std::{
    ops::Deref,
    ptr,
    sync::{
        Arc,
        // Not from `crate::sync`: no model forks.
        atomic::{AtomicPtr, Ordering},
    },
};

use crate::runtime::inner::Inner;

pub(crate) struct Resident {
    inner: Arc<Inner>,
    /// Made in a child, when it is first asked for. Not in a cell with a lock: another thread of that child may be making it
    /// while it forks in its turn.
    heir: AtomicPtr<Resident>,
}

impl Resident {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            heir: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[cold]
    fn heir(&self) -> &Arc<Inner> {
        let mut heir = self.heir.load(Ordering::Acquire);
        if heir.is_null() {
            let own = Box::into_raw(Box::new(Self::new(self.inner.heir())));
            let made = self.heir.compare_exchange(
                ptr::null_mut(),
                own,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            heir = match made {
                Ok(_) => own,
                Err(other) => {
                    // SAFETY: nobody else has seen it.
                    drop(unsafe { Box::from_raw(own) });
                    other
                }
            };
        }
        // SAFETY: it is freed with `self` alone. In a child of the child, it has an heir itself.
        unsafe { &*heir }
    }
}

impl Deref for Resident {
    type Target = Arc<Inner>;

    #[inline]
    fn deref(&self) -> &Arc<Inner> {
        if self.inner.is_inherited() {
            self.heir()
        } else {
            &self.inner
        }
    }
}

impl Clone for Resident {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inner))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let heir = *self.heir.get_mut();
        if !heir.is_null() {
            // SAFETY: it came from a box, and `self` alone has it.
            drop(unsafe { Box::from_raw(heir) });
        }
    }
}
