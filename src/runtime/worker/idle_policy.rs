//! The idle policy of one worker: how long it searches before it parks.
//!
//! A worker without a job searches in rounds: it polls the injectors, tries to steal from each
//! other thread, and yields between two rounds. Usually the next job comes within a few rounds, or
//! not for long. So after a short idle time a worker searches for [`SEARCH_ROUNDS`], however many
//! others search. After a long idle time it searches for [`LONE_ROUNDS`], and only if fewer than
//! half of the workers do. Then a lone job costs less CPU.
//!
//! **Steal backoff.** A theft may interrupt the owner of a deque by a heavy fence, and takes its
//! cache lines. The owner would have run tiny jobs in less time. So if a theft of a scope's jobs
//! keeps the thief busy for less than [`WORTHY_THEFT`] times its duration, the next search steals
//! nothing at first. It polls the injectors, for as long as a wait may yield. Then it searches
//! everywhere, before the worker parks. It is counted as searching throughout, so a job for which
//! no other worker was woken may wait that much longer.
//!
//! The state is private to the thread.

use std::{cell::Cell, time::Duration};

use crate::{
    sync::{Instant, backoff::Yields},
    tuning::{LONE_ROUNDS, SEARCH_ROUNDS, SHORT_IDLE, WORTHY_THEFT},
};

#[derive(Debug)]
pub(super) struct IdlePolicy {
    /// The rounds of the next search.
    rounds: Cell<u32>,
    /// When the last theft of a scope's jobs ended, and how long it took, if the worker has not been
    /// idle since.
    theft: Cell<Option<(Instant, Duration)>>,
}

impl IdlePolicy {
    pub(super) fn new() -> Self {
        Self {
            rounds: Cell::new(SEARCH_ROUNDS),
            theft: Cell::new(None),
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

    /// Records a theft of a scope's jobs, which began at `began` and has just ended.
    pub(super) fn stole_of_scope(&self, began: Instant) {
        let now = Instant::now();
        self.theft.set(Some((now, now - began)));
    }

    /// Returns the yields of the backoff with which the next search begins, if the last theft was in
    /// vain: as many as one wait may have.
    pub(super) fn steal_backoff(&self) -> Option<Yields> {
        self.backs_off().then(|| Yields::new(u32::MAX))
    }

    /// Whether the last theft was in vain. Each theft counts once.
    fn backs_off(&self) -> bool {
        let theft = self.theft.take();
        theft.is_some_and(|(end, took)| end.elapsed() < took * WORTHY_THEFT)
    }

    /// Records how long the worker was parked.
    pub(super) fn was_idle(&self, time: Duration) {
        self.theft.set(None);
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

    #[test]
    fn a_thief_backs_off_once_after_a_theft_in_vain() {
        let policy = IdlePolicy::new();
        assert!(!policy.backs_off(), "there was no theft");
        let theft = |took| policy.theft.set(Some((Instant::now(), took)));
        let long = Duration::from_secs(3600);
        theft(long);
        assert!(policy.backs_off());
        assert!(!policy.backs_off(), "each theft counts once");
        theft(Duration::ZERO);
        assert!(!policy.backs_off(), "it paid");
        theft(long);
        policy.was_idle(Duration::ZERO);
        assert!(!policy.backs_off(), "it has been idle since");
        policy.stole_of_scope(Instant::now());
        assert!(policy.theft.get().is_some());
    }
}
