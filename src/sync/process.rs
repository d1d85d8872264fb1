//! Which process this is: a number that is another one in a forked child.
//!
//! A child has one thread, and none of a pool's. Locks that others held when it was made are held there for ever. So whatever
//! is kept for the whole process, or was built before the fork, has the number of its process: and a thread that comes across
//! another number leaves it alone, and makes its own. To read the number takes one load; the process's own id takes a
//! system call.

#[cfg(not(all(unix, not(any(loom, miri, shuttle)))))]
pub(crate) use self::alone::{number, watch};
#[cfg(all(unix, not(any(loom, miri, shuttle))))]
pub(crate) use self::unix::{number, watch};

#[cfg(not(all(unix, not(any(loom, miri, shuttle)))))]
mod alone {
    pub(crate) fn watch(_: fn()) {}

    pub(crate) fn number() -> usize {
        0
    }
}

#[cfg(all(unix, not(any(loom, miri, shuttle))))]
mod unix {
    use std::{
        ffi::c_int,
        sync::{
            OnceLock,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
    };

    type Handler = Option<unsafe extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    static SETTLE: OnceLock<fn()> = OnceLock::new();

    /// In the parent, on the thread that forks. What a thread may just be initializing, once for the process, is
    /// through: in the child nobody would go on with it.
    unsafe extern "C" fn before() {
        if let Some(settle) = SETTLE.get() {
            settle();
        }
    }

    /// In the child. It may do little more than that.
    unsafe extern "C" fn in_child() {
        NUMBER.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on forks are seen. `settle` runs before each, and waits until nothing is being initialized. To be called
    /// before there is a pool, or anything of its process.
    pub(crate) fn watch(settle: fn()) {
        // A call that finds it set passes the same function.
        let _ = SETTLE.set(settle);
        // Not a `Once`: in a child, nobody may be left to complete it. Two threads may both come to it, and a fork
        // then counts twice, which is another number as well.
        if !IS_WATCHED.load(Ordering::Acquire) {
            // SAFETY: the handlers are there as long as the program is, and do not unwind.
            let failed = unsafe { pthread_atfork(Some(before), None, Some(in_child)) };
            IS_WATCHED.store(failed == 0, Ordering::Release);
        }
    }

    /// The number of this process.
    #[inline]
    pub(crate) fn number() -> usize {
        NUMBER.load(Ordering::Relaxed)
    }
}
