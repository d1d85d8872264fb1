//! Idle workers: how a job finds one, and why no worker stays idle beside a job. The README beside
//! this file has the protocol.
#![doc = include_str!("idle/README.md")]

mod counts;
#[cfg(all(test, not(any(loom, miri))))]
mod frozen;
#[cfg(all(test, loom))]
mod model;
mod searcher_deadline;
#[cfg(all(test, not(any(loom, miri))))]
pub(crate) mod tests;

use std::{sync::OnceLock, time::Duration};

use crossbeam_utils::CachePadded;

use self::counts::{ACTIVATING, Counts, DISCARDING, IDLE, IN_RAYON, Notified, SEARCHING};
pub(crate) use self::counts::{IdleEnd, MAX_WORKERS, WakeUp};
#[cfg(all(test, not(any(loom, miri))))]
pub(crate) use self::frozen::Frozen;
use crate::{
    protocol::idle::searcher_deadline::SearcherDeadline,
    sync::{
        AtomicBool, AtomicU64, AtomicUsize, Instant, Mutex, Ordering, Rank, asymmetric::Fences,
        fence, lock, slots::Slots, thread,
    },
};

#[derive(Debug, Default)]
struct Parker {
    notified: AtomicBool,
    /// The thread of this index, once it is started.
    thread: OnceLock<thread::Thread>,
}

/// The states of the workers, and the parkers of all threads.
#[derive(Debug)]
pub(crate) struct Idle {
    counts: CachePadded<AtomicU64>,
    /// The number of workers beyond those in service: a worker that had blocked came back to a
    /// place that was taken.
    excess: CachePadded<AtomicUsize>,
    /// The indices of the idle workers. The worker that became idle last is at the end: its cache
    /// is the warmest.
    idle_workers: Mutex<Vec<usize>>,
    parkers: Slots<CachePadded<Parker>>,
    /// The number of places in service. Changed by one thread at a time: see `controller.rs`.
    in_service: AtomicUsize,
    /// The number of workers that are counted as offering, which lets them offer jobs with a light
    /// fence.
    offering: CachePadded<AtomicUsize>,
    fences: CachePadded<Fences>,
    searcher_deadline: SearcherDeadline,
    /// The number of times that a worker was woken for a job. Not loom's: it orders nothing.
    #[cfg(test)]
    wake_ups: std::sync::atomic::AtomicU64,
}

