//! The semaphore in front of the queue: one count of places, and one line of waiters.
//!
//! The README beside this file describes its protocol, and why no place is lost in it.
#![doc = include_str!("README.md")]

mod counts;
#[cfg(all(test, loom))]
mod model;
mod permit_cache;
mod release;
#[cfg(all(test, not(loom)))]
mod tests;
mod wait;
mod waiters;
mod wakes;

use crossbeam_utils::CachePadded;

pub(crate) use self::{counts::Ended, wait::Admitted, waiters::WaiterId};
use self::{
    permit_cache::PermitCache,
    release::{NO_WAITER, WakeMode},
    waiters::{Standing, Waiters},
    wakes::Wakes,
};
use crate::{
    error::AdmissionError,
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, Rank, asymmetric::Fences, lock, slots::Slots},
};

/// The thread that keeps a job over the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The pool's thread of this index. It keeps a bounded number of such jobs.
    Thread(u32),
    /// None: a permit, or the user, had the job queued: no thread keeps it.
    Queue,
}

/// One taken place, in the units of `acquired` and `limit`; the bit below is the closed flag.
const PLACE: u64 = 2;
const CLOSED: u64 = 1;

/// Why no place was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

impl From<Refusal> for AdmissionError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => AdmissionError::Full,
            Refusal::Closed => AdmissionError::Closed,
        }
    }
}

/// The places that one thread of the pool released, and those that it cached. Written by that
/// thread, and by a reclaim of the cache.
#[derive(Debug, Default)]
pub(crate) struct PlaceSlot {
    released: AtomicU64,
    /// Places released while only batched waiters stood in the line, since this thread last checked
    /// whether a batch is free.
    ungranted: AtomicU64,
    cache: PermitCache,
}

#[derive(Debug)]
struct AcquiredCount {
    word: AtomicU64,
    limit: AtomicU64,
}

/// The semaphore.
#[derive(Debug)]
pub(crate) struct Admission {
    acquired: CachePadded<AcquiredCount>,
    wake_mode: CachePadded<WakeMode>,
    capacity: AtomicU64,
    slots: Slots<CachePadded<PlaceSlot>>,
    slow_path: CachePadded<Mutex<SlowPath>>,
    elsewhere: CachePadded<AtomicU64>,
    /// Places that were put into caches and reclaimed. Written under the lock.
    reclaimed: AtomicU64,
    fences: CachePadded<Fences>,
}

/// What the lock protects.
#[derive(Debug)]
struct SlowPath {
    line: Waiters,
    /// Places that were taken and have no job, because they belong to a permit or will.
    held: u64,
    /// Places that were released without ever having had a job. `elsewhere` counts them too.
    unused: u64,
    /// No worker is left to run a job.
    stopped: bool,
    /// Every release of a place is watched for: see [`Admission::watch`].
    watched: bool,
    /// Caches were reclaimed for a thread that found no other place, and none was filled since
    /// while half of the places were free.
    reclaims: bool,
}

impl Admission {
    /// Returns a semaphore of `capacity` places, for a pool whose threads below the index
    /// `first_spare` are not spare.
    pub(crate) fn new(capacity: usize, first_spare: usize, fences: Fences) -> Self {
        Self {
            acquired: CachePadded::new(AcquiredCount {
                word: AtomicU64::new(0),
                limit: AtomicU64::new(capacity as u64 * PLACE),
            }),
            wake_mode: CachePadded::new(WakeMode {
                level: AtomicUsize::new(NO_WAITER),
                due: AtomicU64::new(0),
            }),
            capacity: AtomicU64::new(capacity as u64),
            slow_path: CachePadded::new(Mutex::new(
                Rank::Admission,
                SlowPath {
                    line: Waiters::new(),
                    held: 0,
                    unused: 0,
                    stopped: false,
                    watched: false,
                    reclaims: false,
                },
            )),
            elsewhere: CachePadded::new(AtomicU64::new(0)),
            reclaimed: AtomicU64::new(0),
            fences: CachePadded::new(fences),
            slots: Slots::new(first_spare),
        }
    }

