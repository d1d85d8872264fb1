//! Until when a worker that searches is trusted to be about to look.
//!
//! Who pushes a job leaves it to a worker that searches. That one yields its core between two looks; and if the
//! system gives the core to somebody else for a time slice, the job waits for as long, beside workers that announce_idle. So
//! who pushes one looks at the clock then, and rouses another worker if the last look is too long ago. The job
//! that was pushed just before that is not told of so; the one that leapfrogs tells of both.
//!
//! A worker that was just woken is not, until it looks: it takes some 10 us to run, as long as two or three jobs may
//! take to come. Each of them rouses another. It would do so itself when it finds that there are more; but from where it
//! runs, and the system often puts a second one there, to wait behind its job (seen on Linux, when the thread that
//! brought the jobs was not in_rayon yet on the other core).

use std::time::Duration;

use crossbeam_utils::CachePadded;

#[cfg(not(loom))]
use crate::sync::{AtomicU64, Ordering};
use crate::{sync::Instant, tuning::SEARCHER_DEADLINE};
// It orders nothing, and no model looks at it.
#[cfg(loom)]
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct SearcherDeadline {
    start: Instant,
    /// When it is overdue, in ns since the start.
    due: CachePadded<AtomicU64>,
}

impl SearcherDeadline {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            due: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// A worker is about to look.
    pub(crate) fn set(&self) {
        let due = self.start.elapsed() + SEARCHER_DEADLINE;
        let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.due.store(nanos, Ordering::Relaxed);
    }

    /// A worker is woken, and will look, but nobody is to count on that.
    pub(crate) fn woken(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    /// Whether nobody has looked for too long.
    pub(crate) fn is_overdue(&self) -> bool {
        let due = Duration::from_nanos(self.due.load(Ordering::Relaxed));
        self.start.elapsed() > due
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn r2_who_was_roused_is_trusted_from_its_first_look_on() {
        let searcher_deadline = SearcherDeadline::new();
        assert!(searcher_deadline.is_overdue());
        // The machine may be busy for as long as it takes a look to be overdue.
        let is_trusted = || {
            searcher_deadline.set();
            !searcher_deadline.is_overdue()
        };
        assert!((0..1_000).any(|_| is_trusted()));
        searcher_deadline.woken();
        assert!(searcher_deadline.is_overdue());
    }
}
