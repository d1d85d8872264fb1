//! The counts of the admission: how many places are taken, by which kind of holder, and how many
//! jobs are left.

use super::{Admission, PLACE, PlaceSlot, SlowPath};
use crate::sync::{Ordering, lock};

impl PlaceSlot {
    /// Returns the places that its thread released. On that thread.
    #[cfg(not(loom))]
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }
}

/// A job has ended, or a held place was released, and that may have been the last one for which a
/// shutdown waits. `Inner::check_drained` uses it up, or `Current::leave_to_loop`.
#[must_use = "a shutdown may wait for it"]
pub(crate) struct Ended(());

impl Ended {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl Admission {
    /// Returns the jobs that were admitted and have not ended, without the held places. `unplaced`
    /// jobs came in without a place, and `ended` jobs have ended.
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
        // Taken places are counted with one bit less than the others, so the highest bit of the
        // difference repeats the one below. It may be the sign, if the caller has read `ended`
        // before.
        (outstanding.wrapping_mul(PLACE) as i64 / PLACE as i64) as u64
    }

    /// Returns the places that are taken by jobs, or by threads that are about to push one.
    pub(crate) fn queued(&self) -> u64 {
        let slow_path = lock(&self.slow_path);
        self.depth_on_slow_path().saturating_sub(slow_path.held)
    }

    /// Returns all places that were ever taken, for jobs or for caches.
    pub(crate) fn drawn(&self) -> u64 {
        self.acquired.word.load(Ordering::Acquire) / PLACE
    }

    /// Returns all places that were ever taken for jobs, or fewer.
    pub(crate) fn taken(&self) -> u64 {
        // An owner that loses a place to a reclaim has announced it already, and takes that back
        // under the lock.
        let _slow_path = (!mutant!("cache_count_unlocked")).then(|| lock(&self.slow_path));
        self.taken_on_slow_path()
    }

    /// As `taken`, under the lock.
    fn taken_on_slow_path(&self) -> u64 {
        // The order matters: see `permit_cache.rs`.
        let drawn = self.drawn();
        let cached = self.cached();
        let reclaimed = self.reclaimed.load(Ordering::Acquire);
        drawn.wrapping_sub(cached).wrapping_sub(reclaimed)
    }

    /// Returns all places that were ever released.
    pub(crate) fn given_back(&self) -> u64 {
        // Acquire pairs with the Release of `bump` and of `release`.
        self.slots
            .iter()
            .map(|slot| slot.released.load(Ordering::Acquire))
            .fold(self.elsewhere.load(Ordering::Acquire), u64::wrapping_add)
    }

    /// Returns the places that one thread of the pool released: the jobs that it started with a
    /// place.
    pub(crate) fn given_back_by(&self, slot: usize) -> u64 {
        self.slots[slot].released.load(Ordering::Acquire)
    }

    /// Returns the places that are taken now. Never more than the capacity, unless that was
    /// lowered.
    pub(crate) fn depth(&self) -> u64 {
        let _slow_path = lock(&self.slow_path);
        self.depth_on_slow_path()
    }

    /// As `depth`, under the lock.
    fn depth_on_slow_path(&self) -> u64 {
        // The order matters: a release in between makes the result less, never more.
        let taken = self.taken_on_slow_path();
        difference(taken, self.given_back())
    }

    /// Returns the places that are taken now or lie in caches. Never fewer than there are.
    pub(crate) fn depth_with_caches(&self) -> u64 {
        // The opposite order of `depth_on_slow_path`.
        let given_back = self.given_back();
        let reclaimed = self.reclaimed.load(Ordering::Acquire);
        difference(self.drawn(), given_back.wrapping_add(reclaimed))
    }

    /// Returns the number of waiters in the line.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.slow_path).line.len()
    }
}

/// Returns how many of the taken places are not released, where the taken ones are counted with one
/// bit less.
fn difference(taken: u64, given_back: u64) -> u64 {
    let difference = taken.wrapping_sub(given_back) & (u64::MAX / PLACE);
    if difference > u64::MAX / PLACE / 2 {
        0
    } else {
        difference
    }
}
