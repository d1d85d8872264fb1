//! The bounded door in front of the queue: one global semaphore, its waiters in one line.
//! Its protocol, and why nothing is lost in it, is told in the README beside this file.
#![doc = include_str!("README.md")]

mod counts;
#[cfg(all(test, loom))]
mod model;
mod stock;
#[cfg(all(test, not(loom)))]
mod tests;
mod wait;
mod waiters;
mod wakes;
pub(crate) mod yielders;

use crossbeam_utils::CachePadded;

pub(crate) use self::waiters::WaiterId;
use self::{
    stock::Stock,
    waiters::{Standing, Waiters},
    wakes::Wakes,
};
use crate::{
    error::AdmissionError,
    protocol::admission::yielders::Yielders,
    sync::{self, AtomicU64, AtomicUsize, Mutex, Ordering, bump, fence, lock, slots::Slots},
};

/// The thread that keeps a job over the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The pool's thread of this index, which keeps no more than so many.
    Thread(u32),
    /// None: a permit, or the user, had the job queued.
    Nobody,
}

/// One taken place, in the units of `gate` and `limit`; the bit below is the closed flag.
const PLACE: u64 = 2;
const CLOSED: u64 = 1;

/// Nobody waits; only the patient do; somebody is owed the next place; somebody waits for the
/// queue to be empty.
const NOBODY: usize = 0;
const PATIENT: usize = 1;
const EAGER: usize = 2;
const WATCHED: usize = 3;

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

/// What one thread of the pool gave back, and what it has ahead. Nobody else writes here, but who recalls the stock.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    freed: AtomicU64,
    /// Places given back while only patient waiters stood in the line, since this thread last
    /// looked whether a batch is free.
    unsettled: AtomicU64,
    stock: Stock,
}

/// What who gives a place back has to know of those who wait.
#[derive(Debug)]
struct Attention {
    level: AtomicUsize,
    /// At which sum of places the first in the line is due, who is patient.
    due: AtomicU64,
}

#[derive(Debug)]
struct Gate {
    word: AtomicU64,
    limit: AtomicU64,
}

/// The semaphore.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: CachePadded<Gate>,
    attention: CachePadded<Attention>,
    capacity: AtomicU64,
    seats: Slots<CachePadded<Seat>>,
    desk: CachePadded<Mutex<Desk>>,
    elsewhere: CachePadded<AtomicU64>,
    /// Places that were put into stocks, and recalled. Written under the lock.
    recalled: AtomicU64,
    /// Threads that wait for a place, and are not in the line.
    yielders: Yielders,
}

/// What the lock protects.
#[derive(Debug)]
struct Desk {
    line: Waiters,
    /// Places that were taken and have no job, because they are a permit's or will be.
    held: u64,
    /// Places that were given back without ever having had a job. They are counted in `elsewhere`
    /// too.
    unused: u64,
    /// No worker is left to run a job.
    stopped: bool,
    /// Somebody wants to know of every place that is given back: see [`Admission::watch`].
    watched: bool,
    /// Stocks were recalled for who found no other place, since one was last filled while half of the places were free.
    recalls: bool,
}

impl Admission {
    /// A semaphore of `capacity` places for a pool whose threads below the index `first_spare` are not spare.
    pub(crate) fn new(capacity: usize, first_spare: usize) -> Self {
        Self {
            gate: CachePadded::new(Gate {
                word: AtomicU64::new(0),
                limit: AtomicU64::new(capacity as u64 * PLACE),
            }),
            attention: CachePadded::new(Attention {
                level: AtomicUsize::new(NOBODY),
                due: AtomicU64::new(0),
            }),
            capacity: AtomicU64::new(capacity as u64),
            desk: CachePadded::new(Mutex::new(Desk {
                line: Waiters::new(),
                held: 0,
                unused: 0,
                stopped: false,
                watched: false,
                recalls: false,
            })),
            elsewhere: CachePadded::new(AtomicU64::new(0)),
            recalled: AtomicU64::new(0),
            yielders: Yielders::default(),
            seats: Slots::new(first_spare),
        }
    }

