//! Places in service, and the excess: how workers leave service and return to it, and how the
//! number of places changes.

use super::{
    Idle, WakeUp,
    counts::{ACTIVATING, IDLE, IN_RAYON, SEARCHING},
};
use crate::sync::Ordering;

impl Idle {
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

    /// Adds places in service. The excess fills some of them; the others are in rayon.
    pub(crate) fn add_places(&self, places: usize, work: impl FnOnce() -> bool) -> WakeUp {
        self.in_service.fetch_add(places, Ordering::Relaxed);
        let in_rayon = (0..places).filter(|_| !self.take_excess()).count();
        let added = in_rayon as u64 * IN_RAYON;
        self.counts.fetch_add(added, Ordering::AcqRel);
        // As in `announce_idle`.
        unless_mutant!("idle_no_fence_add", self.fence());
        self.wake_for(work)
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

    /// Leaves service, and takes the caller out of the field `counted`.
    pub(super) fn leave(&self, counted: u64, fences: bool, work: impl FnOnce() -> bool) -> WakeUp {
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
        self.wake_for(work)
    }

    /// Counts the thread that takes up an activation as searching.
    pub(crate) fn activation_taken(&self) {
        self.counts
            .fetch_sub(ACTIVATING - SEARCHING, Ordering::Relaxed);
    }

    /// Takes a running worker out of service: its thread is in rayon again. Another thread may be
    /// activated in its place. Pairs with `after_push` and `all_run_after_offer` as `announce_idle`
    /// does.
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
    pub(super) fn activate_another(&self) -> WakeUp {
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
}
