//! Whether the owner of a deque has a fence of its own in each pop, so that thieves need no heavy one.
//!
//! A heavy fence takes the system some microseconds of the thief and of the owner: little for the hundreds of jobs that
//! one theft may take, and nothing for the owner's pops, which need no fence then. But where a few jobs are taken again and again,
//! it is most of what a theft takes, and a fence in each pop would be the cheaper way.
//!
//! # The protocol
//!
//! A thief that got only a few by a heavy fence *asks* for fences, by a flag in `top`. The flags make that word larger
//! than any number, so the owner's next pop takes it for a claim, and comes to the lock. There it answers by the
//! other flag. From then on each of its pops has a fence, and goes by the number alone; and each thief, who
//! sees the flag under the lock, has a plain fence as well. After some pops that no theft came between, the owner
//! takes the flag foreign_stack, under the lock again.
//!
//! So no theft is under way when the owner changes its ways, and each has the fence that fits. What the owner popped
//! before without a fence is seen by who takes the lock later.

use std::cell::Cell;

use crate::tuning::FENCED_POPS;

/// After a theft of at most so many values the thief asks for fences: with more of them the heavy fence is little for
/// each.
const FEW: usize = if cfg!(any(loom, shuttle)) {
    2
} else {
    FENCED_POPS as usize / 32
};

/// The owner's pops have fences.
const FENCED: usize = 1 << (usize::BITS - 1);

/// A thief asks for that.
const ASKED: usize = FENCED >> 1;

/// The word `top`: a number, and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Top(pub(super) usize);

impl Top {
    #[inline]
    pub(super) fn number(self) -> usize {
        self.0 & !(FENCED | ASKED)
    }

    /// The same flags beside this number.
    pub(super) fn at(self, number: usize) -> Self {
        Self(self.0 - self.number() + number)
    }

    pub(super) fn is_fenced(self) -> bool {
        self.0 & FENCED != 0
    }

    /// After a theft of so many values, by a heavy fence that was dear.
    pub(super) fn after_expensive_theft(self, taken: usize) -> Self {
        if (1..=FEW).contains(&taken) {
            Self(self.0 | ASKED)
        } else {
            self
        }
    }
}

/// The owner's part.
#[derive(Default)]
pub(super) struct Fencing {
    is_on: Cell<bool>,
    /// What a pop has seen last.
    last: Cell<usize>,
    /// So many more pops have fences, if no theft comes between.
    left: Cell<u32>,
}

impl Fencing {
    /// Whether each pop is to have a fence.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// A pop with a fence has seen that. False if it is to be the last one, and `settle` to be called.
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

    /// Under the lock: what `top` is to be instead, beside this number.
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
    fn who_took_many_does_not_ask() {
        for (taken, asks) in [(0, false), (1, true), (FEW, true), (FEW + 1, false)] {
            let top = Top(3).after_expensive_theft(taken);
            assert_eq!(top == ASKING.at(3), asks, "{taken}");
            assert_eq!(top.number(), 3);
        }
    }

    #[test]
    fn the_owner_has_fences_until_no_theft_came_between_so_many_pops() {
        let fencing = Fencing::default();
        assert_eq!(fencing.settle(Top(4), 2), Top(2), "nobody asks");
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
