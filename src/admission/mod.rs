//! The bounded door in front of the queue: one global semaphore, its waiters in one line.
//! Its protocol, and why nothing is lost in it, is told in the README beside this file.
#![doc = include_str!("README.md")]

#[cfg(all(test, loom))]
mod model;
mod stock;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiters;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use crossbeam_utils::CachePadded;

pub(crate) use self::waiters::WaiterId;
use self::{
    stock::{Spending, Stock},
    waiters::{Joining, Standing, Waiters},
};
use crate::{
    error::AdmissionError,
    fence,
    latch::Wake,
    sync::{self, AtomicU64, AtomicUsize, Instant, Mutex, Ordering, bump, lock, thread},
    unwind::quietly,
};

/// How long a blocked thread waits for a batch before it insists on the first place. It bounds both
/// how late a freed place can be noticed and, at one needless wake-up each, what patience costs when
/// jobs are long: about 1 % of a core at the worst.
const PATIENCE: Duration = Duration::from_millis(1);

/// How often a submitter yields before it joins the line. `benches/submit.rs` is what it is for: tiny
/// jobs come free while it yields.
const YIELDS: u32 = if cfg!(loom) {
    0
} else if cfg!(shuttle) {
    1
} else {
    8
};

/// One taken place, in the units of `gate` and `limit`; the bit below is the closed flag.
const PLACE: u64 = 2;
const CLOSED: u64 = 1;

/// Nobody waits; only the patient do; somebody is owed the next place; somebody waits for the
/// queue to be empty.
const NOBODY: usize = 0;
const PATIENT: usize = 1;
const EAGER: usize = 2;
const WATCHED: usize = 3;

/// The most places in the stock of one thread: with so many, the lock that filling it takes is nothing.
const STOCK: u64 = 32;

/// How many wake-ups are carried out of the lock without an allocation.
const WAKES: usize = 8;

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
struct Seat {
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
    seats: Box<[CachePadded<Seat>]>,
    desk: CachePadded<Mutex<Desk>>,
    elsewhere: CachePadded<AtomicU64>,
    /// Places that were put into stocks, and recalled. Written under the lock.
    recalled: AtomicU64,
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
}

