//! The bounded door in front of the queue: one global semaphore, its waiters in one line.
//!
//! # The protocol
//!
//! *Places* are counted by two numbers that only grow. `gate` counts the places that were ever
//! taken; `limit` counts those that could be taken so far: the capacity, and one more for each
//! place that was given back **and collected**. A place is free while `gate < limit`. Both wrap
//! without harm, since only their difference is looked at. The lowest bit of `gate` says closed, so
//! that to take a place and to see the door open is one compare-exchange; nothing clears the bit.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | `gate` | whoever takes a place (CAS), `close` (or) | submitters |
//! | `limit`, `capacity` | whoever holds the lock | submitters |
//! | `seats[i].freed` | thread `i` alone, a plain store for each job that it starts | whoever collects |
//! | `elsewhere` | any thread, for places given back without a start (RMW, rare) | whoever collects |
//! | `attention` | whoever holds the lock | each thread that gives a place back |
//! | the line | whoever holds the lock | |
//!
//! *Giving back is writing to a line of one's own.* A worker that starts a job stores its own
//! counter; nobody else's cache is disturbed until a submitter finds `gate == limit`, takes the
//! lock and sums all counters (it *collects*), which for tiny jobs is once in a capacity. So a
//! submitter writes one shared word for each job, and a worker none.
//!
//! **The bound (A1).** A counter is summed after its store, so `limit <= capacity + given back` at
//! every instant, and `taken <= limit`.
//!
//! **Nothing is lost between giving back and waiting (A2, A5).** A waiter joins the line, stores
//! `attention`, fences, and collects; who gives back stores its counter, fences, and loads
//! `attention`. Of two such fences one comes first: either the waiter's sum holds the place, or
//! the one who gave it back sees that somebody waits. Under the lock, *settling* hands free places
//! to the line from its front and only then raises `limit`: while somebody is owed a place there
//! is none to be had by passing by.
//!
//! **Patience.** To wake a submitter for each freed place costs more than a job of 20 us is worth.
//! So a blocked thread is first *patient*: it is woken for a batch of places ([`Admission::batch`]),
//! or when a worker runs dry, or after [`PATIENCE`] by its own timeout, whichever is first. If then
//! there is still no place, jobs are long and waking is cheap beside them: it turns *eager*, is owed
//! the very first place, and sleeps without a timeout. Tasks (futures) are eager from the beginning,
//! having no timer. Newcomers may pass a patient waiter while they find places that nobody
//! collected for it, but only a batch of times; it can be passed neither once it is eager nor once
//! it was passed that often.
//!
//! Before a thread joins the line it yields its core a few times ([`YIELDS`]). With tiny jobs that
//! is when places come free, and the line is never used; when all cores are busy with longer jobs,
//! a yield gives the core to a worker for a whole time slice, which is the opposite of burning it.
//!
//! **Giving up.** Grants are made under the lock and read under the lock. A thread whose time is up
//! takes the lock and looks: it was granted (it has its place), or it was closed out, or it settles
//! once more on its own behalf, or it leaves. A future that is dropped does the same, and what it
//! was granted it gives back like any place, which settles for those behind it. So a grant is
//! either used or given back, never lost, and a waiter that leaves strands nobody: `attention` is
//! set anew from those who remain.
//!
//! **Closing.** The bit goes into `gate` first, then the lock is taken and everybody in the line
//! is closed out. Who joins the line looks at the bit under the lock: either it sees the bit, or the
//! closer's turn with the lock comes later and finds it there. After the bit, `gate` never grows.
//!
//! **Held places and the end.** A place that somebody took, but has no job for yet, is *held*: by a
//! `Permit`, or by a task that was granted one and was not polled since. Both may stay so for ever,
//! so a shutdown must not wait for them; but it must wait for a thread that is between taking its
//! place and pushing its job. So the held are counted, in a word with a *stopped* bit. After the
//! door was closed, `outstanding = taken - unused - held + inlined - ended`, where the ended are
//! summed first; the taken are frozen, so each term but `held` can only be read too large. If it
//! comes to zero, a compare-exchange from the `held` that was read sets the bit. Whoever turns a
//! held place into a job decrements `held` and sees the bit, if it is there: the job has no pool any
//! more. (The word cannot go down and up again in between: a place that is taken and not yet counted
//! as held is outstanding itself.) Tasks are counted as held under the lock that granted them,
//! which is before `close` takes its turn with it.
//!
//! No user code runs under the lock: wakers are collected and woken after it.

