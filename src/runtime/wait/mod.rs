//! Waiting: the one loop by which a thread waits for conditions, whatever they are.
//!
//! A wait goes through these steps, and begins anew when its thread has run something:
//! 1. Is a condition met?
//! 2. The thread *helps*: it runs what the waiting frame may run, which its [`Assist`] knows.
//! 3. It spins or yields, as its [`Spin`] chooses and R9 allows, and goes back to 1.
//! 4. It leaves service, so that another thread may take its place, and parks: see
//!    [`protocol::wait`](crate::protocol::wait). It is unparked when a condition is met, and
//!    interrupted when its assist has work, or when the pool that it waits for is starved: see
//!    `starvation.rs`.
//!
//! Before the first step its callers do what is so frequent that it must not cost a call.

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

/// How a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Waited {
    /// One of the conditions is met.
    Met,
    TimedOut,
    /// The pool is starved, and the assist leaves the rest to the caller.
    Starved,
}

/// What came of an assist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Help {
    /// The thread has run something: a condition may be met by that.
    Ran,
    Nothing,
    /// The pool is starved, and the wait is over.
    Starved,
}

/// What a thread runs while it waits.
pub(crate) trait Assist {
    /// Runs what the waiting frame may run. If the pool `is_starved`, the thread is another pool's,
    /// and does what none of that pool's threads can do.
    fn help(&mut self, is_starved: bool) -> Help;

    /// Whether there may be something to run, so that the thread is not to park. The thread that
    /// brings it unparks this one, if its condition has announced it.
    fn has_work(&self, is_starved: bool) -> bool;
}

/// A thread that runs nothing that comes after it has parked.
impl<F: FnMut() -> Help> Assist for F {
    fn help(&mut self, _: bool) -> Help {
        self()
    }

    fn has_work(&self, _: bool) -> bool {
        false
    }
}

/// A thread that runs nothing unless the pool is starved: whether it can do something then, and
/// what it does.
pub(crate) struct IfStarved<C, H>(pub(crate) C, pub(crate) H);

impl<C: Fn() -> bool, H: FnMut() -> Help> Assist for IfStarved<C, H> {
    fn help(&mut self, is_starved: bool) -> Help {
        if self.has_work(is_starved) {
            self.1()
        } else {
            Help::Nothing
        }
    }

    fn has_work(&self, is_starved: bool) -> bool {
        is_starved && self.0()
    }
}

/// Waits until one of the conditions is met, at most until the deadline. They depend on this pool,
/// whose address is not followed.
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
        match assist.help(is_starved.get()) {
            Help::Ran => {
                pause = None;
                continue;
            }
            Help::Starved => return Waited::Starved,
            Help::Nothing => {}
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
