//! The choice whether the owner of a deque fences in each pop, so that its thieves need no heavy
//! fence.
//!
//! A heavy fence costs the thief and the owner some microseconds in the kernel. That is little for
//! the hundreds of jobs that one theft may take, and the owner's pops then need no fence. But where
//! thieves take a few jobs again and again, it is most of the cost of a theft. A fence in each pop
//! is then cheaper.
//!
//! # The protocol
//!
//! A thief that got only a few values by a heavy fence *asks* for fences, by a flag in `top`. The
//! flags make that word larger than any number, so the owner's next pop takes it for a claim and
//! takes the lock. There the owner answers by the other flag. From then on each of its pops has a
//! fence, and compares the number alone. Each thief observes the flag under the lock, and has a
//! plain fence as well. After [`FENCED_POPS`] pops without a theft between them, the owner clears
//! the flag, under the lock again.
//!
//! So no theft is under way when the owner changes its mode, and owner and thief always have fences
//! that pair. What the owner popped without a fence before is visible to each thread that takes the
//! lock later.

use std::cell::Cell;

use crate::tuning::{FENCED_POPS, SMALL_THEFT};

/// The owner's pops have fences.
const FENCED: usize = 1 << (usize::BITS - 1);

/// A thief asks for `FENCED`.
const ASKED: usize = FENCED >> 1;

/// The word `top`: a number, and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Top(pub(super) usize);

impl Top {
    #[inline]
    pub(super) fn number(self) -> usize {
        self.0 & !(FENCED | ASKED)
    }

    /// Returns this number beside the same flags.
    pub(super) fn at(self, number: usize) -> Self {
        Self(self.0 - self.number() + number)
    }

    pub(super) fn is_fenced(self) -> bool {
        self.0 & FENCED != 0
    }

    /// Returns the word to store after a theft of `taken` values by an expensive heavy fence.
    pub(super) fn after_expensive_theft(self, taken: usize) -> Self {
        if (1..=SMALL_THEFT).contains(&taken) {
            Self(self.0 | ASKED)
        } else {
            self
        }
    }
}

/// The owner's state.
#[derive(Default)]
pub(super) struct Fencing {
    is_on: Cell<bool>,
    /// The `top` that a pop has observed last.
    last: Cell<usize>,
    /// The number of further pops with fences, if no theft comes between.
    left: Cell<u32>,
}

impl Fencing {
    /// Returns whether each pop has a fence.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Records the `top` that a pop with a fence has observed. Returns false if this is the last
    /// such pop, and `settle` has to follow.
    pub(super) fn goes_on(&self, top: Top) -> bool {
        let is_same = self.last.replace(top.0) == top.0;
        let left = if is_same {
            self.left.get() - 1
        } else {
            FENCED_POPS
        };
        self.left.set(left);
        left > 0
    }

    /// Returns what `top` has to become, beside this number. Under the lock.
    pub(super) fn settle(&self, top: Top, number: usize) -> Top {
        let is_on = if self.is_on() {
            self.left.get() > 0
        } else {
            self.left.set(FENCED_POPS);
            top.0 & ASKED != 0
        };
        self.is_on.set(is_on);
        let top = Top(if is_on { FENCED } else { 0 }).at(number);
        self.last.set(top.0);
        top
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ASKING: Top = Top(ASKED);

    #[test]
    fn any_flag_makes_the_word_larger_than_any_number() {
        for flags in [FENCED, ASKED, FENCED | ASKED] {
            assert!(flags > ASKED - 1);
            assert_eq!(Top(flags).at(7).number(), 7);
            assert_eq!(Top(flags).at(7).at(3), Top(flags | 3));
        }
    }

    #[test]
    fn a_thief_that_took_many_does_not_ask() {
        for (taken, asks) in [
            (0, false),
            (1, true),
            (SMALL_THEFT, true),
            (SMALL_THEFT + 1, false),
        ] {
            let top = Top(3).after_expensive_theft(taken);
            assert_eq!(top == ASKING.at(3), asks, "{taken}");
            assert_eq!(top.number(), 3);
        }
    }

    #[test]
    fn the_owner_has_fences_until_no_theft_came_between_so_many_pops() {
        let fencing = Fencing::default();
        assert_eq!(fencing.settle(Top(4), 2), Top(2), "no thief asks");
        for _ in 0..3 {
            let top = fencing.settle(ASKING.at(5), 5);
            assert!(fencing.is_on() && top.is_fenced() && top.number() == 5);
            (1..FENCED_POPS).for_each(|_| assert!(fencing.goes_on(top)));
            // A theft.
            let top = top.at(6);
            (0..FENCED_POPS).for_each(|_| assert!(fencing.goes_on(top)));
            assert!(!fencing.goes_on(top));
            assert_eq!(fencing.settle(top, 6), Top(6));
            assert!(!fencing.is_on());
        }
    }
}
