//! The idle policy of one worker: how long it searches before it parks.
//!
//! A worker without a job searches in rounds: it polls the injectors, tries to steal from each
//! other thread, and yields between two rounds. Usually the next job comes within a few rounds, or
//! not for long. So after a short idle time a worker searches for [`SEARCH_ROUNDS`], however many
//! others search. After a long idle time it searches for [`LONE_ROUNDS`], and only if fewer than
//! half of the workers do. Then a lone job costs less CPU.
//!
//! The state is private to the thread.

use std::{cell::Cell, time::Duration};

use crate::{
    sync::backoff::Yields,
    tuning::{LONE_ROUNDS, SEARCH_ROUNDS, SHORT_IDLE},
};

#[derive(Debug)]
pub(super) struct IdlePolicy {
    /// The rounds of the next search.
    rounds: Cell<u32>,
}

impl IdlePolicy {
    pub(super) fn new() -> Self {
        Self {
            rounds: Cell::new(SEARCH_ROUNDS),
        }
    }

    /// Returns the yields between the rounds of the next search.
    pub(super) fn search(&self) -> Yields {
        Yields::new(self.rounds.get())
    }

    /// Whether the worker searches however many others do.
    pub(super) fn searches_anyway(&self) -> bool {
        self.rounds.get() == SEARCH_ROUNDS
    }

    /// Records how long the worker was parked.
    pub(super) fn was_idle(&self, time: Duration) {
        self.rounds.set(rounds_after(time));
    }
}

/// Returns the rounds of a search after the worker was parked for `idle`.
fn rounds_after(idle: Duration) -> u32 {
    if idle < SHORT_IDLE {
        SEARCH_ROUNDS
    } else {
        LONE_ROUNDS
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_worker_searches_by_how_long_it_was_idle() {
        // The idle time in us, the rounds, and whether it searches beside others.
        let table = [
            (0, 8, true),
            (99, 8, true),
            (100, 2, false),
            (5_000, 2, false),
            (10, 8, true),
        ];
        let policy = IdlePolicy::new();
        assert!(policy.searches_anyway(), "it has just become a worker");
        for (idle, rounds, anyway) in table {
            policy.was_idle(Duration::from_micros(idle));
            assert_eq!(policy.rounds.get(), rounds, "{idle} us");
            assert_eq!(policy.searches_anyway(), anyway, "{idle} us");
        }
    }
}
