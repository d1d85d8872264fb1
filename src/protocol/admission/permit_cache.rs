//! The permit cache: places that one thread of the pool has taken in advance, for the jobs that it
//! will submit.
//!
//! # The protocol
//!
//! The *owner* is that thread. It takes from its cache without a write to a shared cache line, so a
//! scope's spawns write `acquired` once for each fill. No other thread takes from the cache. A
//! thread that finds no place anywhere, or waits for one, *reclaims* all caches under the lock of
//! the admission: what the owners have not spent is free again.
//!
//! `spent` counts what the owner ever took, and only the owner writes it. `ceiling` and `put` are
//! written under the lock, and are equal except during a reclaim. They count what was ever put in
//! and not reclaimed.
//!
//! **The owner spends** by adding one to `spent` first, and loading `ceiling` after it. If `spent`
//! is not above `ceiling`, the place is its own. Otherwise a reclaim is under way, or has just
//! ended. The owner then takes the lock and loads `ceiling` again. If `spent` is above it still,
//! the owner takes the one back.
//!
//! **A reclaim** first lowers each `ceiling` to the value of `spent` that it observes, and loads
//! `spent` again after it. If `spent` has grown, the reclaim leaves what was spent, though never
//! more than `put`. What is between `spent` and `put` is free.
//!
//! So each of the two announces before it checks, with a fence between, the owner's a light one. At
//! least one of them observes the other. If the owner observes the reclaim, the lock decides. If
//! only the reclaim observes the owner, it leaves that place. This is the protocol of `deque.rs`,
//! on numbers.
//!
//! **For readers.** No job has a place that lies in a cache. There are `put - spent` of them, or
//! none if that is negative: then an owner has announced a place that it will not get. During a
//! reclaim the difference may be one less for that reason, so a reader that must not count one
//! place too many takes the lock. A reader that counts the places taken by jobs loads `acquired`
//! first, the caches next, and `reclaimed` last. It may then count too few, and never too many. A
//! fill counts a place in the cache before `acquired` does, and a reclaim counts it as reclaimed
//! before it leaves the cache.

#[cfg(all(test, loom))]
mod model;

use super::{Admission, PLACE, PlaceSlot, Refusal, SlowPath};
use crate::{
    sync::{AtomicU64, Ordering, asymmetric::Fences, backoff::FullQueue},
    tuning::{BATCH_PART, CACHED_PLACES, LEAST_CACHED},
};

#[derive(Debug, Default)]
pub(super) struct PermitCache {
    spent: AtomicU64,
    ceiling: AtomicU64,
    put: AtomicU64,
    /// The owner's backoff: for how many jobs it does not try to fill the cache.
    full_queue: FullQueue,
}

/// The outcome of an attempt to spend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spending {
    Done,
    /// The cache is empty.
    Empty,
    /// A reclaim is in the way: the lock has to decide.
    Announced,
}

fn above(one: u64, other: u64) -> bool {
    (one.wrapping_sub(other) as i64) > 0
}

impl PermitCache {
    /// Takes one place. By the owner.
    #[inline]
    pub(super) fn spend(&self, fences: Fences) -> Spending {
        let spent = self.spent.load(Ordering::Relaxed);
        if self.ceiling.load(Ordering::Relaxed) == spent {
            return Spending::Empty;
        }
        let spent = spent.wrapping_add(1);
        self.spent.store(spent, Ordering::Relaxed);
        // Pairs with the heavy fence between the two halves of a reclaim: we see the ceiling, or
        // they see what was spent.
        unless_mutant!("cache_no_fence_spend", fences.light());
        // Acquire: a thread that spends observes what was done before the place was released.
        let ceiling = self.ceiling.load(Ordering::Acquire);
        if above(spent, ceiling) && !mutant!("cache_blind") {
            Spending::Announced
        } else {
            Spending::Done
        }
    }

    /// Returns whether the place that the owner has announced is its own. If not, takes the
    /// announcement back. By the owner, under the lock.
    pub(super) fn is_ours(&self) -> bool {
        let spent = self.spent.load(Ordering::Relaxed);
        let ours = !above(spent, self.ceiling.load(Ordering::Relaxed));
        if !ours {
            self.spent.store(spent.wrapping_sub(1), Ordering::Relaxed);
        }
        ours
    }

    /// Puts in places. By the owner, under the lock, before `acquired` counts them as taken.
    pub(super) fn put(&self, places: u64) {
        let put = self.put.load(Ordering::Relaxed).wrapping_add(places);
        self.set(put);
    }

    /// Sets both counts. Under the lock.
    fn set(&self, put: u64) {
        self.ceiling.store(put, Ordering::Release);
        // Release: a thread that observes what is left after a reclaim observes what was counted as
        // reclaimed.
        self.put.store(put, Ordering::Release);
    }

    /// The first half of a reclaim. Returns false if the cache is empty. Under the lock.
    pub(super) fn lower(&self) -> bool {
        let spent = self.spent.load(Ordering::Relaxed);
        let is_filled = above(self.put.load(Ordering::Relaxed), spent);
        if is_filled {
            self.ceiling.store(spent, Ordering::Relaxed);
        }
        is_filled
    }

    /// Returns what is left. Under the lock, after [`lower`](Self::lower) and a heavy fence.
    pub(super) fn rest(&self) -> u64 {
        let put = self.put.load(Ordering::Relaxed);
        // Acquire: no write of the owner has to be observed, but it is free.
        let spent = self.spent.load(Ordering::Acquire);
        if above(put, spent) {
            put.wrapping_sub(spent)
        } else {
            0
        }
    }

