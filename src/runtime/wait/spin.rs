//! Whether a thread looks for a moment if what it waits for is there, before it blocks.
//!
//! To block and to be woken takes some microseconds of both sides, and a worker that finds nothing meanwhile lies down as
//! well: who hands in tiny jobs one by one, and waits for each, spends nearly all of the time on that. But to look for
//! what takes long wastes a core, for which a worker may be waiting. So a thread goes by what it has met: when it
//! has looked in vain it does not the next time, then the next three times, and so on; until a look pays again.
//! It is the thread's own: nobody else reads it, and whatever it waits for, most is of one kind.
//!
//! Where it does not look it yields some times: a worker that was woken on its core comes to run at once, and may bring
//! what it waits for before it has to block. Where others want the cores it does not yield (`backoff.rs`).

use std::{cell::Cell, hint::spin_loop, time::Duration};

use crate::sync::{Instant, backoff::Yields, thread_local};

/// As long as it takes, about, to block and to be woken.
const LOOK: Duration = Duration::from_micros(5);

/// So often the waits without a look are doubled.
const DOUBLINGS: u32 = 5;

/// How often a thread that does not look yields before it blocks.
const YIELDS: u32 = if cfg!(shuttle) { 1 } else { 8 };

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

/// To be called before the thread blocks until it is there: whether it is, after a look if that is worth while, and not
/// beyond the deadline.
pub(crate) fn linger(deadline: Option<Instant>, is_there: impl Fn() -> bool) -> bool {
    if is_there() {
        return true;
    }
    let past = PAST.get();
    if let Some(skips) = past.skips.checked_sub(1) {
        PAST.set(Past { skips, ..past });
        return leave_core_until(deadline, is_there);
    }
    let end = Instant::now() + LOOK;
    if deadline.is_some_and(|deadline| deadline < end) {
        return false;
    }
    let pays = look_until(end, is_there);
    PAST.set(if pays { Past::PAID } else { past.in_vain() });
    pays
}

/// Lets others have the core, if they want it.
fn leave_core_until(deadline: Option<Instant>, is_there: impl Fn() -> bool) -> bool {
    let is_late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
    let mut yields = Yields::new(YIELDS);
    while !is_late() && yields.next() {
        if is_there() {
            return true;
        }
    }
    false
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::sync::backoff::simulation::Simulation;

    /// Waits for what is there when it looks for the `times`th time, beside the first. Returns whether it was, and how
    /// often it looked beside the first.
    fn wait(deadline: Option<Instant>, times: u32) -> (bool, u32) {
        let looks = Cell::new(0);
        let is_there = linger(deadline, || looks.replace(looks.get() + 1) == times);
        (is_there, looks.get() - 1)
    }

    fn is_to_look() -> bool {
        PAST.get().skips == 0
    }

    fn look_in_vain() {
        assert!(is_to_look());
        assert!(!wait(None, u32::MAX).0);
    }

    #[test]
    fn who_looks_in_vain_looks_ever_more_seldom_until_it_pays() {
        Simulation::new().enter();
        for skips in [0, 1, 3, 7, 15, 31, 31] {
            for _ in 0..skips {
                assert!(!is_to_look());
                assert_eq!(wait(None, u32::MAX), (false, YIELDS));
            }
            look_in_vain();
        }
        (0..31).for_each(|_| assert_eq!(wait(None, u32::MAX), (false, YIELDS)));
        for _ in 0..100 {
            assert!(is_to_look());
            assert_eq!(wait(None, 1), (true, 1));
        }
        look_in_vain();
        assert_eq!(wait(None, u32::MAX), (false, YIELDS));
        assert!(is_to_look());
    }

    #[test]
    fn what_comes_while_a_thread_yields_is_found() {
        Simulation::new().enter();
        look_in_vain();
        assert_eq!(wait(None, YIELDS), (true, YIELDS));
        look_in_vain();
        // It says nothing of how long it would have taken.
        (0..3).for_each(|_| assert_eq!(wait(None, 1), (true, 1)));
        look_in_vain();
    }

    #[test]
    fn nobody_looks_beyond_his_deadline() {
        Simulation::new().enter();
        let soon = Some(Instant::now());
        assert_eq!(wait(soon, 1), (false, 0));
        // It says nothing of the next.
        look_in_vain();
        assert_eq!(wait(soon, 1), (false, 0), "no yields, either");
    }

    #[test]
    fn r9_a_thread_that_may_not_yield_looks_or_blocks_at_once() {
        let simulation = Simulation::new();
        simulation.enter();
        look_in_vain();
        simulation.lose_next();
        assert_eq!(wait(None, u32::MAX), (false, 1));
        look_in_vain();
        (0..3).for_each(|_| assert_eq!(wait(None, 1), (false, 0)));
        look_in_vain();
        simulation.end_ban();
        assert_eq!(wait(None, u32::MAX), (false, YIELDS));
    }

    #[test]
    fn what_is_there_at_once_says_nothing_of_the_next() {
        Simulation::new().enter();
        look_in_vain();
        assert!(linger(None, || true));
        assert!(!is_to_look());
    }
}
