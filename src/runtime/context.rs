//! Job context: the pool, and the per-thread slots if the thread is one of the pool's. Every update
//! of the slots at the begin and end of a job goes through here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    metrics::{self, Begun, Stamp, Started},
    protocol::admission,
    runtime::{
        foreign_stack,
        inner::Inner,
        job::{Ended, Executor, Holder, Place, Runnable},
    },
    sync::{lock_order::assert_none_held, unwind::quietly},
};

/// The slots that one thread of the pool updates for each job, resolved once per thread.
#[derive(Clone, Copy)]
pub(crate) struct ThreadSlots<'a> {
    /// The thread's index.
    pub(crate) index: usize,
    pub(crate) places: &'a admission::PlaceSlot,
    pub(crate) counts: &'a metrics::CounterSlot,
    pub(crate) times: &'a metrics::LatencySlot,
}

impl<'a> ThreadSlots<'a> {
    /// Resolves the slots of the thread `index`.
    pub(crate) fn of(inner: &'a Inner, index: usize) -> Self {
        Self {
            index,
            places: inner.admission.slot(index),
            counts: inner.recorder.slot(index),
            times: inner.timing.slot(index),
        }
    }

    /// Returns the numbers of jobs that the thread has begun. Must be called on that thread.
    fn begun(&self) -> Begun {
        let (overdrawn, inlined) = self.counts.begun_unplaced();
        let queued = self.places.released() + overdrawn;
        Begun {
            queued,
            all: queued + inlined,
        }
    }
}

/// The context in which a job runs or is dropped.
#[derive(Clone, Copy)]
pub(crate) struct JobContext<'a> {
    pub(crate) inner: &'a Inner,
    /// The calling thread's slots, if it is one of the pool's threads.
    pub(crate) slots: Option<ThreadSlots<'a>>,
}

impl Executor for Inner {
    type Context<'a> = JobContext<'a>;
}

impl<'a> JobContext<'a> {
    /// The context of a thread outside the pool.
    pub(crate) fn elsewhere(inner: &'a Inner) -> Self {
        Self { inner, slots: None }
    }

    /// Returns the index of the thread, if it is one of the pool's.
    #[inline]
    pub(crate) fn index(&self) -> Option<usize> {
        self.slots.as_ref().map(|slots| slots.index)
    }

    #[inline]
    pub(crate) fn counts(&self) -> Option<&'a metrics::CounterSlot> {
        self.slots.as_ref().map(|slots| slots.counts)
    }
}

