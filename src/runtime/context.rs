//! Where a job runs: the pool, and the slot of the thread, if it is one of the pool's. What a job
//! owes to the pool's slots when it begins and ends goes through here.

use crate::{
    metrics::{self, Begun, Stamp, Started},
    protocol::admission,
    runtime::{inner::Inner, job::Place, worker, worker::foreign_stack},
};

/// What one thread of the pool writes for each job: found once, and not for each.
#[derive(Clone, Copy)]
pub(crate) struct ThreadSlots<'a> {
    /// The thread's index.
    pub(crate) index: usize,
    pub(crate) places: &'a admission::PlaceSlot,
    pub(crate) counts: &'a metrics::CounterSlot,
    pub(crate) times: &'a metrics::LatencySlot,
}

impl<'a> ThreadSlots<'a> {
    /// Those of the thread of this index.
    pub(crate) fn of(inner: &'a Inner, index: usize) -> Self {
        Self {
            index,
            places: inner.admission.slot(index),
            counts: inner.recorder.cell(index),
            times: inner.timing.slot(index),
        }
    }

    /// The jobs that the thread has begun. On that thread.
    fn begun(&self) -> Begun {
        let (overdrawn, inlined) = self.counts.begun_unplaced();
        let queued = self.places.released() + overdrawn;
        Begun {
            queued,
            all: queued + inlined,
        }
    }
}

/// The place where a job runs, or is dropped.
#[derive(Clone, Copy)]
pub(crate) struct JobContext<'a> {
    pub(crate) inner: &'a Inner,
    /// The calling thread's, if it is one of the pool's.
    pub(crate) slots: Option<ThreadSlots<'a>>,
}

impl<'a> JobContext<'a> {
    /// A thread that is not the pool's.
    pub(crate) fn elsewhere(inner: &'a Inner) -> Self {
        Self { inner, slots: None }
    }

    /// The calling thread.
    pub(crate) fn here(inner: &'a Inner) -> Self {
        worker::current_of(inner).map_or(Self::elsewhere(inner), |current| *current.context())
    }

    /// The index of a thread of the pool.
    #[inline]
    pub(crate) fn index(&self) -> Option<usize> {
        self.slots.as_ref().map(|slots| slots.index)
    }

    #[inline]
    pub(crate) fn counts(&self) -> Option<&'a metrics::CounterSlot> {
        self.slots.as_ref().map(|slots| slots.counts)
    }

    #[inline]
    pub(crate) fn times(&self) -> Option<&'a metrics::LatencySlot> {
        self.slots.as_ref().map(|slots| slots.times)
    }
}

impl JobContext<'_> {
    /// A job starts. A place, which it has since then, is given back. Returns when it starts.
    #[inline]
    pub(crate) fn begin(&self, place: Place, since: Stamp) -> Started {
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

    /// The clock's part of it.
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
        let timing = &self.inner.timing;
        match &self.slots {
            Some(slots) => timing.begin(slots.times, slots.begun(), is_queued, since),
            None => timing.begin_elsewhere(is_queued, since),
        }
    }

    /// The same for a job that was not queued.
    #[inline]
    fn begin_in_place(&self, since: Stamp) -> Started {
        if self.slots.is_none() {
            foreign_stack::begin(self.inner);
        }
        self.inner.recorder.inlined(self.counts());
        self.begin_timing(false, since)
    }

    /// The same when somebody waits for the place that was given back.
    #[cold]
    fn begin_attended(&self, slots: &ThreadSlots<'_>, since: Stamp) -> Started {
        if self.inner.admission.attend(slots.places) {
            self.inner.life.changed();
        }
        self.begin_timing(true, since)
    }

    /// The same over the bound, or on a thread that is not the pool's.
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

    /// A job has run, which started then. Its handle must not say so before this was called.
    #[inline]
    pub(crate) fn end(&self, started: Started, completed: bool) {
        if started.is_timed() {
            self.end_timed(started);
        }
        self.inner.recorder.ended(self.counts(), completed);
        if self.slots.is_none() {
            foreign_stack::end();
        }
    }

    #[inline(never)]
    fn end_timed(&self, started: Started) {
        let slot = self.slots.as_ref();
        let slot = slot.map(|slots| (slots.times, slots.begun()));
        self.inner.timing.end(slot, started);
    }

    /// A job was dropped un-run.
    pub(crate) fn dropped(&self, place: Place) {
        self.inner.recorder.dropped();
        self.leave(place);
    }

    /// A job was cancelled by its handle, or with its batch.
    pub(crate) fn cancelled(&self, place: Place) {
        self.inner.recorder.cancelled();
        self.leave(place);
    }

    /// A job has left the queue un-run.
    fn leave(&self, place: Place) {
        match place {
            Place::Queue => self.inner.admission.release(),
            Place::None => {}
            Place::Overdrawn(holder) => self.inner.recorder.left_overdrawn(holder),
        }
        self.inner.check_drained();
    }
}
