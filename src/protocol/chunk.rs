//! A chunk of a batch: some items in the order in which they were pulled, and their results.
//!
//! # The protocol
//!
//! **One thread puts items in**, in the order of the slots: it writes the slot, and then adds one
//! to `put`. Before an item is claimed the chunk is *closed*, by a bit in the same word. Either the
//! item was put before that, and can be claimed. Or the producer observes the bit, takes the item
//! back out of the slot, and starts another chunk. So no item waits for others, or for its chunk to
//! be full.
//!
//! **Any thread claims** the next item of a closed chunk: it adds one to `claimed`. A number below
//! the count of the items is the caller's alone; any other means that the chunk is exhausted.
//!
//! **The claimer** replaces the item by its result, and publishes that in the slot's byte of
//! `ended`. Then the result is the consumer's, which takes each once. When the consumer leaves, it
//! and the threads that still run items may meet at a result: [`Chunk::race_to_take`] gives it to
//! one of them.

#[cfg(all(test, loom))]
mod model;

use std::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr,
};

use crossbeam_utils::CachePadded;

use crate::{
    protocol::completion::event::{self, Mark},
    sync::{AtomicBool, AtomicU8, AtomicUsize, Ordering, UnsafeCell},
};

/// The most items of a chunk: the consumer has a bit for each in a word.
pub(crate) const MOST: usize = 64;

/// In `put`: no more items are put in.
const CLOSED: usize = 1 << 16;

/// In `ended`: the slot has a result.
const ENDED: u8 = 1;
/// In `ended`: the slot had a result, which [`Chunk::race_to_take`] has given away.
const TAKEN: u8 = 2;

/// A claimed item, and its number.
pub(crate) type Claimed<T> = (usize, T);

/// An item, or its result.
union Slot<T, R> {
    item: ManuallyDrop<T>,
    result: ManuallyDrop<R>,
}

type Cell<T, R> = UnsafeCell<MaybeUninit<Slot<T, R>>>;

/// Drops none of its items and results: each is claimed, or taken, or leaked.
pub(crate) struct Chunk<T, R> {
    /// The number of items that were put in, and the closed bit.
    put: AtomicUsize,
    /// The number of items that were claimed, or more.
    claimed: CachePadded<AtomicUsize>,
    /// Whether a job that will claim some items is in the queue.
    is_offered: AtomicBool,
    /// The state of each slot: 0, `ENDED` or `TAKEN`.
    ended: [AtomicU8; MOST],
    slots: Box<[Cell<T, R>]>,
}

// SAFETY: items and results move from thread to thread, each owned by one at a time: see above.
unsafe impl<T: Send, R: Send> Send for Chunk<T, R> {}
// SAFETY: as for Send.
unsafe impl<T: Send, R: Send> Sync for Chunk<T, R> {}

impl<T, R> Chunk<T, R> {
    /// Returns a chunk with `room` for items: at most [`MOST`].
    pub(crate) fn new(room: usize) -> Self {
        debug_assert!((1..=MOST).contains(&room));
        let slots = (0..room).map(|_| UnsafeCell::new(MaybeUninit::uninit()));
        Self {
            put: AtomicUsize::new(0),
            claimed: CachePadded::new(AtomicUsize::new(0)),
            is_offered: AtomicBool::new(false),
            ended: std::array::from_fn(|_| AtomicU8::new(0)),
            slots: slots.collect(),
        }
    }

    /// Returns a chunk of one slot, which has this result.
    pub(crate) fn ended(result: R) -> Self {
        let chunk = Self::new(1);
        chunk.put.store(1 | CLOSED, Ordering::Relaxed);
        chunk.claimed.store(1, Ordering::Relaxed);
        // SAFETY: no other thread has the chunk, and the slot has no item.
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
        // The word of a closed chunk is larger than any number.
        let Some(slot) = self.slots.get(number) else {
            return Err(item);
        };
        slot.with_mut(|slot| {
            let item = ManuallyDrop::new(item);
            // SAFETY: no other thread accesses a slot before its item is counted.
            unsafe { (*slot).write(Slot { item }) };
        });
        // Release: the thread that closes the chunk observes the item.
        let order = mutant_order!("chunk_relaxed_put", Ordering::Release);
        self.put
            .compare_exchange(number, number + 1, order, Ordering::Relaxed)
            .map(drop)
            // SAFETY: it was written just now, and is not counted.
            .map_err(|_| unsafe { self.read_item(number) })
    }

    /// Returns the number of items that were put in.
    pub(crate) fn len(&self) -> usize {
        // Acquire: the items are visible.
        self.put.load(Ordering::Acquire) & !CLOSED
    }

    /// Returns whether an item was claimed, or is about to be.
    pub(crate) fn is_closed(&self) -> bool {
        self.put.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Returns whether it has as many items as it has room for.
    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.slots.len()
    }

    /// Returns the number of claimed items, or more: no item from this number on has a result.
    pub(crate) fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Returns the number of unclaimed items.
    pub(crate) fn unclaimed(&self) -> usize {
        self.len().saturating_sub(self.claimed())
    }

