//! How often a thread that brings jobs, and runs them itself because the queue was full, looks whether it still is.
//!
//! A look is at what every worker is writing, which takes as long as several short jobs do. Meanwhile the queue may run
//! dry, and the others with it. So after one that found it full, a thread whose jobs are short brings so many of them
//! without a look that all workers together begin only a part of those that wait, if they are as quick. As soon as
//! a job is known to have been long, it looks each time; and it looks again when a worker has run dry since, unless there
//! are jobs of its own for that one.

use std::cell::Cell;

use crate::runtime::inner::Inner;

/// The most short jobs between two looks.
const MOST: u64 = 128;

/// The workers come to this part of the queue's capacity between two looks.
const PART: u64 = 4;

/// The looks of one thread.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// How many jobs it brings before the next.
    spared: Cell<u64>,
    /// How often workers had run dry before the queue was found full.
    times_idle: Cell<u64>,
}

impl Looks {
    /// Whether the next job is not to do without a look, whatever the last one was.
    #[inline]
    pub(crate) fn are_due(&self) -> bool {
        self.spared.get() == 0
    }

    /// A job was brought: whether to do without a look. The last one that was timed was short, or was not, or none was.
    #[inline]
    pub(crate) fn is_spared(&self, is_short: Option<bool>) -> bool {
        let spared = self.spared.get();
        self.spared.set(spared.saturating_sub(1));
        spared > 0 && is_short != Some(false)
    }

    /// The next job is not to do without one.
    #[inline]
    pub(crate) fn end(&self) {
        self.spared.set(0);
    }

    /// Whether no worker has run dry since the last.
    #[inline]
    pub(crate) fn are_recent(&self, inner: &Inner) -> bool {
        self.times_idle.get() == inner.idle.times_idle()
    }

    /// A look has found the queue full; before it, workers had run dry so often.
    #[inline]
    pub(crate) fn found_full(&self, inner: &Inner, times_idle: u64, is_short: Option<bool>) {
        self.times_idle.set(times_idle);
        let between = match is_short {
            Some(true) => {
                let workers = inner.idle.in_service().max(1) as u64;
                (inner.admission.capacity() / (PART * workers)).clamp(1, MOST)
            }
            // If times are not tracked, any may be long.
            Some(false) | None => 1,
        };
        self.spared.set(between - 1);
    }
}
