//! Shutdown of a pool: drain, discard, stop, join, report.
//!
//! 1. Admission is closed: it grants no further place, and refuses the submitters that wait for
//!    one.
//! 2. The pool *drains*: workers run what is queued. A submitter that took a place before the close
//!    may still push its job. The pool is not drained before that job has ended. (A place that a
//!    `Permit` or a task holds does not delay it: see `admission`.)
//! 3. If there is no time for that, the pool *discards*: workers, submitters that still push, and
//!    the thread that shuts down drop the jobs that have not started.
//! 4. The thread that observes the last end *stops* the pool: workers leave their loops, and rayon
//!    ends its threads.
//! 5. The threads are joined. The report is made once, for all callers. The queues then hold only
//!    tombstones, which are dropped.
//!
//! **Observing the last end.** A worker checks when it becomes idle, and so does the thread that
//! begins the drain: see `drain.rs`. The same check follows a job that ends elsewhere: inline in a
//! thread that is in rayon, outside the pool, or by cancellation. Each end is an `Ended`, which is
//! used up by the check, or left to the worker's loop.
//!
//! **Discarding.** The thread that sets the flag then empties the queues. A submitter that pushes
//! later observes the flag after its fence, and empties them itself. A worker checks the flag
//! before it starts a job. A job that a worker already holds either starts or is dropped. If it
//! starts, it releases its place, which notifies the shutdown because the admission is *watched*.
//! So when jobs hold no more places, what has started runs, and nothing else starts.

use crate::{
    error::{ShutdownError, ShutdownReport},
    metrics::Counter,
    runtime::{
        context::JobContext,
        foreign_stack,
        inner::Inner,
        job::{Ended, Place},
        worker,
    },
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
    /// Steps 1 and 2. Does not block.
    pub(crate) fn begin_drain(&self) {
        self.life.drain.begin(&self.admission);
        self.stop_if_drained();
    }

    /// Step 4, if a shutdown waits for it and the pool is drained. Each end needs this check. A
    /// worker's loop makes it once for the ends of all its jobs: see `Current::leave_to_loop`.
    pub(crate) fn check_drained(&self, _: Ended) {
        if self.life.drain.is_awaited() {
            self.stop_if_drained();
        }
    }

    /// Step 4, if the pool is drained.
    fn stop_if_drained(&self) {
        let counts = || {
            let sums = self.recorder.sums();
            // A job without a place that is counted here is pushed by an item that holds one. So
            // none is new if all had ended above.
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

    /// Step 3: no further job starts.
    fn begin_discard(&self) {
        self.life.drain.begin_discarding();
        self.admission.watch();
        self.idle.begin_discarding();
        self.discard_submitted();
    }

    /// Drops the submitted jobs in the queues. Workers run the jobs that have to run nevertheless.
    /// The caller does not: it may be any thread, have a deadline, or hold a lock that the job
    /// wants.
    #[cold]
    pub(crate) fn discard_submitted(&self) {
        let context = JobContext::here(self);
        let mut kept = None;
        while let Some(job) = self.queue.take_submitted() {
            if job.is_kept() {
                kept = Some(self.queue.push_structured(job));
            } else {
                job.discard(&context, Place::Queue);
            }
        }
        if let Some(kept) = kept {
            self.wake_for(kept);
        }
    }

    /// Runs all steps, within `grace`.
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
        // The caller may be a worker of another pool, and a job of this pool may wait for it. So
        // another thread takes its place in service meanwhile.
        match worker::blocking(|| self.await_end(deadline)) {
            Some(report) => Ok(report),
            None => Err(self.cut_short()),
        }
    }

    /// Blocks until all threads have ended, and returns the report; `None` if the deadline passes
    /// first.
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
                // Drops the tombstones that no worker has reached: those of batches hold the user's
                // closure. This follows the report, because such a drop may ask for the report too.
                self.discard_submitted();
                return Some(report);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            state = self.life.wait(state, deadline);
        }
    }

    /// Drops what has not started after the deadline, and reports what still runs.
    fn cut_short(&self) -> ShutdownError {
        self.begin_discard();
        let mut state = lock(&self.life.state);
        // Structured jobs and items of batches stay in the queue, since a thread waits for them. A
        // job that moves between deques is not counted meanwhile, and its move notifies no waiter;
        // so this also checks every `RECHECK`.
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

    /// Returns the counts of jobs by outcome up to now.
    pub(crate) fn report(&self) -> ShutdownReport {
        let sums = self.recorder.sums();
        ShutdownReport {
            completed: sums[Counter::Completed],
            panicked: sums[Counter::Panicked],
            cancelled: sums[Counter::Cancelled],
            dropped: sums[Counter::Dropped],
        }
    }
}