mod waiters;

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

pub(crate) use self::waiters::WaiterId;
use self::waiters::{Standing, Waiters};
use crate::{
    error::AdmissionError,
    latch::Wake,
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, bump, fence, lock, thread},
};

/// How long a blocked thread waits for a batch before it insists on the first place. It bounds both
/// how late a freed place can be noticed and, at one needless wake-up each, what patience costs when
/// jobs are long: about 1 % of a core at the worst.
const PATIENCE: Duration = Duration::from_millis(1);

/// How often a submitter yields before it joins the line; see `benches/submit.rs`, which loses its
/// speed below 4 and gains nothing above 16.
const YIELDS: u32 = if cfg!(loom) { 0 } else { 8 };

/// One taken place, in the units of `gate` and `limit`; the bit below is the closed flag.
const PLACE: u64 = 2;
const CLOSED: u64 = 1;

/// Nobody waits; only the patient do; somebody is owed the next place; somebody waits for the
/// queue to be empty.
const NOBODY: usize = 0;
const PATIENT: usize = 1;
const EAGER: usize = 2;
const WATCHED: usize = 3;

/// One held place, and the bit that says that no worker is left to run a job.
const HELD: u64 = 2;
const STOPPED: u64 = 1;

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

/// What one thread of the pool gave back. Nobody else writes here.
#[derive(Debug)]
struct Seat {
    freed: AtomicU64,
    /// Places given back while only patient waiters stood in the line, since this thread last
    /// settled.
    unsettled: AtomicU64,
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
    attention: CachePadded<AtomicUsize>,
    capacity: AtomicU64,
    line: Mutex<Waiters>,
    elsewhere: CachePadded<AtomicU64>,
    /// Places given back without ever having had a job; also counted in `elsewhere`.
    unused: AtomicU64,
    held: CachePadded<AtomicU64>,
    seats: Box<[CachePadded<Seat>]>,
}

/// Whether a held place still leads to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Unheld {
    Open,
    Stopped,
}

impl Admission {
    /// A semaphore of `capacity` places for a pool of `seats` threads.
    pub(crate) fn new(capacity: usize, seats: usize) -> Self {
        Self {
            gate: CachePadded::new(Gate {
                word: AtomicU64::new(0),
                limit: AtomicU64::new(capacity as u64 * PLACE),
            }),
            attention: CachePadded::new(AtomicUsize::new(NOBODY)),
            capacity: AtomicU64::new(capacity as u64),
            line: Mutex::new(Waiters::new()),
            elsewhere: CachePadded::new(AtomicU64::new(0)),
            unused: AtomicU64::new(0),
            held: CachePadded::new(AtomicU64::new(0)),
            seats: (0..seats)
                .map(|_| {
                    CachePadded::new(Seat {
                        freed: AtomicU64::new(0),
                        unsettled: AtomicU64::new(0),
                    })
                })
                .collect(),
        }
    }

    /// Takes a place if there is one, without the lock and without collecting.
    #[inline]
    fn take(&self, limit: u64) -> Result<(), Refusal> {
        // Acquire: who takes a place that was given back sees what was done before it was.
        let mut word = self.gate.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(Refusal::Closed);
            }
            if (limit.wrapping_sub(word) as i64) <= 0 {
                return Err(Refusal::Full);
            }
            match self.gate.word.compare_exchange_weak(
                word,
                word.wrapping_add(PLACE),
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

    #[cold]
    fn try_acquire_collecting(&self) -> Result<(), Refusal> {
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        let taken = self.take_in_turn(&mut line, &mut wakes);
        drop(line);
        wakes.wake_all();
        taken
    }

    /// Under the lock: those who are due in the line first, then the caller.
    fn take_in_turn(&self, line: &mut Waiters, wakes: &mut Wakes) -> Result<(), Refusal> {
        self.settle(line, wakes, false);
        self.take(self.gate.limit.load(Ordering::Relaxed))
    }

    /// Takes a place, and waits for it until the deadline, or for ever.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Option<Instant>) -> Result<(), AdmissionError> {
        match self.try_acquire() {
            Err(Refusal::Full) => self.acquire_contended(deadline),
            Err(Refusal::Closed) => Err(AdmissionError::Closed),
            Ok(()) => Ok(()),
        }
    }

