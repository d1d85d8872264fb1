//! Who is awake: how an idle worker is found when a job comes, and how none sleeps through one.
//!
//! # The protocol
//!
//! A worker in service is *running* a job, *searching* for one, *idle* in a parker of its own, or
//! *in_rayon*, which means that its thread is back in rayon's own idle, where it also serves
//! `par_iter` and `join`. One word counts them:
//!
//! | field | counts | grows | shrinks |
//! |---|---|---|---|
//! | searching | workers that look for a job and have promised to find it | by the worker itself, or by its waker in its name | when it finds one, or lies down |
//! | idle | workers in [`Idle::announce_idle`] that nobody has chosen yet | when it lies down | by its waker, or when it falls in_rayon |
//! | in_rayon | places in service that no thread fills at the moment: threads may be with rayon, or blocked | when a announce_idle ends by its timeout; when a worker blocks, or asks rayon for something to do | by its waker; by the worker that comes back |
//! | activating | wake-ups on their way through rayon that no thread has taken up yet | by the waker | by the thread that takes it up |
//!
//! **Who puts a job into a queue** pushes it, fences, and loads the word. If somebody searches,
//! that one will find it, or will notice when it stops searching. Otherwise it *rouses*: it moves
//! one worker from idle to searching by a compare-exchange and notifies its parker; only if none dozes
//! it moves one from in_rayon to activating and sends a call through rayon. The waker does the
//! bookkeeping for the woken, so the next submitter sees a searcher and wakes nobody: one job, one
//! wake-up.
//!
//! A submitter that has woken nobody, because others search, asks whether one of them has looked of late
//! (`searcher_deadline.rs`). If none has, it moves a idle_worker to searching beside them. There may be any number of searchers; each
//! keeps the promise. A submitter that has just woken a worker does not ask: that one has not looked yet, but the
//! wake-up is the job's.
//!
//! **Who stops searching because it found a job** takes itself out of the count, and if it was the
//! last, fences, and looks at the queues; if more is there, it rouses one. **Who stops searching
//! because there is nothing** does the same, and later lies down: it joins the list of idle_workers, is
//! counted as idle, fences, and looks at the queues; if something is there, it rouses one, most
//! likely itself, being the last in the list.
//!
//! **Who offers jobs** that are on its own deque may do so a hundred million times a second, and only those
//! who stop searching are to pay for it: its fence is a light one, and theirs a heavy one, which interrupts all
//! cores that run a thread of the process. So that they do not do it for nothing, a worker says that it is
//! *offering* before its first light fence, by a count and a plain fence. Who stops searching has a plain fence,
//! too, and a heavy one only if somebody is counted after that. If nobody is, then its plain fence came before
//! those of all who offer later, and they see that it does not search. A worker takes itself out of
//! the count before it looks for the last time whether to lie down, and says it again before its next offer.
//!
//! **Why no job is stranded (R2).** Take the fence of the one who pushed and the fence of the one
//! who stopped searching. If the push comes first, the worker's look finds the job. If the fence of
//! the worker comes first, the submitter's load finds nobody searching, and rouses. Between the two
//! there is always somebody who is running (and looks at the queues when done), or searching, or
//! just woken.
//!
//! **A call is not a searcher.** A call that waits behind a long piece of `par_iter` on the only
//! thread that could take it up would, if it counted as searching, keep everybody from waking a
//! idle_worker. It only keeps them from sending a second call: where one finds no thread, a second finds
//! none either. With one call under way and no idle_worker, all threads that could take it up are awake.
//!
//! **Blocking in a wait.** A worker that blocks in a wait of ours is not in service meanwhile: it
//! counts itself as in_rayon, fences, and looks at the queues, as one who lies down does. So if work is
//! there, or comes, another thread is activating in its place. When it wakes, it takes its place back if
//! nobody was activating; otherwise it runs on, and there is a *excess* of one (who blocks then takes
//! that foreign_stack again, and counts nothing). (A call that no thread has taken up yet it takes back, and fills that
//! place itself: all threads that could take it up may be blocked. Then it looks at the queues once more, since
//! that call kept others from being sent.) A worker that has
//! run a job from its own deques or an injector leaves for it, handing over what is in its deques.
//!
//! **Places come and go.** The number in service is changed by `scaler.rs` alone. A place that is added is in_rayon, unless
//! a excess fills it; who adds it fences, and looks at the queues, as one who lies down does. One that is removed was
//! in_rayon; if none is, there is a excess, which the next worker takes that ends a job or falls in_rayon.
//!
//! **Falling in_rayon.** A announce_idle that ends by its timeout takes the list's lock, and moves itself from
//! idle to in_rayon, unless the count of idle_workers is already used up by wakers that have not come for
//! their idle_worker yet: then it stays, for one of them may come to it.