impl JobContext<'_> {
    /// Begins a job: releases its place, which it has held since `since`. Returns its start.
    #[inline]
    pub(crate) fn begin(&self, place: Place, since: Stamp) -> Started {
        assert_none_held();
        match &self.slots {
            Some(slots) if matches!(place, Place::Queue) => {
                if self.inner.admission.release_unattended(slots.places) {
                    self.begin_timing(true, since)
                } else {
                    self.begin_attended(slots, since)
                }
            }
            _ if matches!(place, Place::None) => self.begin_in_place(since),
            _ => self.begin_aside(place, since),
        }
    }

    /// Times the begin, unless the job is not sampled.
    #[inline]
    fn begin_timing(&self, is_queued: bool, since: Stamp) -> Started {
        if self.slots.is_some() && self.inner.timing.passes_over(since) {
            Started::UNTIMED
        } else {
            self.begin_timed(is_queued, since)
        }
    }

    #[inline(never)]
    fn begin_timed(&self, is_queued: bool, since: Stamp) -> Started {
        self.inner.timing.begin(self.timed_slot(), is_queued, since)
    }

    /// Returns where the thread records times, and the jobs that it has started.
    fn timed_slot(&self) -> Option<(&metrics::LatencySlot, Begun)> {
        let slots = self.slots.as_ref();
        slots.map(|slots| (slots.times, slots.begun()))
    }

    /// Begins a job that was not queued.
    #[inline]
    fn begin_in_place(&self, since: Stamp) -> Started {
        if self.slots.is_none() {
            foreign_stack::begin(self.inner);
        }
        self.inner.recorder.inlined(self.counts());
        self.begin_timing(false, since)
    }

    /// Begins a job if a submitter or a shutdown waits for the place that was released.
    #[cold]
    fn begin_attended(&self, slots: &ThreadSlots<'_>, since: Stamp) -> Started {
        if self.inner.admission.attend(slots.places) {
            self.inner.life.changed();
        }
        self.begin_timing(true, since)
    }

    /// Begins a job that was queued over the bound, or on a thread outside the pool.
    #[inline(never)]
    fn begin_aside(&self, place: Place, since: Stamp) -> Started {
        if self.slots.is_none() {
            foreign_stack::begin(self.inner);
        }
        if let Place::Overdrawn(holder) = place {
            let recorder = &self.inner.recorder;
            recorder.started_overdrawn(self.counts(), holder);
        } else {
            self.inner.recorder.started_elsewhere();
            self.inner.admission.release();
        }
        self.begin_timing(true, since)
    }

    /// Ends a job that has run. Must be called before its handle publishes the end.
    #[inline]
    pub(crate) fn end(&self, started: Started, completed: bool) -> Ended {
        if started.is_timed() {
            self.end_timed(started);
        }
        self.inner.recorder.ended(self.counts(), completed);
        if self.slots.is_none() {
            foreign_stack::end();
        }
        Ended::new()
    }

    #[inline(never)]
    fn end_timed(&self, started: Started) {
        self.inner.timing.end(self.timed_slot(), started);
    }

    /// Accounts for a job that was dropped without running.
    pub(crate) fn dropped(&self, place: Place) {
        self.inner.recorder.dropped();
        self.leave(place);
    }

    /// Accounts for a job that was cancelled by its handle, or with its batch.
    pub(crate) fn cancelled(&self, place: Place) {
        self.inner.recorder.cancelled();
        self.leave(place);
    }

    /// Accounts for a job that left the queue without running.
    fn leave(&self, place: Place) {
        match place {
            Place::Queue => self.inner.admission.release(),
            Place::None => {}
            Place::Overdrawn(holder) => self.inner.recorder.left_overdrawn(holder),
        }
        self.inner.check_drained(Ended::new());
    }
}

/// A closure without a handle.
pub(crate) struct Detached<F> {
    /// Since when it holds its place.
    pub(crate) since: Stamp,
    pub(crate) f: F,
}

impl<F: FnOnce() + Send> Runnable<Inner> for Detached<F> {
    #[inline]
    fn run(self, context: &JobContext<'_>, place: Place) -> Ended {
        let started = context.begin(place, self.since);
        let outcome = catch_unwind(AssertUnwindSafe(self.f));
        let ended = context.end(started, outcome.is_ok());
        if let Err(payload) = outcome {
            context.inner.handle_panic(payload);
        }
        ended
    }

    fn discard(self, context: &JobContext<'_>, place: Place) {
        // This order matters: the drop may end the pool, which must not wait for this job then.
        context.dropped(place);
        quietly(move || drop(self));
    }
}

/// A job that was queued over the bound, without a place.
pub(crate) struct Overdrawn<R, const STRUCTURED: bool> {
    pub(crate) holder: Holder,
    pub(crate) job: R,
}

impl<R: Runnable<Inner>, const STRUCTURED: bool> Overdrawn<R, STRUCTURED> {
    /// Returns the job, after the queue has released it.
    fn take(self, context: &JobContext<'_>) -> (R, Place) {
        if STRUCTURED {
            context.inner.queue.count_overdrawn(-1);
        }
        (self.job, Place::Overdrawn(self.holder))
    }
}

impl<R: Runnable<Inner>, const STRUCTURED: bool> Runnable<Inner> for Overdrawn<R, STRUCTURED> {
    const IS_HALF: bool = R::IS_HALF;

    fn run(self, context: &JobContext<'_>, _: Place) -> Ended {
        let (job, place) = self.take(context);
        job.run(context, place)
    }

    fn discard(self, context: &JobContext<'_>, _: Place) {
        let (job, place) = self.take(context);
        job.discard(context, place);
    }

    fn frame(&self) -> *const () {
        self.job.frame()
    }

    fn is_of_worker(&self, slot: usize) -> bool {
        self.job.is_of_worker(slot)
    }

    fn is_tombstone(&self) -> bool {
        self.job.is_tombstone()
    }

    fn is_kept(&self) -> bool {
        self.job.is_kept()
    }
}
