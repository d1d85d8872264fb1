//! Stack room: how much of a thread's stack is left, measured rather than counted.
//!
//! The system reports the extent of each thread's stack, once. After that one comparison with the
//! stack pointer gives the room. A stack pointer outside the extent belongs to a fiber or a signal
//! handler, whose stack is unknown. Then there is no room.

#[cfg(not(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64"))))]
use std::ptr;

/// The part of a stack that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// Less than a quarter, or unknown.
    Little,
    /// At least a quarter.
    Quarter,
    /// At least a half.
    Half,
}

/// The bytes that a larger stack counts as: an unlimited stack is no reason to use all memory.
const LARGEST: usize = 64 << 20;

/// The addresses of one thread's stack. It grows downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack {
    low: usize,
    /// The addresses above a quarter and a half of it.
    quarter: usize,
    half: usize,
    high: usize,
}

impl Stack {
    fn new(low: usize, high: usize) -> Self {
        let low = low.max(high.saturating_sub(LARGEST));
        let size = high - low;
        Self {
            low,
            quarter: low + size / 4,
            half: low + size / 2,
            high,
        }
    }

    /// Returns the calling thread's stack, if the system reports its extent.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let (low, high) = measure()?;
        Some(Self::new(low, high))
    }

    /// Returns the stack of the calling thread, which was started with `bytes` of it. Must be
    /// called in one of the thread's first frames.
    pub(crate) fn of_new_thread(bytes: usize) -> Self {
        Self::of_this_thread().unwrap_or_else(|| {
            let high = stack_pointer();
            Self::new(high.saturating_sub(bytes), high)
        })
    }

    /// Returns the room below the caller's frame.
    #[inline]
    pub(crate) fn room(self) -> Room {
        self.room_at(stack_pointer())
    }

    #[inline]
    fn room_at(self, pointer: usize) -> Room {
        if pointer >= self.half && pointer <= self.high {
            Room::Half
        } else if pointer >= self.quarter && pointer < self.half {
            Room::Quarter
        } else {
            Room::Little
        }
    }
}

/// Returns the lowest and the highest address of the calling thread's stack, without its guard.
#[cfg(all(target_os = "linux", not(miri)))]
fn measure() -> Option<(usize, usize)> {
    use std::{mem::MaybeUninit, ptr};

    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the pointer is valid for writes of the attributes.
    let found = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if found != 0 {
        return None;
    }
    let (mut low, mut size, mut guard) = (ptr::null_mut(), 0, 0);
    // SAFETY: the attributes were initialized.
    let has_stack =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut size) } == 0;
    // SAFETY: as above.
    let has_guard =
        unsafe { libc::pthread_attr_getguardsize(attributes.as_ptr(), &mut guard) } == 0;
    // SAFETY: as above, and they are not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    // Whether the extent includes the guard depends on the C library.
    let low = low.addr();
    (has_stack && has_guard && guard < size).then(|| (low + guard, low + size))
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn measure() -> Option<(usize, usize)> {
    None
}

/// Returns an address in the calling frame. It is that of a local only where there is no other way,
/// since sanitizers put locals elsewhere.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    #[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let address;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it reads a register.
        unsafe {
            std::arch::asm!("mov {}, rsp", out(reg) address, options(nomem, nostack, preserves_flags));
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: it reads a register.
        unsafe {
            std::arch::asm!("mov {}, sp", out(reg) address, options(nomem, nostack, preserves_flags));
        }
        address
    }
    #[cfg(not(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let here = 0u8;
        ptr::from_ref(&here).addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_room_is_what_is_left_below_the_stack_pointer() {
        let stack = Stack::new(1000, 2000);
        let rooms = [2000, 1500, 1499, 1250, 1249, 1000].map(|pointer| stack.room_at(pointer));
        let expected = [
            Room::Half,
            Room::Half,
            Room::Quarter,
            Room::Quarter,
            Room::Little,
            Room::Little,
        ];
        assert_eq!(rooms, expected);
    }

    #[test]
    fn a8_another_stack_has_no_room() {
        let stack = Stack::new(1000, 2000);
        assert_eq!([999, 2001].map(|at| stack.room_at(at)), [Room::Little; 2]);
    }

    #[test]
    fn a8_an_unlimited_stack_has_a_bound() {
        let high = usize::MAX - 4096;
        let stack = Stack::new(0, high);
        assert_eq!(stack.room_at(high - LARGEST / 2), Room::Half);
        assert_eq!(stack.room_at(high - LARGEST / 2 - 1), Room::Quarter);
    }

    #[test]
    #[cfg(all(target_os = "linux", not(any(miri, shuttle))))]
    fn a8_the_stack_of_a_thread_is_measured() {
        const BYTES: usize = 1 << 20;
        let measured = std::thread::Builder::new()
            .stack_size(BYTES)
            .spawn(|| {
                (
                    Stack::of_new_thread(0),
                    Stack::new(0, 0).room(),
                    stack_pointer(),
                )
            })
            .unwrap();
        let (stack, of_another, pointer) = measured.join().unwrap();
        assert!((stack.low..stack.high).contains(&pointer), "{stack:?}");
        let size = stack.high - stack.low;
        assert!((BYTES / 2..=BYTES * 2).contains(&size), "{size}");
        assert_eq!(of_another, Room::Little);
    }
}