#[cfg(all(test, not(any(loom, miri))))]
mod frozen;
#[cfg(all(test, loom))]
mod model;
mod searcher_deadline;
#[cfg(all(test, not(any(loom, miri))))]
pub(crate) mod tests;

use std::{sync::OnceLock, time::Duration};

use crossbeam_utils::CachePadded;

#[cfg(all(test, not(any(loom, miri))))]
pub(crate) use self::frozen::Frozen;
use crate::{
    protocol::idle::searcher_deadline::SearcherDeadline,
    sync::{
        AtomicBool, AtomicU64, AtomicUsize, Instant, Mutex, Ordering, asymmetric::Fences, fence,
        lock, slots::Slots, thread,
    },
};

/// The four counts, 15 bits each, and a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counts(u64);

const FIELD: u64 = (1 << 15) - 1;
const SEARCHING: u64 = 1;
const IDLE: u64 = 1 << 15;
const IN_RAYON: u64 = 1 << 30;
const ACTIVATING: u64 = 1 << 45;
/// Whoever pushes a job has to see to it that it is dropped: see `shutdown.rs`.
const DISCARDING: u64 = 1 << 60;

/// The most workers that the word can count.
pub(crate) const MAX_WORKERS: usize = FIELD as usize;

impl Counts {
    #[inline]
    fn of(self, one: u64) -> u64 {
        (self.0 / one) & FIELD
    }

    /// Places whose worker does not run a job.
    fn idle(self) -> u64 {
        [SEARCHING, IDLE, IN_RAYON, ACTIVATING]
            .map(|field| self.of(field))
            .iter()
            .sum()
    }

    fn discarding(self) -> bool {
        self.0 & DISCARDING != 0
    }

    /// Whether every worker in service is running, so that there is nobody to wake_one.
    #[inline]
    fn all_run(self) -> bool {
        self.0 & !DISCARDING == 0
    }

    /// The counts after one more worker was woken, if one is to be.
    #[inline]
    fn wake_one(self) -> Option<(Counts, Notified)> {
        if self.of(SEARCHING) > 0 {
            None
        } else if self.of(IDLE) > 0 {
            Some((Counts(self.0 - IDLE + SEARCHING), Notified::IdleWorker))
        } else if self.of(IN_RAYON) > 0 && self.of(ACTIVATING) == 0 {
            Some((Counts(self.0 - IN_RAYON + ACTIVATING), Notified::Activation))
        } else {
            None
        }
    }
}

/// Whom a submitter woken, in the slots; the wake-up itself is still to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Notified {
    IdleWorker,
    Activation,
}

/// What is left to do for who pushed a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum WakeUp {
    /// Nothing: a worker that is awake already will run it.
    None,
    /// Nothing: a worker was woken for it.
    Woken,
    /// Send a call through rayon.
    Activate,
    /// The pool is being emptied: drop what was submitted, then wake_one.
    Discard,
}

impl WakeUp {
    /// Whether nothing is left to do.
    #[inline]
    pub(crate) fn is_nothing(self) -> bool {
        matches!(self, WakeUp::None | WakeUp::Woken)
    }
}

/// How a announce_idle ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum IdleEnd {
    /// Notified, and counted as searching.
    Notified,
    /// Counted as in_rayon: back to rayon.
    Asleep,
}

#[derive(Debug, Default)]
struct Parker {
    notified: AtomicBool,
    /// The thread of this index, once it was started.
    thread: OnceLock<thread::Thread>,
}

