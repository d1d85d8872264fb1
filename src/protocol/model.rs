//! What the loom models share: how they explore, and a queue that hides no missing fence.
//!
//! A model is run by loom through every interleaving of its threads, and every value that its loads
//! may return, up to a number of preemptions. loom takes SeqCst loads and stores for acquire and
//! release, but a SeqCst fence for what it is. A wait
//! that no thread ends is a deadlock, and fails. The mutants that a model kills show what it
//! proves: see `.ci/mutants.sh`.

use std::time::Instant;

use crate::sync::{AtomicUsize, Ordering};

/// Runs `model` in every interleaving with at most `LOOM_MAX_PREEMPTIONS` preemptions, and with at
/// most `bound` of them, if that is less.
pub(crate) fn explore_to(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = builder.preemption_bound.unwrap_or(bound).min(bound);
    builder.preemption_bound = Some(bound);
    // Loom's own atomics exist only within a run.
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&runs);
    let start = Instant::now();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!(
        "{} interleavings, at most {bound} preemptions, {:.1} s",
        runs.load(std::sync::atomic::Ordering::Relaxed),
        start.elapsed().as_secs_f64(),
    );
}

/// Runs `model` in every interleaving with at most three preemptions.
pub(crate) fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_to(3, model);
}

const EMPTY: usize = 0;
const WAITING: usize = 1;
const TAKEN: usize = 2;

/// A queue that orders no more than it must: the thread that takes a job observes what its pusher
/// did. A lock would order everything else too, and would hide a missing fence.
#[derive(Debug)]
pub(crate) struct Slots<const JOBS: usize>([AtomicUsize; JOBS]);

impl<const JOBS: usize> Slots<JOBS> {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(EMPTY)))
    }

    /// Each job is pushed once.
    pub(crate) fn push(&self, job: usize) {
        self.0[job].store(WAITING, Ordering::Release);
    }

    /// Takes the first job that the caller can see.
    pub(crate) fn take(&self) -> Option<usize> {
        (0..JOBS).find(|&job| {
            let slot = &self.0[job];
            slot.load(Ordering::Relaxed) == WAITING
                && slot
                    .compare_exchange(WAITING, TAKEN, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })
    }

    pub(crate) fn has_work(&self) -> bool {
        self.0
            .iter()
            .any(|slot| slot.load(Ordering::Relaxed) == WAITING)
    }
}
