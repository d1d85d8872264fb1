//! Wake-ups: each push, and each change of the idle counts, together with the wake-up that it
//! leaves to perform.
//!
//! No other file handles a [`WakeUp`], but for the scaling controller, which gets one under its
//! lock and performs it without. A push returns a token of [`queue`](super::queue), and only the
//! functions here use one up. So a push without its wake-up does not compile.

use crate::{
    protocol::idle::{IdleEnd, WakeUp},
    runtime::{
        inner::{Inner, Job},
        queue::{Offered, Pushed},
    },
    tuning::IDLE_TIME,
};

/// Pushes.
impl Inner {
    /// Puts a submitted job into the queue.
    #[inline]
    pub(crate) fn enqueue(&self, job: Job) {
        self.pushed(self.queue.push(job));
    }

    /// Completes the push of a job that has just entered: wakes a worker for it if one is needed,
    /// and publishes its place.
    #[inline]
    pub(crate) fn pushed(&self, _: Pushed) {
        let wake_up = self.idle.after_push();
        self.idle.check_searcher_deadline(wake_up);
        self.perform(wake_up);
        self.place_taken();
    }

    /// As `pushed`, for jobs that were published before, or that need not be.
    pub(crate) fn wake_for(&self, _: Pushed) {
        let wake_up = self.idle.after_push();
        self.perform(wake_up);
    }

    /// As `pushed`, for a job on the calling thread's own deque. Always inlined: a scope's spawn
    /// does little more.
    #[inline(always)]
    pub(crate) fn offered(&self, _: Offered) {
        // If every worker runs, none is searching, either.
        if !self.idle.all_run_after_offer() {
            self.offered_to_some();
        }
        self.place_taken();
    }

    #[inline(never)]
    fn offered_to_some(&self) {
        let wake_up = self.wake_one();
        self.idle.check_searcher_deadline(wake_up);
    }

    /// As `wake_for`, for a job on the calling thread's own deque.
    #[inline]
    pub(crate) fn wake_for_offer(&self, _: Offered) {
        if !self.idle.all_run_after_offer() {
            let _ = self.wake_one();
        }
    }

    /// Not cold: it is called as long as some worker does not run.
    #[inline(never)]
    fn wake_one(&self) -> WakeUp {
        let wake_up = self.idle.wake_one();
        self.perform(wake_up);
        wake_up
    }
}

/// Changes of the calling worker's state.
impl Inner {
    /// Ends a search that has found a job, or a message. Wakes another worker if the queues still
    /// hold a job.
    pub(crate) fn stop_searching(&self) {
        let wake_up = self.idle.stop_searching(|| self.has_jobs());
        self.perform(wake_up);
        self.check_left_behind();
    }

    /// Ends a search that has found nothing, and leaves service.
    pub(crate) fn search_in_vain(&self) {
        let wake_up = self.idle.search_in_vain(|| self.has_jobs());
        self.perform(wake_up);
    }

    /// Counts the worker `index` as idle. Unless the pool has stopped, `park` has to follow.
    pub(crate) fn announce_idle(&self, index: usize) {
        let wake_up = self.idle.announce_idle(index, || self.has_jobs());
        self.perform(wake_up);
    }

    /// Blocks until the worker `index` is notified. After [`IDLE_TIME`] it goes to rayon.
    pub(crate) fn park(&self, index: usize) -> IdleEnd {
        // A waker that counts this worker as in rayon, and activates a thread, finds that it is no
        // longer a worker.
        let go_to_rayon = || self.threads.go_to_rayon(&self.idle, index);
        let end = self.idle.park_for(index, IDLE_TIME, go_to_rayon);
        if end == IdleEnd::InRayon {
            self.recheck();
            self.worker_went_to_rayon(IDLE_TIME);
        }
        end
    }

    /// Leaves service. Another thread takes the place if the queues hold a job.
    pub(crate) fn leave_service(&self) {
        let wake_up = self.idle.leave_service(|| self.has_jobs());
        self.perform(wake_up);
    }

    /// As `leave_service`, to block. Even a spare thread may take the place.
    pub(crate) fn leave_service_to_block(&self) {
        let wake_up = self.idle.block(|| self.has_jobs());
        self.perform(wake_up);
    }

    /// Returns to service, after the place was given to other threads.
    pub(crate) fn return_to_service(&self) {
        if !self.idle.return_to_service() && self.threads.come_back(&self.idle) {
            self.recheck();
        }
        self.check_left_behind();
    }

    /// Lets the worker `index` leave for the excess, which it has taken. Returns whether it leaves:
    /// it may fill the place of an activation instead.
    #[cold]
    pub(crate) fn leave_as_excess(&self, index: usize) -> bool {
        let leaves = self.threads.leave_as_excess(&self.idle, index);
        if !leaves {
            self.recheck();
        }
        leaves
    }

    /// Checks the queues again, and wakes a worker if they hold a job. Returns whether they do. A
    /// caller that retracts an activation needs this, since the activation kept others from being
    /// sent. So does a worker that has just gone to rayon.
    pub(crate) fn recheck(&self) -> bool {
        let mut jobs_wait = false;
        let wake_up = self.idle.recheck(|| {
            jobs_wait = self.has_jobs();
            jobs_wait
        });
        self.perform(wake_up);
        jobs_wait
    }

    /// Performs a wake-up.
    #[inline]
    pub(super) fn perform(&self, wake_up: WakeUp) {
        match wake_up {
            WakeUp::None | WakeUp::Woken => {}
            WakeUp::Activate => {
                self.place_was_activated();
                self.threads.activate(&self.me());
            }
            WakeUp::Discard => {
                self.discard_submitted();
                let _ = self.wake_one();
            }
        }
    }
}
