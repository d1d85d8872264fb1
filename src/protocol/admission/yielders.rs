//! Those who wait for workers, and have yielded their cores meanwhile.
//!
//! Where threads outnumber cores, who yields gives his core to a worker, most likely. That one would keep it
//! until nothing is left to do; by then the others have run dry too, have lain down, and have to be woken for what he
//! brings. So he says that he has yielded, and a worker that sees little left yields in its turn. If it
//! has another core than his, that takes it half a microsecond.
//!
//! All of it is a hint: nothing is lost if nobody heeds it, and it orders nothing.

use crossbeam_utils::CachePadded;

use crate::sync::backoff::{self, Yields};
#[cfg(not(loom))]
use crate::sync::{AtomicUsize, Ordering};
// No model looks at it.
#[cfg(loom)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Yielders(CachePadded<AtomicUsize>);

impl Yielders {
    /// Yields the core of the calling thread, which waits for workers, once more. False if it is to block.
    pub(crate) fn yield_next(&self, yields: &mut Yields) -> bool {
        yields.next_by(|yields| self.leave(yields))
    }

    /// Runs `foreign_stack`, which leaves that core in some way.
    pub(crate) fn leave(&self, foreign_stack: impl FnOnce()) {
        self.0.fetch_add(1, Ordering::Relaxed);
        foreign_stack();
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Yields the core of the calling worker, if there is somebody who may want it, and `little_is_left` to do.
    #[inline]
    pub(crate) fn give_way(&self, little_is_left: impl FnOnce() -> bool) {
        if self.0.load(Ordering::Relaxed) > 0 && little_is_left() {
            backoff::yield_now();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sync::backoff::simulation::Simulation;

    fn asks(yielders: &Yielders) -> bool {
        let mut asked = false;
        yielders.give_way(|| {
            asked = true;
            true
        });
        asked
    }

    #[test]
    fn what_is_left_is_asked_only_while_somebody_has_yielded() {
        assert!(!asks(&Yielders::default()));
        assert!(asks(&Yielders(CachePadded::new(AtomicUsize::new(1)))));
    }

    #[test]
    fn who_is_back_has_not_yielded_any_more() {
        let yielders = Yielders::default();
        let yields = &mut Yields::new(1);
        assert!(Simulation::new().run(|| yielders.yield_next(yields)));
        assert!(!asks(&yielders));
    }
}
