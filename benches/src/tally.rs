//! Counts finished jobs without a contended word.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

/// A word has this many bits, so this many threads can count at the same time.
const SLOTS: usize = u64::BITS as usize;

/// How long the producer sleeps between two polls. Yielding in a loop would take a share of a core
/// from the workers. An unbounded queue, whose producer ends long before the work, would pay for
/// that alone. 100 us are 0.2 % of the shortest measurement.
const POLL: Duration = Duration::from_micros(100);

/// After this long without progress, a rival has lost a job.
const LOST: Duration = Duration::from_secs(30);

/// One cell per thread, written by it alone.
pub struct Tally {
    cells: [CachePadded<AtomicU64>; SLOTS],
}

/// The process's tally. It only grows: a measurement compares it with its earlier value.
pub static TALLY: Tally = Tally {
    cells: [const { CachePadded::new(AtomicU64::new(0)) }; SLOTS],
};

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A thread's cell, free again when the thread ends.
struct Slot(usize);

thread_local! {
    static SLOT: Slot = Slot::take();
}

impl Slot {
    fn take() -> Self {
        // Pairs with the release in `drop`: we continue from the last owner's count.
        let before = TAKEN
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
                (taken != u64::MAX).then(|| taken | (taken + 1))
            })
            .expect("at most 64 threads count at the same time");
        Self(before.trailing_ones() as usize)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

impl Tally {
    /// Counts one more job on the calling thread. About a nanosecond: no read-modify-write.
    #[inline]
    pub fn count(&self) {
        SLOT.with(|slot| {
            let cell = &self.cells[slot.0];
            let ran = cell.load(Ordering::Relaxed);
            // Pairs with the acquire in `total`: a thread that observes the count observes the
            // job's writes.
            cell.store(ran + 1, Ordering::Release);
        });
    }

    /// The number of jobs since the process started.
    pub fn total(&self) -> u64 {
        self.cells
            .iter()
            .map(|cell| cell.load(Ordering::Acquire))
            .sum()
    }

    /// Returns when [`total`](Self::total) reaches `goal`.
    ///
    /// # Panics
    /// If it does not grow for half a minute.
    pub fn wait_for(&self, goal: u64) {
        let mut seen = self.total();
        let mut progress = Instant::now();
        while seen < goal {
            thread::sleep(POLL);
            let total = self.total();
            if total != seen {
                (seen, progress) = (total, Instant::now());
            }
            let left = goal.saturating_sub(total);
            assert!(progress.elapsed() < LOST, "{left} jobs never ran");
        }
    }
}
