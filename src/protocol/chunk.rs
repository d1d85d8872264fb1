//! Some items of a batch, in the order in which they were pulled, and what they leave.
//!
//! # The protocol
//!
//! **One thread puts items in**, in the order of the slots: it writes the slot, and then adds one to `put`. As
//! soon as somebody wants to begin one, he *closes* the chunk, by a bit in the same word: either the item
//! was put before that, and is his to begin, or the one who puts it sees the bit, takes the item back out of
//! the slot, and starts another chunk. So an item waits for no others, and for its chunk to be full neither.
//!
//! **Of a closed chunk**, the items from `near` to below `far` are unbegun. One thread at a time is the *owner*:
//! at first whoever has the lock of the batch's state, and then the one who serves the chunk. The owner begins at the
//! near end, without a lock or a locked instruction; all others claim at the far end, under a lock. It is the
//! protocol of `deque.rs`: the owner adds one to `near` first, and looks at `far` after it; who takes from the far
//! end lowers `far` first, and looks at `near` after it. With a fence between the two on both sides, one
//! of them sees the other, and then the lock decides: who finds under it that his number is beyond the other's
//! word has lost.
//!
//! **Who has begun an item** leaves a result in its slot and says so in `ended`, in a byte of its own. Then it is
//! the consumer's, who is one thread, and takes it once.
//!
//! So nothing that the owner writes for an item is written by anybody else, but by those who have nothing better
//! to do.

#[cfg(all(test, loom))]
mod model;

use std::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr,
};

use crate::{
    protocol::completion::event::{self, Mark},
    sync::{
        AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering, UnsafeCell,
        asymmetric::Fences, lock, unwind::quietly,
    },
};

/// The most items of a chunk: one bit for each in a word.
pub(crate) const MOST: usize = 64;

/// In `put`: nothing more is put in.
const CLOSED: usize = 1 << 16;

/// An item that was claimed, and its number.
pub(crate) type Claimed<T> = (usize, T);

/// An item, or what it has left.
union Slot<T, R> {
    item: ManuallyDrop<T>,
    result: ManuallyDrop<R>,
}

type Cell<T, R> = UnsafeCell<MaybeUninit<Slot<T, R>>>;

pub(crate) struct Chunk<T, R> {
    /// How many items were put in, and the bit.
    put: AtomicUsize,
    /// The first that the owner has not begun. Written by the owner alone.
    near: AtomicUsize,
    /// The end of those that nobody has claimed at that end. Written under the lock.
    far: AtomicUsize,
    lock: Mutex<()>,
    /// Whether a job is in the queue that will claim some of it.
    is_offered: AtomicBool,
    /// For each slot, whether it has a result.
    ended: [AtomicU8; MOST],
    /// Those that the consumer has taken, as he leaves it: a bit for each slot.
    taken: AtomicU64,
    slots: Box<[Cell<T, R>]>,
    fences: Fences,
}

// SAFETY: items and results go from thread to thread, each owned by one at a time: see above.
unsafe impl<T: Send, R: Send> Send for Chunk<T, R> {}
// SAFETY: as for Send.
unsafe impl<T: Send, R: Send> Sync for Chunk<T, R> {}

impl<T, R> Chunk<T, R> {
    /// With room for so many items: at most [`MOST`].
    pub(crate) fn new(room: usize, fences: Fences) -> Self {
        debug_assert!((1..=MOST).contains(&room));
        Self {
            put: AtomicUsize::new(0),
            near: AtomicUsize::new(0),
            far: AtomicUsize::new(0),
            lock: Mutex::new(()),
            is_offered: AtomicBool::new(false),
            ended: std::array::from_fn(|_| AtomicU8::new(0)),
            taken: AtomicU64::new(0),
            slots: (0..room)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            fences,
        }
    }

    /// With one slot, whose item has ended with this result, without ever having been put in.
    pub(crate) fn ended(result: R, fences: Fences) -> Self {
        let chunk = Self::new(1, fences);
        chunk.put.store(1 | CLOSED, Ordering::Relaxed);
        chunk.near.store(1, Ordering::Relaxed);
        chunk.far.store(1, Ordering::Relaxed);
        // SAFETY: nobody else has the chunk, and no item is in the slot.
        unsafe { chunk.end(0, result) };
        chunk
    }

