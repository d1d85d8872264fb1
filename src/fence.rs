//! A pair of fences of which the frequent side is free.
//!
//! Two threads that each write one word and then read the other's need a full fence between the two
//! on both sides; only then at least one of them sees the other. If one side does it a thousand times
//! for once of the other, the system can do the fence for both: Linux's `membarrier` makes every
//! running thread of the process pass one while it is called, and one that does not run passes one
//! when it is scheduled. So [`light`] only keeps the compiler from reordering, and [`heavy`], some
//! 0.3 to 2 microseconds, is the fence of both. A `heavy` is paired with lights, and with heavies;
//! two lights are no pair.
//!
//! Where `membarrier` is missing, and in models, both are plain fences. So no model can tell that two
//! lights were taken for a pair; each use names its partner.

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
pub(crate) use self::linux::{Light, heavy, light, prepare};
#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
pub(crate) use self::plain::{Light, heavy, light, prepare};

#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
mod plain {
    use crate::sync::{Ordering, fence};

    pub(crate) fn prepare() {}

    /// Never free.
    #[derive(Clone, Copy)]
    pub(crate) struct Light;

    impl Light {
        pub(crate) const NEVER: Self = Self;

        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn is_free(self) -> bool {
            false
        }
    }

    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
mod linux {
    use std::{
        sync::{
            Once,
            atomic::{AtomicBool, Ordering, compiler_fence, fence},
        },
        thread,
        time::Duration,
    };

    /// Commands of the system call: `linux/membarrier.h`.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    /// Whether the system does the fence for both. Set before the first light, if at all.
    static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// Whether there may still be lights that are no fences: for a while longer than `ASYMMETRIC`.
    static ONE_SIDED: AtomicBool = AtomicBool::new(false);

    /// To be called before the threads are started that use these fences.
    pub(crate) fn prepare() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let registered = membarrier(REGISTER_PRIVATE_EXPEDITED);
            // Relaxed: the Once orders it before all that follows.
            ASYMMETRIC.store(registered, Ordering::Relaxed);
            ONE_SIDED.store(registered, Ordering::Relaxed);
        });
    }

    /// The side that happens often.
    #[inline(always)]
    pub(crate) fn light() {
        if !Light(&ASYMMETRIC).is_free() {
            // Not in a function of its own, though it is nearly never called: every call of what is around it would
            // save the registers for that.
            fence(Ordering::SeqCst);
        }
    }

    /// The same, if it is free. Kept where a compiler does not see that it is always the same address: it would
    /// hold that in a register from one fence to the next, which every call of a recursion had to save.
    #[derive(Clone, Copy)]
    pub(crate) struct Light(&'static AtomicBool);

    impl Light {
        /// One that is not free, whatever the system does.
        pub(crate) const NEVER: Self = Self(&NEVER);

        pub(crate) fn new() -> Self {
            Self(&ASYMMETRIC)
        }

        /// A fence, if it costs nothing. If not, false, and there was none.
        #[inline(always)]
        pub(crate) fn is_free(self) -> bool {
            let is_free = self.0.load(Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            is_free
        }
    }

    /// The side that happens seldom.
    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
        // Acquire: who sees that there are none any more comes after the time that `do_without` waits.
        if ONE_SIDED.load(Ordering::Acquire) && !membarrier(PRIVATE_EXPEDITED) {
            do_without();
        }
    }

    /// The process has taken the call away from itself (a system call filter can do that). From now
    /// on lights are fences. Those that are under way are not, and nothing orders them but time: a
    /// store leaves its processor within a microsecond. Every heavy waits for that, until one has.
    #[cold]
    fn do_without() {
        ASYMMETRIC.store(false, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
        fence(Ordering::SeqCst);
        ONE_SIDED.store(false, Ordering::Release);
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: this system call reads and writes no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}
