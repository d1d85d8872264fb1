//! Loom models of a value with two owners. Each names the rule and the mutants that it kills.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use loom::cell::UnsafeCell;

use super::Twin;
use crate::{protocol::model::explore, sync::thread::spawn};

/// Counts how often it is dropped, and reads then what was written.
struct Probe {
    written: UnsafeCell<usize>,
    drops: Arc<AtomicUsize>,
}

// SAFETY: one thread at a time has the cell, or loom tells.
unsafe impl Sync for Probe {}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: nobody else is left, or loom tells.
        let written = self.written.with(|written| unsafe { *written });
        self.drops.fetch_add(written, Ordering::Relaxed);
    }
}

/// R1, R6: two ends are dropped at the same time, after one has written to the value: it is dropped once, by who sees
/// that. Kills `twin_relaxed_leave`, `twin_relaxed_look` and `twin_torn_leave`.
#[test]
fn r1_the_last_of_two_owners_drops_the_value() {
    explore(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (one, other) = Twin::new(Probe {
            written: UnsafeCell::new(0),
            drops: Arc::clone(&drops),
        });
        let worker = spawn(move || {
            // SAFETY: the other end does not look at it, but in its drop.
            one.written.with_mut(|written| unsafe { *written = 1 });
            drop(one);
        });
        drop(other);
        worker.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}
