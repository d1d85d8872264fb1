//! How many items a consumer pulls at once, and how often it looks whether the workers have enough.
//!
//! A look at the results costs as much as several short items do, since the workers write there; and a
//! consumer that brings in one item for each result has the workers run dry between two of them. So while the source is brief
//! the consumer brings in ever more at once before it looks for a result; and while results are taken briefly,
//! it looks at what is under way once in some of them. One that takes longer ends that: a source
//! may block, and a user may be busy with a result, and then each look counts.

use std::time::Duration;

/// A source that took less was quick: less than a thread takes to block and to be woken, a few times over.
const QUICK: Duration = Duration::from_micros(50);

/// As long as a batch of pulls takes less, or the results between two looks do, there may be more of them.
const BRIEF: Duration = Duration::from_micros(10);

/// The most items that are pulled at once: as many as a chunk has.
const MOST: usize = if cfg!(shuttle) { 2 } else { 64 };

/// The most results between two looks.
const RESULTS: u32 = if cfg!(shuttle) { 1 } else { 16 };

#[derive(Debug)]
pub(super) struct Pace {
    /// How many are pulled next.
    batch: usize,
    was_quick: bool,
    /// How many results are yielded without a look, from one to the next, and of these how many are left.
    results: u32,
    spared: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            batch: 1,
            was_quick: false,
            results: 0,
            spared: 0,
        }
    }

    /// How many items are to be pulled, if no result is there.
    #[inline]
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// The consumer is about to pull. As long as it does that it is not known to be quick.
    #[inline]
    pub(super) fn pulls(&mut self) {
        self.was_quick = false;
    }

    /// All of a batch was pulled, or fewer; it has taken so long, with what was done with the items.
    #[inline]
    pub(super) fn pulled(&mut self, elapsed: Duration) {
        self.was_quick = elapsed < QUICK;
        self.batch = if elapsed < BRIEF {
            (2 * self.batch).min(MOST)
        } else {
            1
        };
    }

    /// Whether the last batch took less than [`QUICK`], and so each pull did.
    #[inline]
    pub(super) fn was_quick(&self) -> bool {
        self.was_quick
    }

    /// A result is there: whether to do without a look at what is under way.
    #[inline]
    pub(super) fn is_look_spared(&mut self) -> bool {
        let is_spared = self.spared > 0;
        self.spared = self.spared.saturating_sub(1);
        is_spared
    }

    /// That look is taken, so long after the last one.
    #[inline]
    pub(super) fn looks(&mut self, elapsed: Duration) {
        self.results = if elapsed < BRIEF {
            (2 * self.results + 1).min(RESULTS)
        } else {
            0
        };
        self.spared = self.results;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const LONG: Duration = BRIEF;

    #[test]
    fn a_brief_source_is_pulled_from_in_ever_larger_batches_until_it_is_slow() {
        let mut pace = Pace::new();
        for batch in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(pace.batch(), batch);
            pace.pulled(Duration::ZERO);
        }
        pace.pulled(LONG);
        assert_eq!(pace.batch(), 1);
    }

    #[test]
    fn a_source_is_quick_if_its_last_pull_was() {
        let mut pace = Pace::new();
        assert!(!pace.was_quick());
        pace.pulled(QUICK - Duration::from_nanos(1));
        assert!(pace.was_quick());
        // It may panic in the middle of the next.
        pace.pulls();
        assert!(!pace.was_quick());
        pace.pulled(QUICK);
        assert!(!pace.was_quick());
    }

    #[test]
    fn results_that_are_taken_briefly_spare_looks_until_one_takes_long() {
        let mut pace = Pace::new();
        for spared in [0, 1, 3, 7, 15, 16, 16] {
            for _ in 0..spared {
                assert!(pace.is_look_spared());
            }
            assert!(!pace.is_look_spared());
            pace.looks(Duration::ZERO);
        }
        pace.looks(LONG);
        assert!(!pace.is_look_spared());
    }
}
