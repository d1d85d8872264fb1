//! Whether a thread looks for a moment if what it waits for is there, before it blocks.
//!
//! To block and to be woken takes some microseconds of both sides, and a worker that finds nothing meanwhile lies down as
//! well: who hands in tiny jobs one by one, and waits for each, spends nearly all of the time on that. But to look for
//! what takes long wastes a core, for which a worker may be waiting. So a thread goes by what it has met: when it
//! has looked in vain it does not the next time, then the next three times, and so on; until a look pays again.
//! It is the thread's own: nobody else reads it, and whatever it waits for, most is of one kind.
//!
//! A look can pay only if the workers are awake when the jobs come. So the waits right before it block at once, where
//! others yield first: who is woken by a worker comes back while that one still searches.

use std::{cell::Cell, hint::spin_loop, time::Duration};

use crate::sync::{Instant, thread_local};

/// As long as it takes, about, to block and to be woken.
const LOOK: Duration = Duration::from_micros(5);

/// So often the waits without a look are doubled.
const DOUBLINGS: u32 = 5;

/// So many waits before a look block at once.
const PRELUDE: u32 = 3;

/// What a thread has met.
#[derive(Clone, Copy)]
struct Past {
    /// How many looks in a row were in vain.
    in_vain: u32,
    /// So many waits are to have none.
    skips: u32,
}

thread_local! {
    static PAST: Cell<Past> = const { Cell::new(Past::PAID) };
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lingered {
    /// It is there.
    Found,
    /// The thread is to block at once.
    ToBlock,
    /// It may do first what it likes.
    Not,
}

/// Looks for it, if that is worth while, and not beyond the deadline.
pub(crate) fn linger(deadline: Option<Instant>, is_there: impl Fn() -> bool) -> Lingered {
    if is_there() {
        return Lingered::Found;
    }
    let past = PAST.get();
    if let Some(skips) = past.skips.checked_sub(1) {
        PAST.set(Past { skips, ..past });
        return if skips < PRELUDE {
            Lingered::ToBlock
        } else {
            Lingered::Not
        };
    }
    let end = Instant::now() + LOOK;
    if deadline.is_some_and(|deadline| deadline < end) {
        return Lingered::Not;
    }
    if look_until(end, is_there) {
        PAST.set(Past::PAID);
        Lingered::Found
    } else {
        PAST.set(past.in_vain());
        Lingered::Not
    }
}

fn look_until(end: Instant, is_there: impl Fn() -> bool) -> bool {
    loop {
        if is_there() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        spin_loop();
    }
}

impl Past {
    /// The last look has paid, or there was none.
    const PAID: Self = Self {
        in_vain: 0,
        skips: 0,
    };

    /// After one more look in vain.
    fn in_vain(self) -> Self {
        let in_vain = (self.in_vain + 1).min(DOUBLINGS);
        Self {
            in_vain,
            skips: (1 << in_vain) - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a wait, and whether it has a look, in which it ends or does not.
    fn wait(ends: bool) -> (Lingered, bool) {
        let has_looked = Cell::new(false);
        let is_first = Cell::new(true);
        let lingered = linger(None, || {
            let looks = !is_first.replace(false);
            has_looked.set(looks);
            looks && ends
        });
        (lingered, has_looked.get())
    }

    #[test]
    fn who_looks_in_vain_looks_ever_more_seldom_until_it_pays() {
        for skips in [0, 1, 3, 7, 15, 31, 31] {
            for left in (0..skips).rev() {
                let expected = if left < 3 {
                    Lingered::ToBlock
                } else {
                    Lingered::Not
                };
                assert_eq!(wait(true), (expected, false), "{left} of {skips}");
            }
            assert_eq!(wait(false), (Lingered::Not, true), "after {skips}");
        }
        (0..31).for_each(|_| assert!(!wait(true).1));
        (0..100).for_each(|_| assert_eq!(wait(true), (Lingered::Found, true)));
        assert_eq!(wait(false), (Lingered::Not, true));
        assert_eq!(wait(true), (Lingered::ToBlock, false));
        assert_eq!(wait(true), (Lingered::Found, true));
    }

    #[test]
    fn nobody_looks_beyond_his_deadline() {
        let looks = Cell::new(0);
        let is_there = || looks.replace(looks.get() + 1) > 0;
        assert_eq!(linger(Some(Instant::now()), is_there), Lingered::Not);
        assert_eq!(looks.get(), 1);
        // It says nothing of the next.
        assert_eq!(wait(true), (Lingered::Found, true));
    }

    #[test]
    fn what_is_there_at_once_says_nothing_of_the_next() {
        assert_eq!(wait(false), (Lingered::Not, true));
        assert_eq!(linger(None, || true), Lingered::Found);
        assert_eq!(wait(true), (Lingered::ToBlock, false));
    }
}
