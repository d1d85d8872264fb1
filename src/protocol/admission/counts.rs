//! What is read of the admission: how many places are taken, by whom, and how many jobs are left.

use super::{Admission, PLACE, PlaceSlot, SlowPath};
use crate::sync::{Ordering, lock};

impl PlaceSlot {
    /// The places that its thread gave back. On that thread.
    #[cfg(not(loom))]
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }
}

impl Admission {
    /// The jobs that were let in and have not ended, held places not counted, if `unplaced` came in
    /// without a place and `ended` have ended.
    pub(crate) fn outstanding(&self, unplaced: u64, ended: u64) -> u64 {
        self.outstanding_at(&lock(&self.slow_path), unplaced, ended)
    }

    pub(super) fn outstanding_at(&self, slow_path: &SlowPath, unplaced: u64, ended: u64) -> u64 {
        let outstanding = self
            .taken_on_slow_path()
            .wrapping_add(unplaced)
            .wrapping_sub(slow_path.unused)
            .wrapping_sub(slow_path.held)
            .wrapping_sub(ended);
        // The taken are counted with a bit less than the others: that bit is as the one below. It may be the
        // sign, for who has read the ended before.
        (outstanding.wrapping_mul(PLACE) as i64 / PLACE as i64) as u64
    }

    /// The places that are taken by jobs, or by threads that are about to bring one.
    pub(crate) fn queued(&self) -> u64 {
        let slow_path = lock(&self.slow_path);
        self.depth_on_slow_path().saturating_sub(slow_path.held)
    }

    /// All places that were ever taken, for jobs or for caches.
    pub(crate) fn drawn(&self) -> u64 {
        self.acquired.word.load(Ordering::Acquire) / PLACE
    }

    /// All places that were ever taken for jobs, or fewer.
    pub(crate) fn taken(&self) -> u64 {
        // An owner that a reclaim beats to a place has announced it, and takes that back.
        let _desk = (!mutant!("stock_count_aloud")).then(|| lock(&self.slow_path));
        self.taken_on_slow_path()
    }

    /// The same, under the lock.
    fn taken_on_slow_path(&self) -> u64 {
        // In this order: see `cache.rs`.
        let drawn = self.drawn();
        let cached = self.cached();
        let reclaimed = self.reclaimed.load(Ordering::Acquire);
        drawn.wrapping_sub(cached).wrapping_sub(reclaimed)
    }

    /// All places that were ever given back.
    pub(crate) fn given_back(&self) -> u64 {
        // Acquire pairs with the Release of `bump` and of `release`.
        self.slots
            .iter()
            .map(|slot| slot.released.load(Ordering::Acquire))
            .fold(self.elsewhere.load(Ordering::Acquire), u64::wrapping_add)
    }

    /// The places that one thread of the pool gave back, which is the jobs that it started with a place.
    pub(crate) fn given_back_by(&self, slot: usize) -> u64 {
        self.slots[slot].released.load(Ordering::Acquire)
    }

    /// The places that are taken now. Never more than the capacity, unless that was lowered.
    pub(crate) fn depth(&self) -> u64 {
        let _desk = lock(&self.slow_path);
        self.depth_on_slow_path()
    }

    /// The same, under the lock.
    fn depth_on_slow_path(&self) -> u64 {
        // In this order: what is given back in between makes it less, never more.
        let taken = self.taken_on_slow_path();
        difference(taken, self.given_back())
    }

    /// The places that are taken now, and those in caches. Never less than there are.
    pub(crate) fn depth_with_caches(&self) -> u64 {
        // In the other order.
        let given_back = self.given_back();
        let reclaimed = self.reclaimed.load(Ordering::Acquire);
        difference(self.drawn(), given_back.wrapping_add(reclaimed))
    }

    /// How many stand in the line.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.slow_path).line.len()
    }
}

/// How many of those that were taken are not given back, where the taken are counted with a bit less.
fn difference(taken: u64, given_back: u64) -> u64 {
    let difference = taken.wrapping_sub(given_back) & (u64::MAX / PLACE);
    if difference > u64::MAX / PLACE / 2 {
        0
    } else {
        difference
    }
}
