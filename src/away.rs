//! Which pools have jobs on the calling thread's stack that is not a thread of theirs: an inline job of a caller, or one that
//! a stuck pool left to another's worker. Asked by who shuts a pool down, and must not wait for the job that it is called from.

use std::{cell::RefCell, ptr};

use crate::sync::thread_local;

thread_local! {
    /// Addresses, not to be followed; one for each job.
    static POOLS: RefCell<Vec<*const ()>> = const { RefCell::new(Vec::new()) };
}

/// A job of this pool begins, on a thread that is not the pool's.
pub(crate) fn begin<P>(pool: &P) {
    // When a thread ends, it may be too late for that: then nobody asks, either.
    let _ = POOLS.try_with(|pools| pools.borrow_mut().push(address(pool)));
}

/// The one that began last has ended.
pub(crate) fn end() {
    let _ = POOLS.try_with(|pools| pools.borrow_mut().pop());
}

/// Whether a job of this pool is on the stack.
pub(crate) fn is_in_job_of<P>(pool: &P) -> bool {
    POOLS
        .try_with(|pools| pools.borrow().contains(&address(pool)))
        .unwrap_or(false)
}

fn address<P>(pool: &P) -> *const () {
    ptr::from_ref(pool).cast()
}
