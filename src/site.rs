//! Where a job runs: the pool, and the seat of the thread, if it is one of the pool's. What a job
//! owes to the pool's books when it begins and ends goes through here.

use crate::{
    inner::Inner,
    metrics::{Guest, GuestCell, Stamp, Started},
    worker,
};

/// The place where a job runs, or is dropped.
pub(crate) struct Site<'a> {
    pub(crate) inner: &'a Inner,
    /// The calling thread's index, if it is one of the pool's.
    pub(crate) seat: Option<usize>,
}

impl<'a> Site<'a> {
    /// The calling thread.
    pub(crate) fn here(inner: &'a Inner) -> Self {
        let seat = worker::seat_in(inner);
        Self { inner, seat }
    }
}

impl Site<'_> {
    /// A job starts. With a place, which it has since then, it gives it back. Returns when it starts.
    #[inline]
    pub(crate) fn begin(&self, placed: bool, since: Stamp) -> Started {
        match self.seat {
            Some(seat) if placed => {
                if self.inner.admission.release_unattended(seat) {
                    self.inner.timing.starts(self.seat, true, since)
                } else {
                    self.begin_attended(seat, since)
                }
            }
            _ => self.begin_aside(placed, since),
        }
    }

    /// The same when somebody waits for the place that was given back.
    #[cold]
    fn begin_attended(&self, seat: usize, since: Stamp) -> Started {
        if self.inner.admission.attend(seat) {
            self.inner.life.changed();
        }
        self.inner.timing.starts(self.seat, true, since)
    }

    /// The same without a place, or on a thread that is not the pool's.
    #[inline(never)]
    fn begin_aside(&self, placed: bool, since: Stamp) -> Started {
        if placed {
            self.inner.recorder.started_elsewhere();
            self.inner.admission.release();
        } else {
            self.inner.recorder.inlined(self.seat);
        }
        self.inner.timing.starts(self.seat, placed, since)
    }

    /// A job has run, which started then. Its handle must not say so before this was called.
    #[inline]
    pub(crate) fn end(&self, started: Started, completed: bool) {
        // In this order: who finds it counted finds it timed.
        self.inner.timing.ended(self.seat, started);
        self.inner.recorder.ended(self.seat, completed);
    }

    /// A job was dropped un-run. With a place, it gives it back.
    pub(crate) fn dropped(&self, placed: bool) {
        self.inner.recorder.dropped();
        if placed {
            self.inner.admission.release();
        }
        self.inner.look_if_drained();
    }

    /// A job that holds a place was cancelled by its handle.
    pub(crate) fn cancelled(&self) {
        self.inner.recorder.cancelled();
        self.inner.admission.release();
        self.inner.look_if_drained();
    }
}

/// A thread that is not the pool's, while it runs many jobs that have no places: it has books of its own, as the pool's
/// threads have, so that none of them takes a locked instruction.
pub(crate) struct Visit<'a> {
    inner: &'a Inner,
    cell: GuestCell,
    times: Guest,
}

impl<'a> Visit<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        Self {
            inner,
            cell: inner.recorder.welcome(),
            times: inner.timing.welcome(),
        }
    }

    /// Whether the last job that was timed was short. None if none is.
    pub(crate) fn is_short(&self) -> Option<bool> {
        self.inner.timing.is_guest_short(&self.times)
    }

    /// A job starts. Returns when it does.
    #[inline]
    pub(crate) fn begin(&self) -> Started {
        self.cell.inlined();
        self.inner.timing.guest_starts(&self.times)
    }

    /// A job has run, which started then.
    #[inline]
    pub(crate) fn end(&self, started: Started, completed: bool) {
        // In this order: who finds it counted finds it timed.
        self.inner.timing.guest_ended(&self.times, started);
        self.cell.ended(completed);
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // In this order, too.
        self.inner.timing.bid_farewell(&self.times);
        self.inner.recorder.bid_farewell(&self.cell);
    }
}
