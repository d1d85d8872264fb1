//! The list of one process. A forked child begins with an empty one: the parent's entries concern
//! none of the child's threads, and its lock may be held for ever.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use super::Starvation;
use crate::sync::process;

struct OfProcess {
    number: usize,
    starvation: Starvation,
    /// The parent's list. A thread of the parent may have held its lock, so it is left as it is.
    /// This pointer only keeps leak checkers from reporting it.
    _parents: *mut OfProcess,
}

/// Returns the list of this process.
pub(crate) fn of_process() -> &'static Starvation {
    static LIST: AtomicPtr<OfProcess> = AtomicPtr::new(ptr::null_mut());
    let number = process::number();
    loop {
        let at = LIST.load(Ordering::Acquire);
        // SAFETY: a published list is never freed.
        match unsafe { at.as_ref() } {
            Some(of_process) if of_process.number == number => return &of_process.starvation,
            _ => {}
        }
        let own = Box::into_raw(Box::new(OfProcess {
            number,
            starvation: Starvation::new(),
            _parents: at,
        }));
        let published = LIST.compare_exchange(at, own, Ordering::AcqRel, Ordering::Relaxed);
        if published.is_err() {
            // SAFETY: no other thread has observed it.
            drop(unsafe { Box::from_raw(own) });
        }
    }
}
