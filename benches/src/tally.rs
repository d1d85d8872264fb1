//! Counts the jobs that ran, without a word that the workers would fight for.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

/// As many threads can count at the same time as a word has bits.
const SEATS: usize = u64::BITS as usize;

/// How long the producer sleeps between two looks. It must not yield in a loop instead: that takes a
/// share of a core from the workers, and an unbounded queue, which leaves the producer long before
/// the work is done, would pay for it alone. 100 us are 0.2 % of the shortest measurement.
const LOOK: Duration = Duration::from_micros(100);

/// Without progress for so long, a rival has lost a job.
const LOST: Duration = Duration::from_secs(30);

/// One cell for each thread, written by it alone.
pub struct Tally {
    cells: [CachePadded<AtomicU64>; SEATS],
}

/// The process's tally. It only grows: a measurement compares it with what it was before.
pub static TALLY: Tally = Tally {
    cells: [const { CachePadded::new(AtomicU64::new(0)) }; SEATS],
};

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A thread's cell, free again when the thread ends.
struct Seat(usize);

thread_local! {
    static SEAT: Seat = Seat::take();
}

impl Seat {
    fn take() -> Self {
        // Pairs with the release in `drop`: we go on from the last owner's count.
        let before = TAKEN
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
                (taken != u64::MAX).then(|| taken | (taken + 1))
            })
            .expect("at most 64 threads count at the same time");
        Self(before.trailing_ones() as usize)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

impl Tally {
    /// One more job ran, on the calling thread. About a nanosecond: no read-modify-write.
    #[inline]
    pub fn count(&self) {
        SEAT.with(|seat| {
            let cell = &self.cells[seat.0];
            let ran = cell.load(Ordering::Relaxed);
            // Pairs with the acquire in `total`: who sees the job counted sees what it wrote.
            cell.store(ran + 1, Ordering::Release);
        });
    }

    /// How many jobs ran since the process started.
    pub fn total(&self) -> u64 {
        self.cells
            .iter()
            .map(|cell| cell.load(Ordering::Acquire))
            .sum()
    }

    /// Returns when [`total`](Self::total) is `goal`.
    ///
    /// # Panics
    /// If it does not grow for half a minute.
    pub fn wait_for(&self, goal: u64) {
        let mut seen = self.total();
        let mut progress = Instant::now();
        while seen < goal {
            thread::sleep(LOOK);
            let total = self.total();
            if total != seen {
                (seen, progress) = (total, Instant::now());
            }
            let left = goal.saturating_sub(total);
            assert!(progress.elapsed() < LOST, "{left} jobs never ran");
        }
    }
}
