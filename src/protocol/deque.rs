//! The deque of structured jobs. Its owner works at the near end without a lock or a heavy fence.
//! Thieves steal from the far end under a lock, many values at a time.
//!
//! # The protocol
//!
//! Values have numbers. The values that wait have the numbers from `top` to below `bottom`. Only
//! the owner writes `bottom`, and `top` is written only under the lock. A value lies in a ring of
//! slots, at its number modulo the ring's length.
//!
//! **The owner pushes** into the slot of `bottom`, and then adds one to `bottom`. As long as
//! `bottom` is below `limit`, it uses neither `top` nor the lock. `limit` is its private copy of
//! the number whose slot may still be in use. At `limit` it takes the lock, and either finds that
//! thieves have left room, or doubles the ring.
//!
//! **The owner pops** by taking one from `bottom` first, and loading `top` after it. If `top` is
//! not above the wanted number, that value is the owner's. Otherwise a thief has taken the value,
//! or is trying to. The owner then takes the lock, so that no theft is under way, and loads `top`
//! again.
//!
//! **A thief**, under the lock, adds to `top` the number of values that it wants first, and loads
//! `bottom` after it. The values below `bottom` are the thief's. It gives back the others by
//! lowering `top` again.
//!
//! So each of the two announces before it checks, with a fence between: at least one of them
//! observes the other. If the owner observes the thief, it waits for the lock. If only the thief
//! observes the owner, it does not touch that value. The owner's fence is the light one of
//! [`crate::sync::asymmetric`], the thief's the heavy one. This is Cilk's THE protocol (Frigo,
//! Leiserson, Randall, 1998), with a fence for the thief alone. Where heavy fences cost too much,
//! both have a plain one for a while: see `deque/fencing.rs`.
//!
//! A thief copies out only values that are its own, under the lock. The owner writes into a slot
//! that thieves have used only after it has held the lock itself. So no slot is read while it is
//! written, and no thread uses a ring that is replaced.
//!
//! **Watermarks.** A pop is given a mark, and takes no value that was pushed below it. Thieves
//! steal from the far end. So if a pop finds that what is above the mark was stolen, then so was
//! everything below it. The owner then sets `top` and `bottom` back to the mark: no value waits, so
//! the numbers are free.
//!
//! A value can appear taken while a thief that will give it back holds the lock. If that thief is a
//! searcher of the idle protocol, it checks again when it stops searching. Any other thief gets
//! [`Theft::Unwanted`], and has to have the queues checked again.

mod fencing;
#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
mod thief;

use std::{cell::Cell, mem::MaybeUninit, ptr, sync::Arc};

use crossbeam_utils::CachePadded;

use self::fencing::{Fencing, Top};
pub(crate) use self::thief::{Theft, Thief};
use crate::{
    sync::{AtomicUsize, Mutex, Ordering, Rank, UnsafeCell, asymmetric::Fences, fence, lock},
    tuning::STEAL_BATCH,
};

/// The length of a new ring: a thief has room for one batch.
const LENGTH: usize = if cfg!(any(loom, shuttle)) {
    2
} else {
    2 * STEAL_BATCH
};

