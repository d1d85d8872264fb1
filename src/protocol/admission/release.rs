//! Releases of places, and the grants to waiters that follow from them.

use super::{Admission, PLACE, PlaceSlot, SlowPath, waiters::Standing, wakes::Wakes};
use crate::{
    sync::{AtomicU64, AtomicUsize, Ordering, bump, fence},
    tuning::BATCH_PART,
};

/// The levels of `WakeMode`: no waiter; batched waiters only; a waiter is owed the next place;
/// every release is watched for (see [`Admission::watch`]).
pub(super) const NO_WAITER: usize = 0;
const BATCHED: usize = 1;
pub(super) const PROMPT: usize = 2;
const WATCHED: usize = 3;

/// What a thread that releases a place observes of the waiters.
#[derive(Debug)]
pub(super) struct WakeMode {
    pub(super) level: AtomicUsize,
    /// The value of `sum` at which the first waiter in the line is due, if it is batched.
    pub(super) due: AtomicU64,
}

impl Admission {
    /// Releases a place because its job starts on the thread of this slot.
    ///
    /// Only that thread may call it. Returns whether there is no waiter. If it returns false, the
    /// caller has to call `attend`.
    #[inline]
    pub(crate) fn release_unattended(&self, slot: &PlaceSlot) -> bool {
        bump(&slot.released);
        // Pairs with the fences in `join_line`, `insist` and `watch`: we see the wake_mode, or they
        // see the place.
        self.fences.light();
        self.wake_mode.level.load(Ordering::Relaxed) == NO_WAITER
    }

    /// Grants what the thread of this slot released, if that is due. Returns whether
    /// [`Admission::watch`] was called.
    #[cold]
    pub(crate) fn attend(&self, slot: &PlaceSlot) -> bool {
        let wake_mode = self.wake_mode.level.load(Ordering::Relaxed);
        if wake_mode == NO_WAITER || wake_mode == WATCHED {
            return wake_mode == WATCHED;
        }
        if wake_mode == BATCHED {
            // Sums all slots once in this thread's share of a batch: the other threads may have
            // released fewer places, or none.
            let ungranted = slot.ungranted.load(Ordering::Relaxed) + PLACE;
            let share = (self.batch() / (2 * self.slots.len() as u64)).max(PLACE);
            let is_time = ungranted >= share;
            let ungranted = if is_time { 0 } else { ungranted };
            slot.ungranted.store(ungranted, Ordering::Relaxed);
            let due = self.wake_mode.due.load(Ordering::Relaxed);
            if !is_time || (self.sum().wrapping_sub(due) as i64) < 0 {
                return false;
            }
        }
        self.flush();
        false
    }

    /// Releases a place, and attends to the waiters if there are any.
    #[cfg(test)]
    pub(crate) fn release_from(&self, slot: usize) -> bool {
        let slot = self.slot(slot);
        !self.release_unattended(slot) && self.attend(slot)
    }

    /// Makes each later release return that it is watched for.
    pub(crate) fn watch(&self) {
        self.on_slow_path(|slow_path, _| {
            slow_path.watched = true;
            self.set_wake_mode(slow_path);
            // Pairs with the fence in `release_unattended`: they see the wake_mode, or we see the
            // place.
            unless_mutant!("admission_no_fence_watch", self.fences.heavy());
        });
    }

    /// Releases a place from any thread: its job was cancelled or dropped, or it was not used.
    pub(crate) fn release(&self) {
        self.elsewhere.fetch_add(1, Ordering::Release);
        // Pairs with the fences in `join_line` and `insist`, as in `release_unattended`.
        fence(Ordering::SeqCst);
        self.grant_waiters_if_any();
    }

    /// Grants all free places to the waiters, batched or not. A thread that runs out of jobs calls
    /// it.
    #[inline]
    pub(crate) fn grant_waiters_if_any(&self) {
        if self.wake_mode.level.load(Ordering::Relaxed) != NO_WAITER {
            self.flush();
        }
    }

    #[cold]
    fn flush(&self) {
        self.on_slow_path(|slow_path, wakes| self.grant_waiters(slow_path, wakes, true));
    }

    /// Returns what `limit` is once everything that was released is summed.
    pub(super) fn sum(&self) -> u64 {
        self.capacity()
            .wrapping_add(self.given_back())
            .wrapping_add(self.reclaimed.load(Ordering::Acquire))
            .wrapping_mul(PLACE)
    }

    /// Returns the free places, in the units of `acquired`, if `word` is its value.
    pub(super) fn free_beside(&self, word: u64) -> u64 {
        let free = self.sum().wrapping_sub(word) as i64;
        u64::try_from(free).unwrap_or(0)
    }

    /// Sums, grants places to the waiters that are due, and publishes the rest as `limit`.
    ///
    /// With `all`, every waiter is due. Without it, a batched waiter is due only when a batch was
    /// released since the first one joined the line.
    pub(super) fn grant_waiters(&self, slow_path: &mut SlowPath, wakes: &mut Wakes, all: bool) {
        if slow_path.line.len() > 0 {
            slow_path.reclaims |= self.reclaim();
        }
        let limit = self.sum();
        while let Some(front) = slow_path.line.front() {
            let given_back = limit.wrapping_sub(front.since) as i64;
            let due = all || slow_path.line.prompt() > 0 || given_back >= self.batch() as i64;
            if !due || self.take(limit).is_err() {
                break;
            }
            slow_path.held += u64::from(front.held);
            if let Some(wake) = slow_path.line.pop(Standing::Granted) {
                wakes.push(wake);
            }
        }
        self.acquired.limit.store(limit, Ordering::Release);
        self.set_wake_mode(slow_path);
    }

    pub(super) fn set_wake_mode(&self, slow_path: &SlowPath) {
        let wake_mode = match (slow_path.line.len(), slow_path.line.prompt()) {
            _ if slow_path.watched => WATCHED,
            (0, _) => NO_WAITER,
            (_, 0) => BATCHED,
            _ => PROMPT,
        };
        if let Some(front) = slow_path.line.front() {
            let due = front.since.wrapping_add(self.batch());
            self.wake_mode.due.store(due, Ordering::Relaxed);
        }
        if self.wake_mode.level.load(Ordering::Relaxed) != wake_mode {
            self.wake_mode.level.store(wake_mode, Ordering::Relaxed);
        }
    }

    /// Returns the places that make a batch, in the units of `acquired`.
    pub(super) fn batch(&self) -> u64 {
        (self.capacity() / BATCH_PART).max(1) * PLACE
    }
}
