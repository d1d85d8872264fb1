//! Idle workers on their parkers: the list of them, and how a worker enters and leaves it.
//!
//! A worker is in the list before it is counted as idle. A waker takes it out of the count first,
//! and of the list after it. So the list has a worker for each waker that is on its way.

use std::{sync::OnceLock, time::Duration};

use super::{
    Idle, IdleEnd, WakeUp,
    counts::{IDLE, IN_RAYON, SEARCHING},
};
#[cfg(not(loom))]
use crate::sync::Instant;
use crate::sync::{AtomicBool, Ordering, lock, thread};

#[derive(Debug, Default)]
pub(super) struct Parker {
    pub(super) notified: AtomicBool,
    /// The thread of this index, once it is started.
    thread: OnceLock<thread::Thread>,
}

impl Idle {
    /// Makes the calling thread the owner of the parker `index`.
    pub(crate) fn enroll(&self, index: usize) {
        // The cell is empty: an index belongs to one thread for its life.
        let _ = self.parkers.enter(index).thread.set(thread::current());
        // So that `announce_idle` does not allocate.
        lock(&self.idle_workers).reserve(self.parkers.len());
    }

    /// Notifies the idle worker that the counts say is woken.
    pub(super) fn notify_last(&self) {
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
        // Pairs with the fences in `after_push` and `all_run_after_offer`: we see the job, or they
        // see us idle.
        unless_mutant!("idle_no_fence_announce", self.fence());
        self.wake_for(work)
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

    pub(super) fn take_notification(&self, index: usize) -> bool {
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
