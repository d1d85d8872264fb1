//! Admission of a job: how it gets its place in the queue, and what becomes of it without one.

use std::{sync::Arc, time::Duration};

use crate::{
    error::AdmissionError,
    protocol::admission::{Admitted, Refusal},
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::{Entry, Holder, Place, Runnable},
        wait::{Assisted, IfStarved, Spin, Waited, wait_until},
        worker::{
            self, Current,
            inline::{self, Advice},
        },
    },
    sync::{Instant, backoff::YieldHint},
};

/// How long a submitter waits for a place.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    Never,
    Until(Instant),
    Forever,
    /// Not at all. Without a place its job is queued over the bound.
    Deferred,
}

impl Wait {
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            _ => None,
        }
    }

    /// For at most `timeout`. A time that the clock cannot express means for ever.
    pub(crate) fn at_most(timeout: Duration) -> Self {
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Forever, Self::Until)
    }
}

impl Inner {
    #[inline]
    pub(crate) fn admit(&self, wait: Wait) -> Result<Entry, AdmissionError> {
        match self.try_acquire_by(worker::current_of(self)) {
            Ok(()) => Ok(Entry::Queued),
            Err(refusal) => self.admit_refused(refusal, wait),
        }
    }

    /// Takes a place if one is free. `current` is the calling thread, if it is one of the pool's.
    #[inline]
    fn try_acquire_by(&self, current: Option<&Current>) -> Result<(), Refusal> {
        let places = current.map(|current| current.slots().places);
        self.admission.try_acquire_here(places)
    }

    /// Admits a structured job. A closed pool refuses it only if it never waits; otherwise it runs
    /// in place.
    pub(crate) fn admit_structured(
        &self,
        wait: Wait,
        current: Option<&Current>,
    ) -> Result<Entry, AdmissionError> {
        let taken = match (current, wait) {
            (Some(current), Wait::Forever) => current.take_place(),
            _ => self.try_acquire_by(current),
        };
        let entry = match taken {
            Ok(()) => Ok(Entry::Queued),
            Err(refusal) => self.enter_refused(refusal, wait, current),
        };
        match (entry, wait, current) {
            (Err(AdmissionError::Closed), Wait::Never, _) => entry,
            (Err(AdmissionError::Closed), _, Some(current)) => Ok(current.refused()),
            (Err(AdmissionError::Closed), _, None) => Ok(Entry::InPlace),
            _ => entry,
        }
        .inspect_err(|&reason| self.recorder.rejected(reason))
    }

    /// Admits an item of a batch whose consumer waits for nothing else. It is admitted as a
    /// structured job, but off the pool it waits instead of running inline. `hint` is the batch's.
    pub(crate) fn admit_item(&self, hint: &YieldHint) -> Entry {
        let current = worker::current_of(self);
        let taken = match current {
            Some(current) => current.take_place(),
            None => self.admission.try_acquire(),
        };
        match taken {
            Ok(()) => Entry::Queued,
            Err(Refusal::Full) if current.is_none() => self
                .wait_for_place(None, false, Some(hint))
                .unwrap_or(Entry::InPlace),
            Err(_) => Entry::InPlace,
        }
    }

    #[cold]
    fn admit_refused(&self, refusal: Refusal, wait: Wait) -> Result<Entry, AdmissionError> {
        let current = worker::current_of(self);
        self.enter_refused(refusal, wait, current)
            .inspect_err(|&reason| self.recorder.rejected(reason))
    }

    /// Decides what becomes of a job that found no place.
    fn enter_refused(
        &self,
        refusal: Refusal,
        wait: Wait,
        current: Option<&Current>,
    ) -> Result<Entry, AdmissionError> {
        match (refusal, wait, current) {
            (Refusal::Closed, ..) => Err(AdmissionError::Closed),
            (Refusal::Full, Wait::Never, _) => Err(AdmissionError::Full),
            (Refusal::Full, Wait::Deferred, _) => Ok(self.overdraw(true, Holder::Queue)?),
            // A thread of the pool does not wait for a place: it might wait for itself.
            (Refusal::Full, Wait::Until(_) | Wait::Forever, Some(current)) => Ok(current.refused()),
            (Refusal::Full, Wait::Until(_) | Wait::Forever, None) => {
                self.wait_for_place(wait.deadline(), false, None)
            }
        }
    }

    /// Waits for a place, which is `held` if it is a permit's. If the thread is another pool's
    /// worker, a spare thread may take its place there meanwhile. If this pool is starved, the wait
    /// ends without a place. The thread raises the `hint` while it yields.
    pub(crate) fn wait_for_place(
        &self,
        deadline: Option<Instant>,
        held: bool,
        hint: Option<&YieldHint>,
    ) -> Result<Entry, AdmissionError> {
        let since = self.timing.begins_to_wait();
        let admitted = Admitted::new(&self.admission, held, &|| ());
        let mut gives_up = IfStarved(|| true, || Assisted::Starved);
        let spin = Spin::Yields(self.admission.yields_before_line(), hint);
        let waited = wait_until(self, &[&admitted], &mut gives_up, spin, deadline);
        let outcome = admitted.outcome();
        self.timing.has_waited(since, outcome.is_ok());
        match outcome {
            Ok(()) => Ok(Entry::Queued),
            Err(AdmissionError::TimedOut) if waited == Waited::Starved => Ok(Entry::InPlace),
            Err(reason) => Err(reason),
        }
    }

    /// Runs a job that has no place, on the calling thread.
    #[cold]
    fn run_in_place<R: Runnable<Inner> + 'static>(&self, runnable: R) {
        match worker::current_of(self) {
            Some(current) => {
                let run = || runnable.run(current.context(), Place::None);
                self.check_drained(current.inline().run(run));
            }
            None => self.run_outside(runnable),
        }
    }

    /// Runs a job that has no place, on a thread without a worker loop. If it is kept, it keeps the
    /// pool alive.
    fn run_outside<R: Runnable<Inner> + 'static>(&self, runnable: R) {
        // SAFETY: it borrows nothing, and keeps the pool alive.
        unsafe { self.run_borrowing_outside(runnable, || Some(self.me())) };
    }

    /// As `run_outside`, for a job that may borrow. `kept_alive` returns its pool, if no other
    /// reference keeps that alive.
    ///
    /// # Safety
    /// The pool and the job's borrows outlive the job.
    pub(crate) unsafe fn run_borrowing_outside<R: Runnable<Inner>>(
        &self,
        runnable: R,
        kept_alive: impl FnOnce() -> Option<Arc<Self>>,
    ) {
        inline::outside(|outside| match outside.advise(self.admission.capacity()) {
            Advice::RunInPlace => {
                let context = JobContext::elsewhere(self);
                outside.run(|| self.check_drained(runnable.run(&context, Place::None)));
            }
            Advice::Keep => {
                // SAFETY: passed on to the caller.
                let job = unsafe { Job::borrowing(runnable) };
                // SAFETY: as above.
                unsafe { outside.keep(self, kept_alive(), job) };
            }
        });
    }

    #[inline]
    pub(crate) fn put_in<R: Runnable<Inner> + 'static>(&self, entry: Entry, runnable: R) {
        match entry {
            Entry::Queued => self.enqueue(Job::new(runnable)),
            Entry::InPlace => self.run_in_place(runnable),
            Entry::Overdrawn(holder) => self.enqueue_overdrawn(holder, runnable),
        }
    }
}