/// Who is awake.
#[derive(Debug)]
pub(crate) struct Idle {
    counts: CachePadded<AtomicU64>,
    /// Workers that are to leave, because one that had blocked came back to a place that was taken.
    excess: CachePadded<AtomicUsize>,
    /// The idle_workers, the last one to lie down at the end: it is the warmest.
    idle_workers: Mutex<Vec<usize>>,
    parkers: Slots<CachePadded<Parker>>,
    /// How many places in service there are. Changed by one thread at a time: see `scaler.rs`.
    in_service: AtomicUsize,
    /// Workers that have said that they offer jobs, and so may do it with a light fence.
    offering: CachePadded<AtomicUsize>,
    fences: CachePadded<Fences>,
    searcher_deadline: SearcherDeadline,
    /// How often one was woken for a job. Not loom's: it orders nothing.
    #[cfg(test)]
    wake_ups: std::sync::atomic::AtomicU64,
}

impl Idle {
    /// All `workers` in service are in_rayon at first; threads below the index `first_spare` are not spare.
    pub(crate) fn new(workers: usize, first_spare: usize, fences: Fences) -> Self {
        Self {
            counts: CachePadded::new(AtomicU64::new(workers as u64 * IN_RAYON)),
            excess: CachePadded::new(AtomicUsize::new(0)),
            in_service: AtomicUsize::new(workers),
            offering: CachePadded::new(AtomicUsize::new(0)),
            fences: CachePadded::new(fences),
            searcher_deadline: SearcherDeadline::new(),
            #[cfg(test)]
            wake_ups: std::sync::atomic::AtomicU64::new(0),
            idle_workers: Mutex::new(Vec::new()),
            parkers: Slots::new(first_spare),
        }
    }

    /// One whose threads have entered. In a model they have to: it cannot see what makes a slot on demand.
    #[cfg(test)]
    pub(crate) fn for_threads(workers: usize, threads: usize) -> Self {
        let idle = Self::new(workers, threads, Fences::PLAIN);
        for index in 0..threads {
            idle.parkers.enter(index);
        }
        idle
    }

    /// Makes the calling thread the one that the parker of this index wakes.
    pub(crate) fn enroll(&self, index: usize) {
        // A second call for one index cannot be: an index is one thread's for its life.
        let _ = self.parkers.enter(index).thread.set(thread::current());
        // So that no announce_idle allocates.
        lock(&self.idle_workers).reserve(self.parkers.len());
    }

    #[inline]
    fn load(&self) -> Counts {
        Counts(self.counts.load(Ordering::Relaxed))
    }

    /// Changes the counts to what `next` makes of them. False if it makes nothing of them.
    fn change(&self, order: Ordering, next: impl Fn(Counts) -> Option<u64>) -> bool {
        self.counts
            .fetch_update(order, Ordering::Relaxed, |counts| next(Counts(counts)))
            .is_ok()
    }

    /// How many places in service there are.
    #[inline]
    pub(crate) fn in_service(&self) -> usize {
        self.in_service.load(Ordering::Relaxed)
    }

    /// Of these, how many have no worker that runs a job.
    pub(crate) fn idle(&self) -> usize {
        self.load().idle() as usize
    }

    /// And how many have no worker that is awake.
    pub(crate) fn in_rayon(&self) -> usize {
        self.load().of(IN_RAYON) as usize
    }

    /// Whether there is nobody to wake_one, since every place has a worker that runs a job.
    #[inline]
    pub(crate) fn all_run(&self) -> bool {
        self.load().all_run()
    }

