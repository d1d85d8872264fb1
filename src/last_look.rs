//! Until when a worker that searches is trusted to be about to look.
//!
//! Who pushes a job leaves it to a worker that searches. That one yields its core between two looks; and if the
//! system gives the core to somebody else for a time slice, the job waits for as long, beside workers that doze. So
//! who pushes one looks at the clock then, and rouses another worker if the last look is too long ago. The job
//! that was pushed just before that is not told of so; the one that follows tells of both.
//!
//! A worker that was just roused has longer. Until it runs, the system may take its core for an idle one, and put
//! a second that is roused there too, where it waits for milliseconds beside another that is idle (seen on
//! Linux). The first rouses the next, from where it runs.

use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::sync::Instant;
#[cfg(not(loom))]
use crate::sync::{AtomicU64, Ordering};
// It orders nothing, and no model looks at it.
#[cfg(loom)]
use std::sync::atomic::{AtomicU64, Ordering};

/// A look, and a yield to a core that nobody else wants, take a tenth of that.
const OVERDUE: Duration = Duration::from_micros(20);

/// A worker that is roused on an idle core of a virtual machine runs in half of that.
const WAKING: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(crate) struct LastLook {
    start: Instant,
    /// When it is overdue, in ns since the start.
    due: CachePadded<AtomicU64>,
}

impl LastLook {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            due: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn expect_within(&self, time: Duration) {
        let due = self.start.elapsed() + time;
        let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.due.store(nanos, Ordering::Relaxed);
    }

    /// A worker is about to look.
    pub(crate) fn set(&self) {
        self.expect_within(OVERDUE);
    }

    /// A worker is roused, and will look.
    pub(crate) fn roused(&self) {
        self.expect_within(WAKING);
    }

    /// Whether nobody has looked for too long.
    pub(crate) fn is_overdue(&self) -> bool {
        let due = Duration::from_nanos(self.due.load(Ordering::Relaxed));
        self.start.elapsed() > due
    }
}
