//! Asymmetric fences: a pair of which the frequent side is free.
//!
//! Two threads that each write one word and then read the other's need a full fence between the two
//! on both sides. Only then at least one of them observes the other's write. If one side runs a
//! thousand times for one of the other, the kernel can execute the fence for both: Linux's
//! `membarrier` makes every running thread of the process pass one during the call, and a thread
//! that does not run passes one when it is scheduled. So [`Fences::light`] only keeps the compiler
//! from reordering, and [`Fences::heavy`], some 0.3 to 2 microseconds, is the fence of both. A
//! `heavy` pairs with lights and with heavies; two lights are no pair.
//!
//! # The protocol
//!
//! **The kind of fence is a pool's, and never changes.** A pool decides when it is built, before it
//! has a thread: its fences are asymmetric if its options allow that and the kernel registers the
//! process for `membarrier`; otherwise both sides are plain fences. Every protocol object of the
//! pool keeps a copy. All pairs are between two uses of one pool's objects, so the two sides agree.
//! Pools of both kinds work side by side: neither reads what the other's fences order. A
//! registration is the process's and cannot be undone, and a pool with plain fences ignores it.
//!
//! **After the registration nothing takes the place of `membarrier`.** If a call fails, light
//! fences that ran before order nothing, and no later fence can mend that. So the process aborts,
//! with a message. Only a filter of system calls that is installed later brings that about; a host
//! that does so builds its pools without asymmetric fences.
//!
//! Where `membarrier` is missing, and in models, all fences are plain. So no model detects that two
//! lights were taken for a pair; each use names its partner.

use crate::sync::{Ordering, fence};

/// The fences of one pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fences {
    is_asymmetric: bool,
}

impl Fences {
    /// Plain fences on both sides.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self {
        is_asymmetric: false,
    };

    /// Decides the fences of a new pool: asymmetric if that is `allowed`, and the kernel supports
    /// it.
    pub(crate) fn new(allowed: bool) -> Self {
        Self {
            is_asymmetric: allowed && kernel::register(),
        }
    }

    /// The fence of the frequent side.
    #[inline(always)]
    pub(crate) fn light(self) {
        // In any case, so that the frequent kind is one branch without a jump back.
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        if !self.is_asymmetric {
            // Inline, although it rarely runs: for a call the surrounding function would save
            // registers.
            fence(Ordering::SeqCst);
        }
    }

    /// The fence of the rare side. Returns whether it cost more than a plain fence.
    pub(crate) fn heavy(self) -> bool {
        fence(Ordering::SeqCst);
        if self.is_asymmetric {
            kernel::fence_all_threads();
        }
        // Always true in models, so that they reach what depends on it.
        self.is_asymmetric || cfg!(any(loom, shuttle))
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
mod kernel {
    use std::{
        io::{self, Write},
        process,
    };

    /// Commands of the system call: `linux/membarrier.h`.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    /// Registers the process for `fence_all_threads`. Returns false if the kernel refuses.
    pub(super) fn register() -> bool {
        membarrier(REGISTER_PRIVATE_EXPEDITED)
    }

    /// Makes every running thread of the process, which is registered, pass a fence.
    pub(super) fn fence_all_threads() {
        if !membarrier(PRIVATE_EXPEDITED) {
            abort(&io::Error::last_os_error());
        }
    }

    #[cold]
    fn abort(error: &io::Error) -> ! {
        // If the message cannot be written, nothing changes.
        let _ = writeln!(
            io::stderr(),
            "adaptive-pool: the kernel took `membarrier` away after it had registered the process: \
             {error}. The threads of a pool cannot go on without it. If system calls are filtered \
             later than the pool is built, build it with `asymmetric_fences(false)`."
        );
        process::abort()
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: this system call neither reads nor writes memory of this process.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
mod kernel {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn fence_all_threads() {}
}
