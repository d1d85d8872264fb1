//! A job, and the counts of all jobs.

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::histogram::Histogram;

/// The fates of the submissions.
#[derive(Default)]
pub struct Counts {
    pub submitted: u64,
    pub completed: u64,
    /// By an admission timeout. Their data never existed.
    pub rejected: u64,
    /// Jobs that were dropped un-run.
    pub dropped: u64,
    /// Live jobs.
    pub in_flight: u64,
    pub latencies: Histogram,
    latency_sum: Duration,
}

impl Counts {
    pub fn mean_latency(&self) -> Duration {
        let completed = u32::try_from(self.completed).unwrap_or(u32::MAX);
        self.latency_sum.checked_div(completed).unwrap_or_default()
    }
}

/// One lock for all counts, so that they always agree. It is negligible at some ten thousand jobs
/// per second.
#[derive(Default)]
pub struct Ledger {
    counts: Mutex<Counts>,
    /// A copy, to be read without the lock.
    in_flight: AtomicU64,
}

impl Ledger {
    pub fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn reject(&self) {
        let mut counts = self.lock();
        counts.submitted += 1;
        counts.rejected += 1;
    }

    fn job_made(&self) {
        let mut counts = self.lock();
        counts.submitted += 1;
        counts.in_flight += 1;
        self.in_flight.store(counts.in_flight, Ordering::Relaxed);
    }

    /// `None`: it did not run.
    fn job_ended(&self, latency: Option<Duration>) {
        let mut counts = self.lock();
        counts.in_flight -= 1;
        self.in_flight.store(counts.in_flight, Ordering::Relaxed);
        if let Some(latency) = latency {
            counts.completed += 1;
            counts.latency_sum += latency;
            counts.latencies.record(latency);
        } else {
            counts.dropped += 1;
        }
    }
}

/// Owns its data from its submission on.
pub struct Job {
    data: Vec<u8>,
    rounds: u32,
    asked: Instant,
    ledger: Arc<Ledger>,
    latency: Option<Duration>,
}

impl Job {
    /// `asked` is when its producer began the submission, before any wait.
    pub fn new(bytes: u64, rounds: u32, asked: Instant, ledger: &Arc<Ledger>) -> Self {
        ledger.job_made();
        Self {
            // Not zero: zero pages would not be touched before they are read.
            data: vec![7; bytes as usize],
            rounds,
            asked,
            ledger: Arc::clone(ledger),
            latency: None,
        }
    }

    pub fn run(mut self) {
        for _ in 0..self.rounds {
            black_box(blake3::hash(black_box(&self.data)));
        }
        self.latency = Some(self.asked.elapsed());
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Before it is counted, so that the counts never show less than there is.
        drop(std::mem::take(&mut self.data));
        self.ledger.job_ended(self.latency);
    }
}
