//! The process number: a number that differs in a forked child.
//!
//! A child has one thread, and none of a pool's. Locks that other threads held at the fork are held
//! there for ever. So whatever is kept for the whole process, or was built before the fork, has the
//! number of its process. A thread that finds another number leaves such a thing alone, and makes
//! its own: see [`PerProcess`]. Reading the number takes one load; the process's own id takes a
//! system call.

#[cfg(not(any(loom, shuttle)))]
use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

#[cfg(not(all(unix, not(any(loom, miri, shuttle)))))]
pub(crate) use self::alone::{number, watch};
#[cfg(all(unix, not(any(loom, miri, shuttle))))]
pub(crate) use self::unix::{number, watch};

/// A value of the process. A forked child begins with a new one: the parent's concerns none of the
/// child's threads, and its locks may be held for ever.
#[cfg(not(any(loom, shuttle)))]
pub(crate) struct PerProcess<T>(AtomicPtr<OfProcess<T>>);

#[cfg(not(any(loom, shuttle)))]
struct OfProcess<T> {
    number: usize,
    value: T,
    /// The parent's value. A thread of the parent may have held its lock, so it is left as it is.
    /// This pointer only keeps leak checkers from reporting it.
    _parents: *mut OfProcess<T>,
}

#[cfg(not(any(loom, shuttle)))]
impl<T: Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns the value of this process. `make` makes it if there is none.
    pub(crate) fn get(&'static self, make: fn() -> T) -> &'static T {
        let number = number();
        loop {
            let at = self.0.load(Ordering::Acquire);
            // SAFETY: a published value is never freed.
            match unsafe { at.as_ref() } {
                Some(of_process) if of_process.number == number => return &of_process.value,
                _ => {}
            }
            let own = Box::into_raw(Box::new(OfProcess {
                number,
                value: make(),
                _parents: at,
            }));
            let published = self
                .0
                .compare_exchange(at, own, Ordering::AcqRel, Ordering::Relaxed);
            if published.is_err() {
                // SAFETY: no other thread has observed it.
                drop(unsafe { Box::from_raw(own) });
            }
        }
    }
}

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

    /// Runs in the parent, on the thread that forks. Waits until no thread is initializing what is
    /// initialized once for the process: in the child no thread would complete it.
    unsafe extern "C" fn before() {
        if let Some(settle) = SETTLE.get() {
            settle();
        }
    }

    /// Runs in the child, where little more is allowed.
    unsafe extern "C" fn in_child() {
        NUMBER.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts forks from now on. `settle` runs before each, and waits until nothing is being
    /// initialized. Called before there is a pool, or anything that is kept for the process.
    pub(crate) fn watch(settle: fn()) {
        // If it is set, an earlier call has passed the same function.
        let _ = SETTLE.set(settle);
        // Not a `Once`: in a child, no thread may be left to complete it. Two threads may both get
        // here. A fork then counts twice, which gives another number as well.
        if !IS_WATCHED.load(Ordering::Acquire) {
            // SAFETY: the handlers exist as long as the program does, and do not unwind.
            let failed = unsafe { pthread_atfork(Some(before), None, Some(in_child)) };
            IS_WATCHED.store(failed == 0, Ordering::Release);
        }
    }

    /// Returns the number of this process.
    #[inline]
    pub(crate) fn number() -> usize {
        NUMBER.load(Ordering::Relaxed)
    }
}
