//! Adaptive spin: a wait spins for a moment, or yields a few times, before it parks.
//!
//! To park and be unparked takes some microseconds on both sides, and a worker that finds nothing
//! meanwhile parks as well. A thread that submits tiny jobs one by one, and waits for each, would
//! spend nearly all of its time on that. But a spin for a long job wastes a core, which a worker
//! may need. So each thread adapts to its last waits. After a spin in vain it skips the next one,
//! then the next three, and so on, until a spin pays again. The record is private to the thread,
//! since most of a thread's waits are of one kind.
//!
//! A wait that skips its spin yields a few times. A worker that was woken on the same core then
//! runs at once, and may end the wait before the thread parks. If other threads contend for the
//! cores, the wait does not yield (`backoff.rs`).

use std::{cell::Cell, hint::spin_loop};

use crate::{
    sync::{
        Instant,
        backoff::{YieldHint, Yields},
        thread_local,
    },
    tuning::{SPIN, SPIN_DOUBLINGS, STRUCTURED_SPINS, STRUCTURED_YIELDS, YIELDS},
};

/// How a wait spends the time before it parks.
#[derive(Clone, Copy)]
pub(crate) enum Spin<'a> {
    /// It spins or yields, depending on the thread's last waits.
    Adaptive,
    /// It spins for doubling times, then yields, and polls for jobs after each.
    Backoff,
    /// It yields at most this many times, and raises the hint meanwhile, if there is one.
    Yields(u32, Option<&'a YieldHint>),
}

/// The sequence of pauses of one wait.
pub(super) struct Pause<'a> {
    step: Step<'a>,
    deadline: Option<Instant>,
}

enum Step<'a> {
    SpinUntil(Instant),
    Yield(Yields, Option<&'a YieldHint>),
    /// The number of spins so far, each twice as long as the one before.
    Doubling(u32),
    Park,
}

impl<'a> Pause<'a> {
    /// Makes the pauses of a wait that has found nothing so far. None lasts beyond the deadline.
    pub(super) fn new(spin: Spin<'a>, deadline: Option<Instant>) -> Self {
        let step = match spin {
            Spin::Adaptive => Self::adaptive(deadline),
            Spin::Backoff => Step::Doubling(0),
            Spin::Yields(most, hint) => Step::Yield(Yields::new(most), hint),
        };
        Self { step, deadline }
    }

    fn adaptive(deadline: Option<Instant>) -> Step<'a> {
        let past = PAST.get();
        if let Some(skips) = past.skips.checked_sub(1) {
            PAST.set(Past { skips, ..past });
            return Step::Yield(Yields::new(YIELDS), None);
        }
        let end = Instant::now() + SPIN;
        if deadline.is_some_and(|deadline| deadline < end) {
            Step::Park
        } else {
            Step::SpinUntil(end)
        }
    }

    /// Pauses once. Returns false, without a pause, if the thread is to park.
    pub(super) fn pass(&mut self) -> bool {
        let deadline = self.deadline;
        let is_late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
        match &mut self.step {
            Step::SpinUntil(end) if Instant::now() < *end => {
                spin_loop();
                true
            }
            Step::SpinUntil(_) => {
                PAST.set(PAST.get().in_vain());
                self.step = Step::Park;
                false
            }
            Step::Yield(..) if is_late() => false,
            Step::Yield(yields, None) => yields.next(),
            Step::Yield(yields, Some(hint)) => hint.yield_next(yields),
            Step::Doubling(spins) if *spins < STRUCTURED_SPINS => {
                (0..1u32 << *spins).for_each(|_| spin_loop());
                *spins += 1;
                true
            }
            Step::Doubling(_) => {
                self.step = Step::Yield(Yields::new(STRUCTURED_YIELDS), None);
                self.pass()
            }
            Step::Park => false,
        }
    }

    /// Records that the wait ended during the pauses.
    pub(super) fn has_paid(&self) {
        if let Step::SpinUntil(_) = self.step {
            PAST.set(Past::PAID);
        }
    }
}

/// The record of a thread's last waits.
#[derive(Clone, Copy)]
struct Past {
    /// The number of consecutive spins in vain.
    in_vain: u32,
    /// The number of the next waits that do not spin.
    skips: u32,
}

thread_local! {
    static PAST: Cell<Past> = const { Cell::new(Past::PAID) };
}

impl Past {
    /// The last spin has paid, or there was none.
    const PAID: Self = Self {
        in_vain: 0,
        skips: 0,
    };

    /// Returns the record after one more spin in vain.
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

    /// Simulates a wait that is met after `pauses` pauses. Returns whether the wait observed it,
    /// and how many pauses it made.
    fn wait(deadline: Option<Instant>, pauses: u32) -> (bool, u32) {
        let mut pause = Pause::new(Spin::Adaptive, deadline);
        let mut passed = 0;
        while pause.pass() {
            passed += 1;
            if passed == pauses {
                pause.has_paid();
                return (true, passed);
            }
        }
        (false, passed)
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
        // Such a wait gives no evidence of how long it would have taken.
        (0..3).for_each(|_| assert_eq!(wait(None, 1), (true, 1)));
        spin_in_vain();
    }

    #[test]
    fn no_pause_lasts_beyond_the_deadline() {
        Simulation::new().enter();
        let soon = Some(Instant::now());
        assert_eq!(wait(soon, 1), (false, 0));
        // Such a wait gives no evidence for the next one.
        spin_in_vain();
        assert_eq!(wait(soon, 1), (false, 0), "no yields, either");
    }

    #[test]
    fn r9_a_thread_that_may_not_yield_spins_or_parks_at_once() {
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
    fn r9_a_backoff_spins_before_it_yields_and_then_parks() {
        let simulation = Simulation::new();
        simulation.run(|| {
            let mut pause = Pause::new(Spin::Backoff, None);
            for _ in 0..STRUCTURED_SPINS {
                assert!(pause.pass());
            }
            assert_eq!(simulation.yields(), 0);
            for _ in 0..STRUCTURED_YIELDS {
                assert!(pause.pass());
            }
            assert!(!pause.pass());
        });
        assert_eq!(simulation.yields(), STRUCTURED_YIELDS);
    }
}