    /// The second half of a reclaim, after the places were counted as reclaimed. Under the lock.
    pub(super) fn take_out(&self, places: u64) {
        self.set(self.put.load(Ordering::Relaxed).wrapping_sub(places));
    }

    /// Returns the number of places in the cache.
    pub(super) fn len(&self) -> u64 {
        // Acquire pairs with the Release in `set`.
        let put = self.put.load(Ordering::Acquire);
        let left = put.wrapping_sub(self.spent.load(Ordering::Relaxed));
        if (left as i64) < 0 { 0 } else { left }
    }
}

impl Admission {
    /// As `try_acquire`. Uses the cache of the slot if the calling thread is one of the pool's.
    #[inline]
    pub(crate) fn try_acquire_here(&self, slot: Option<&PlaceSlot>) -> Result<(), Refusal> {
        match slot {
            Some(slot) => self.try_acquire_from(slot),
            None => self.try_acquire(),
        }
    }

    /// As `try_acquire`, on the thread of this slot: takes from its cache first, and fills it if
    /// there is room.
    #[inline]
    pub(crate) fn try_acquire_from(&self, slot: &PlaceSlot) -> Result<(), Refusal> {
        if self.try_acquire_cached(slot) {
            Ok(())
        } else {
            self.try_acquire_beside(&slot.cache)
        }
    }

    /// Takes a place from the cache alone, without filling it. Returns false if it is empty.
    #[inline]
    pub(crate) fn try_acquire_cached(&self, slot: &PlaceSlot) -> bool {
        let cache = &slot.cache;
        match cache.spend(*self.fences) {
            Spending::Done => true,
            Spending::Empty => false,
            Spending::Announced => self.keeps_announced(cache),
        }
    }

    /// Returns whether a place that the calling thread has announced during a reclaim is its own.
    #[cold]
    fn keeps_announced(&self, cache: &PermitCache) -> bool {
        self.on_slow_path(|_, _| cache.is_ours())
    }

    #[inline(never)]
    fn try_acquire_beside(&self, cache: &PermitCache) -> Result<(), Refusal> {
        if !cache.full_queue.skips() && self.fill(cache) {
            return Ok(());
        }
        self.try_acquire()
    }

    /// Takes a place, and others for the cache of the calling thread, if the line is empty and a
    /// reclaim of them is unlikely.
    #[cold]
    pub(super) fn fill(&self, cache: &PermitCache) -> bool {
        let (places, half) = self.cache_sizes();
        let is_filled = places >= LEAST_CACHED
            && self.on_slow_path(|slow_path, wakes| {
                if slow_path.line.len() > 0 {
                    return false;
                }
                // Before `take_for_cache`: a thread that observes these places as taken observes
                // them in the cache.
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

    /// Takes `places` places below the published limit. Requires that `half` stay free, unless no
    /// cache was reclaimed since a fill last left that many free. Under the lock.
    fn take_for_cache(&self, slow_path: &mut SlowPath, places: u64, half: u64) -> bool {
        let limit = self.acquired.limit.load(Ordering::Relaxed);
        let is_plenty = self
            .take_some(limit.wrapping_sub(half * PLACE), places)
            .is_ok();
        slow_path.reclaims &= !is_plenty;
        is_plenty || !slow_path.reclaims && self.take_some(limit, places).is_ok()
    }

    /// Returns how many places one fill takes, and how many others must stay free once caches were
    /// reclaimed.
    ///
    /// All caches together have at most one [`BATCH_PART`] of the capacity, while no more threads
    /// are started. So a reclaim, which costs a heavy fence, is rare: one for each time that the
    /// queue fills up from half.
    fn cache_sizes(&self) -> (u64, u64) {
        let capacity = self.capacity();
        if cfg!(any(loom, shuttle)) {
            return (capacity.min(2), 0);
        }
        let slots = self.slots.len().max(1) as u64;
        (
            (capacity / (BATCH_PART * slots)).min(CACHED_PLACES),
            capacity / 2,
        )
    }

    /// Makes the places in all caches free again. Returns false if there were none. Under the lock.
    pub(super) fn reclaim(&self) -> bool {
        if mutant!("cache_no_reclaim") {
            return false;
        }
        let caches = || self.slots.iter().map(|slot| &slot.cache);
        let filled = caches().filter(|cache| cache.lower()).count();
        if filled == 0 {
            return false;
        }
        // Pairs with the light fence of `PermitCache::spend`: we see what was spent, or they see
        // the ceiling.
        unless_mutant!("cache_no_fence_reclaim", self.fences.heavy());
        let mut reclaimed = self.reclaimed.load(Ordering::Relaxed);
        for cache in caches() {
            let rest = cache.rest();
            reclaimed = reclaimed.wrapping_add(rest);
            // The order matters: see the head of this file.
            self.reclaimed.store(reclaimed, Ordering::Release);
            cache.take_out(rest);
        }
        true
    }

    /// Returns the number of places in all caches.
    pub(super) fn cached(&self) -> u64 {
        self.slots.iter().map(|slot| slot.cache.len()).sum()
    }
}

#[cfg(all(test, not(loom)))]
impl PermitCache {
    /// Sets the counts as if `places` places had been put in and spent.
    pub(super) fn age(&self, places: u64) {
        self.spent.store(places, Ordering::Relaxed);
        self.set(places);
    }
}