    /// More places in service. Who runs without one fills one of them; the others are in_rayon.
    pub(crate) fn add_places(&self, places: usize, work: impl FnOnce() -> bool) -> WakeUp {
        self.in_service.fetch_add(places, Ordering::Relaxed);
        let in_rayon = (0..places).filter(|_| !self.take_excess()).count();
        let added = in_rayon as u64 * IN_RAYON;
        self.counts.fetch_add(added, Ordering::AcqRel);
        // As in `announce_idle`.
        if cfg!(not(mutant = "sleep_no_fence_add")) {
            self.fence();
        }
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Fewer places in service: of those that are in_rayon, or else, when their jobs end, of those whose workers
    /// are running.
    pub(crate) fn remove_places(&self, places: usize) {
        for _ in 0..places {
            if !self.return_to_service() && cfg!(not(mutant = "sleep_park_forgets")) {
                self.add_excess();
            }
        }
        self.in_service.fetch_sub(places, Ordering::Relaxed);
    }

    /// If there is one worker too many, the place of the caller, who has fallen in_rayon, is not there any more.
    pub(crate) fn settle_excess(&self) {
        if self.take_excess() && !self.return_to_service() {
            self.add_excess();
        }
    }

    /// To be activating after each push: wakes a worker if one is needed.
    #[inline]
    pub(crate) fn after_push(&self) -> WakeUp {
        // Pairs with the fences in `stop_searching`, `announce_idle`, `leave_service` and
        // `begin_discarding`: we see what they have written, or they see our job.
        if cfg!(not(mutant = "sleep_no_fence_push")) {
            fence(Ordering::SeqCst);
        }
        let counts = self.load();
        if counts.discarding() {
            return WakeUp::Discard;
        }
        if counts.wake_one().is_none() {
            return WakeUp::None;
        }
        self.wake_one()
    }

    /// Whether `after_offer` would do nothing, for a thread that is counted as offering.
    #[inline]
    pub(crate) fn takes_no_offer(&self) -> bool {
        // As in `after_offer`.
        self.fences.light();
        self.load() == Counts(0)
    }

    /// As `after_push`, for a worker that offers jobs: one that it has pushed on its own deque, and will run itself if
    /// nobody else does. No `WakeUp::Discard` comes of it.
    #[inline]
    pub(crate) fn after_offer(&self) -> WakeUp {
        // Pairs as in `after_push`, with those that are heavy.
        if cfg!(not(mutant = "sleep_no_fence_offer")) {
            self.fences.light();
        }
        let counts = self.load();
        if counts == Counts(0) {
            return WakeUp::None;
        }
        self.after_offer_to(counts)
    }

    /// Not inlined: most offers are made when every worker runs.
    #[inline(never)]
    fn after_offer_to(&self, counts: Counts) -> WakeUp {
        if counts.wake_one().is_none() {
            return WakeUp::None;
        }
        self.wake_one()
    }

    /// A worker that searches is about to look.
    pub(crate) fn looks(&self) {
        self.searcher_deadline.set();
    }

    /// To be activating by a submitter with its wake_up: if it has woken nobody since others search, and none of them
    /// has looked for long, wakes a worker beside them.
    #[inline]
    pub(crate) fn check_searcher_deadline(&self, wake_up: WakeUp) {
        let is_woken = wake_up == WakeUp::Woken && cfg!(not(mutant = "sleep_doubt_woken"));
        if !is_woken && wake_up.is_nothing() && self.is_left_to_an_absent() {
            self.wake_another();
        }
    }

    /// Whether who pushes a job wakes nobody for it, although one dozes, because another searches.
    #[inline]
    fn is_left_to_a_searcher(&self) -> bool {
        let counts = self.load();
        counts.of(SEARCHING) > 0 && counts.of(IDLE) > 0
    }

    /// The same, and that one has not looked for long.
    #[inline]
    fn is_left_to_an_absent(&self) -> bool {
        self.is_left_to_a_searcher() && self.searcher_deadline.is_overdue()
    }

    /// Wakes a idle_worker, if there is one, whoever searches.
    #[cold]
    fn wake_another(&self) {
        let searching = if cfg!(mutant = "sleep_another_uncounted") {
            0
        } else {
            SEARCHING
        };
        // Acquire: as in `wake_one`.
        let is_roused = self.change(Ordering::AcqRel, |counts| {
            (counts.of(IDLE) > 0).then(|| counts.0 - IDLE + searching)
        });
        if is_roused {
            self.notify_last();
        }
    }

    /// Wakes a worker if one is needed.
    #[cold]
    pub(crate) fn wake_one(&self) -> WakeUp {
        let mut counts = self.load();
        loop {
            let Some((next, woken)) = counts.wake_one() else {
                return WakeUp::None;
            };
            // Acquire pairs with the Release in `announce_idle`: the idle_worker is in the list.
            match self.counts.compare_exchange_weak(
                counts.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if woken == Notified::Activation => {
                    self.count_wake_up();
                    return WakeUp::Activate;
                }
                Ok(_) => break,
                Err(now) => counts = Counts(now),
            }
        }
        self.notify_last();
        WakeUp::Woken
    }

    /// Wakes the idle_worker that was woken in the slots.
    fn notify_last(&self) {
        self.count_wake_up();
        self.searcher_deadline.woken();
        // A idle_worker is listed before it is counted; the list is empty only if `wake_all` was here.
        let idle_worker = lock(&self.idle_workers).pop();
        if let Some(idle_worker) = idle_worker {
            self.notify(idle_worker);
        }
    }

    /// Ends the announce_idle of this worker, if it dozes, for something else than a job: it is counted as
    /// searching, as any that was woken. If wakers are on their way to all idle_workers, one of them does it.
    pub(crate) fn wake_this(&self, index: usize) {
        let mut idle_workers = lock(&self.idle_workers);
        let Some(at) = idle_workers
            .iter()
            .position(|&idle_worker| idle_worker == index)
        else {
            return;
        };
        let is_roused = self.change(Ordering::AcqRel, |counts| {
            (counts.of(IDLE) > 0).then(|| counts.0 - IDLE + SEARCHING)
        });
        if is_roused {
            idle_workers.remove(at);
            drop(idle_workers);
            self.notify(index);
        }
    }

    fn notify(&self, index: usize) {
        self.parkers[index].notified.store(true, Ordering::Release);
        self.unpark(index);
    }

    /// Unparks the thread of this index, for whatever it waits.
    pub(crate) fn unpark(&self, index: usize) {
        if let Some(thread) = self.parkers[index].thread.get() {
            thread.unpark();
        }
    }

    /// Begins to search, if fewer than half of those in service do, since more would be in each
    /// other's way; or `anyway`.
    pub(crate) fn try_search(&self, anyway: bool) -> bool {
        let in_service = self.in_service() as u64;
        self.change(Ordering::Relaxed, |counts| {
            (anyway || counts.of(SEARCHING) * 2 < in_service).then(|| counts.0 + SEARCHING)
        })
    }

    /// Ends a search that has found a job. `more` looks for others that are still waiting.
    pub(crate) fn stop_searching(&self, more: impl FnOnce() -> bool) -> WakeUp {
        // AcqRel: the last searcher also sees what the others have moved into their own deques.
        let before = self.counts.fetch_sub(SEARCHING, Ordering::AcqRel);
        let now = Counts(before - SEARCHING);
        if now.wake_one().is_none() {
            // Others search, or everybody else runs, and will look when done.
            return WakeUp::None;
        }
        // Pairs with the fences in `after_push` and `after_offer`: we see the job, or they see that nobody
        // searches.
        if cfg!(not(mutant = "sleep_no_fence_found")) {
            self.fence();
        }
        if more() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Ends a search that has found nothing, and leaves service, as `leave_service` does.
    pub(crate) fn search_in_vain(&self, work: impl FnOnce() -> bool) -> WakeUp {
        self.leave(SEARCHING, cfg!(not(mutant = "sleep_no_fence_vain")), work)
    }

    /// Leaves service, and is not counted as what it was counted as before.
    fn leave(&self, counted: u64, fences: bool, work: impl FnOnce() -> bool) -> WakeUp {
        // One who leaves for the excess has no place: whoever runs in his is counted by nobody else.
        let left = if self.take_excess() { 0 } else { IN_RAYON };
        let change = left.wrapping_sub(counted);
        // AcqRel: as in `stop_searching`.
        self.counts.fetch_add(change, Ordering::AcqRel);
        // We see the job, or they see the place that is free.
        if fences {
            self.fence();
        }
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// The fence of one who does not search any more, or has changed the counts otherwise.
    fn fence(&self) {
        // Pairs with the fences in `after_push` and `begin_to_offer`.
        fence(Ordering::SeqCst);
        if self.offering.load(Ordering::Relaxed) > 0 {
            // With the one in `after_offer`.
            self.fences.heavy();
        }
    }

    /// The calling worker has pushed a job on its own deque, and will call `after_offer` for it and for those that
    /// it pushes from now on.
    pub(crate) fn begin_to_offer(&self) {
        self.offering.fetch_add(1, Ordering::Relaxed);
        // Pairs with the plain one in `fence`: they see that we offer, or we see what they have changed.
        if cfg!(not(mutant = "sleep_no_fence_begin")) {
            fence(Ordering::SeqCst);
        }
    }

    /// It will not, until it says so again. To be activating before it looks whether there is any job left.
    pub(crate) fn end_offers(&self) {
        self.offering.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lies down, not counted as searching any more; `work` looks for a reason not to idle.
    ///
    /// To be followed by [`Idle::park_for`], unless the pool has stopped. The parker of this index
    /// may have notified by then, because of what `work` found.
    pub(crate) fn announce_idle(&self, index: usize, work: impl FnOnce() -> bool) -> WakeUp {
        lock(&self.idle_workers).push(index);
        // Release: who counts this idle_worker finds it in the list.
        self.counts.fetch_add(IDLE, Ordering::Release);
        // Pairs with the fences in `after_push` and `after_offer`: we see the job, or they see us announce_idle.
        if cfg!(not(mutant = "sleep_no_fence_doze")) {
            self.fence();
        }
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Waits for the parker; after the timeout, falls in_rayon. If a waker is on its way at that moment,
    /// though maybe to another, it dozes that long once more.
    /// `go_to_rayon` calls [`Idle::go_to_rayon`].
    pub(crate) fn park_for(
        &self,
        index: usize,
        timeout: Duration,
        go_to_rayon: impl Fn() -> bool,
    ) -> IdleEnd {
        loop {
            if self.park_until_notified(index, timeout) {
                return IdleEnd::Notified;
            }
            if go_to_rayon() {
                return IdleEnd::Asleep;
            }
            #[cfg(mutant = "sleep_doze_for_good")]
            return self.park_for_good(index);
        }
    }

    /// Whether the parker rang in time.
    #[cfg(not(loom))]
    fn park_until_notified(&self, index: usize, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        loop {
            if self.take_notification(index) {
                return true;
            }
            let now = Instant::now();
            if now >= end {
                return false;
            }
            thread::park_timeout(end - now);
        }
    }

    /// loom has no timeouts: this one may have passed at any moment.
    #[cfg(loom)]
    fn park_until_notified(&self, index: usize, _: Duration) -> bool {
        thread::yield_now();
        self.take_notification(index)
    }

    /// A announce_idle without a timeout, for models.
    #[cfg(loom)]
    pub(crate) fn park_for_good(&self, index: usize) -> IdleEnd {
        while !self.take_notification(index) {
            thread::park();
        }
        IdleEnd::Notified
    }

    fn take_notification(&self, index: usize) -> bool {
        let notified = &self.parkers[index].notified;
        notified.load(Ordering::Acquire) && {
            notified.store(false, Ordering::Relaxed);
            true
        }
    }

    /// Moves a idle_worker to in_rayon, unless a waker is on its way to it.
    pub(crate) fn go_to_rayon(&self, index: usize) -> bool {
        let mut idle_workers = lock(&self.idle_workers);
        let Some(at) = idle_workers
            .iter()
            .position(|&idle_worker| idle_worker == index)
        else {
            return false;
        };
        let falls = self.change(Ordering::AcqRel, |counts| {
            let is_free = counts.of(IDLE) > 0 || cfg!(mutant = "sleep_torn_fall");
            is_free.then(|| counts.0 - IDLE + IN_RAYON)
        });
        if falls {
            idle_workers.remove(at);
        }
        falls
    }

    /// A thread takes up a call: it searches from now on.
    pub(crate) fn activation_taken(&self) {
        self.counts
            .fetch_sub(ACTIVATING - SEARCHING, Ordering::Relaxed);
    }

    /// A running worker leaves service: its thread is with rayon again. Another thread may be activating in
    /// its place. Pairs with `after_push` and `after_offer` as `announce_idle` does.
    ///
    /// If there is one worker too many, that one is in its place already; or was, and lies down just now.
    pub(crate) fn leave_service(&self, work: impl FnOnce() -> bool) -> WakeUp {
        self.leave(0, cfg!(not(mutant = "sleep_no_fence_leave")), work)
    }

    /// As `leave_service`, for one that is about to block: there may be a spare thread for its place, and so
    /// a call is sent even if another waits for a thread.
    pub(crate) fn block(&self, work: impl Fn() -> bool) -> WakeUp {
        let mut found = false;
        let wake_up = self.leave_service(|| {
            found = work();
            found
        });
        if found && wake_up == WakeUp::None {
            return self.activate_another();
        }
        wake_up
    }

    /// One more call, beside one that waits for a thread.
    #[cold]
    fn activate_another(&self) -> WakeUp {
        let is_sent = self.change(Ordering::AcqRel, |counts| {
            let is_needed = counts.of(SEARCHING) == 0 && counts.of(IDLE) == 0;
            (is_needed && counts.of(IN_RAYON) > 0).then(|| counts.0 - IN_RAYON + ACTIVATING)
        });
        if is_sent {
            self.count_wake_up();
            WakeUp::Activate
        } else {
            WakeUp::None
        }
    }

    /// How often a worker was woken for a job.
    #[cfg(test)]
    pub(crate) fn wake_ups(&self) -> u64 {
        self.wake_ups.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// For tests: a worker is woken for a job.
    #[inline]
    fn count_wake_up(&self) {
        #[cfg(test)]
        self.wake_ups
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// The thread of a worker that left service runs again, and takes a place that is in_rayon. False if
    /// there is none: others were activating in its place meanwhile.
    #[must_use]
    pub(crate) fn return_to_service(&self) -> bool {
        self.change(Ordering::Relaxed, |counts| {
            (counts.of(IN_RAYON) > 0).then(|| counts.0 - IN_RAYON)
        })
    }

    /// A call will not be taken up by the thread that it finds: a worker fills the place that runs already. To be
    /// followed by `recheck`.
    pub(crate) fn activation_voided(&self) {
        self.counts.fetch_sub(ACTIVATING, Ordering::Relaxed);
    }

    /// A call will not be taken up by anybody: its place is in_rayon again. To be followed by `recheck`.
    pub(crate) fn activation_put_back(&self) {
        self.counts
            .fetch_sub(ACTIVATING - IN_RAYON, Ordering::AcqRel);
    }

    /// A last look of one who has fallen in_rayon, or has taken back a call: that may have kept others from
    /// sending one.
    pub(crate) fn recheck(&self, work: impl FnOnce() -> bool) -> WakeUp {
        // As in `announce_idle`.
        if cfg!(not(mutant = "sleep_no_fence_again")) {
            self.fence();
        }
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// From now on there is one worker too many.
    pub(crate) fn add_excess(&self) {
        self.excess.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there are more workers than are to be in service.
    #[inline]
    pub(crate) fn has_excess(&self) -> bool {
        self.excess.load(Ordering::Relaxed) > 0
    }

    /// Whether the calling worker is the one too many, and has to leave.
    pub(crate) fn take_excess(&self) -> bool {
        if cfg!(mutant = "sleep_torn_surplus") {
            let excess = self.excess.load(Ordering::Relaxed);
            self.excess
                .store(excess.saturating_sub(1), Ordering::Relaxed);
            return excess > 0;
        }
        self.excess
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |excess| {
                excess.checked_sub(1)
            })
            .is_ok()
    }

    /// From now on who pushes a job is told to drop it.
    pub(crate) fn begin_discarding(&self) {
        self.counts.fetch_or(DISCARDING, Ordering::Relaxed);
        // Pairs with the fence in `after_push`: they see the flag, or who empties the queues sees
        // their job.
        if cfg!(not(mutant = "sleep_no_fence_discard")) {
            fence(Ordering::SeqCst);
        }
    }

    /// Wakes every idle_worker: the pool stops. Who lies down after it has to look at the stop flag.
    pub(crate) fn wake_all(&self) {
        let idle_workers = std::mem::take(&mut *lock(&self.idle_workers));
        for idle_worker in idle_workers {
            self.notify(idle_worker);
            if cfg!(mutant = "sleep_stop_rings_one") {
                break;
            }
        }
    }
}
