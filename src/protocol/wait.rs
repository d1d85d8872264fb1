//! Announce, check, park: how a thread blocks until one of several conditions is met.
//!
//! # The protocol
//!
//! The waiting thread, the *waiter*, announces itself at each of its conditions, checks all of
//! them, and parks if none is met. The thread that meets a condition, the *notifier*, makes it
//! true. It then reads whether a waiter has announced itself there, and unparks it. The waiter
//! repeats all of this after each unpark.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | the condition's words | notifiers, before reading the announcement | the announced waiter |
//! | the announcement at a condition | the waiter; a notifier may take it back | notifiers |
//! | the thread's park token | any thread that unparks it | the waiter, which consumes it |
//!
//! **Why no wake-up is lost.** A condition orders its two words in one of three ways. Both may be
//! in one word, with a read-modify-write on each side. One lock may guard both. Or each side has a
//! full fence between its write and its read. So either the announcement or the meeting comes
//! first. If the meeting does, the check that follows sees it, and the waiter does not park. If the
//! announcement does, the notifier sees the waiter and unparks it. An unpark leaves a token, so it
//! is not lost if the waiter has not parked yet. A token may be left over from an earlier wait, or
//! be meant for another condition. Then the waiter checks in vain, and parks again, at the cost of
//! one round.
//!
//! **Why it announces itself again.** A notifier may take the announcement back when it unparks the
//! waiter, so that other notifiers do not unpark it too. If that did not meet the condition, the
//! next check needs a new announcement. A condition whose announcement is still there does nothing.
//!
//! **Why a condition may be gone after the wait.** The waiter borrows its conditions for the wait,
//! and withdraws from all of them at its end. A notifier may still be on its way to the waiter
//! then. Each condition documents why that notifier no longer accesses the condition's memory.
//! Either meeting the condition is the notifier's last access, and it has read the thread to unpark
//! before. Or the condition's words outlive the wait, and are shared with the notifiers. The
//! thread's handle is reference-counted.
//!
//! **Time.** A condition may need a different announcement after some time, such as a submitter
//! that was batched for long enough. It returns that moment, and the waiter parks no longer than
//! until then.

#[cfg(all(test, loom))]
mod model;

use std::time::Duration;

use crate::sync::{Instant, thread};

/// A condition for which a thread waits; one thread at a time.
pub(crate) trait Condition {
    /// Whether it is met. If so, all that happened before it was met is visible to the caller.
    fn is_met(&self) -> bool;

    /// Announces that the calling thread is about to park: from now on the thread that meets the
    /// condition unparks it. Called before each check that precedes a park.
    fn announce(&self);

    /// Returns when the waiter has to announce itself again without an unpark, if ever.
    fn announces_again_at(&self) -> Option<Instant> {
        None
    }

    /// Ends the wait, however it ended. Called once for each wait that has announced itself.
    fn withdraw(&self) {}
}

/// A condition made of closures: `is_met`, `announce` and `withdraw`.
pub(crate) struct When<M, A, W>(pub(crate) M, pub(crate) A, pub(crate) W);

impl<M: Fn() -> bool, A: Fn(), W: Fn()> Condition for When<M, A, W> {
    fn is_met(&self) -> bool {
        self.0()
    }

    fn announce(&self) {
        self.1();
    }

    fn withdraw(&self) {
        self.2();
    }
}

/// Why a thread no longer parks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unparked {
    /// One of its conditions is met.
    Met,
    /// `is_interrupted` holds.
    Interrupted,
    TimedOut,
}

/// Blocks until one of the conditions is met, `is_interrupted` holds, or the deadline has passed. A
/// thread that makes `is_interrupted` true must act as a notifier of one of the conditions.
pub(crate) fn park_until(
    conditions: &[&dyn Condition],
    is_interrupted: &dyn Fn() -> bool,
    deadline: Option<Instant>,
) -> Unparked {
    let mut is_first = true;
    let unparked = loop {
        if is_first || !mutant!("wait_announce_once") {
            is_first = false;
            let announced = or_mutant!("wait_announce_to_one", conditions, &conditions[..1]);
            announced.iter().for_each(|condition| condition.announce());
        }
        if conditions.iter().any(|condition| condition.is_met()) {
            break Unparked::Met;
        }
        if is_interrupted() {
            break Unparked::Interrupted;
        }
        let again = conditions.iter().filter_map(|one| one.announces_again_at());
        match again.chain(deadline).min().map(left_until) {
            None => thread::park(),
            Some(Duration::ZERO)
                if deadline.is_some_and(|deadline| left_until(deadline).is_zero()) =>
            {
                break Unparked::TimedOut;
            }
            Some(Duration::ZERO) => {}
            Some(left) => thread::park_timeout(left),
        }
    };
    unless_mutant!(
        "wait_stay",
        conditions.iter().for_each(|condition| condition.withdraw())
    );
    unparked
}

fn left_until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}
