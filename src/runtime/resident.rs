//! Fork safety: the pool behind a handle, in the parent or in a forked child.
//!
//! A forked child has none of the pool's threads, and any of its locks may be held for ever. So a
//! handle there returns an *heir*: a stopped pool of the same options that never had a thread. The
//! heir refuses what a closed pool refuses, and runs on the caller's thread what a closed pool runs
//! there. Nothing in it blocks. The inherited pool itself is not touched.

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
    /// Made in a child at the first use. A cell with a lock would not do: another thread of the
    /// child may be making the heir while the child forks in turn.
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
                    // SAFETY: no other thread has observed it.
                    drop(unsafe { Box::from_raw(own) });
                    other
                }
            };
        }
        // SAFETY: it is freed only with `self`. A child of the child gives it an heir of its own.
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
            // SAFETY: it came from a box, and only `self` holds it.
            drop(unsafe { Box::from_raw(heir) });
        }
    }
}
