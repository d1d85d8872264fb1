//! Whether it pays to take structured jobs from others.
//!
//! To take some may interrupt all cores for their fence, and takes the deque's cache lines from under its owner's hands.
//! With tiny jobs that costs more than it brings, and the owner would have run them himself meanwhile. So a
//! worker whose theft took longer than all that it did until it ran dry again leaves such deques alone for a
//! moment, and for twice as long each time that this happens again. The longest is bounded, since whoever
//! pushes a job wakes nobody else for it as long as a worker searches, and jobs that were tiny may be followed by long ones.

use std::{cell::Cell, time::Duration};

use crate::sync::Instant;

/// The first pause, a little longer than most thefts take.
const PAUSE: Duration = Duration::from_micros(20);

/// How often it is doubled.
const DOUBLINGS: u32 = 2;

/// The thefts of one worker.
#[derive(Debug, Default)]
pub(super) struct Thefts {
    /// When the last one was over, and how long it took; until it is judged.
    last: Cell<Option<(Instant, Duration)>>,
    /// How many in a row did not pay.
    in_vain: Cell<u32>,
}

impl Thefts {
    /// One has brought jobs, which began then.
    pub(super) fn succeeded(&self, began: Instant) {
        let now = Instant::now();
        self.last
            .set(Some((now, now.saturating_duration_since(began))));
    }

    /// The worker has run dry. For how long it is to leave others alone, if it is.
    pub(super) fn pause(&self) -> Option<Duration> {
        let (ended, took) = self.last.take()?;
        self.judge(took, ended.elapsed())
    }

    fn judge(&self, took: Duration, kept_busy: Duration) -> Option<Duration> {
        if kept_busy >= took {
            self.in_vain.set(0);
            return None;
        }
        let in_vain = self.in_vain.get();
        self.in_vain.set((in_vain + 1).min(DOUBLINGS));
        Some(PAUSE * (1 << in_vain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(10);
    const LESS: Duration = Duration::from_micros(9);

    #[test]
    fn who_steals_in_vain_pauses_longer_each_time_up_to_a_bound() {
        let thefts = Thefts::default();
        let pauses = [(); 5].map(|()| thefts.judge(TOOK, LESS).map(|pause| pause.as_micros()));
        assert_eq!(pauses, [20, 40, 80, 80, 80].map(Some));
    }

    #[test]
    fn one_theft_that_pays_makes_up_for_all_before() {
        let thefts = Thefts::default();
        for _ in 0..2 {
            assert_eq!(thefts.judge(TOOK, LESS), Some(PAUSE));
            assert_eq!(thefts.judge(TOOK, TOOK), None);
        }
    }

    #[test]
    fn a_theft_is_judged_once() {
        let thefts = Thefts::default();
        assert_eq!(thefts.pause(), None, "there was none");
        thefts.succeeded(Instant::now());
        thefts.pause();
        assert_eq!(thefts.pause(), None, "other work was done since");
    }
}