    /// Closes the chunk. Returns the number of items in it.
    fn close(&self) -> usize {
        if self.is_closed() {
            return self.len();
        }
        let put = or_mutant!(
            "chunk_torn_close",
            self.put.fetch_or(CLOSED, Ordering::Acquire),
            {
                let put = self.put.load(Ordering::Acquire);
                self.put.store(put | CLOSED, Ordering::Relaxed);
                put
            }
        );
        put & !CLOSED
    }

    /// Claims the next item. Closes the chunk.
    #[inline]
    pub(crate) fn claim(&self) -> Option<Claimed<T>> {
        let len = self.close();
        let number = or_mutant!(
            "chunk_torn_claim",
            self.claimed.fetch_add(1, Ordering::Relaxed),
            {
                let number = self.claimed.load(Ordering::Relaxed);
                self.claimed.store(number + 1, Ordering::Relaxed);
                number
            }
        );
        // SAFETY: this is the only claim of the number, and its item was put in before the chunk
        // was closed.
        (number < len).then(|| (number, unsafe { self.read_item(number) }))
    }

    /// Returns whether this number is the next to be claimed.
    pub(crate) fn is_next(&self, number: usize) -> bool {
        number < self.len() && number == self.claimed()
    }

    /// Claims the item of this number, if that is the next. Closes the chunk.
    pub(crate) fn claim_if_next(&self, number: usize) -> Option<Claimed<T>> {
        let is_claimed = number < self.close()
            && self
                .claimed
                .compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        // SAFETY: as in `claim`.
        is_claimed.then(|| (number, unsafe { self.read_item(number) }))
    }

    /// Claims all items that are left. Closes the chunk.
    pub(crate) fn claim_rest(&self) -> impl ExactSizeIterator<Item = Claimed<T>> {
        let len = self.close();
        let first = or_mutant!(
            "chunk_torn_rest",
            self.claimed.swap(len, Ordering::Relaxed),
            {
                let first = self.claimed.load(Ordering::Relaxed);
                self.claimed.store(len, Ordering::Relaxed);
                first
            }
        );
        // SAFETY: as in `claim`.
        (first.min(len)..len).map(|number| (number, unsafe { self.read_item(number) }))
    }

    /// # Safety
    /// The slot has an item, which is the caller's to read, once.
    unsafe fn read_item(&self, number: usize) -> T {
        self.slots[number].with_mut(|slot| {
            // SAFETY: passed on to the caller.
            unsafe { ManuallyDrop::take(&mut (*slot).assume_init_mut().item) }
        })
    }

    /// Returns whether the caller has to put a job into the queue that claims what is left.
    pub(crate) fn is_to_be_offered(&self) -> bool {
        self.unclaimed() > 0 && !self.is_offered.swap(true, Ordering::Relaxed)
    }

    /// Records that such a job has started. After this the job claims, and checks whether another
    /// one has to be put into the queue.
    pub(crate) fn offer_taken(&self) {
        unless_mutant!(
            "chunk_keep_offer",
            self.is_offered.store(false, Ordering::Relaxed)
        );
    }

    /// Publishes the result of a claimed item.
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
        // Release: a thread that observes the mark observes the result.
        let order = mutant_order!("chunk_relaxed_end", Ordering::Release);
        self.ended[number].store(ENDED, order);
    }

    /// Returns the number of items without a result, counted up to `bound`.
    pub(crate) fn in_flight(&self, bound: usize) -> usize {
        let len = self.len();
        if !self.is_closed() {
            return len.min(bound);
        }
        // From the last item on: the first ones are likely to have ended.
        let unended = (0..len).rev().filter(|&number| !self.has_ended(number));
        unended.take(bound).count()
    }

    /// Returns the mark of this slot's result, which no other result has.
    pub(crate) fn mark(&self, number: usize) -> Mark {
        ptr::from_ref(self).addr() + event::FIRST + number
    }

    /// Returns whether this slot has a result.
    #[inline]
    pub(crate) fn has_ended(&self, number: usize) -> bool {
        let ended = self.ended.get(number);
        ended.is_some_and(|ended| ended.load(Ordering::Acquire) != 0)
    }

    /// Takes a result.
    ///
    /// # Safety
    /// The caller has observed that it has ended, and no other thread takes it.
    #[inline]
    pub(crate) unsafe fn take(&self, number: usize) -> R {
        self.slots[number].with_mut(|slot| {
            // SAFETY: passed on to the caller.
            unsafe { ManuallyDrop::take(&mut (*slot).assume_init_mut().result) }
        })
    }

    /// Takes a result, if it is there and no other thread has won it by this call.
    ///
    /// # Safety
    /// Results of this slot are taken by this function alone.
    pub(crate) unsafe fn race_to_take(&self, number: usize) -> Option<R> {
        let ended = &self.ended[number];
        let won = or_mutant!(
            "chunk_torn_take",
            ended
                .compare_exchange(ENDED, TAKEN, Ordering::Acquire, Ordering::Relaxed)
                .is_ok(),
            {
                let seen = ended.load(Ordering::Acquire);
                ended.store(seen * TAKEN, Ordering::Relaxed);
                seen == ENDED
            }
        );
        // SAFETY: the exchange succeeds once, and only for a result that is there.
        won.then(|| unsafe { self.take(number) })
    }
}