    /// Puts an item in.
    ///
    /// # Errors
    /// The item, if the chunk is full or closed.
    ///
    /// # Safety
    /// One thread puts items in.
    pub(crate) unsafe fn put(&self, item: T) -> Result<(), T> {
        let number = self.put.load(Ordering::Relaxed);
        // A closed one has a number that is too large.
        let Some(slot) = self.slots.get(number) else {
            return Err(item);
        };
        slot.with_mut(|slot| {
            let item = ManuallyDrop::new(item);
            // SAFETY: nobody else looks at a slot before its item is counted.
            unsafe { (*slot).write(Slot { item }) };
        });
        // Release: who closes it sees the item.
        let counted = self.put.compare_exchange(
            number,
            number + 1,
            if cfg!(mutant = "chunk_relaxed_put") {
                Ordering::Relaxed
            } else {
                Ordering::Release
            },
            Ordering::Relaxed,
        );
        if counted.is_ok() {
            return Ok(());
        }
        // SAFETY: it was written just now, and is not counted.
        Err(unsafe { self.read_item(number) })
    }

    /// Nothing more is put in from now on. For the owner, before he begins anything.
    pub(crate) fn close(&self) {
        if self.is_closed() {
            return;
        }
        #[cfg(mutant = "chunk_torn_close")]
        let put = {
            let put = self.put.load(Ordering::Acquire);
            self.put.store(put | CLOSED, Ordering::Relaxed);
            put
        };
        // Acquire: the items are seen.
        #[cfg(not(mutant = "chunk_torn_close"))]
        let put = self.put.fetch_or(CLOSED, Ordering::Acquire);
        self.far.store(put & !CLOSED, Ordering::Relaxed);
    }

    /// How many were put in.
    pub(crate) fn len(&self) -> usize {
        self.put.load(Ordering::Acquire) & !CLOSED
    }

