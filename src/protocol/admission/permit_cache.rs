//! A cache of places: what one thread of the pool has taken ahead, for the jobs that it will bring.
//!
//! # The protocol
//!
//! Its *owner*, that thread, takes from it without writing a line that others write: so a scope's spawn writes
//! the acquired once in so many. Nobody else can take from it, but who finds no place anywhere, or waits for one, has all
//! caches *reclaimed*, under the lock of the admission: what the owner has not spent is free again.
//!
//! `spent` counts what the owner took, ever, and is written by it alone. `ceiling` and `put` are written
//! under the lock, and are the same but during a reclaim: what was put in, ever, and not reclaimed.
//!
//! **The owner spends** by adding one to `spent` first, and looking at `ceiling` after it. If it is not above that, the
//! place is its own. Otherwise a reclaim is under way, or was just made: the owner takes the lock, and looks again; if it
//! is above it still, it takes the one back.
//!
//! **A reclaim** first lowers each `ceiling` to what it sees of `spent`, and looks at `spent` after it. If that is more
//! than before, it raises the ceiling to it, though never above `put`. What is between there and `put` is free.
//!
//! So each of the two announces before it looks, with a fence between, the owner's a light one: at least one
//! of them sees the other. If the owner sees the reclaim, it is decided under the lock. If only the reclaim sees the
//! owner, it leaves that place. This is the protocol of `deque.rs`, on numbers.
//!
//! **For readers.** What lies in a cache is no job's. It is `put - spent`, or nothing if that is below zero: an
//! owner that has announced a place which it will not get. While a reclaim is under way it may be that place less, so who
//! must not find one too many counts under the lock. Who counts what is taken by jobs reads the acquired first, the
//! caches after it, and what was reclaimed last. Then it may find too few, and never too many: what was put
//! in is in the acquired later, and what was reclaimed is counted as that earlier, than it is in or out of the cache.

#[cfg(all(test, loom))]
mod model;

use super::{Admission, PLACE, PlaceSlot, Refusal, SlowPath};
use crate::{
    sync::{AtomicU64, Ordering, asymmetric::Fences, backoff::FullQueue},
    tuning::CACHED_PLACES,
};

/// Fewer are not worth a turn at the lock.
const LEAST: u64 = if cfg!(any(loom, shuttle)) { 2 } else { 4 };

#[derive(Debug, Default)]
pub(super) struct PermitCache {
    spent: AtomicU64,
    ceiling: AtomicU64,
    put: AtomicU64,
    /// The owner's: for how many jobs it does not try to fill the cache.
    full_queue: FullQueue,
}

/// What became of an attempt to spend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spending {
    Done,
    /// There is nothing in it.
    Empty,
    /// A reclaim is in the way: to be decided under the lock.
    Announced,
}

fn above(one: u64, other: u64) -> bool {
    (one.wrapping_sub(other) as i64) > 0
}

impl PermitCache {
    /// By the owner.
    #[inline]
    pub(super) fn spend(&self, fences: Fences) -> Spending {
        let spent = self.spent.load(Ordering::Relaxed);
        if self.ceiling.load(Ordering::Relaxed) == spent {
            return Spending::Empty;
        }
        let spent = spent.wrapping_add(1);
        self.spent.store(spent, Ordering::Relaxed);
        // Pairs with the heavy fence between the two halves of a reclaim.
        unless_mutant!("stock_no_fence_spend", fences.light());
        // Acquire: who spends sees what was done before the place was given back.
        let ceiling = self.ceiling.load(Ordering::Acquire);
        if above(spent, ceiling) && !mutant!("stock_blind") {
            Spending::Announced
        } else {
            Spending::Done
        }
    }

    /// By the owner, under the lock: whether the place that it has announced is its own. If not, that is
    /// taken back.
    pub(super) fn is_ours(&self) -> bool {
        let spent = self.spent.load(Ordering::Relaxed);
        let ours = !above(spent, self.ceiling.load(Ordering::Relaxed));
        if !ours {
            self.spent.store(spent.wrapping_sub(1), Ordering::Relaxed);
        }
        ours
    }

    /// By the owner, under the lock, before the acquired says that these places are taken.
    pub(super) fn put(&self, places: u64) {
        let put = self.put.load(Ordering::Relaxed).wrapping_add(places);
        self.set(put);
    }

    /// Under the lock.
    fn set(&self, put: u64) {
        self.ceiling.store(put, Ordering::Release);
        // Release: who sees what is left after a reclaim sees what was counted as reclaimed.
        self.put.store(put, Ordering::Release);
    }

    /// Under the lock: the first half of a reclaim. False if there is nothing in it.
    pub(super) fn lower(&self) -> bool {
        let spent = self.spent.load(Ordering::Relaxed);
        let is_filled = above(self.put.load(Ordering::Relaxed), spent);
        if is_filled {
            self.ceiling.store(spent, Ordering::Relaxed);
        }
        is_filled
    }

    /// Under the lock, after [`lower`](Self::lower) and a heavy fence: what is left.
    pub(super) fn rest(&self) -> u64 {
        let put = self.put.load(Ordering::Relaxed);
        // Acquire: nothing of the owner's is to be seen, but it costs nothing.
        let spent = self.spent.load(Ordering::Acquire);
        if above(put, spent) {
            put.wrapping_sub(spent)
        } else {
            0
        }
    }

