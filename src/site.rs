//! Where a job runs: the pool, and the seat of the thread, if it is one of the pool's. What a job
//! owes to the pool's books when it begins and ends goes through here.

use crate::{inner::Inner, metrics::Stamp, worker};

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
    pub(crate) fn begin(&self, placed: bool, since: Stamp) -> Stamp {
        match self.seat {
            Some(seat) if placed => {
                if self.inner.admission.release_from(seat) {
                    self.inner.life.changed();
                }
            }
            None if placed => {
                self.inner.recorder.started_elsewhere();
                self.inner.admission.release();
            }
            _ => self.inner.recorder.inlined(self.seat),
        }
        self.inner.timing.starts(self.seat, placed, since)
    }

    /// A job has run, which started then. Its handle must not say so before this was called.
    #[inline]
    pub(crate) fn end(&self, started: Stamp, completed: bool) {
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
