//! Whether the consumer of a batch has a core to himself, and when he leaves it for a moment.
//!
//! Where threads outnumber cores, the system may have put the workers on one core together, and the consumer, who was
//! busy before, alone on another. He yields it to nobody then, and waits there for what they could do in it. A
//! system does not take that for uneven: each core has somebody who wants to run. Only where a core has nobody
//! does it move a thread over, so he rests: he blocks until few items are left, or for some microseconds.
//!
//! If no thread comes, because there is a core for each, he rests half as often each time.

use std::time::Duration;

/// A yield that took as long gave the core to somebody.
const SHARED: Duration = Duration::from_micros(5);

/// The fewest yields to nobody, one after another, that make him rest: about as many as make for a rest's length.
const LEAST: u32 = if cfg!(shuttle) { 1 } else { 64 };

#[derive(Debug)]
pub(super) struct Solitude {
    /// How many yields went to nobody, one after another.
    alone: u32,
    /// With how many he rests.
    enough: u32,
}

impl Solitude {
    pub(super) fn new() -> Self {
        Self {
            alone: 0,
            enough: LEAST,
        }
    }

    /// He has yielded, and was foreign_stack for so long.
    pub(super) fn yielded(&mut self, foreign_stack: Duration) {
        if foreign_stack < SHARED {
            self.alone += 1;
        } else {
            self.end();
            self.enough = (self.enough / 2).max(LEAST);
        }
    }

    /// He has left the core to itself.
    pub(super) fn end(&mut self) {
        self.alone = 0;
    }

    /// Whether he is to rest now.
    pub(super) fn is_enough(&mut self) -> bool {
        let is_enough = self.alone >= self.enough;
        if is_enough {
            self.end();
            self.enough = self.enough.saturating_mul(2);
        }
        is_enough
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// How many yields of this length it takes.
    fn until_enough(solitude: &mut Solitude, foreign_stack: Duration) -> Option<u32> {
        (1..=8 * LEAST).find(|_| {
            solitude.yielded(foreign_stack);
            solitude.is_enough()
        })
    }

    #[test]
    fn who_yields_to_nobody_rests_half_as_often_each_time() {
        let mut solitude = Solitude::new();
        for often in [1, 2, 4, 8] {
            let enough = until_enough(&mut solitude, Duration::ZERO);
            assert_eq!(enough, Some(often * LEAST));
        }
    }

    #[test]
    fn who_shares_his_core_does_not_rest_and_soon_does_when_he_is_alone() {
        let mut solitude = Solitude::new();
        while until_enough(&mut solitude, Duration::ZERO).is_some() {}
        assert_eq!(until_enough(&mut solitude, SHARED), None);
        assert_eq!(until_enough(&mut solitude, Duration::ZERO), Some(LEAST));
    }

    #[test]
    fn yields_to_nobody_count_one_after_another() {
        let mut solitude = Solitude::new();
        for _ in 0..LEAST {
            assert_eq!((1..LEAST).find(|_| until_one(&mut solitude)), None);
            solitude.yielded(SHARED);
        }
    }

    fn until_one(solitude: &mut Solitude) -> bool {
        solitude.yielded(Duration::ZERO);
        solitude.is_enough()
    }
}