    /// As `new`, with all `slots` threads entered.
    #[cfg(test)]
    pub(crate) fn with_slots(capacity: usize, slots: usize) -> Self {
        let admission = Self::new(capacity, slots, Fences::PLAIN);
        for index in 0..slots {
            admission.slots.enter(index);
        }
        admission
    }

    /// Returns the slot that the calling thread, of this index, writes.
    pub(crate) fn slot(&self, index: usize) -> &PlaceSlot {
        self.slots.enter(index)
    }

    /// Takes a place if one is free, without the lock and without summing.
    #[inline]
    fn take(&self, limit: u64) -> Result<(), Refusal> {
        self.take_some(limit, 1)
    }

    /// Takes `places` places, or none.
    #[inline]
    fn take_some(&self, limit: u64, places: u64) -> Result<(), Refusal> {
        // Acquire: a thread that takes a released place observes what was done before the release.
        let mut word = self.acquired.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(Refusal::Closed);
            }
            if (limit.wrapping_sub(word) as i64) < (places * PLACE) as i64 {
                return Err(Refusal::Full);
            }
            if mutant!("admission_torn_take") {
                self.acquired.word.store(word + PLACE, Ordering::Release);
                return Ok(());
            }
            match self.acquired.word.compare_exchange_weak(
                word,
                word.wrapping_add(places * PLACE),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Takes a place if one is free. Never blocks until one is.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<(), Refusal> {
        match self.take(self.acquired.limit.load(Ordering::Acquire)) {
            Err(Refusal::Full) => self.try_acquire_summing(),
            decided => decided,
        }
    }

    /// As `try_acquire`, but without summing: it may return `Full` where places were released or
    /// lie in a cache.
    #[inline]
    pub(crate) fn try_acquire_unsummed(&self) -> Result<(), Refusal> {
        self.take(self.acquired.limit.load(Ordering::Acquire))
    }

    #[cold]
    fn try_acquire_summing(&self) -> Result<(), Refusal> {
        // Decides the commonest case, a queue that is still full, without the lock. The order
        // matters: if the load of `acquired` observes the places that a thread took for its cache,
        // the later loads find them cached or reclaimed.
        let word = self.acquired.word.load(Ordering::Acquire);
        let is_stocked = self.cached() > 0 && !mutant!("cache_unseen");
        if !is_stocked && self.free_beside(word) == 0 {
            return if self.is_closed() {
                Err(Refusal::Closed)
            } else {
                Err(Refusal::Full)
            };
        }
        self.on_slow_path(|slow_path, wakes| self.take_in_turn(slow_path, wakes))
    }

    /// As `try_acquire`, for a place that is to be held.
    pub(crate) fn try_acquire_held(&self) -> Result<(), Refusal> {
        self.on_slow_path(|slow_path, wakes| {
            self.take_in_turn(slow_path, wakes)?;
            slow_path.held += u64::from(!mutant!("admission_no_hold"));
            Ok(())
        })
    }

    /// Calls `f` under the lock, and wakes after it the waiters that `f` has collected.
    fn on_slow_path<R>(&self, f: impl FnOnce(&mut SlowPath, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::new();
        let mut slow_path = lock(&self.slow_path);
        let result = f(&mut slow_path, &mut wakes);
        drop(slow_path);
        wakes.wake_all();
        result
    }

    /// Grants places to the waiters that are due, then takes one for the caller.
    fn take_in_turn(&self, slow_path: &mut SlowPath, wakes: &mut Wakes) -> Result<(), Refusal> {
        if slow_path.line.len() == 0 {
            // The released places are summed only when they are needed: a sum loads every slot.
            match self.take(self.acquired.limit.load(Ordering::Relaxed)) {
                Err(Refusal::Full) => {}
                decided => return decided,
            }
        }
        self.grant_waiters(slow_path, wakes, false);
        match self.take(self.acquired.limit.load(Ordering::Relaxed)) {
            Err(Refusal::Full) if self.reclaim() => {
                slow_path.reclaims = true;
                self.grant_waiters(slow_path, wakes, false);
                self.take(self.acquired.limit.load(Ordering::Relaxed))
            }
            decided => decided,
        }
    }

    /// Counts a place as held whose job runs without it.
    pub(crate) fn hold(&self) {
        lock(&self.slow_path).held += 1;
    }

    /// Ends the hold of a place: it gets its job, or its owner releases it. Returns false if no
    /// worker is left to run the job.
    #[must_use]
    pub(crate) fn unhold(&self) -> bool {
        let mut slow_path = lock(&self.slow_path);
        slow_path.held -= 1;
        !slow_path.stopped || mutant!("admission_stop_blind")
    }

    /// Releases a held place that never had a job.
    pub(crate) fn release_held(&self) -> Ended {
        let mut slow_path = lock(&self.slow_path);
        slow_path.unused = slow_path.unused.wrapping_add(1);
        if mutant!("admission_unused_first") {
            drop(slow_path);
            slow_path = lock(&self.slow_path);
        }
        slow_path.held -= 1;
        drop(slow_path);
        self.release();
        Ended::new()
    }

    /// Releases a place whose job runs without it, after `unhold`.
    pub(crate) fn release_unused(&self) {
        let mut slow_path = lock(&self.slow_path);
        slow_path.unused = slow_path.unused.wrapping_add(1);
        drop(slow_path);
        self.release();
    }

    /// Counts a job that is queued over the bound, by calling `count`. Refuses it if no worker is
    /// left, or if `open` is required and the pool is closed.
    ///
    /// Runs under the lock: a pool that stops observes the job, or the job observes the stop.
    pub(crate) fn overdraw(&self, open: bool, count: impl FnOnce()) -> Result<(), Refusal> {
        let slow_path = lock(&self.slow_path);
        let is_refused =
            (slow_path.stopped && !mutant!("admission_overdraw_blind")) || open && self.is_closed();
        if is_refused {
            return Err(Refusal::Closed);
        }
        count();
        Ok(())
    }

    /// Stops a closed pool if no job is outstanding. Returns true for the one call that stops it.
    ///
    /// `counts` returns the jobs without a place and the ended ones, and reads the ended ones
    /// first.
    pub(crate) fn try_stop(&self, counts: impl FnOnce() -> (u64, u64)) -> bool {
        debug_assert!(self.is_closed());
        let mut slow_path = lock(&self.slow_path);
        if slow_path.stopped && !mutant!("admission_stop_twice") {
            return false;
        }
        // `close` may have set the bit, and not reclaimed the caches yet.
        unless_mutant!("cache_open", self.reclaim());
        let (unplaced, ended) = counts();
        slow_path.stopped = self.outstanding_at(&slow_path, unplaced, ended) == 0;
        slow_path.stopped
    }

    /// Refuses every later submitter, and wakes all waiters.
    pub(crate) fn close(&self) {
        self.acquired.word.fetch_or(CLOSED, Ordering::AcqRel);
        if mutant!("admission_close_peeks")
            && self.wake_mode.level.load(Ordering::Relaxed) == NO_WAITER
        {
            return;
        }
        self.on_slow_path(|slow_path, wakes| {
            self.reclaim();
            while let Some(wake) = slow_path.line.pop(Standing::Closed) {
                wakes.push(wake);
            }
            self.set_wake_mode(slow_path);
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.acquired.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Changes the capacity. Below the present depth, no submitter is admitted until the queue has
    /// drained.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.on_slow_path(|slow_path, wakes| {
            self.capacity.store(capacity as u64, Ordering::Relaxed);
            self.reclaim();
            unless_mutant!(
                "admission_resize_silent",
                self.grant_waiters(slow_path, wakes, true)
            );
        });
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }
}
