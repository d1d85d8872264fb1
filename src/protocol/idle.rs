//! Idle workers: how a job finds one, and why no worker stays idle beside a job. `idle/README.md`
//! has the protocol.
#![doc = include_str!("idle/README.md")]

mod counts;
#[cfg(all(test, not(any(loom, miri))))]
mod frozen;
#[cfg(all(test, loom))]
mod model;
mod parking;
mod places;
mod searcher_deadline;
#[cfg(all(test, not(any(loom, miri))))]
pub(crate) mod tests;

use crossbeam_utils::CachePadded;

pub(crate) use self::counts::{IdleEnd, MAX_WORKERS, WakeUp};
#[cfg(all(test, not(any(loom, miri))))]
pub(crate) use self::frozen::Frozen;
use self::{
    counts::{Counts, DISCARDING, IDLE, IN_RAYON, Notified, SEARCHING},
    parking::Parker,
    searcher_deadline::SearcherDeadline,
};
use crate::sync::{
    AtomicU64, AtomicUsize, Mutex, Ordering, Rank, asymmetric::Fences, fence, slots::Slots,
};

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

    /// Whether every place has a worker that runs a job, so that there is none to wake.
    #[inline]
    pub(crate) fn all_run(&self) -> bool {
        self.load().all_run()
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

    /// As `after_push`, for a job that a worker has pushed on its own deque, and runs itself if no
    /// other worker does. Returns whether every worker runs. Otherwise `wake_one` must follow.
    #[inline]
    #[must_use]
    pub(crate) fn all_run_after_offer(&self) -> bool {
        // Pairs as in `after_push`, with those that are heavy.
        unless_mutant!("idle_no_fence_offer", self.fences.light());
        self.load() == Counts(0)
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

    /// Wakes a worker if `work` finds a job. The caller has changed the counts, and fenced.
    #[inline]
    fn wake_for(&self, work: impl FnOnce() -> bool) -> WakeUp {
        if work() {
            self.wake_one()
        } else {
            WakeUp::None
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
        // Pairs with the fences in `after_push` and `all_run_after_offer`: we see the job, or they
        // see that no worker searches.
        unless_mutant!("idle_no_fence_found", self.fence());
        self.wake_for(more)
    }

    /// Ends a search that has found nothing, and leaves service, as `leave_service` does.
    pub(crate) fn search_in_vain(&self, work: impl FnOnce() -> bool) -> WakeUp {
        self.leave(SEARCHING, !mutant!("idle_no_fence_vain"), work)
    }

    /// The fence of a worker that no longer searches, or has changed the counts otherwise.
    fn fence(&self) {
        // Pairs with the fences in `after_push` and `begin_to_offer`.
        fence(Ordering::SeqCst);
        if self.offering.load(Ordering::Relaxed) > 0 {
            // With the one in `all_run_after_offer`.
            self.fences.heavy();
        }
    }

    /// Counts the calling worker as offering. It has pushed a job on its own deque. It calls
    /// `all_run_after_offer` for that job and for those that it pushes later.
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

    /// Checks the queues again, after the caller went to rayon, or took back an activation that may
    /// have kept others from sending one.
    pub(crate) fn recheck(&self, work: impl FnOnce() -> bool) -> WakeUp {
        // As in `announce_idle`.
        unless_mutant!("idle_no_fence_again", self.fence());
        self.wake_for(work)
    }

    /// Makes each later push return `WakeUp::Discard`.
    pub(crate) fn begin_discarding(&self) {
        self.counts.fetch_or(DISCARDING, Ordering::Relaxed);
        // Pairs with the fence in `after_push`: they see the flag, or the thread that empties the
        // queues sees their job.
        unless_mutant!("idle_no_fence_discard", fence(Ordering::SeqCst));
    }
}