/// A slot on its own cache line. No two values share a line, and a value's address takes no
/// multiplication.
#[repr(align(64))]
struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    #[inline]
    fn with<R>(&self, f: impl FnOnce(*const MaybeUninit<T>) -> R) -> R {
        self.0.with(f)
    }

    #[inline]
    fn with_mut<R>(&self, f: impl FnOnce(*mut MaybeUninit<T>) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// What the owner and the thieves share.
struct Shared<T> {
    bottom: CachePadded<AtomicUsize>,
    /// A [`Top`].
    top: CachePadded<AtomicUsize>,
    /// Its length is a power of two.
    ring: CachePadded<Mutex<Arc<[Slot<T>]>>>,
    /// The steal origin: the purpose of the values that the owner has stolen last, until it runs
    /// anything else from its loop. An address, or 0. It orders nothing.
    purpose: CachePadded<AtomicUsize>,
    fences: Fences,
}

// SAFETY: the protocol above hands a value from one thread to another, and never shares it.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The near end of the deque.
pub(crate) struct Owner<T> {
    shared: Arc<Shared<T>>,
    /// The present ring.
    slots: Cell<*const Slot<T>>,
    mask: Cell<usize>,
    /// The slots of the numbers below are free to be written.
    limit: Cell<usize>,
    fencing: Fencing,
    fences: Fences,
}

// SAFETY: the pointer is into what `shared` holds; the owner is one thread at a time.
unsafe impl<T: Send> Send for Owner<T> {}

/// Returns both ends of a new deque.
pub(crate) fn new<T: Send>(fences: Fences) -> (Owner<T>, Thief<T>) {
    let ring = ring(LENGTH);
    let owner = Owner {
        slots: Cell::new(ptr::null()),
        mask: Cell::new(0),
        limit: Cell::new(0),
        fencing: Fencing::default(),
        fences,
        shared: Arc::new(Shared {
            bottom: CachePadded::new(AtomicUsize::new(0)),
            top: CachePadded::new(AtomicUsize::new(0)),
            ring: CachePadded::new(Mutex::new(Rank::Ring, Arc::clone(&ring))),
            purpose: CachePadded::new(AtomicUsize::new(0)),
            fences,
        }),
    };
    owner.note(&ring, 0);
    let thief = Thief(Arc::clone(&owner.shared));
    (owner, thief)
}

fn ring<T>(length: usize) -> Arc<[Slot<T>]> {
    (0..length)
        .map(|_| Slot(UnsafeCell::new(MaybeUninit::uninit())))
        .collect()
}

impl<T> Shared<T> {
    fn top(&self) -> Top {
        Top(self.top.load(Ordering::Relaxed))
    }
}

impl<T> Owner<T> {
    /// Sets the purpose of what the owner runs from now on: the values that it has just stolen.
    /// `purpose` is the address of what waits for them, or null.
    pub(crate) fn set_purpose(&self, purpose: *const ()) {
        self.shared.purpose.store(purpose.addr(), Ordering::Relaxed);
    }

    pub(crate) fn purpose(&self) -> usize {
        self.shared.purpose.load(Ordering::Relaxed)
    }

    /// Stores the ring, and the number from which on its slots may be in use. Under the lock.
    fn note(&self, ring: &Arc<[Slot<T>]>, top: usize) {
        self.slots.set(Arc::as_ptr(ring).cast());
        self.mask.set(ring.len() - 1);
        self.limit.set(top + ring.len());
    }

    #[inline]
    fn slot(&self, number: usize) -> &Slot<T> {
        // SAFETY: the ring has mask + 1 slots, and is in `shared`, where the owner alone replaces
        // it.
        unsafe { &*self.slots.get().add(number & self.mask.get()) }
    }

    /// Returns the number of the next value: the mark below all values that are pushed from now on.
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.shared.bottom.load(Ordering::Relaxed)
    }

    pub(crate) fn push(&self, value: T) {
        // SAFETY: it writes.
        unsafe { self.push_with(|slot| slot.write(value)) };
    }

    /// Pushes what `write` writes. A value of several words that is first built elsewhere and then
    /// copied stalls the processor for longer than the rest of a push takes.
    ///
    /// # Safety
    /// `write` initializes the slot that it is given, and does not panic.
    #[inline]
    pub(crate) unsafe fn push_with(&self, write: impl FnOnce(*mut T)) {
        let bottom = self.mark();
        if bottom == self.limit.get() {
            self.make_room(1);
        }
        // SAFETY: passed on to the caller; there is room.
        unsafe { self.push_at(bottom, write) };
    }

    /// Returns the number of the next value, if its slot is known to be free.
    #[inline]
    pub(crate) fn room(&self) -> Option<usize> {
        let bottom = self.mark();
        (bottom != self.limit.get()).then_some(bottom)
    }

    /// Pushes what `write` writes, as the value of this number.
    ///
    /// # Safety
    /// 1. `write` initializes the slot that it is given, and does not panic.
    /// 2. The number is the next value's, and its slot is free.
    #[inline]
    pub(crate) unsafe fn push_at(&self, number: usize, write: impl FnOnce(*mut T)) {
        debug_assert_eq!(self.room(), Some(number));
        // Loaded before the write to the slot, which may alias `self` for all the compiler knows.
        let shared = &*self.shared;
        // Below the limit no thief uses the slot, and no waiting value is in it.
        self.slot(number).with_mut(|slot| write(slot.cast()));
        // Release: a thread that observes the number observes the value.
        shared.bottom.store(number + 1, Ordering::Release);
    }

    /// Returns whether thieves have taken all values that the owner has not.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.top().number() >= self.mark()
    }

    /// Recomputes how many slots are free, and widens the ring if they are fewer than `values`.
    #[cold]
    fn make_room(&self, values: usize) {
        if mutant!("deque_no_lock_for_room") {
            return self.limit.set(self.limit.get() + values);
        }
        let mut slots = lock(&self.shared.ring);
        let bottom = self.mark();
        let top = self.shared.top().number();
        let needed = bottom - top + values;
        if needed > slots.len() {
            let wider = ring::<T>(needed.next_power_of_two());
            for number in top..bottom {
                let to = &wider[number & (wider.len() - 1)];
                let from = self.slot(number);
                // SAFETY: the value waits, and no thread takes it under the lock; the new slot is
                // unused.
                from.with_mut(|from| to.with_mut(|to| unsafe { ptr::copy(from, to, 1) }));
            }
            *slots = wider;
        }
        self.note(&slots, top);
    }

    /// Ensures that the next `values` pushes need no lock.
    pub(crate) fn reserve(&self, values: usize) {
        if self.limit.get() - self.mark() < values {
            self.make_room(values);
        }
    }

    /// Returns the value that was pushed last, if it was pushed above the mark and was not stolen.
    #[inline]
    pub(crate) fn pop(&self, mark: usize) -> Option<T> {
        let number = self.claim(mark)?;
        // SAFETY: the value was pushed, and is the owner's.
        Some(
            self.slot(number)
                .with_mut(|slot| unsafe { (*slot).assume_init_read() }),
        )
    }

    /// As `pop`, but calls `take` with the value in its slot, and returns what that returns.
    ///
    /// # Safety
    /// `take` moves the value out before it pushes anything, and before it returns or unwinds.
    #[inline]
    pub(crate) unsafe fn pop_with<R>(
        &self,
        mark: usize,
        take: impl FnOnce(*mut T) -> R,
    ) -> Option<R> {
        let number = self.claim(mark)?;
        let slot = self.slot(number).with_mut(<*mut _>::cast);
        Some(take(slot))
    }

    /// Calls `look` with the slot of the last value that was pushed and not taken by the owner. A
    /// thief may have copied the value from it. There has to be one.
    #[inline]
    pub(crate) fn peek_last<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        debug_assert!(self.mark() > 0);
        self.slot(self.mark() - 1).with(|slot| look(slot.cast()))
    }

    /// Frees the numbers from `number` on, if there are any. All their values have to be stolen.
    #[inline]
    pub(crate) fn clear_stolen(&self, number: usize) {
        if self.mark() != number && !mutant!("deque_keep_stolen") {
            let is_left = self.retract(number);
            debug_assert!(!is_left);
        }
    }

    /// Takes back the value of this number, and frees the number. All values that were pushed after
    /// it are gone. Returns false if it was stolen.
    pub(crate) fn retract(&self, number: usize) -> bool {
        debug_assert!(self.mark() >= number);
        self.claim_number(number, number)
    }

    /// As `retract`, if that can be decided without the lock. If it returns false, the caller has
    /// to call `retract`.
    #[inline]
    pub(crate) fn retract_at_once(&self, number: usize) -> bool {
        debug_assert_eq!(self.mark(), number + 1);
        let shared = &*self.shared;
        shared.bottom.store(number, Ordering::Release);
        // Orderings and fence as in `claim_number`.
        self.fences.light();
        shared.top.load(Ordering::Acquire) <= number
    }

    /// Claims the last value for the owner. Returns its number.
    #[inline]
    fn claim(&self, mark: usize) -> Option<usize> {
        let bottom = self.mark();
        if bottom <= mark && !mutant!("deque_forget_watermark") {
            return None;
        }
        let wanted = bottom - 1;
        self.claim_number(wanted, mark).then_some(wanted)
    }

    /// Claims the value of this number, the last one, for the owner. Returns whether it is the
    /// owner's.
    #[inline]
    fn claim_number(&self, wanted: usize, mark: usize) -> bool {
        let shared = &*self.shared;
        // Release: as in `push`, for all values below.
        shared.bottom.store(wanted, Ordering::Release);
        if self.fencing.is_on() {
            return self.claim_fenced(wanted, mark);
        }
        // Pairs with the heavy fence in `steal_alike`: we see the thief's claim, or it sees ours.
        unless_mutant!("deque_no_fence_pop", self.fences.light());
        // Acquire: a thief no longer reads a value that it gave back. If a thief has asked for
        // fences, `top` is larger than any number, as if all values were claimed.
        let claimed = shared.top.load(Ordering::Acquire) > wanted;
        !claimed || self.claim_under_lock(wanted, mark)
    }

    /// As `claim_number`, with a plain fence.
    #[inline(never)]
    fn claim_fenced(&self, wanted: usize, mark: usize) -> bool {
        // Pairs with the plain fence in `steal_alike`, as the light one with the heavy one.
        unless_mutant!("deque_no_fence_fenced", fence(Ordering::SeqCst));
        let top = Top(self.shared.top.load(Ordering::Acquire));
        let goes_on = self.fencing.goes_on(top);
        (goes_on && top.number() <= wanted) || self.claim_under_lock(wanted, mark)
    }

    /// Decides under the lock whether the value is still there. If it is not, no value is.
    #[cold]
    fn claim_under_lock(&self, wanted: usize, mark: usize) -> bool {
        let ring = lock(&self.shared.ring);
        let top = self.shared.top();
        let is_there = top.number() <= wanted;
        let number = if is_there { top.number() } else { mark };
        let settled = self.fencing.settle(top, number);
        self.shared.top.store(settled.0, Ordering::Relaxed);
        if !is_there {
            self.shared.bottom.store(mark, Ordering::Release);
            self.note(&ring, mark);
        }
        is_there
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let top = self.top().number();
        let bottom = self.bottom.load(Ordering::Relaxed);
        let slots = lock(&self.ring);
        for number in top..bottom {
            slots[number & (slots.len() - 1)]
                // SAFETY: the value waits, and no other thread is left to take it.
                .with_mut(|slot| unsafe { (*slot).assume_init_drop() });
        }
    }
}
