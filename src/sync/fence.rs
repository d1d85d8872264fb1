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
//! A process may take `membarrier` foreign_stack from itself. So each light looks first whether it is to be a fence. A thread
//! that has no time for that *pledges* to say when it is done with such lights, which are [`free`]. As long as
//! one is pledged that came before the loss, every heavy waits until the stores have left their processors by themselves.
//!
//! Where `membarrier` is missing, and in models, both are plain fences. So no model can tell that two
//! lights were taken for a pair; each use names its partner.

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
pub(crate) use self::linux::{end_pledge, free, heavy, light, pledge, prepare};
#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
pub(crate) use self::plain::{end_pledge, free, heavy, light, pledge, prepare};

#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
mod plain {
    use crate::sync::{Ordering, fence};

    pub(crate) fn prepare() {}

    /// No light is free.
    pub(crate) fn pledge() -> bool {
        false
    }

    pub(crate) fn end_pledge() {}

    pub(crate) fn free() {
        light();
    }

    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    /// Dear in models alone, so that they do what is done where it is.
    pub(crate) fn heavy() -> bool {
        fence(Ordering::SeqCst);
        cfg!(any(loom, shuttle))
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
mod linux {
    use std::{
        sync::{
            Once,
            atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence},
        },
        thread,
        time::Duration,
    };

    /// Commands of the system call: `linux/membarrier.h`.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    /// Whether the system does the fence for both. Set before the first light, if at all.
    static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

    /// Whether there may still be lights that are no fences: for longer than `ASYMMETRIC`.
    static ONE_SIDED: AtomicBool = AtomicBool::new(false);

    /// How many threads have pledged.
    static PLEDGES: AtomicUsize = AtomicUsize::new(0);

    /// To be called before the threads are started that use these fences.
    pub(crate) fn prepare() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let registered = membarrier(REGISTER_PRIVATE_EXPEDITED);
            // Relaxed: the Once orders it before all that leapfrogs.
            ASYMMETRIC.store(registered, Ordering::Relaxed);
            ONE_SIDED.store(registered, Ordering::Relaxed);
        });
    }

    /// The side that happens often.
    #[inline(always)]
    pub(crate) fn light() {
        if ASYMMETRIC.load(Ordering::Relaxed) {
            free();
        } else {
            // Not in a function of its own, though it is nearly never called: every call of what is around it would
            // save the registers for that.
            fence(Ordering::SeqCst);
        }
    }

    /// The same for a thread that has pledged.
    #[inline(always)]
    pub(crate) fn free() {
        compiler_fence(Ordering::SeqCst);
    }

    /// From now on, until `end_pledge`, the lights of the calling thread may be free. False if they may not.
    pub(crate) fn pledge() -> bool {
        // Pairs with `do_without`: we see that there are none any more, or it sees our pledge.
        PLEDGES.fetch_add(1, Ordering::SeqCst);
        let may_be_free = ASYMMETRIC.load(Ordering::SeqCst);
        if !may_be_free {
            end_pledge();
        }
        may_be_free
    }

    /// The calling thread's lights are not free any more.
    pub(crate) fn end_pledge() {
        // Release: who counts it no more sees what came before its lights.
        PLEDGES.fetch_sub(1, Ordering::Release);
    }

    /// The side that happens seldom. Returns whether it was dear, more than a fence.
    pub(crate) fn heavy() -> bool {
        fence(Ordering::SeqCst);
        // Acquire: who sees that there are none any more comes after the time that `do_without` waits.
        let is_expensive = ONE_SIDED.load(Ordering::Acquire);
        if is_expensive && !membarrier(PRIVATE_EXPEDITED) {
            do_without();
        }
        is_expensive
    }

    /// The process has taken the call foreign_stack from itself (a system call filter can do that). From now
    /// on lights are fences. Those that are under way are not, nor are those of who has pledged, and nothing orders
    /// them but time: a store leaves its processor within a microsecond. Every heavy waits for that, until one
    /// has when nobody was pledged.
    #[cold]
    fn do_without() {
        ASYMMETRIC.store(false, Ordering::SeqCst);
        let pledges = PLEDGES.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
        fence(Ordering::SeqCst);
        if pledges == 0 {
            ONE_SIDED.store(false, Ordering::Release);
        }
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: this system call reads and writes no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}