    /// The same, all of whose threads have entered.
    #[cfg(test)]
    pub(crate) fn with_seats(capacity: usize, seats: usize) -> Self {
        let admission = Self::new(capacity, seats);
        for index in 0..seats {
            admission.seats.enter(index);
        }
        admission
    }

    /// What the calling thread writes, of this index.
    pub(crate) fn seat(&self, index: usize) -> &Seat {
        self.seats.enter(index)
    }

    /// Takes a place if there is one, without the lock and without collecting.
    #[inline]
    fn take(&self, limit: u64) -> Result<(), Refusal> {
        self.take_some(limit, 1)
    }

    /// Takes so many places, or none.
    #[inline]
    fn take_some(&self, limit: u64, places: u64) -> Result<(), Refusal> {
        // Acquire: who takes a place that was given back sees what was done before it was.
        let mut word = self.gate.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(Refusal::Closed);
            }
            if (limit.wrapping_sub(word) as i64) < (places * PLACE) as i64 {
                return Err(Refusal::Full);
            }
            if cfg!(mutant = "admission_torn_take") {
                self.gate.word.store(word + PLACE, Ordering::Release);
                return Ok(());
            }
            match self.gate.word.compare_exchange_weak(
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

    /// Takes a place if one is free; never waits for one.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<(), Refusal> {
        match self.take(self.gate.limit.load(Ordering::Acquire)) {
            Err(Refusal::Full) => self.try_acquire_collecting(),
            decided => decided,
        }
    }

    /// As `try_acquire`, but may find no room where some was given back since anybody looked, or lies in a stock.
    #[inline]
    pub(crate) fn try_acquire_uncollected(&self) -> Result<(), Refusal> {
        self.take(self.gate.limit.load(Ordering::Acquire))
    }

    #[cold]
    fn try_acquire_collecting(&self) -> Result<(), Refusal> {
        // Without the lock, and so without anybody else's cache, in the case that is the commonest
        // when it is full: it still is. In this order: what was put into a stock is seen there, or as
        // recalled, if the gate is seen to be shut by that.
        let word = self.gate.word.load(Ordering::Acquire);
        let is_stocked = self.stocked() > 0 && cfg!(not(mutant = "stock_unseen"));
        if !is_stocked && self.free_beside(word) == 0 {
            return if self.is_closed() {
                Err(Refusal::Closed)
            } else {
                Err(Refusal::Full)
            };
        }
        self.at_desk(|desk, wakes| self.take_in_turn(desk, wakes))
    }

    /// As `try_acquire`, for a place that is to be held.
    pub(crate) fn try_acquire_held(&self) -> Result<(), Refusal> {
        self.at_desk(|desk, wakes| {
            self.take_in_turn(desk, wakes)?;
            desk.held += u64::from(cfg!(not(mutant = "admission_no_hold")));
            Ok(())
        })
    }