    #[cold]
    fn acquire_contended(&self, deadline: Option<Instant>) -> Result<(), AdmissionError> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(AdmissionError::TimedOut);
        }
        for _ in 0..YIELDS {
            if self.attention.load(Ordering::Relaxed) == EAGER {
                break;
            }
            thread::yield_now();
            match self.try_acquire() {
                Err(Refusal::Full) => {}
                Err(Refusal::Closed) => return Err(AdmissionError::Closed),
                Ok(()) => return Ok(()),
            }
        }
        let id = match self.join_line(Wake::Thread(thread::current()), false) {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(()),
            Err(refusal) => return Err(refusal.into()),
        };
        self.wait_in_line(id, deadline)
    }

    /// Takes a place (`None`), or joins the line.
    fn join_line(&self, wake: Wake, eager: bool) -> Result<Option<WaiterId>, Refusal> {
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        let joined = match self.take_in_turn(&mut line, &mut wakes) {
            Ok(()) => Ok(None),
            Err(Refusal::Closed) => Err(Refusal::Closed),
            Err(Refusal::Full) => {
                let since = self.gate.word.load(Ordering::Relaxed);
                let id = line.push(wake, eager, since);
                // What was given back before this fence is in the sum that settling makes; who
                // gives back after it sees the attention. Pairs with the one in `release_from`.
                self.set_attention(&line);
                if cfg!(not(mutant = "admission_no_fence")) {
                    fence(Ordering::SeqCst);
                }
                self.settle(&mut line, &mut wakes, true);
                Ok(Some(id))
            }
        };
        drop(line);
        wakes.wake_all();
        joined
    }

    #[cfg(not(loom))]
    fn wait_in_line(&self, id: WaiterId, deadline: Option<Instant>) -> Result<(), AdmissionError> {
        let mut patience = Some(Instant::now() + PATIENCE);
        loop {
            if let Some(outcome) = self.outcome(&id) {
                self.leave_line(id);
                return outcome;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
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
    fn wait_in_line(&self, id: WaiterId, _: Option<Instant>) -> Result<(), AdmissionError> {
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
        match lock(&self.line).standing(id) {
            Standing::Patient | Standing::Eager => None,
            Standing::Granted => Some(Ok(())),
            Standing::Closed => Some(Err(AdmissionError::Closed)),
        }
    }

    /// Frees the slot of a waiter whose outcome is known.
    fn leave_line(&self, id: WaiterId) {
        let removed = lock(&self.line).remove(id);
        drop(removed);
    }

    /// From now on the waiter is owed the first place; there may be one already.
    fn insist(&self, id: &WaiterId) {
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        line.make_eager(id);
        self.set_attention(&line);
        // Pairs with the fence in `release_from`, as in `join_line`.
        if cfg!(not(mutant = "admission_no_fence")) {
            fence(Ordering::SeqCst);
        }
        self.settle(&mut line, &mut wakes, true);
        drop(line);
        wakes.wake_all();
    }

    /// Ends a wait whose time is up. If a place came at the last moment it is taken.
    fn give_up(&self, id: WaiterId) -> Result<(), AdmissionError> {
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        self.settle(&mut line, &mut wakes, true);
        let (standing, wake) = line.remove(id);
        self.set_attention(&line);
        drop(line);
        wakes.wake_all();
        drop(wake);
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
    pub(crate) fn poll_acquire(
        &self,
        id: &mut Option<WaiterId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AdmissionError>> {
        // A clone is the user's code: it is made before the lock is taken, and while `id` is whole.
        let wake = Wake::Task(cx.waker().clone());
        let Some(waiting) = id.take() else {
            return match self.try_acquire() {
                Err(Refusal::Full) => self.poll_first(id, wake),
                Err(Refusal::Closed) => Poll::Ready(Err(AdmissionError::Closed)),
                Ok(()) => {
                    self.hold();
                    Poll::Ready(Ok(()))
                }
            };
        };
        let mut line = lock(&self.line);
        match line.standing(&waiting) {
            Standing::Patient | Standing::Eager => {
                let old = line.rewake(&waiting, wake);
                drop(line);
                drop(old);
                *id = Some(waiting);
                Poll::Pending
            }
            outcome => {
                let removed = line.remove(waiting);
                drop(line);
                drop(removed);
                Poll::Ready(match outcome {
                    Standing::Granted => Ok(()),
                    _ => Err(AdmissionError::Closed),
                })
            }
        }
    }

    fn poll_first(
        &self,
        id: &mut Option<WaiterId>,
        wake: Wake,
    ) -> Poll<Result<(), AdmissionError>> {
        match self.join_line(wake, true) {
            Ok(None) => {
                self.hold();
                Poll::Ready(Ok(()))
            }
            Err(refusal) => Poll::Ready(Err(refusal.into())),
            Ok(Some(waiting)) => match self.outcome(&waiting) {
                Some(outcome) => {
                    self.leave_line(waiting);
                    Poll::Ready(outcome)
                }
                None => {
                    *id = Some(waiting);
                    Poll::Pending
                }
            },
        }
    }

    /// Ends the wait of a task that is dropped. A place that it was granted goes to the next.
    pub(crate) fn forsake(&self, id: WaiterId) {
        if self.give_up(id).is_ok() {
            self.release_held();
        }
    }

    /// Counts a place that the caller took as held. A shutdown may have looked at it in between, so
    /// the caller has to look whether the pool has drained.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(HELD, Ordering::Relaxed);
    }

    /// A held place gets its job.
    pub(crate) fn unhold(&self) -> Unheld {
        // AcqRel: what led to the stop is seen by who finds the pool stopped, and the other way.
        if self.held.fetch_sub(HELD, Ordering::AcqRel) & STOPPED == 0 {
            Unheld::Open
        } else {
            Unheld::Stopped
        }
    }

    /// A held place is given back without ever having had a job. In this order: while it is
    /// neither held nor unused it is outstanding. The caller has to look whether the pool has
    /// drained.
    pub(crate) fn release_held(&self) {
        let _ = self.unhold();
        self.release_unheld();
    }

    /// The second half of [`Admission::release_held`].
    pub(crate) fn release_unheld(&self) {
        self.unused.fetch_add(1, Ordering::Release);
        self.release();
    }

    /// The jobs that were let in and have not ended, held places not counted, if `inlined` came in
    /// without a place and `ended` have ended. Exact once the door is closed.
    pub(crate) fn outstanding(&self, inlined: u64, ended: u64) -> u64 {
        self.outstanding_beside(self.held.load(Ordering::Acquire), inlined, ended)
    }

    fn outstanding_beside(&self, held: u64, inlined: u64, ended: u64) -> u64 {
        self.taken()
            .wrapping_add(inlined)
            .wrapping_sub(self.unused.load(Ordering::Acquire))
            .wrapping_sub(held / HELD)
            .wrapping_sub(ended)
    }

    /// Once the door is closed: sets the stopped bit if nothing is outstanding. `counts` gives the
    /// inlined and the ended, the ended read first. True for the one call that sets it.
    pub(crate) fn try_stop(&self, counts: impl Fn() -> (u64, u64)) -> bool {
        debug_assert!(self.is_closed());
        loop {
            let held = self.held.load(Ordering::Acquire);
            if held & STOPPED != 0 {
                return false;
            }
            let (inlined, ended) = counts();
            if self.outstanding_beside(held, inlined, ended) != 0 {
                return false;
            }
            let stopped = self.held.compare_exchange(
                held,
                held | STOPPED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if stopped.is_ok() {
                return true;
            }
        }
    }

    /// The places that are taken by jobs, or by threads that are about to bring one.
    pub(crate) fn queued(&self) -> u64 {
        let held = self.held.load(Ordering::Acquire) / HELD;
        self.depth().saturating_sub(held)
    }

    /// Gives back a place because its job starts on the thread of this seat.
    ///
    /// Only that thread may call it. Returns whether [`Admission::watch`] was called.
    #[inline]
    pub(crate) fn release_from(&self, seat: usize) -> bool {
        let seat = &self.seats[seat];
        bump(&seat.freed);
        // Pairs with the fences in `join_line` and `insist`: we see the attention, or they see the
        // place.
        fence(Ordering::SeqCst);
        match self.attention.load(Ordering::Relaxed) {
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
            let unsettled = seat.unsettled.load(Ordering::Relaxed) + PLACE;
            let share = (self.batch() / self.seats.len() as u64).max(PLACE);
            if unsettled < share {
                seat.unsettled.store(unsettled, Ordering::Relaxed);
                return false;
            }
        }
        seat.unsettled.store(0, Ordering::Relaxed);
        self.flush();
        false
    }

    /// From now on whoever gives a place back is told that it is watched for.
    pub(crate) fn watch(&self) {
        let mut line = lock(&self.line);
        line.watched = true;
        self.set_attention(&line);
        // Pairs with the fence in `release_from`: they see the attention, or we see the place.
        fence(Ordering::SeqCst);
    }

    /// Gives back a place from anywhere: its job was cancelled or dropped, or it was not used.
    pub(crate) fn release(&self) {
        self.elsewhere.fetch_add(1, Ordering::Release);
        // Pairs with the fences in `join_line` and `insist`, as in `release_from`.
        fence(Ordering::SeqCst);
        if self.attention.load(Ordering::Relaxed) != NOBODY {
            self.flush();
        }
    }

    /// A thread that runs out of jobs has all that is free handed out, patient or not.
    #[inline]
    pub(crate) fn settle_if_awaited(&self) {
        if self.attention.load(Ordering::Relaxed) != NOBODY {
            self.flush();
        }
    }

    #[cold]
    fn flush(&self) {
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        self.settle(&mut line, &mut wakes, true);
        drop(line);
        wakes.wake_all();
    }

    /// Collects, hands places to those who are due, and publishes what is left over.
    ///
    /// With `all`, everybody in the line is due; without, the patient are due only when a batch is
    /// free or when they were passed by that often.
    fn settle(&self, line: &mut Waiters, wakes: &mut Wakes, all: bool) {
        let limit = self
            .capacity
            .load(Ordering::Relaxed)
            .wrapping_add(self.given_back())
            .wrapping_mul(PLACE);
        while let Some((eager, since)) = line.front() {
            let word = self.gate.word.load(Ordering::Relaxed);
            let free = limit.wrapping_sub(word) as i64;
            let passed = word.wrapping_sub(since) as i64;
            let due = all || eager || free.max(passed) >= self.batch() as i64;
            if !due || self.take(limit).is_err() {
                break;
            }
            if line.front_is_task() {
                self.held.fetch_add(HELD, Ordering::Relaxed);
            }
            if let Some(wake) = line.pop(Standing::Granted) {
                wakes.push(wake);
            }
        }
        self.gate.limit.store(limit, Ordering::Release);
        self.set_attention(line);
    }

    fn set_attention(&self, line: &Waiters) {
        let attention = match (line.len(), line.eager()) {
            _ if line.watched => WATCHED,
            (0, _) => NOBODY,
            (_, 0) => PATIENT,
            _ => EAGER,
        };
        if self.attention.load(Ordering::Relaxed) != attention {
            self.attention.store(attention, Ordering::Relaxed);
        }
    }

    /// Refuses everybody from now on, and wakes all who wait.
    pub(crate) fn close(&self) {
        self.gate.word.fetch_or(CLOSED, Ordering::AcqRel);
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        while let Some(wake) = line.pop(Standing::Closed) {
            wakes.push(wake);
        }
        self.set_attention(&line);
        drop(line);
        wakes.wake_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gate.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Changes the capacity. Below the present depth nobody is admitted until the queue has drained.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        let mut line = lock(&self.line);
        let mut wakes = Wakes::new();
        self.capacity.store(capacity as u64, Ordering::Relaxed);
        self.settle(&mut line, &mut wakes, true);
        drop(line);
        wakes.wake_all();
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The places that make a batch, in the gate's units: a quarter of the capacity.
    fn batch(&self) -> u64 {
        (self.capacity() / 4).max(1) * PLACE
    }

    /// All places that were ever taken.
    pub(crate) fn taken(&self) -> u64 {
        self.gate.word.load(Ordering::Acquire) / PLACE
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

    /// The places that are taken now. Never more than the capacity.
    pub(crate) fn depth(&self) -> u64 {
        // In this order: what is given back in between makes it less, never more.
        let taken = self.taken();
        let depth = taken.wrapping_sub(self.given_back()) & (u64::MAX / PLACE);
        if depth > u64::MAX / PLACE / 2 {
            0
        } else {
            depth
        }
    }

    /// How many stand in the line.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.line).len()
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

    fn wake_all(self) {
        self.first
            .into_iter()
            .flatten()
            .chain(self.rest)
            .for_each(Wake::wake);
    }
}
