//! The end of a pool, in all its forms.
//!
//! 1. The door is closed: nobody takes a place any more, and who waited for one is told.
//! 2. The pool *drains*: workers run what is queued. A thread that took its place before the door
//!    was closed may still push its job; the pool is not drained before that job has ended. (What a
//!    `Permit` or a task holds is not waited for: see `admission`.)
//! 3. If there is no time for that, the pool *discards*: workers, those who still push, and the one
//!    who shuts down drop what has not started.
//! 4. Who sees the last job end *stops* the pool: workers leave their loops, rayon ends its threads.
//! 5. Threads are joined, and the report is made, once, for all who ask. What is left in the queues are tombstones; they
//!    are dropped.
//!
//! **Who sees the last job end.** A worker when it runs dry, or who drains: see `drain.rs`. A job that
//! ends elsewhere (inline in a thread that is with rayon, or outside of the pool, or cancelled) is
//! followed by the same look.
//!
//! **Discarding.** The flag is set, then the queues are emptied by the one who set it. Who pushes
//! later sees the flag after its fence and empties them itself; a worker looks at the flag before
//! it starts a job. A job that a worker had in its hands meanwhile either starts, which gives back
//! its place and is told (the admission is *watched*), or is dropped. So when no place is taken by
//! a job any more, what has started runs, and nothing else ever will.

use crate::{
    error::{ShutdownError, ShutdownReport},
    runtime::{context::JobContext, foreign_stack, inner::Inner, job::Place, worker},
    sync::{Instant, lock},
    tuning::RECHECK,
};

/// How long a shutdown lets queued jobs start.
#[derive(Clone, Copy)]
pub(crate) enum Grace {
    Unlimited,
    Until(Instant),
    None,
}

impl Inner {
    /// Steps 1 and 2, without waiting.
    pub(crate) fn begin_drain(&self) {
        self.life.drain.begin(&self.admission);
        self.stop_if_drained();
    }

    /// Step 4, if it is time.
    pub(crate) fn stop_if_drained(&self) {
        let counts = || {
            let sums = self.recorder.sums();
            // Those come with items that have places, and bring none: so none is new if all had ended above.
            (sums.unplaced() + self.queue.placeless(), sums.ended())
        };
        let drain = &self.life.drain;
        if drain.try_stop(&self.admission, &self.idle, counts) {
            self.threads.stop();
            self.life.changed();
        } else if drain.is_discarding() {
            self.life.changed();
        }
    }

    /// Step 3: nothing starts any more.
    fn begin_discard(&self) {
        self.life.drain.begin_discarding();
        self.admission.watch();
        self.idle.begin_discarding();
        self.discard_submitted();
    }

    /// Drops what waits in the queues. What is to be run even so is left to the workers: the caller, who
    /// may be anybody, has a deadline, or holds what the job wants.
    #[cold]
    pub(crate) fn discard_submitted(&self) {
        let context = JobContext::here(self);
        let mut is_left = false;
        while let Some(job) = self.queue.take_submitted() {
            if job.is_kept() {
                self.queue.push_structured(job);
                is_left = true;
            } else {
                job.discard(&context, Place::Queue);
            }
        }
        if is_left {
            let wake_up = self.idle.after_push();
            self.perform(wake_up);
        }
    }

    /// All steps, as far as there is time.
    pub(crate) fn shut_down(&self, grace: Grace) -> Result<ShutdownReport, ShutdownError> {
        if worker::is_home(self) || foreign_stack::is_in_job_of(self) {
            return Err(ShutdownError::InsideJob);
        }
        self.begin_drain();
        let deadline = match grace {
            Grace::Unlimited => None,
            Grace::Until(deadline) => Some(deadline),
            Grace::None => {
                self.begin_discard();
                None
            }
        };
        // The caller may be another pool's worker, whose place another thread fills meanwhile: it may be what a job of ours
        // waits for.
        match worker::blocking(|| self.await_end(deadline)) {
            Some(report) => Ok(report),
            None => Err(self.cut_short()),
        }
    }

    /// What has become of the jobs, when all threads have ended; or none, if that takes too long.
    fn await_end(&self, deadline: Option<Instant>) -> Option<ShutdownReport> {
        let mut state = lock(&self.life.state);
        loop {
            if let Some(report) = state.report {
                return Some(report);
            }
            let ended = self.life.is_stopped() && state.exited == self.threads.started().all;
            if ended && !state.joining {
                state.joining = true;
                drop(state);
                self.threads.join();
                let report = self.report();
                lock(&self.life.state).report = Some(report);
                self.life.changed();
                // The tombstones that no worker has come to: those of batches hold the user's closure. Not before
                // the report, since what is dropped with it may ask for that too.
                self.discard_submitted();
                return Some(report);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            state = self.life.wait(state, deadline);
        }
    }

    /// The time is up: drops what has not started, and says what runs.
    fn cut_short(&self) -> ShutdownError {
        self.begin_discard();
        let mut state = lock(&self.life.state);
        // Structured jobs and items of batches stay in the queue: somebody waits for them. One that moves from one deque to
        // another meanwhile is not seen, and tells nobody; so this looks again by itself, too.
        while self.admission.queued() > self.queue.structured() + self.recorder.batched()
            || self.recorder.overdrawn_now() > self.queue.overdrawn()
        {
            state = self.life.wait(state, Instant::now().checked_add(RECHECK));
        }
        drop(state);
        let report = self.report();
        let unplaced = self.recorder.sums().unplaced();
        ShutdownError::TimedOut {
            report,
            running: self.admission.outstanding(unplaced, report.total()),
        }
    }

    /// What has become of the jobs up to now.
    pub(crate) fn report(&self) -> ShutdownReport {
        let sums = self.recorder.sums();
        ShutdownReport {
            completed: sums.completed,
            panicked: sums.panicked,
            cancelled: sums.cancelled,
            dropped: sums.dropped,
        }
    }
}