impl Admission {
    /// A semaphore of `capacity` places for a pool of `seats` threads.
    pub(crate) fn new(capacity: usize, seats: usize) -> Self {
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
            })),
            elsewhere: CachePadded::new(AtomicU64::new(0)),
            recalled: AtomicU64::new(0),
            seats: (0..seats).map(|_| CachePadded::default()).collect(),
        }
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

    /// As `try_acquire`, but may find no room where some was given back since anybody looked.
    #[inline]
    pub(crate) fn try_acquire_uncollected(&self) -> Result<(), Refusal> {
        self.take(self.gate.limit.load(Ordering::Acquire))
    }

    /// As `try_acquire`, on the thread of this seat: first from its stock, which is filled when there is room.
    #[inline]
    pub(crate) fn try_acquire_from(&self, seat: usize) -> Result<(), Refusal> {
        let stock = &self.seats[seat].stock;
        match stock.spend() {
            Spending::Done => Ok(()),
            found => self.try_acquire_beside(stock, found),
        }
    }

    #[inline(never)]
    fn try_acquire_beside(&self, stock: &Stock, found: Spending) -> Result<(), Refusal> {
        if found == Spending::Announced {
            let desk = lock(&self.desk);
            let is_ours = stock.is_ours();
            drop(desk);
            if is_ours {
                return Ok(());
            }
        }
        if stock.is_due() && self.fill(stock) {
            return Ok(());
        }
        self.try_acquire()
    }

    /// Takes a place, and others for the stock of the calling thread, if then there is plenty left, and nobody
    /// waits.
    #[cold]
    fn fill(&self, stock: &Stock) -> bool {
        let (places, spared) = self.stock_sizes();
        let is_filled = places > 1
            && self.at_desk(|desk, wakes| {
                if desk.line.len() > 0 {
                    return false;
                }
                self.settle(desk, wakes, false);
                let limit = self.gate.limit.load(Ordering::Relaxed);
                // First, so that who sees the gate shut sees where the places are.
                stock.put(places - 1);
                let taken = self.take_some(limit.wrapping_sub(spared * PLACE), places);
                if taken.is_err() {
                    stock.take_out(places - 1);
                }
                taken.is_ok()
            });
        if !is_filled {
            stock.pause();
        }
        is_filled
    }

    /// How many places are taken at once to fill a stock, and how many others must be free then. All stocks together have
    /// at most a quarter of the capacity, and none is filled while more than half of that is taken: so it is seldom that
    /// they have to be recalled.
    fn stock_sizes(&self) -> (u64, u64) {
        let capacity = self.capacity();
        if cfg!(any(loom, shuttle)) {
            return (capacity.min(2), 0);
        }
        let seats = self.seats.len() as u64;
        ((capacity / (4 * seats)).min(STOCK), capacity / 2)
    }

    /// Under the lock: what lies in the stocks is free again. False if there was nothing.
    fn recall(&self) -> bool {
        if cfg!(mutant = "stock_no_recall") {
            return false;
        }
        let stocks = || self.seats.iter().map(|seat| &seat.stock);
        let filled = stocks().filter(|stock| stock.lower()).count();
        if filled == 0 {
            return false;
        }
        // Pairs with the light fence of `Stock::spend`: we see what was spent, or they see the ceiling.
        if cfg!(not(mutant = "stock_no_fence_recall")) {
            fence::heavy();
        }
        let mut recalled = self.recalled.load(Ordering::Relaxed);
        for stock in stocks() {
            let rest = stock.rest();
            recalled = recalled.wrapping_add(rest);
            // In this order: see `stock.rs`.
            self.recalled.store(recalled, Ordering::Release);
            stock.take_out(rest);
        }
        true
    }

    /// How many places are in stocks.
    fn stocked(&self) -> u64 {
        self.seats.iter().map(|seat| seat.stock.len()).sum()
    }

    #[cold]
    fn try_acquire_collecting(&self) -> Result<(), Refusal> {
        // Without the lock, and so without anybody else's cache, in the case that is the commonest
        // when it is full: it still is. In this order: what was put into a stock is seen there, or as
        // recalled, if the gate is seen to be shut by that.
        let word = self.gate.word.load(Ordering::Acquire);
        let is_stocked = self.stocked() > 0 && cfg!(not(mutant = "stock_unseen"));
        if !is_stocked && (self.sum().wrapping_sub(word) as i64) <= 0 {
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
        if wakes.len > 0 {
            wakes.wake_all();
        }
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
                self.settle(desk, wakes, false);
                self.take(self.gate.limit.load(Ordering::Relaxed))
            }
            decided => decided,
        }
    }

    /// Takes a place, and waits for it until the deadline, or for ever. Also when its thread is unparked
    /// and it `is_futile` to wait any longer, its time is up.
    pub(crate) fn acquire(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        self.acquire_by(deadline, is_futile, false, Self::try_acquire)
    }

    /// As `acquire`, for a place that is to be held.
    pub(crate) fn acquire_held(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        self.acquire_by(deadline, is_futile, true, Self::try_acquire_held)
    }

    fn acquire_by(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
        held: bool,
        attempt: impl Fn(&Self) -> Result<(), Refusal>,
    ) -> Result<(), AdmissionError> {
        for round in 0..=YIELDS {
            match attempt(self) {
                Ok(()) => return Ok(()),
                Err(Refusal::Closed) => return Err(AdmissionError::Closed),
                Err(Refusal::Full) => {}
            }
            if round == 0 && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(AdmissionError::TimedOut);
            }
            if self.attention.level.load(Ordering::Relaxed) == EAGER {
                break;
            }
            if round < YIELDS {
                thread::yield_now();
            }
        }
        let joining = Joining {
            wake: Wake::Thread(thread::current()),
            eager: false,
            held,
        };
        match self.join_line(joining)? {
            Some(id) => self.wait_in_line(id, deadline, is_futile),
            None => Ok(()),
        }
    }

    /// Takes a place (`None`), or joins the line.
    fn join_line(&self, joining: Joining) -> Result<Option<WaiterId>, Refusal> {
        let (held, eager) = (joining.held, joining.eager);
        self.at_desk(|desk, wakes| match self.take_in_turn(desk, wakes) {
            Ok(()) => {
                desk.held += u64::from(held);
                Ok(None)
            }
            Err(Refusal::Closed) => Err(Refusal::Closed),
            Err(Refusal::Full) => {
                let since = self.gate.word.load(Ordering::Relaxed);
                let id = desk.line.push(joining, since);
                // What was given back before this fence is in the sum that settling makes; who
                // gives back after it sees the attention. Pairs with those in `release_from` and
                // `release`. Who is patient looks again in a while, by `insist`, and does without: a heavy
                // fence stops other cores, and costs more than a batch of tiny jobs.
                self.set_attention(desk);
                if eager && cfg!(not(mutant = "admission_no_fence")) {
                    fence::heavy();
                } else {
                    sync::fence(Ordering::SeqCst);
                }
                self.settle(desk, wakes, true);
                Ok(Some(id))
            }
        })
    }

    #[cfg(not(loom))]
    fn wait_in_line(
        &self,
        id: WaiterId,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        let mut patience = Some(Instant::now() + PATIENCE);
        loop {
            if let Some(outcome) = self.outcome(&id) {
                self.leave_line(id);
                return outcome;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) || is_futile() {
                return self.give_up(id);
            }
            if patience.is_some_and(|end| now >= end) {
                patience = None;
                self.insist(&id);
                continue;
            }
            match [deadline, patience].into_iter().flatten().min() {
                Some(end) => thread::park_timeout(end - now),
                None => thread::park(),
            }
        }
    }

    /// loom has no timeouts: the waiter is eager at once, and giving up is the model's to call.
    #[cfg(loom)]
    fn wait_in_line(
        &self,
        id: WaiterId,
        _: Option<Instant>,
        _: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        self.insist(&id);
        loop {
            if let Some(outcome) = self.outcome(&id) {
                self.leave_line(id);
                return outcome;
            }
            thread::park();
        }
    }

    /// How it ended for this waiter, if it did.
    fn outcome(&self, id: &WaiterId) -> Option<Result<(), AdmissionError>> {
        match lock(&self.desk).line.standing(id) {
            Standing::Patient | Standing::Eager => None,
            Standing::Granted => Some(Ok(())),
            Standing::Closed => Some(Err(AdmissionError::Closed)),
        }
    }

    /// Frees the slot of a waiter whose outcome is known.
    fn leave_line(&self, id: WaiterId) {
        let removed = lock(&self.desk).line.remove(id);
        drop(removed);
    }

    /// From now on the waiter is owed the first place; there may be one already.
    fn insist(&self, id: &WaiterId) {
        self.at_desk(|desk, wakes| {
            desk.line.make_eager(id);
            self.set_attention(desk);
            // Pairs with the fence in `release_from`, as in `join_line`.
            if cfg!(not(mutant = "admission_no_fence")) {
                fence::heavy();
            }
            self.settle(desk, wakes, true);
        });
    }

    /// Ends a wait whose time is up. If a place came at the last moment it is taken.
    fn give_up(&self, id: WaiterId) -> Result<(), AdmissionError> {
        let (standing, wake) = self.at_desk(|desk, wakes| {
            self.settle(desk, wakes, true);
            let removed = desk.line.remove(id);
            self.set_attention(desk);
            removed
        });
        // A waker is the user's code. If it panics, that is nobody's.
        quietly(move || drop(wake));
        match standing {
            Standing::Granted if cfg!(mutant = "admission_drop_grant") => {
                Err(AdmissionError::TimedOut)
            }
            Standing::Granted => Ok(()),
            Standing::Closed => Err(AdmissionError::Closed),
            Standing::Patient | Standing::Eager => Err(AdmissionError::TimedOut),
        }
    }

    /// Drives a task's wait; `id` is its place in the line, if it has one. The place that it is
    /// ready with is held.
    pub(crate) fn poll_acquire_held(
        &self,
        id: &mut Option<WaiterId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AdmissionError>> {
        // A clone is the user's code: it is made before the lock is taken, and while `id` is whole.
        let wake = Wake::Task(cx.waker().clone());
        let Some(waiting) = id.take() else {
            let joining = Joining {
                wake,
                eager: true,
                held: true,
            };
            return match self.join_line(joining) {
                Ok(None) => Poll::Ready(Ok(())),
                Err(refusal) => Poll::Ready(Err(refusal.into())),
                Ok(Some(waiting)) => self.poll_outcome(waiting, id),
            };
        };
        let mut desk = lock(&self.desk);
        let old = match desk.line.standing(&waiting) {
            Standing::Patient | Standing::Eager => desk.line.rewake(&waiting, wake),
            Standing::Granted | Standing::Closed => None,
        };
        drop(desk);
        let polled = self.poll_outcome(waiting, id);
        // The user's code again. What was granted meanwhile must not be lost by its panic.
        quietly(move || drop(old));
        polled
    }

    fn poll_outcome(
        &self,
        waiting: WaiterId,
        id: &mut Option<WaiterId>,
    ) -> Poll<Result<(), AdmissionError>> {
        match self.outcome(&waiting) {
            Some(outcome) => {
                self.leave_line(waiting);
                Poll::Ready(outcome)
            }
            None => {
                *id = Some(waiting);
                Poll::Pending
            }
        }
    }

    /// Ends the wait of a task that is dropped. A place that it was granted goes to the next.
    pub(crate) fn forsake(&self, id: WaiterId) {
        if self.give_up(id).is_ok() && cfg!(not(mutant = "admission_forsake_keeps")) {
            self.release_held();
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

    /// The jobs that were let in and have not ended, held places not counted, if `inlined` came in
    /// without a place and `ended` have ended.
    pub(crate) fn outstanding(&self, inlined: u64, ended: u64) -> u64 {
        self.outstanding_at(&lock(&self.desk), inlined, ended)
    }

    fn outstanding_at(&self, desk: &Desk, inlined: u64, ended: u64) -> u64 {
        let outstanding = self
            .taken()
            .wrapping_add(inlined)
            .wrapping_sub(desk.unused)
            .wrapping_sub(desk.held)
            .wrapping_sub(ended);
        // The taken are counted with a bit less than the others: that bit is as the one below. It may be the
        // sign, for who has read the ended before.
        (outstanding.wrapping_mul(PLACE) as i64 / PLACE as i64) as u64
    }

    /// Once the door is closed: stops if nothing is outstanding. `counts` gives the inlined and the
    /// ended, the ended read first. True for the one call that stops.
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
        let (inlined, ended) = counts();
        desk.stopped = self.outstanding_at(&desk, inlined, ended) == 0;
        desk.stopped
    }

    /// The places that are taken by jobs, or by threads that are about to bring one.
    pub(crate) fn queued(&self) -> u64 {
        let desk = lock(&self.desk);
        self.depth().saturating_sub(desk.held)
    }

    /// Gives back a place because its job starts on the thread of this seat.
    ///
    /// Only that thread may call it. Returns whether [`Admission::watch`] was called.
    #[inline]
    pub(crate) fn release_from(&self, seat: usize) -> bool {
        let seat = &self.seats[seat];
        bump(&seat.freed);
        // Pairs with the fences in `join_line`, `insist` and `watch`: we see the attention, or they
        // see the place.
        fence::light();
        match self.attention.level.load(Ordering::Relaxed) {
            NOBODY => false,
            attention => self.answer(seat, attention),
        }
    }

    #[cold]
    fn answer(&self, seat: &Seat, attention: usize) -> bool {
        if attention == WATCHED {
            return true;
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

    /// From now on whoever gives a place back is told that it is watched for.
    pub(crate) fn watch(&self) {
        let mut desk = lock(&self.desk);
        desk.watched = true;
        self.set_attention(&desk);
        // Pairs with the fence in `release_from`: they see the attention, or we see the place.
        if cfg!(not(mutant = "admission_no_fence_watch")) {
            fence::heavy();
        }
    }

    /// Gives back a place from anywhere: its job was cancelled or dropped, or it was not used.
    pub(crate) fn release(&self) {
        self.elsewhere.fetch_add(1, Ordering::Release);
        // Pairs with the fences in `join_line` and `insist`, as in `release_from`.
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

    /// What `limit` is, if everything that was given back is collected.
    fn sum(&self) -> u64 {
        self.capacity()
            .wrapping_add(self.given_back())
            .wrapping_add(self.recalled.load(Ordering::Acquire))
            .wrapping_mul(PLACE)
    }

    /// Collects, hands places to those who are due, and publishes what is left over.
    ///
    /// With `all`, everybody in the line is due; without, those who are only patient are due when a
    /// batch was given back since the one in front came.
    fn settle(&self, desk: &mut Desk, wakes: &mut Wakes, all: bool) {
        if desk.line.len() > 0 {
            self.recall();
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

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The places that make a batch, in the gate's units: a quarter of the capacity.
    fn batch(&self) -> u64 {
        (self.capacity() / 4).max(1) * PLACE
    }

    /// All places that were ever taken, for jobs or for stocks.
    pub(crate) fn drawn(&self) -> u64 {
        self.gate.word.load(Ordering::Acquire) / PLACE
    }

    /// All places that were ever taken for jobs.
    pub(crate) fn taken(&self) -> u64 {
        // In this order: see `stock.rs`.
        let drawn = self.drawn();
        let stocked = self.stocked();
        let recalled = self.recalled.load(Ordering::Acquire);
        drawn.wrapping_sub(stocked).wrapping_sub(recalled)
    }

    /// All places that were ever given back.
    pub(crate) fn given_back(&self) -> u64 {
        // Acquire pairs with the Release of `bump` and of `release`.
        self.seats
            .iter()
            .map(|seat| seat.freed.load(Ordering::Acquire))
            .fold(self.elsewhere.load(Ordering::Acquire), u64::wrapping_add)
    }

    /// The places that one thread of the pool gave back, which is the jobs that it started.
    pub(crate) fn given_back_by(&self, seat: usize) -> u64 {
        self.seats[seat].freed.load(Ordering::Acquire)
    }

    /// The places that are taken now. Never more than the capacity, unless that was lowered.
    pub(crate) fn depth(&self) -> u64 {
        // In this order: what is given back in between makes it less, never more.
        let taken = self.taken();
        difference(taken, self.given_back())
    }

    /// The places that are taken now, and those in stocks. Never less than there are.
    pub(crate) fn depth_with_stocks(&self) -> u64 {
        // In the other order.
        let given_back = self.given_back();
        let recalled = self.recalled.load(Ordering::Acquire);
        difference(self.drawn(), given_back.wrapping_add(recalled))
    }

    /// How many stand in the line.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.desk).line.len()
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

/// Wake-ups on their way out of the lock.
struct Wakes {
    first: [Option<Wake>; WAKES],
    len: usize,
    rest: Vec<Wake>,
}

impl Wakes {
    fn new() -> Self {
        Self {
            first: [const { None }; WAKES],
            len: 0,
            rest: Vec::new(),
        }
    }

    fn push(&mut self, wake: Wake) {
        match self.first.get_mut(self.len) {
            Some(slot) => *slot = Some(wake),
            None => self.rest.push(wake),
        }
        self.len += 1;
    }

    #[cold]
    fn wake_all(self) {
        self.first
            .into_iter()
            .flatten()
            .chain(self.rest)
            .for_each(Wake::wake);
    }
}
