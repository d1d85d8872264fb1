//! Backoff: a wait spins, yields, and then blocks. The yields of every wait go through this module.
//!
//! While the cores are the pool's own, a yield costs less than a microsecond, or a worker of the
//! pool uses the core meanwhile. Beside busy threads of others a yield gives them a whole time
//! slice, several milliseconds, and the condition is met long before that. A thread that blocks
//! instead gets a core soon after it is woken: the system prefers threads that have slept.
//!
//! # The protocol (R9)
//!
//! A wait yields for at most [`YIELD_BUDGET`] of wall time, and then blocks ([`Yields`]).
//!
//! A yield that took [`LONG_YIELD`] is judged. If all workers of the process together used less CPU
//! time than the one core that was given away, other threads had that core. (A worker that had it
//! used at least as much.) Only the CPU time of workers counts: any other thread of the process
//! takes slices away as an unrelated process does. Then a *ban* begins, for all threads of the
//! process. Until it ends no thread yields, and a wait blocks at once, or after a short spin. If
//! the next loss follows within the length of a ban, the next ban lasts twice as long, up to a
//! bound. So while the cores stay busy, few slices are lost on detecting that. A ban is forgotten
//! when yields have been short for as long as it was.
//!
//! The word that holds the ban orders nothing: a thread that misses a change yields once more, or
//! once less.

mod ban;
mod clocks;
mod full_queue;
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod simulation;
mod verdict;
mod yield_hint;

pub(crate) use self::{
    ban::settle as settle_bans, clocks::Clock, full_queue::FullQueue, yield_hint::YieldHint,
};
use crate::{
    sync::{Instant, thread},
    tuning::{LONG_YIELD, YIELD_BUDGET},
};

/// The yields of one wait.
#[derive(Debug)]
pub(crate) struct Yields {
    left: u32,
    /// The beginning of the first yield, and the end of the last.
    span: Option<(Instant, Instant)>,
}

impl Yields {
    /// Allows at most `most` yields.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            left: most,
            span: None,
        }
    }

    /// Yields once more. Returns false, without a yield, if the caller has to block.
    pub(crate) fn next(&mut self) -> bool {
        self.next_by(|yields| yields())
    }

    /// As `next`; `around` runs the yield.
    pub(crate) fn next_by(&mut self, around: impl FnOnce(&dyn Fn())) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        let (first, start) = self.span.unwrap_or_else(|| {
            let now = Instant::now();
            (now, now)
        });
        if !may_yield(first, start) {
            self.left = 0;
            return false;
        }
        self.left = left;
        around(&|| leave_core());
        let end = Instant::now();
        judge(start, end);
        self.span = Some((first, end));
        true
    }
}

/// Yields once. Returns false, without a yield, if that would give a time slice away.
pub(crate) fn yield_now() -> bool {
    Yields::new(1).next()
}

#[cfg(not(any(loom, shuttle)))]
fn leave_core() {
    #[cfg(test)]
    if simulation::yields() {
        return;
    }
    thread::yield_now();
}

/// Whether a wait that first yielded at `first` may go on.
#[cfg(not(any(loom, shuttle)))]
fn may_yield(first: Instant, now: Instant) -> bool {
    #[cfg(test)]
    if let Some(may) = simulation::may_yield() {
        return may;
    }
    now - first < YIELD_BUDGET && ban::OF_PROCESS.allows(now)
}

#[cfg(not(any(loom, shuttle)))]
#[inline]
fn judge(start: Instant, end: Instant) {
    #[cfg(test)]
    if simulation::judges() {
        return;
    }
    let took = end - start;
    if took >= LONG_YIELD {
        judge_long(start, end);
    }
}

/// Begins a ban if other threads had the core meanwhile.
#[cfg(not(any(loom, shuttle)))]
#[cold]
fn judge_long(start: Instant, end: Instant) {
    if let Some((took, used)) = clocks::used_between(start, end) {
        if verdict::is_lost(took, used) {
            ban::OF_PROCESS.begin(end);
        }
    }
}

#[cfg(any(loom, shuttle))]
fn leave_core() {
    thread::yield_now();
}

/// No core is lost in a model. Under shuttle there may be a ban at any moment.
#[cfg(any(loom, shuttle))]
fn may_yield(_: Instant, _: Instant) -> bool {
    #[cfg(shuttle)]
    {
        use shuttle::rand::{Rng, thread_rng};
        thread_rng().gen_ratio(3, 4)
    }
    #[cfg(loom)]
    true
}

#[cfg(any(loom, shuttle))]
fn judge(_: Instant, _: Instant) {}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{simulation::Simulation, *};

    fn count(yields: &mut Yields) -> u32 {
        (0..100).take_while(|_| yields.next()).count() as u32
    }

    #[test]
    fn r9_a_wait_yields_so_often_while_yields_are_short() {
        let simulation = Simulation::new();
        simulation.run(|| {
            assert_eq!(count(&mut Yields::new(8)), 8);
            assert!(yield_now());
        });
        assert_eq!(simulation.yields(), 9);
    }

    #[test]
    fn r9_after_a_lost_yield_no_thread_yields_until_the_ban_is_over() {
        let simulation = Simulation::new();
        simulation.run(|| {
            simulation.lose_next();
            assert_eq!(count(&mut Yields::new(8)), 1);
            for _ in 0..10 {
                assert_eq!(count(&mut Yields::new(8)), 0);
                assert!(!yield_now());
            }
            simulation.end_ban();
            assert_eq!(count(&mut Yields::new(8)), 8);
        });
        assert_eq!(simulation.yields(), 9);
    }

    #[test]
    fn r9_a_wait_does_not_yield_for_long_even_to_its_own() {
        let mut yields = Yields::new(8);
        let long_ago = Instant::now();
        yields.span = Some((long_ago, long_ago + YIELD_BUDGET));
        assert!(!yields.next());
        assert_eq!(yields.left, 0);
    }
}
