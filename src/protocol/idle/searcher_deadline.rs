//! The searcher deadline: the time by which a searcher is expected to poll the queues again.
//!
//! A submitter does not wake a worker while another one is searching. A searcher yields between two
//! polls, so the OS may deschedule it for a whole time slice. The job would wait meanwhile beside
//! idle workers. So the submitter reads the clock, and wakes another worker if the deadline has
//! passed. A job that is pushed just before the deadline does not detect this; the next push does,
//! for both.
//!
//! A worker that was just woken is *waking* until it polls: it has no deadline, and no submitter
//! counts on it. It takes some 10 us to run, in which two or three more jobs may come, and each of
//! these wakes another worker, without a reading of the clock. The woken worker
//! would wake others itself when it finds more jobs. But the OS often places the second worker on
//! its core, behind its job. (Observed on Linux, while the submitter still ran on the other core.)
//!
//! Waking is a value of the deadline, not a fifth count of the idle word: five counts in 64 bits
//! would lower the documented maximum of 32767 workers.

use std::time::Duration;

use crossbeam_utils::CachePadded;

#[cfg(not(loom))]
use crate::sync::{AtomicU64, Ordering};
use crate::{sync::Instant, tuning::SEARCHER_DEADLINE};
// It orders nothing, and no model reads it.
#[cfg(loom)]
use std::sync::atomic::{AtomicU64, Ordering};

/// A worker was woken, and has not polled yet.
const WAKING: u64 = 0;

#[derive(Debug)]
pub(crate) struct SearcherDeadline {
    start: Instant,
    /// The deadline, in ns since the start; or [`WAKING`].
    due: CachePadded<AtomicU64>,
}

impl SearcherDeadline {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            due: CachePadded::new(AtomicU64::new(WAKING)),
        }
    }

    /// A searcher is about to poll.
    pub(crate) fn set(&self) {
        let due = self.start.elapsed() + SEARCHER_DEADLINE;
        let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.due.store(nanos, Ordering::Relaxed);
    }

    /// A worker is woken: it will poll, but no submitter is to count on that.
    pub(crate) fn woken(&self) {
        self.due.store(WAKING, Ordering::Relaxed);
    }

    /// Whether no submitter is to count on the searchers: one is waking, or the deadline is over.
    pub(crate) fn is_overdue(&self) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        due == WAKING || self.start.elapsed() > Duration::from_nanos(due)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn r2_a_woken_worker_is_trusted_from_its_first_poll_on() {
        let searcher_deadline = SearcherDeadline::new();
        assert!(searcher_deadline.is_overdue());
        // The machine may be busy for as long as the deadline.
        let is_trusted = || {
            searcher_deadline.set();
            !searcher_deadline.is_overdue()
        };
        assert!((0..1_000).any(|_| is_trusted()));
        searcher_deadline.woken();
        assert!(searcher_deadline.is_overdue());
    }
}
