//! The list of one process. A forked child begins with an empty one: what stood in the parent's concerns none of the
//! child's threads, and its lock may be held for ever.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use super::Starvation;
use crate::sync::process;

struct OfProcess {
    number: usize,
    starvation: Starvation,
    /// The parent's. A thread of the parent may have had it locked, so it is left as it is; this only keeps it from being
    /// taken for a leak.
    _parents: *mut OfProcess,
}

/// The list of this process.
pub(crate) fn of_process() -> &'static Starvation {
    static LIST: AtomicPtr<OfProcess> = AtomicPtr::new(ptr::null_mut());
    let number = process::number();
    loop {
        let at = LIST.load(Ordering::Acquire);
        // SAFETY: what was once published is never freed.
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
            // SAFETY: nobody else has seen it.
            drop(unsafe { Box::from_raw(own) });
        }
    }
}
