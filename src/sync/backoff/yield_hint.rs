//! The yield hint of a batch: its feeder or consumer waits, and has yielded its core.
//!
//! Where threads outnumber cores, a yield most likely gives the core to a worker. That worker would
//! keep it until no item is left. By then the other workers have become idle and parked, and have
//! to be woken for the next items. So the thread that yields raises the hint meanwhile, and a
//! worker that finds few items left yields in its turn. If that worker has another core, its yield
//! takes half a microsecond.
//!
//! The hint orders nothing, and nothing is lost if no worker heeds it.

use crossbeam_utils::CachePadded;

use super::Yields;
#[cfg(not(loom))]
use crate::sync::{AtomicUsize, Ordering};
// No model reads it.
#[cfg(loom)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads of the batch have yielded.
#[derive(Debug, Default)]
pub(crate) struct YieldHint(CachePadded<AtomicUsize>);

impl YieldHint {
    /// Yields the core of a thread that waits for workers once more. Returns false if it has to
    /// block.
    pub(crate) fn yield_next(&self, yields: &mut Yields) -> bool {
        yields.next_by(|leave_core| {
            self.0.fetch_add(1, Ordering::Relaxed);
            leave_core();
            self.0.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Yields the core of a worker, if the hint is raised and `few_are_left`.
    #[inline]
    pub(crate) fn heed(&self, few_are_left: impl FnOnce() -> bool) {
        if self.0.load(Ordering::Relaxed) > 0 && few_are_left() {
            super::yield_now();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sync::backoff::simulation::Simulation;

    fn asks(hint: &YieldHint) -> bool {
        let mut asked = false;
        hint.heed(|| {
            asked = true;
            true
        });
        asked
    }

    #[test]
    fn a_worker_counts_what_is_left_only_while_the_hint_is_raised() {
        assert!(!asks(&YieldHint::default()));
        assert!(asks(&YieldHint(CachePadded::new(AtomicUsize::new(1)))));
    }

    #[test]
    fn the_hint_is_lowered_after_the_yield() {
        let hint = YieldHint::default();
        let yields = &mut Yields::new(1);
        assert!(Simulation::new().run(|| hint.yield_next(yields)));
        assert!(!asks(&hint));
    }
}
