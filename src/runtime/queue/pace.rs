//! When a worker comes to the injector again.
//!
//! With tiny jobs a worker is faster than who brings them one by one: it would find one or two whenever it looks, and for
//! each look the cache lines at the injector's ends go over to it and back again. That costs both sides more than
//! the jobs do. So a worker that has found few there leaves others the time to come, counted from then, before it
//! looks again. Jobs that are not tiny take longer than that, and then nothing is waited for. It does not count as
//! searching meanwhile: who brings a job wakes another for it, if one is asleep.

use std::{cell::Cell, hint::spin_loop, time::Duration};

use crate::sync::Instant;

/// So many jobs at once are worth a look.
const ENOUGH: usize = 8;

/// In this time one producer brings some 16 tiny jobs. It takes ten times as long to wake a thread.
const GAP: Duration = Duration::from_nanos(500);

/// The looks of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Before this moment, if it is not over, few others have come.
    next: Cell<Option<Instant>>,
}

impl Pace {
    /// So many jobs were found just now.
    #[inline]
    pub(crate) fn found(&self, jobs: usize) {
        if jobs < ENOUGH {
            self.next.set(Some(Instant::now() + GAP));
        }
    }

    /// Waits until it is time to look, half a microsecond at most.
    #[inline]
    pub(crate) fn keep(&self) {
        if let Some(next) = self.next.take() {
            while Instant::now() < next {
                spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_found_few_does_not_look_again_at_once() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.found(ENOUGH - 1);
        pace.keep();
        assert!(start.elapsed() >= GAP);
        assert_eq!(pace.next.get(), None, "it is waited for once");
    }

    #[test]
    fn who_has_found_many_looks_again_at_once() {
        let pace = Pace::default();
        pace.found(ENOUGH);
        assert_eq!(pace.next.get(), None);
    }
}