    /// Whether somebody has begun an item, or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        self.put.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Whether it has as many items as it has room for.
    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.slots.len()
    }

    /// How many nobody has begun, or had a moment ago. The chunk is closed.
    pub(crate) fn unbegun(&self) -> usize {
        let near = self.near.load(Ordering::Relaxed);
        self.far.load(Ordering::Relaxed).saturating_sub(near)
    }

    /// The next item of the owner, who is the only one that may ask.
    pub(crate) fn first_unbegun(&self) -> usize {
        self.near.load(Ordering::Relaxed)
    }

    /// Whether there are items that nobody has begun, or were a moment ago.
    pub(crate) fn may_be_begun(&self) -> bool {
        if self.is_closed() {
            self.unbegun() > 0
        } else {
            self.len() > 0
        }
    }

    /// Whether the caller is to put a job into the queue that claims what is left.
    pub(crate) fn is_to_be_offered(&self) -> bool {
        self.unbegun() > 0 && !self.is_offered.swap(true, Ordering::Relaxed)
    }

    /// Such a job has started. It has to claim, and to look whether another is to be put into the queue, after this.
    pub(crate) fn offer_taken(&self) {
        if cfg!(not(mutant = "chunk_keep_offer")) {
            self.is_offered.store(false, Ordering::Relaxed);
        }
    }

    /// The next item.
    ///
    /// # Safety
    /// The caller is the owner.
    #[inline]
    pub(crate) unsafe fn begin(&self) -> Option<Claimed<T>> {
        let number = self.near.load(Ordering::Relaxed);
        // Release: who is next to be the owner sees what this one has done.
        self.near.store(number + 1, Ordering::Release);
        // Pairs with the heavy fences in `claim` and `claim_rest`: we see their claim, or they see ours.
        if cfg!(not(mutant = "chunk_no_fence_begin")) {
            self.fences.light();
        }
        // Acquire: of what somebody gave back, he has taken his eyes off.
        if number < self.far.load(Ordering::Acquire) || self.prevails(number) {
            Some(self.claimed(number))
        } else {
            None
        }
    }

    /// Whether the item is the owner's when nobody else is about to claim it. If not, nothing is left.
    #[cold]
    fn prevails(&self, number: usize) -> bool {
        let _lock = lock(&self.lock);
        let prevails = number < self.far.load(Ordering::Relaxed);
        if !prevails {
            self.near.store(number, Ordering::Release);
        }
        prevails
    }

    /// The last item that is unbegun. The chunk is closed. For anybody.
    pub(crate) fn claim(&self) -> Option<Claimed<T>> {
        let _lock = lock(&self.lock);
        let far = self.far.load(Ordering::Relaxed);
        if far <= self.near.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.claim_from(far - 1, far);
        (number < far).then(|| self.claimed(number))
    }

    /// All that nobody has begun. The chunk is closed. For anybody.
    pub(crate) fn claim_rest(&self) -> impl ExactSizeIterator<Item = Claimed<T>> {
        let lock = lock(&self.lock);
        let far = self.far.load(Ordering::Relaxed);
        let near = self.near.load(Ordering::Relaxed).min(far);
        let from = self.claim_from(near, far);
        drop(lock);
        (from..far).map(|number| self.claimed(number))
    }

    /// Claims the items from this number to the far end, or those of them that the owner has not begun.
    /// Returns the first. Under the lock.
    fn claim_from(&self, from: usize, far: usize) -> usize {
        self.far.store(from, Ordering::Relaxed);
        // Pairs with the light fence in `begin`.
        if cfg!(not(mutant = "chunk_no_fence_claim")) {
            self.fences.heavy();
        }
        let begun = self.near.load(Ordering::Acquire);
        let first = if cfg!(mutant = "chunk_keep_claim") {
            from
        } else {
            begun.clamp(from, far)
        };
        self.far.store(first, Ordering::Release);
        first
    }

    fn claimed(&self, number: usize) -> Claimed<T> {
        // SAFETY: the number was claimed by the caller alone, and the item was put in before the chunk was
        // closed.
        (number, unsafe { self.read_item(number) })
    }

    /// # Safety
    /// The slot has an item, which is the caller's, who reads it once.
    unsafe fn read_item(&self, number: usize) -> T {
        self.slots[number].with_mut(|slot| {
            // SAFETY: passed on to the caller.
            unsafe { ManuallyDrop::take(&mut (*slot).assume_init_mut().item) }
        })
    }

    /// Leaves what came of a claimed item.
    ///
    /// # Safety
    /// The caller has claimed the number, and calls this once for it.
    #[inline]
    pub(crate) unsafe fn end(&self, number: usize, result: R) {
        self.slots[number].with_mut(|slot| {
            let result = ManuallyDrop::new(result);
            // SAFETY: the slot is the caller's, and its item was moved out.
            unsafe { (*slot).write(Slot { result }) };
        });
        // Release: who sees the mark sees the result.
        let order = if cfg!(mutant = "chunk_relaxed_end") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.ended[number].store(1, order);
    }

    /// How many items have no result, so far; not counted beyond this bound.
    pub(crate) fn in_flight(&self, bound: usize) -> usize {
        let len = self.len();
        if !self.is_closed() {
            return len.min(bound);
        }
        // From the far end: the others are likely to have ended.
        let unended = (0..len).rev().filter(|&number| !self.has_ended(number));
        unended.take(bound).count()
    }

    /// What tells the result of this slot from all others.
    pub(crate) fn mark(&self, number: usize) -> Mark {
        ptr::from_ref(self).addr() + event::FIRST + number
    }

    /// Whether this slot has a result.
    #[inline]
    pub(crate) fn has_ended(&self, number: usize) -> bool {
        let ended = self.ended.get(number);
        ended.is_some_and(|ended| ended.load(Ordering::Acquire) != 0)
    }

    /// Takes a result.
    ///
    /// # Safety
    /// The caller has seen that it has ended, and nobody has taken it before, nor will.
    #[inline]
    pub(crate) unsafe fn take(&self, number: usize) -> R {
        self.slots[number].with_mut(|slot| {
            // SAFETY: passed on to the caller.
            unsafe { ManuallyDrop::take(&mut (*slot).assume_init_mut().result) }
        })
    }

    /// The consumer has taken these, and takes no more.
    pub(crate) fn leave(&self, taken: u64) {
        self.taken.store(taken, Ordering::Relaxed);
    }
}

impl<T, R> Drop for Chunk<T, R> {
    fn drop(&mut self) {
        // One by one: a panic in one must not meet that of another.
        self.close();
        let near = self.near.load(Ordering::Relaxed);
        for number in near..self.far.load(Ordering::Relaxed) {
            // SAFETY: nobody has claimed it, and nobody else is left.
            let item = unsafe { self.read_item(number) };
            quietly(move || drop(item));
        }
        let taken = self.taken.load(Ordering::Relaxed);
        for number in 0..self.slots.len() {
            if self.has_ended(number) && taken >> number & 1 == 0 {
                // SAFETY: it was left, and not taken.
                let result = unsafe { self.take(number) };
                quietly(move || drop(result));
            }
        }
    }
}