impl Idle {
    /// Makes the state of a pool whose `workers` in service are all in rayon. Threads below the
    /// index `first_spare` are not spare.
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
            idle_workers: Mutex::new(Rank::IdleWorkers, Vec::new()),
            parkers: Slots::new(first_spare),
        }
    }

    /// Makes a state whose threads have entered: a model does not see how slots are made on demand.
    #[cfg(test)]
    pub(crate) fn for_threads(workers: usize, threads: usize) -> Self {
        let idle = Self::new(workers, threads, Fences::PLAIN);
        for index in 0..threads {
            idle.parkers.enter(index);
        }
        idle
    }

    /// Makes the calling thread the owner of the parker `index`.
    pub(crate) fn enroll(&self, index: usize) {
        // The cell is empty: an index belongs to one thread for its life.
        let _ = self.parkers.enter(index).thread.set(thread::current());
        // So that `announce_idle` does not allocate.
        lock(&self.idle_workers).reserve(self.parkers.len());
    }

    #[inline]
    fn load(&self) -> Counts {
        Counts(self.counts.load(Ordering::Relaxed))
    }

    /// Replaces the counts by the result of `next`. Returns false if that is `None`.
    fn change(&self, order: Ordering, next: impl Fn(Counts) -> Option<u64>) -> bool {
        self.counts
            .fetch_update(order, Ordering::Relaxed, |counts| next(Counts(counts)))
            .is_ok()
    }

    /// Returns the number of places in service.
    #[inline]
    pub(crate) fn in_service(&self) -> usize {
        self.in_service.load(Ordering::Relaxed)
    }

    /// Returns the number of places in service whose worker runs no job.
    pub(crate) fn idle(&self) -> usize {
        self.load().idle() as usize
    }

    /// Returns the number of places in service that are in rayon: no thread fills them.
    pub(crate) fn in_rayon(&self) -> usize {
        self.load().of(IN_RAYON) as usize
    }

    /// Whether every place has a worker that runs a job, so that there is none to wake.
    #[inline]
    pub(crate) fn all_run(&self) -> bool {
        self.load().all_run()
    }

    /// Adds places in service. The excess fills some of them; the others are in rayon.
    pub(crate) fn add_places(&self, places: usize, work: impl FnOnce() -> bool) -> WakeUp {
        self.in_service.fetch_add(places, Ordering::Relaxed);
        let in_rayon = (0..places).filter(|_| !self.take_excess()).count();
        let added = in_rayon as u64 * IN_RAYON;
        self.counts.fetch_add(added, Ordering::AcqRel);
        // As in `announce_idle`.
        unless_mutant!("idle_no_fence_add", self.fence());
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Removes places in service: those in rayon, or else those of running workers, when their jobs
    /// end.
    pub(crate) fn remove_places(&self, places: usize) {
        for _ in 0..places {
            if !self.return_to_service() && !mutant!("idle_shrink_forgets") {
                self.add_excess();
            }
        }
        self.in_service.fetch_sub(places, Ordering::Relaxed);
    }

    /// Removes the place of the caller, which has just gone to rayon, if there is an excess.
    pub(crate) fn settle_excess(&self) {
        if self.take_excess() && !self.return_to_service() {
            self.add_excess();
        }
    }

    /// Wakes a worker if one is needed. Must be called after each push.
    #[inline]
    pub(crate) fn after_push(&self) -> WakeUp {
        // Pairs with the fences in `stop_searching`, `announce_idle`, `leave_service` and
        // `begin_discarding`: we see what they have written, or they see our job.
        unless_mutant!("idle_no_fence_push", fence(Ordering::SeqCst));
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

    /// As `after_push`, for a job that a worker has pushed on its own deque, and runs itself if no
    /// other worker does. Never returns `WakeUp::Discard`.
    #[inline]
    pub(crate) fn after_offer(&self) -> WakeUp {
        // Pairs as in `after_push`, with those that are heavy.
        unless_mutant!("idle_no_fence_offer", self.fences.light());
        let counts = self.load();
        if counts == Counts(0) {
            return WakeUp::None;
        }
        self.after_offer_to(counts)
    }

    /// Kept out of line, because most offers are made when every worker runs.
    #[inline(never)]
    fn after_offer_to(&self, counts: Counts) -> WakeUp {
        if counts.wake_one().is_none() {
            return WakeUp::None;
        }
        self.wake_one()
    }

    /// Extends the searchers' deadline: the caller is a searcher about to poll the queues.
    pub(crate) fn polls(&self) {
        self.searcher_deadline.set();
    }

    /// Wakes a worker beside the searchers, if the submitter's `wake_up` is none because of them,
    /// and their deadline has passed.
    #[inline]
    pub(crate) fn check_searcher_deadline(&self, wake_up: WakeUp) {
        let is_woken = wake_up == WakeUp::Woken && !mutant!("idle_doubt_woken");
        if !is_woken && wake_up.is_nothing() && self.is_left_to_an_absent() {
            self.wake_another();
        }
    }

    /// Whether a submitter wakes no worker, although one is idle, because another searches.
    #[inline]
    fn is_left_to_a_searcher(&self) -> bool {
        let counts = self.load();
        counts.of(SEARCHING) > 0 && counts.of(IDLE) > 0
    }

    /// Whether a submitter wakes no idle worker because of searchers whose deadline has passed.
    #[inline]
    fn is_left_to_an_absent(&self) -> bool {
        self.is_left_to_a_searcher() && self.searcher_deadline.is_overdue()
    }

    /// Wakes an idle worker, if there is one, beside those that search.
    #[cold]
    fn wake_another(&self) {
        let searching = or_mutant!("idle_another_uncounted", SEARCHING, 0);
        // Acquire: as in `wake_one`.
        let is_woken = self.change(Ordering::AcqRel, |counts| {
            (counts.of(IDLE) > 0).then(|| counts.0 - IDLE + searching)
        });
        if is_woken {
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
            // Acquire pairs with the Release in `announce_idle`: the idle worker is in the list.
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

    /// Notifies the idle worker that the counts say is woken.
    fn notify_last(&self) {
        self.count_wake_up();
        self.searcher_deadline.woken();
        // An idle worker is listed before it is counted; the list is empty only after `wake_all`.
        let idle_worker = lock(&self.idle_workers).pop();
        if let Some(idle_worker) = idle_worker {
            self.notify(idle_worker);
        }
    }

    /// Wakes this worker, if it is idle, for a reason other than a job. It is counted as searching,
    /// as any woken worker. If wakers are on their way to all idle workers, one of them wakes it.
    pub(crate) fn wake_this(&self, index: usize) {
        let mut idle_workers = lock(&self.idle_workers);
        let Some(at) = idle_workers
            .iter()
            .position(|&idle_worker| idle_worker == index)
        else {
            return;
        };
        let is_woken = self.change(Ordering::AcqRel, |counts| {
            (counts.of(IDLE) > 0).then(|| counts.0 - IDLE + SEARCHING)
        });
        if is_woken {
            idle_workers.remove(at);
            drop(idle_workers);
            self.notify(index);
        }
    }

    fn notify(&self, index: usize) {
        let parker = &self.parkers[index];
        parker.notified.store(true, Ordering::Release);
        if let Some(thread) = parker.thread.get() {
            thread.unpark();
        }
    }

    /// Begins to search, if fewer than half of the workers in service do, or `anyway`. More
    /// searchers would obstruct each other. Returns whether the caller is counted as searching.
    pub(crate) fn try_search(&self, anyway: bool) -> bool {
        let in_service = self.in_service() as u64;
        self.change(Ordering::Relaxed, |counts| {
            (anyway || counts.of(SEARCHING) * 2 < in_service).then(|| counts.0 + SEARCHING)
        })
    }

    /// Ends a search that has found a job. `more` checks whether other jobs wait.
    pub(crate) fn stop_searching(&self, more: impl FnOnce() -> bool) -> WakeUp {
        // AcqRel: the last searcher also sees what other searchers have moved into their own
        // deques.
        let before = self.counts.fetch_sub(SEARCHING, Ordering::AcqRel);
        let now = Counts(before - SEARCHING);
        if now.wake_one().is_none() {
            // Others search, or all others run a job and check the queues after it.
            return WakeUp::None;
        }
        // Pairs with the fences in `after_push` and `after_offer`: we see the job, or they see that
        // no worker searches.
        unless_mutant!("idle_no_fence_found", self.fence());
        if more() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Ends a search that has found nothing, and leaves service, as `leave_service` does.
    pub(crate) fn search_in_vain(&self, work: impl FnOnce() -> bool) -> WakeUp {
        self.leave(SEARCHING, !mutant!("idle_no_fence_vain"), work)
    }

    /// Leaves service, and takes the caller out of the field `counted`.
    fn leave(&self, counted: u64, fences: bool, work: impl FnOnce() -> bool) -> WakeUp {
        // A worker that leaves for the excess has no place: the worker that runs in its place is
        // not counted elsewhere.
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

    /// The fence of a worker that no longer searches, or has changed the counts otherwise.
    fn fence(&self) {
        // Pairs with the fences in `after_push` and `begin_to_offer`.
        fence(Ordering::SeqCst);
        if self.offering.load(Ordering::Relaxed) > 0 {
            // With the one in `after_offer`.
            self.fences.heavy();
        }
    }

    /// Counts the calling worker as offering. It has pushed a job on its own deque. It calls
    /// `after_offer` for that job and for those that it pushes later.
    pub(crate) fn begin_to_offer(&self) {
        self.offering.fetch_add(1, Ordering::Relaxed);
        // Pairs with the plain one in `fence`: they see that we offer, or we see what they have
        // changed.
        unless_mutant!("idle_no_fence_begin", fence(Ordering::SeqCst));
    }

    /// Ends the worker's count as offering. Must be called before its last check of the queues.
    pub(crate) fn end_offers(&self) {
        self.offering.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts the calling worker as idle; it no longer searches. `work` checks whether a job waits.
    ///
    /// [`Idle::park_for`] must follow, unless the pool has stopped. The worker may have been
    /// notified by then, because of what `work` found.
    pub(crate) fn announce_idle(&self, index: usize, work: impl FnOnce() -> bool) -> WakeUp {
        let mut idle_workers = lock(&self.idle_workers);
        idle_workers.push(index);
        // Release: a waker that counts this worker finds it in the list. Under the lock:
        // `wake_this` finds it in both or in neither.
        self.counts.fetch_add(IDLE, Ordering::Release);
        drop(idle_workers);
        // Pairs with the fences in `after_push` and `after_offer`: we see the job, or they see us
        // idle.
        unless_mutant!("idle_no_fence_announce", self.fence());
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Blocks until the worker is notified; after the timeout, goes to rayon. If a waker is on its
    /// way at that moment, though maybe to another worker, it parks once more for the timeout.
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
                return IdleEnd::InRayon;
            }
            if mutant!("idle_park_for_good") {
                return self.park_for_good(index);
            }
        }
    }

    /// Blocks until the worker is notified, or until the timeout. Returns whether it was notified.
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

    /// loom has no timeouts: this one may pass at any moment.
    #[cfg(loom)]
    fn park_until_notified(&self, index: usize, _: Duration) -> bool {
        thread::yield_now();
        self.take_notification(index)
    }

    /// Parks without a timeout, for models, and for a mutant.
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

    /// Moves an idle worker to in rayon, unless a waker is on its way to it. Returns whether it
    /// did.
    pub(crate) fn go_to_rayon(&self, index: usize) -> bool {
        let mut idle_workers = lock(&self.idle_workers);
        let Some(at) = idle_workers
            .iter()
            .position(|&idle_worker| idle_worker == index)
        else {
            return false;
        };
        let falls = self.change(Ordering::AcqRel, |counts| {
            let is_free = counts.of(IDLE) > 0 || mutant!("idle_torn_leave");
            is_free.then(|| counts.0 - IDLE + IN_RAYON)
        });
        if falls {
            idle_workers.remove(at);
        }
        falls
    }

    /// Counts the thread that takes up an activation as searching.
    pub(crate) fn activation_taken(&self) {
        self.counts
            .fetch_sub(ACTIVATING - SEARCHING, Ordering::Relaxed);
    }

    /// Takes a running worker out of service: its thread is in rayon again. Another thread may be
    /// activated in its place. Pairs with `after_push` and `after_offer` as `announce_idle` does.
    ///
    /// If there is an excess worker, it already runs in this place, or it has just become idle.
    pub(crate) fn leave_service(&self, work: impl FnOnce() -> bool) -> WakeUp {
        self.leave(0, !mutant!("idle_no_fence_leave"), work)
    }

    /// As `leave_service`, for a worker that is about to block. A spare thread may take its place,
    /// so an activation is sent even if another one waits for a thread.
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

    /// Sends one more activation, beside one that waits for a thread.
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

    /// Returns how often a worker was woken for a job.
    #[cfg(test)]
    pub(crate) fn wake_ups(&self) -> u64 {
        self.wake_ups.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Counts a worker that is woken for a job, for tests.
    #[inline]
    fn count_wake_up(&self) {
        #[cfg(test)]
        self.wake_ups
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Fills a place that is in rayon with the thread of a worker that left service. Returns false
    /// if there is none: other threads were activated meanwhile.
    #[must_use]
    pub(crate) fn return_to_service(&self) -> bool {
        self.change(Ordering::Relaxed, |counts| {
            (counts.of(IN_RAYON) > 0).then(|| counts.0 - IN_RAYON)
        })
    }

    /// Voids an activation: no thread takes it up, and a worker that runs already fills its place.
    /// The caller must then `recheck`.
    pub(crate) fn activation_voided(&self) {
        self.counts.fetch_sub(ACTIVATING, Ordering::Relaxed);
    }

    /// Takes back an activation: no thread takes it up, and its place is in rayon again. The caller
    /// must then `recheck`.
    pub(crate) fn activation_put_back(&self) {
        self.counts
            .fetch_sub(ACTIVATING - IN_RAYON, Ordering::AcqRel);
    }

    /// Checks the queues again, after the caller went to rayon, or took back an activation that may
    /// have kept others from sending one.
    pub(crate) fn recheck(&self, work: impl FnOnce() -> bool) -> WakeUp {
        // As in `announce_idle`.
        unless_mutant!("idle_no_fence_again", self.fence());
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
        }
    }

    /// Counts one more excess worker.
    pub(crate) fn add_excess(&self) {
        self.excess.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there are excess workers.
    #[inline]
    pub(crate) fn has_excess(&self) -> bool {
        self.excess.load(Ordering::Relaxed) > 0
    }

    /// Takes one from the excess. Returns whether the calling worker is the excess, and has to
    /// leave.
    pub(crate) fn take_excess(&self) -> bool {
        if mutant!("idle_torn_excess") {
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

    /// Makes each later push return `WakeUp::Discard`.
    pub(crate) fn begin_discarding(&self) {
        self.counts.fetch_or(DISCARDING, Ordering::Relaxed);
        // Pairs with the fence in `after_push`: they see the flag, or the thread that empties the
        // queues sees their job.
        unless_mutant!("idle_no_fence_discard", fence(Ordering::SeqCst));
    }

    /// Wakes every idle worker, because the pool stops. A worker that becomes idle later has to
    /// check the stop flag.
    pub(crate) fn wake_all(&self) {
        let idle_workers = std::mem::take(&mut *lock(&self.idle_workers));
        for idle_worker in idle_workers {
            self.notify(idle_worker);
            if mutant!("idle_stop_wakes_one") {
                break;
            }
        }
    }
}
