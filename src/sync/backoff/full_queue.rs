//! The backoff of a thread that brings jobs to a full queue, and runs them itself meanwhile.
//!
//! A check whether the queue is still full reads what every worker writes, which takes as long as
//! several short jobs. So after a check that found it full, a thread brings a number of jobs
//! without another check. Meanwhile all workers together start only a part of those that wait, if
//! they are as quick. A thread whose jobs may be long checks for each of them.

use crate::{
    sync::{AtomicU64, Ordering},
    tuning::{BATCH_PART, UNCHECKED_JOBS},
};

/// The state of one thread, or of one batch. Only its owner reads or writes it.
#[derive(Debug, Default)]
pub(crate) struct FullQueue {
    /// How many jobs are left until the next check.
    skips: AtomicU64,
}

impl FullQueue {
    /// Whether the thread checks for the next job.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.skips.load(Ordering::Relaxed) == 0
    }

    /// Counts a job. Returns whether the thread skips the check for it.
    #[inline]
    pub(crate) fn skips(&self) -> bool {
        let skips = self.skips.load(Ordering::Relaxed);
        self.skips.store(skips.saturating_sub(1), Ordering::Relaxed);
        skips > 0
    }

    /// Notes that a check has found a queue of this capacity full.
    #[inline]
    pub(crate) fn found_full(&self, capacity: u64, workers: usize) {
        self.skips
            .store(skips(capacity, workers), Ordering::Relaxed);
    }

    /// Makes the thread check for the next job.
    #[inline]
    pub(crate) fn end(&self) {
        self.skips.store(0, Ordering::Relaxed);
    }
}

/// Returns for how many jobs the check is skipped.
fn skips(capacity: u64, workers: usize) -> u64 {
    if cfg!(any(loom, shuttle)) {
        return 1;
    }
    (capacity / (BATCH_PART * workers.max(1) as u64)).min(UNCHECKED_JOBS)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_workers_start_a_part_of_the_queue_between_two_checks() {
        for (capacity, workers, between) in [
            (1, 1, 0),
            (8, 2, 1),
            (1024, 2, 128),
            (1024, 8, 32),
            (1024, 64, 4),
            (1 << 20, 0, UNCHECKED_JOBS),
        ] {
            let queue = FullQueue::default();
            assert!(queue.is_due() && !queue.skips());
            queue.found_full(capacity, workers);
            (0..between).for_each(|_| assert!(!queue.is_due() && queue.skips()));
            assert!(queue.is_due() && !queue.skips(), "{capacity} {workers}");
        }
    }

    #[test]
    fn a_check_that_is_wanted_ends_the_skips() {
        let queue = FullQueue::default();
        queue.found_full(1024, 2);
        queue.end();
        assert!(queue.is_due());
    }
}
