//! Waiting: the one loop by which a thread blocks until a condition is met.
//!
//! A wait repeats these steps, and starts over when its thread has run something:
//! 1. Check the conditions; return if one is met.
//! 2. *Assist*: run what the waiting frame may run, which its [`Assist`] defines.
//! 3. Spin or yield, as its [`Spin`] selects and R9 allows, and go back to 1.
//! 4. Leave service, so that another thread may take the place, and park: see
//!    [`protocol::wait`](crate::protocol::wait). The thread is unparked when a condition is met. It
//!    is interrupted when its assist has work, or when the pool that it waits for is starved: see
//!    `starvation.rs`.
//!
//! A caller inlines the check of its most frequent condition, which must not cost a call.

pub(crate) mod frames;
pub(crate) mod spin;
pub(crate) mod starvation;

use std::cell::Cell;

pub(crate) use self::spin::Spin;
use self::{spin::Pause, starvation::Watch};
use crate::{
    protocol::wait::{Condition, Unparked, park_until},
    runtime::{inner::Inner, worker},
    sync::Instant,
};

/// The outcome of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Waited {
    /// One of the conditions is met.
    Met,
    TimedOut,
    /// The pool is starved, and the assist leaves the rest to the caller.
    Starved,
}

/// The outcome of an assist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assisted {
    /// The thread has run something, which may have met a condition.
    Ran,
    Nothing,
    /// The pool is starved, and the wait is over.
    Starved,
}

/// The work that a thread runs while it waits.
pub(crate) trait Assist {
    /// Runs one or more jobs that the waiting frame may run. If the pool `is_starved`, the thread
    /// is another pool's, and runs jobs that no thread of this pool can run.
    fn assist(&mut self, is_starved: bool) -> Assisted;

    /// Whether there may be work, so that the thread must not park. The thread that adds work
    /// unparks this one, if its condition has announced it.
    fn has_work(&self, is_starved: bool) -> bool;
}

/// An assist without work that arrives after the thread has parked.
impl<F: FnMut() -> Assisted> Assist for F {
    fn assist(&mut self, _: bool) -> Assisted {
        self()
    }

    fn has_work(&self, _: bool) -> bool {
        false
    }
}

/// An assist that acts only when the pool is starved: whether it can act, and the action.
pub(crate) struct IfStarved<C, H>(pub(crate) C, pub(crate) H);

impl<C: Fn() -> bool, H: FnMut() -> Assisted> Assist for IfStarved<C, H> {
    fn assist(&mut self, is_starved: bool) -> Assisted {
        if self.has_work(is_starved) {
            self.1()
        } else {
            Assisted::Nothing
        }
    }

    fn has_work(&self, is_starved: bool) -> bool {
        is_starved && self.0()
    }
}

/// Blocks until one of the conditions is met, or until the deadline. The conditions depend on
/// `pool`, whose address is not dereferenced.
pub(crate) fn wait_until(
    pool: *const Inner,
    conditions: &[&dyn Condition],
    assist: &mut dyn Assist,
    spin: Spin<'_>,
    deadline: Option<Instant>,
) -> Waited {
    let is_starved = Cell::new(false);
    let mut pause: Option<Pause<'_>> = None;
    loop {
        if conditions.iter().any(|condition| condition.is_met()) {
            if let Some(pause) = &pause {
                pause.has_paid();
            }
            return Waited::Met;
        }
        match assist.assist(is_starved.get()) {
            Assisted::Ran => {
                pause = None;
                continue;
            }
            Assisted::Starved => return Waited::Starved,
            Assisted::Nothing => {}
        }
        let pause_now = pause.get_or_insert_with(|| Pause::new(spin, deadline));
        if pause_now.pass() {
            continue;
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Waited::TimedOut;
        }
        let watch = Watch::new(pool);
        let is_interrupted = || {
            is_starved.set(watch.is_starved());
            assist.has_work(is_starved.get())
        };
        match worker::blocking(|| park_until(conditions, &is_interrupted, deadline)) {
            Unparked::Met => return Waited::Met,
            Unparked::TimedOut => return Waited::TimedOut,
            Unparked::Interrupted => pause = None,
        }
    }
}
