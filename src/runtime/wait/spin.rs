//! Adaptive spin: a wait spins for a moment, or yields a few times, before it blocks.
//!
//! Blocking and being woken takes some microseconds of both sides, and a worker that finds nothing meanwhile parks as
//! well: a thread that submits tiny jobs one by one, and waits for each, spends nearly all of its time on that. But a
//! spin for what takes long wastes a core, for which a worker may be waiting. So a thread goes by its last waits: after
//! a spin in vain it skips the next one, then the next three, and so on, until a spin pays again. The record is private
//! to the thread: whatever it waits for, most of its waits are of one kind.
//!
//! A wait that skips its spin yields a few times: a worker that was woken on the same core runs at once, and may bring
//! what the thread waits for before it has to block. Where others want the cores it does not yield (`backoff.rs`).

use std::{cell::Cell, hint::spin_loop};

use crate::{
    sync::{Instant, backoff::Yields, thread_local},
    tuning::{SPIN, SPIN_DOUBLINGS, YIELDS},
};

/// The last waits of a thread.
#[derive(Clone, Copy)]
struct Past {
    /// How many spins in a row were in vain.
    in_vain: u32,
    /// How many of the next waits do not spin.
    skips: u32,
}

thread_local! {
    static PAST: Cell<Past> = const { Cell::new(Past::PAID) };
}

/// Returns whether it is there, after a spin if that is worth while, or some yields; not beyond the `deadline`. To be
/// called before the thread blocks.
pub(crate) fn linger(deadline: Option<Instant>, is_there: impl Fn() -> bool) -> bool {
    if is_there() {
        return true;
    }
    let past = PAST.get();
    if let Some(skips) = past.skips.checked_sub(1) {
        PAST.set(Past { skips, ..past });
        return yield_until(deadline, is_there);
    }
    let end = Instant::now() + SPIN;
    if deadline.is_some_and(|deadline| deadline < end) {
        return false;
    }
    let pays = spin_until(end, is_there);
    PAST.set(if pays { Past::PAID } else { past.in_vain() });
    pays
}

/// Yields the core to others that want it.
fn yield_until(deadline: Option<Instant>, is_there: impl Fn() -> bool) -> bool {
    let is_late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
    let mut yields = Yields::new(YIELDS);
    while !is_late() && yields.next() {
        if is_there() {
            return true;
        }
    }
    false
}

fn spin_until(end: Instant, is_there: impl Fn() -> bool) -> bool {
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
    /// The last spin has paid, or there was none.
    const PAID: Self = Self {
        in_vain: 0,
        skips: 0,
    };

    /// After one more spin in vain.
    fn in_vain(self) -> Self {
        let in_vain = (self.in_vain + 1).min(SPIN_DOUBLINGS);
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

    /// Waits for what is there at the `times`th check after the first. Returns whether it was, and the number of checks
    /// after the first.
    fn wait(deadline: Option<Instant>, times: u32) -> (bool, u32) {
        let checks = Cell::new(0);
        let is_there = linger(deadline, || checks.replace(checks.get() + 1) == times);
        (is_there, checks.get() - 1)
    }

    fn is_to_spin() -> bool {
        PAST.get().skips == 0
    }

    fn spin_in_vain() {
        assert!(is_to_spin());
        assert!(!wait(None, u32::MAX).0);
    }

    #[test]
    fn spins_in_vain_become_ever_rarer_until_one_pays() {
        Simulation::new().enter();
        for skips in [0, 1, 3, 7, 15, 31, 31] {
            for _ in 0..skips {
                assert!(!is_to_spin());
                assert_eq!(wait(None, u32::MAX), (false, YIELDS));
            }
            spin_in_vain();
        }
        (0..31).for_each(|_| assert_eq!(wait(None, u32::MAX), (false, YIELDS)));
        for _ in 0..100 {
            assert!(is_to_spin());
            assert_eq!(wait(None, 1), (true, 1));
        }
        spin_in_vain();
        assert_eq!(wait(None, u32::MAX), (false, YIELDS));
        assert!(is_to_spin());
    }

    #[test]
    fn what_comes_while_a_thread_yields_is_found() {
        Simulation::new().enter();
        spin_in_vain();
        assert_eq!(wait(None, YIELDS), (true, YIELDS));
        spin_in_vain();
        // It says nothing of how long it would have taken.
        (0..3).for_each(|_| assert_eq!(wait(None, 1), (true, 1)));
        spin_in_vain();
    }

    #[test]
    fn no_thread_spins_beyond_its_deadline() {
        Simulation::new().enter();
        let soon = Some(Instant::now());
        assert_eq!(wait(soon, 1), (false, 0));
        // It says nothing of the next.
        spin_in_vain();
        assert_eq!(wait(soon, 1), (false, 0), "no yields, either");
    }

    #[test]
    fn r9_a_thread_that_may_not_yield_spins_or_blocks_at_once() {
        let simulation = Simulation::new();
        simulation.enter();
        spin_in_vain();
        simulation.lose_next();
        assert_eq!(wait(None, u32::MAX), (false, 1));
        spin_in_vain();
        (0..3).for_each(|_| assert_eq!(wait(None, 1), (false, 0)));
        spin_in_vain();
        simulation.end_ban();
        assert_eq!(wait(None, u32::MAX), (false, YIELDS));
    }

    #[test]
    fn what_is_there_at_once_says_nothing_of_the_next() {
        Simulation::new().enter();
        spin_in_vain();
        assert!(linger(None, || true));
        assert!(!is_to_spin());
    }
}