    /// Under the lock, the second half of a reclaim, after what is left was counted as reclaimed.
    pub(super) fn take_out(&self, places: u64) {
        self.set(self.put.load(Ordering::Relaxed).wrapping_sub(places));
    }

    /// How many places are in it.
    pub(super) fn len(&self) -> u64 {
        // Acquire pairs with the Release in `set`.
        let put = self.put.load(Ordering::Acquire);
        let left = put.wrapping_sub(self.spent.load(Ordering::Relaxed));
        if (left as i64) < 0 { 0 } else { left }
    }
}

impl Admission {
    /// As `try_acquire`, on the thread of this slot, if it is one of the pool's.
    #[inline]
    pub(crate) fn try_acquire_here(&self, slot: Option<&PlaceSlot>) -> Result<(), Refusal> {
        match slot {
            Some(slot) => self.try_acquire_from(slot),
            None => self.try_acquire(),
        }
    }

    /// As `try_acquire`, on the thread of this slot: first from its cache, which is filled when there is room.
    #[inline]
    pub(crate) fn try_acquire_from(&self, slot: &PlaceSlot) -> Result<(), Refusal> {
        if self.try_acquire_cached(slot) {
            Ok(())
        } else {
            self.try_acquire_beside(&slot.cache)
        }
    }

    /// The same from the cache alone, as it is. False if it has none.
    #[inline]
    pub(crate) fn try_acquire_cached(&self, slot: &PlaceSlot) -> bool {
        let cache = &slot.cache;
        match cache.spend(*self.fences) {
            Spending::Done => true,
            Spending::Empty => false,
            Spending::Announced => self.prevails(cache),
        }
    }

    /// Whether a place is the calling thread's own that it has announced during a reclaim.
    #[cold]
    fn prevails(&self, cache: &PermitCache) -> bool {
        self.on_slow_path(|_, _| cache.is_ours())
    }

    #[inline(never)]
    fn try_acquire_beside(&self, cache: &PermitCache) -> Result<(), Refusal> {
        if !cache.full_queue.skips() && self.fill(cache) {
            return Ok(());
        }
        self.try_acquire()
    }

    /// Takes a place, and others for the cache of the calling thread, if nobody waits, and it is not likely that they
    /// will have to be reclaimed.
    #[cold]
    pub(super) fn fill(&self, cache: &PermitCache) -> bool {
        let (places, half) = self.cache_sizes();
        let is_filled = places >= LEAST
            && self.on_slow_path(|slow_path, wakes| {
                if slow_path.line.len() > 0 {
                    return false;
                }
                // First, so that who sees the acquired shut sees where the places are.
                cache.put(places - 1);
                let is_filled = self.take_for_cache(slow_path, places, half) || {
                    self.grant_waiters(slow_path, wakes, false);
                    self.take_for_cache(slow_path, places, half)
                };
                if !is_filled {
                    cache.take_out(places - 1);
                }
                is_filled
            });
        if !is_filled {
            let threads = self.slots.len();
            cache.full_queue.found_full(self.capacity(), threads);
        }
        is_filled
    }

    /// Under the lock: takes so many places by what is published, if `half` stay free, or caches were not reclaimed since
    /// so many did.
    fn take_for_cache(&self, slow_path: &mut SlowPath, places: u64, half: u64) -> bool {
        let limit = self.acquired.limit.load(Ordering::Relaxed);
        let is_plenty = self
            .take_some(limit.wrapping_sub(half * PLACE), places)
            .is_ok();
        slow_path.reclaims &= !is_plenty;
        is_plenty || !slow_path.reclaims && self.take_some(limit, places).is_ok()
    }

    /// How many places are taken at once to fill a cache, and how many others must be free then once caches were
    /// reclaimed, until they are. All caches together have at most a quarter of the capacity, while no more threads are
    /// started. So it is seldom that they have
    /// to be reclaimed, which costs a heavy fence: once for each time that the queue runs full from half.
    fn cache_sizes(&self) -> (u64, u64) {
        let capacity = self.capacity();
        if cfg!(any(loom, shuttle)) {
            return (capacity.min(2), 0);
        }
        let slots = self.slots.len().max(1) as u64;
        ((capacity / (4 * slots)).min(CACHED_PLACES), capacity / 2)
    }

    /// Under the lock: what lies in the caches is free again. False if there was nothing.
    pub(super) fn reclaim(&self) -> bool {
        if mutant!("stock_no_recall") {
            return false;
        }
        let caches = || self.slots.iter().map(|slot| &slot.cache);
        let filled = caches().filter(|cache| cache.lower()).count();
        if filled == 0 {
            return false;
        }
        // Pairs with the light fence of `PermitCache::spend`: we see what was spent, or they see the ceiling.
        unless_mutant!("stock_no_fence_recall", self.fences.heavy());
        let mut reclaimed = self.reclaimed.load(Ordering::Relaxed);
        for cache in caches() {
            let rest = cache.rest();
            reclaimed = reclaimed.wrapping_add(rest);
            // In this order: see the head of this file.
            self.reclaimed.store(reclaimed, Ordering::Release);
            cache.take_out(rest);
        }
        true
    }

    /// How many places are in caches.
    pub(super) fn cached(&self) -> u64 {
        self.slots.iter().map(|slot| slot.cache.len()).sum()
    }
}

#[cfg(all(test, not(loom)))]
impl PermitCache {
    /// As if so many places had been put in, and spent.
    pub(super) fn age(&self, places: u64) {
        self.spent.store(places, Ordering::Relaxed);
        self.set(places);
    }
}
