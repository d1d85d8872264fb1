//! When a worker that searches has looked last.
//!
//! Who pushes a job leaves it to a worker that searches. That one yields its core between two looks; and if the
//! system gives the core to somebody else for a time slice, the job waits for as long, beside workers that doze. So
//! who pushes one looks at the clock then, and rouses another worker if the last look is too long ago. The job
//! that was pushed just before that is not told of so; the one that follows tells of both.

use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Instant, Ordering};

/// A look, and a yield to a core that nobody else wants, take a tenth of that.
const OVERDUE: Duration = Duration::from_micros(20);

#[derive(Debug)]
pub(crate) struct LastLook {
    start: Instant,
    /// In ns since the start.
    at: CachePadded<AtomicU64>,
}

impl LastLook {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            at: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A worker is about to look.
    pub(crate) fn set(&self) {
        self.at.store(self.now(), Ordering::Relaxed);
    }

    /// Whether nobody has looked for too long.
    pub(crate) fn is_overdue(&self) -> bool {
        let since = self.now().saturating_sub(self.at.load(Ordering::Relaxed));
        Duration::from_nanos(since) > OVERDUE
    }
}