    /// Does something under the lock, and wakes after it whom it is to wake.
    fn at_desk<R>(&self, f: impl FnOnce(&mut Desk, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::new();
        let mut desk = lock(&self.desk);
        let result = f(&mut desk, &mut wakes);
        drop(desk);
        wakes.wake_all();
        result
    }

    /// Those who are due in the line first, then the caller.
    fn take_in_turn(&self, desk: &mut Desk, wakes: &mut Wakes) -> Result<(), Refusal> {
        if desk.line.len() == 0 {
            // What was given back is collected when it is needed: that costs a look at every seat.
            match self.take(self.gate.limit.load(Ordering::Relaxed)) {
                Err(Refusal::Full) => {}
                decided => return decided,
            }
        }
        self.settle(desk, wakes, false);
        match self.take(self.gate.limit.load(Ordering::Relaxed)) {
            Err(Refusal::Full) if self.recall() => {
                desk.recalls = true;
                self.settle(desk, wakes, false);
                self.take(self.gate.limit.load(Ordering::Relaxed))
            }
            decided => decided,
        }
    }

    /// A place whose job runs without it is held from now on.
    pub(crate) fn hold(&self) {
        lock(&self.desk).held += 1;
    }

    /// A held place gets its job, or is given back by `release` by its owner's own account. False if
    /// no worker is left to run the job.
    #[must_use]
    pub(crate) fn unhold(&self) -> bool {
        let mut desk = lock(&self.desk);
        desk.held -= 1;
        !desk.stopped || cfg!(mutant = "admission_stop_blind")
    }

    /// A held place is given back without ever having had a job. The caller has to look whether the
    /// pool has drained.
    pub(crate) fn release_held(&self) {
        let mut desk = lock(&self.desk);
        desk.unused = desk.unused.wrapping_add(1);
        if cfg!(mutant = "admission_unused_first") {
            drop(desk);
            desk = lock(&self.desk);
        }
        desk.held -= 1;
        drop(desk);
        self.release();
    }

    /// A place whose job runs without it is given back, after `unhold`.
    pub(crate) fn release_unused(&self) {
        let mut desk = lock(&self.desk);
        desk.unused = desk.unused.wrapping_add(1);
        drop(desk);
        self.release();
    }

    /// Has a job that is queued over the bound counted, unless nobody is left to run it; or, if the door has to be
    /// `open`, unless that is closed. Under the lock, so that a pool that stops has seen it, or it sees the stop.
    pub(crate) fn overdraw(&self, open: bool, count: impl FnOnce()) -> Result<(), Refusal> {
        let desk = lock(&self.desk);
        let is_refused = (desk.stopped && cfg!(not(mutant = "admission_overdraw_blind")))
            || open && self.is_closed();
        if is_refused {
            return Err(Refusal::Closed);
        }
        count();
        Ok(())
    }

    /// Once the door is closed: stops if nothing is outstanding. `counts` gives those without a place
    /// and the ended, the ended read first. True for the one call that stops.
    pub(crate) fn try_stop(&self, counts: impl FnOnce() -> (u64, u64)) -> bool {
        debug_assert!(self.is_closed());
        let mut desk = lock(&self.desk);
        if desk.stopped && cfg!(not(mutant = "admission_stop_twice")) {
            return false;
        }
        // Whoever closed the door may not have come to it yet.
        if cfg!(not(mutant = "stock_open")) {
            self.recall();
        }
        let (unplaced, ended) = counts();
        desk.stopped = self.outstanding_at(&desk, unplaced, ended) == 0;
        desk.stopped
    }

    /// Gives back a place because its job starts on the thread of this seat.
    ///
    /// Only that thread may call it. Returns whether nobody waits. If not, `attend` is to be called.
    #[inline]
    pub(crate) fn release_unattended(&self, seat: &Seat) -> bool {
        bump(&seat.freed);
        // Pairs with the fences in `join_line`, `insist` and `watch`: we see the attention, or they
        // see the place.
        fence::light();
        self.attention.level.load(Ordering::Relaxed) == NOBODY
    }

    /// Hands on what the thread of this seat gave back, if it is time for that. Returns whether [`Admission::watch`] was
    /// called.
    #[cold]
    pub(crate) fn attend(&self, seat: &Seat) -> bool {
        let attention = self.attention.level.load(Ordering::Relaxed);
        if attention == NOBODY || attention == WATCHED {
            return attention == WATCHED;
        }
        if attention == PATIENT {
            // A look at all seats, once in a part of a batch: others may have given back less, or nothing.
            let unsettled = seat.unsettled.load(Ordering::Relaxed) + PLACE;
            let share = (self.batch() / (2 * self.seats.len() as u64)).max(PLACE);
            let is_time = unsettled >= share;
            let unsettled = if is_time { 0 } else { unsettled };
            seat.unsettled.store(unsettled, Ordering::Relaxed);
            let due = self.attention.due.load(Ordering::Relaxed);
            if !is_time || (self.sum().wrapping_sub(due) as i64) < 0 {
                return false;
            }
        }
        self.flush();
        false
    }

    /// Both.
    #[cfg(test)]
    pub(crate) fn release_from(&self, seat: usize) -> bool {
        let seat = self.seat(seat);
        !self.release_unattended(seat) && self.attend(seat)
    }

    /// From now on whoever gives a place back is told that it is watched for.
    pub(crate) fn watch(&self) {
        let mut desk = lock(&self.desk);
        desk.watched = true;
        self.set_attention(&desk);
        // Pairs with the fence in `release_unattended`: they see the attention, or we see the place.
        if cfg!(not(mutant = "admission_no_fence_watch")) {
            fence::heavy();
        }
    }

    /// Gives back a place from anywhere: its job was cancelled or dropped, or it was not used.
    pub(crate) fn release(&self) {
        self.elsewhere.fetch_add(1, Ordering::Release);
        // Pairs with the fences in `join_line` and `insist`, as in `release_unattended`.
        sync::fence(Ordering::SeqCst);
        self.settle_if_awaited();
    }

    /// A thread that runs out of jobs has all that is free handed out, patient or not.
    #[inline]
    pub(crate) fn settle_if_awaited(&self) {
        if self.attention.level.load(Ordering::Relaxed) != NOBODY {
            self.flush();
        }
    }

    #[cold]
    fn flush(&self) {
        self.at_desk(|desk, wakes| self.settle(desk, wakes, true));
    }

    /// By a worker that takes its next jobs from the queue, of which so many wait there: if a thread that wants to bring
    /// more has yielded its core, it may get this one.
    #[inline]
    pub(crate) fn give_way(&self, waiting: impl FnOnce() -> usize) {
        let is_little = || waiting() as u64 * PLACE <= self.batch();
        self.yielders.give_way(is_little);
    }

    /// What `limit` is, if everything that was given back is collected.
    fn sum(&self) -> u64 {
        self.capacity()
            .wrapping_add(self.given_back())
            .wrapping_add(self.recalled.load(Ordering::Acquire))
            .wrapping_mul(PLACE)
    }

    /// How many places are free, in the gate's units, beside those that the gate said were taken.
    fn free_beside(&self, word: u64) -> u64 {
        let free = self.sum().wrapping_sub(word) as i64;
        u64::try_from(free).unwrap_or(0)
    }

    /// Collects, hands places to those who are due, and publishes what is left over.
    ///
    /// With `all`, everybody in the line is due; without, those who are only patient are due when a
    /// batch was given back since the one in front came.
    fn settle(&self, desk: &mut Desk, wakes: &mut Wakes, all: bool) {
        if desk.line.len() > 0 {
            desk.recalls |= self.recall();
        }
        let limit = self.sum();
        while let Some(front) = desk.line.front() {
            let given_back = limit.wrapping_sub(front.since) as i64;
            let due = all || desk.line.eager() > 0 || given_back >= self.batch() as i64;
            if !due || self.take(limit).is_err() {
                break;
            }
            desk.held += u64::from(front.held);
            if let Some(wake) = desk.line.pop(Standing::Granted) {
                wakes.push(wake);
            }
        }
        self.gate.limit.store(limit, Ordering::Release);
        self.set_attention(desk);
    }

    fn set_attention(&self, desk: &Desk) {
        let attention = match (desk.line.len(), desk.line.eager()) {
            _ if desk.watched => WATCHED,
            (0, _) => NOBODY,
            (_, 0) => PATIENT,
            _ => EAGER,
        };
        if let Some(front) = desk.line.front() {
            let due = front.since.wrapping_add(self.batch());
            self.attention.due.store(due, Ordering::Relaxed);
        }
        if self.attention.level.load(Ordering::Relaxed) != attention {
            self.attention.level.store(attention, Ordering::Relaxed);
        }
    }

    /// Refuses everybody from now on, and wakes all who wait.
    pub(crate) fn close(&self) {
        self.gate.word.fetch_or(CLOSED, Ordering::AcqRel);
        if cfg!(mutant = "admission_close_peeks")
            && self.attention.level.load(Ordering::Relaxed) == NOBODY
        {
            return;
        }
        self.at_desk(|desk, wakes| {
            self.recall();
            while let Some(wake) = desk.line.pop(Standing::Closed) {
                wakes.push(wake);
            }
            self.set_attention(desk);
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gate.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Changes the capacity. Below the present depth nobody is admitted until the queue has drained.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.at_desk(|desk, wakes| {
            self.capacity.store(capacity as u64, Ordering::Relaxed);
            self.recall();
            if cfg!(not(mutant = "admission_resize_silent")) {
                self.settle(desk, wakes, true);
            }
        });
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The places that make a batch, in the gate's units: a quarter of the capacity.
    fn batch(&self) -> u64 {
        (self.capacity() / 4).max(1) * PLACE
    }
}
