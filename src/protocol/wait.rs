//! Announce, check, park: how a thread blocks until one of several conditions is met.
//!
//! # The protocol
//!
//! The waiting thread, the *waiter*, announces itself at each of its conditions, checks all of
//! them, and parks if none is met. The thread that meets a condition, the *notifier*, makes it
//! true, reads whether a waiter has announced itself there, and unparks that one. The waiter
//! repeats all of it after each unpark.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | what makes a condition true | its notifiers, before they read the announcement | the waiter, after it has announced itself |
//! | the announcement at a condition | the waiter; a notifier may take it back | notifiers |
//! | the thread's park token | any thread that unparks it | the waiter, which consumes it |
//!
//! **Why no wake-up is lost.** A condition orders its two words: by one read-modify-write on each
//! side if both are in one word, by one lock, or by a full fence on each side between the write and
//! the read. So of announcing and meeting one comes first. If that is meeting, the check that
//! follows sees it, and the waiter does not park. If that is announcing, the notifier sees the
//! waiter and unparks it. An unpark leaves a token, so it is not lost if the waiter has not parked
//! yet. A token may be left over from an earlier wait, or be meant for another condition: then the
//! waiter checks in vain, and parks again. This costs a round, and nothing else.
//!
//! **Why it announces itself again.** A notifier may take the announcement back when it unparks the
//! waiter, so that others do not unpark it too. Then a condition that was not met by that needs
//! another announcement before the next check. A condition whose announcement is still there does
//! nothing.
//!
//! **Why a condition may be gone after the wait.** The waiter borrows its conditions for the wait,
//! and withdraws from all of them at its end. A notifier may still be on its way to the waiter
//! then: each condition says why that one touches nothing of its memory any more. Either meeting it
//! is the notifier's last access, and the thread to unpark was read before; or the condition's
//! words outlive the wait, and are shared with the notifiers. The thread's handle is its own owner.
//!
//! **Time.** A condition may want to announce itself differently after some time, as a submitter
//! that was batched for long enough. It tells when, and the waiter parks no longer than that.

#[cfg(all(test, loom))]
mod model;

use std::time::Duration;

use crate::sync::{Instant, thread};

/// What a thread waits for. One thread waits for it at a time.
pub(crate) trait Condition {
    /// Whether it is met. If it is, what was done before is visible to the caller.
    fn is_met(&self) -> bool;

    /// The calling thread is about to park: from now on the thread that meets the condition unparks
    /// it. Called before each check that precedes a park.
    fn announce(&self);

    /// When the waiter is to announce itself again, without an unpark.
    fn announces_again_at(&self) -> Option<Instant> {
        None
    }

    /// The wait is over, however it ended. Called once for each wait that has announced itself.
    fn withdraw(&self) {}
}

/// A condition of closures: `is_met`, `announce` and `withdraw`.
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

/// Why a thread parks no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unparked {
    /// One of its conditions is met.
    Met,
    /// It is to do something else.
    Interrupted,
    TimedOut,
}

/// Parks the calling thread until one of the conditions is met, `is_interrupted` holds, or the
/// deadline has passed. The thread that makes `is_interrupted` true does as a notifier of one of
/// the conditions does.
pub(crate) fn park_until(
    conditions: &[&dyn Condition],
    is_interrupted: &dyn Fn() -> bool,
    deadline: Option<Instant>,
) -> Unparked {
    let mut is_first = true;
    let unparked = loop {
        if is_first || !mutant!("wait_announce_once") {
            is_first = false;
            let announced = or_mutant!("wait_announce_at_one", conditions, &conditions[..1]);
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
