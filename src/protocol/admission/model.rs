//! Loom models of the semaphore. Each names the rule, the number of the failure in
//! `docs/reliability.md` if there is one, and the mutants that it kills.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize as Count, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use loom::cell::UnsafeCell;

use super::{Admission, Refusal, waiters::Joining};
use crate::{
    error::AdmissionError,
    protocol::{
        completion::Wake,
        model::{explore, explore_to},
    },
    sync::thread::{self, spawn},
};

/// Returns a semaphore of which `taken` places are taken already.
fn admission(capacity: usize, slots: usize, taken: usize) -> Arc<Admission> {
    let admission = Admission::with_slots(capacity, slots);
    for _ in 0..taken {
        assert_eq!(admission.try_acquire(), Ok(()));
    }
    Arc::new(admission)
}

/// Asserts that no place is taken and no waiter is left: exactly `capacity` places can be taken.
fn assert_at_rest(admission: &Admission, capacity: usize) {
    assert_eq!(admission.waiting(), 0);
    assert_eq!(admission.depth(), 0);
    assert_eq!(admission.outstanding(0, admission.given_back_by(0)), 0);
    for _ in 0..capacity {
        assert_eq!(admission.try_acquire(), Ok(()));
    }
    assert_eq!(admission.try_acquire(), Err(Refusal::Full));
}

fn joining(prompt: bool) -> Joining {
    Joining {
        wake: Wake::Thread(thread::current()),
        prompt,
        held: false,
    }
}

/// A5, 1. Kills `admission_no_fence`.
#[test]
fn a5_a_released_place_reaches_the_waiter() {
    explore(|| {
        let admission = admission(1, 1, 1);
        let waiter = {
            let admission = Arc::clone(&admission);
            spawn(move || assert_eq!(admission.acquire(), Ok(())))
        };
        admission.release_from(0);
        waiter.join().unwrap();
        assert_eq!(admission.depth(), 1);
        admission.release_from(0);
        assert_at_rest(&admission, 1);
    });
}

/// A5, 7: the waiter that was served first serves the next one. Kills `admission_no_fence`.
#[test]
fn a5_one_place_serves_two_waiters_in_turn() {
    explore_to(2, || {
        let admission = admission(1, 1, 1);
        let waiters = [0, 1].map(|_| {
            let admission = Arc::clone(&admission);
            spawn(move || {
                assert_eq!(admission.acquire(), Ok(()));
                admission.release_unused();
            })
        });
        admission.release_from(0);
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap());
        assert_at_rest(&admission, 1);
    });
}

/// A5, 6: the time of the waiter is up at any moment. Kills `admission_drop_grant`.
#[test]
fn a5_a_grant_that_meets_a_timeout_is_taken_or_left_to_others() {
    explore(|| {
        let admission = admission(1, 1, 1);
        let waiter = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                let outcome = match admission.join_line(joining(false)) {
                    Ok(Some(id)) => {
                        admission.insist(&id);
                        admission.give_up(id)
                    }
                    joined => joined.map(|_| ()).map_err(AdmissionError::from),
                };
                match outcome {
                    Ok(()) => admission.release_unused(),
                    Err(reason) => assert_eq!(reason, AdmissionError::TimedOut),
                }
            })
        };
        admission.release_from(0);
        waiter.join().unwrap();
        assert_at_rest(&admission, 1);
    });
}

/// A5, 7. Kills `admission_drop_grant`.
#[test]
fn a5_a_waiter_that_gives_up_strands_none_behind_it() {
    explore_to(2, || {
        let admission = admission(1, 1, 1);
        let Ok(Some(front)) = admission.join_line(joining(true)) else {
            unreachable!("the one place is taken");
        };
        let behind = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                assert_eq!(admission.acquire(), Ok(()));
                admission.release_unused();
            })
        };
        let worker = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                admission.release_from(0);
            })
        };
        if admission.give_up(front).is_ok() {
            admission.release_unused();
        }
        worker.join().unwrap();
        behind.join().unwrap();
        assert_at_rest(&admission, 1);
    });
}

/// A5, A2, 5: a future is dropped before, while or after it is granted a place. Kills
/// `admission_abandon_keeps`.
#[test]
fn a5_a_dropped_future_passes_its_grant_on() {
    explore_to(2, || {
        let admission = admission(1, 1, 1);
        let behind = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                assert_eq!(admission.acquire(), Ok(()));
                admission.release_unused();
            })
        };
        let worker = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                admission.release_from(0);
            })
        };
        let mut id = None;
        match admission.poll_acquire_held(&mut id, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => {
                assert_eq!(outcome, Ok(()));
                let _ = admission.release_held();
            }
            Poll::Pending => drop(admission.abandon(id.take().unwrap())),
        }
        worker.join().unwrap();
        behind.join().unwrap();
        assert_at_rest(&admission, 1);
    });
}

/// A5: a task that waits is woken with the waker of its last poll, and is then ready. Kills
/// `admission_no_fence`.
#[test]
fn a5_a_task_is_woken_when_it_is_granted() {
    explore(|| {
        let admission = admission(1, 1, 1);
        let task = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                let mut id = None;
                let outcome =
                    loom::future::block_on(poll_fn(|cx| admission.poll_acquire_held(&mut id, cx)));
                assert_eq!(outcome, Ok(()));
                assert!(admission.unhold());
            })
        };
        admission.release_from(0);
        task.join().unwrap();
        admission.release_from(0);
        assert_at_rest(&admission, 1);
    });
}

/// A6, 9. Kills `admission_close_peeks`.
#[test]
fn a6_a_waiter_that_joins_a_closing_line_is_refused() {
    explore(|| {
        let admission = admission(1, 1, 1);
        let waiter = {
            let admission = Arc::clone(&admission);
            spawn(move || assert_eq!(admission.acquire(), Err(AdmissionError::Closed)))
        };
        admission.close();
        waiter.join().unwrap();
        assert_eq!(admission.waiting(), 0);
        assert_eq!(admission.taken(), 1);
    });
}

/// A6, 9: and the waiter has the place, or no thread has it. Kills `admission_close_peeks`.
#[test]
fn a6_a_waiter_is_either_granted_or_closed_out() {
    explore_to(2, || {
        let admission = admission(1, 1, 1);
        let waiter = {
            let admission = Arc::clone(&admission);
            spawn(move || admission.acquire())
        };
        let worker = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                admission.release_from(0);
            })
        };
        admission.close();
        worker.join().unwrap();
        let taken = match waiter.join().unwrap() {
            Ok(()) => 1,
            Err(reason) => {
                assert_eq!(reason, AdmissionError::Closed);
                0
            }
        };
        assert_eq!(admission.depth(), taken);
        assert_eq!(admission.waiting(), 0);
    });
}

/// A6, 9: no other change of the word clears the bit. Kills `admission_torn_take`.
#[test]
fn a6_a_closed_admission_stays_closed() {
    explore_to(2, || {
        let admission = admission(2, 2, 1);
        let submitter = {
            let admission = Arc::clone(&admission);
            spawn(move || {
                if admission.try_acquire().is_ok() {
                    admission.release_from(0);
                }
            })
        };
        let tuner = {
            let admission = Arc::clone(&admission);
            spawn(move || admission.set_capacity(3))
        };
        admission.close();
        assert_eq!(admission.try_acquire(), Err(Refusal::Closed));
        admission.release_from(1);
        submitter.join().unwrap();
        tuner.join().unwrap();
        assert!(admission.is_closed());
        assert_eq!(admission.try_acquire(), Err(Refusal::Closed));
        assert_eq!(admission.depth(), 0);
    });
}

/// A5, 5. Kills `admission_resize_silent`.
#[test]
fn a5_a_raised_capacity_lets_the_waiter_in() {
    explore(|| {
        let admission = admission(1, 1, 1);
        let waiter = {
            let admission = Arc::clone(&admission);
            spawn(move || assert_eq!(admission.acquire(), Ok(())))
        };
        admission.set_capacity(2);
        waiter.join().unwrap();
        assert_eq!(admission.depth(), 2);
        admission.release_from(0);
        admission.release_from(0);
        assert_at_rest(&admission, 2);
    });
}

/// The number of threads that have a place at this moment. Not a loom type, so that the check
/// orders nothing.
struct Inside {
    capacity: usize,
    count: Count,
}

impl Inside {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            count: Count::new(0),
        })
    }

    fn enter(&self) {
        assert!(self.count.fetch_add(1, Relaxed) < self.capacity);
    }

    fn leave(&self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

/// A1; and a thread that gets a place observes what was done in it before. Kills
/// `admission_torn_take`.
#[test]
fn a1_one_place_has_one_owner_at_a_time() {
    explore_to(2, || {
        let admission = admission(1, 3, 0);
        let inside = Inside::new(1);
        let place = Arc::new(UnsafeCell::new(0));
        let visit = |slot: usize| {
            let admission = Arc::clone(&admission);
            let inside = Arc::clone(&inside);
            let place = Arc::clone(&place);
            move || {
                assert_eq!(admission.acquire(), Ok(()));
                inside.enter();
                // SAFETY: loom checks that no other thread is here.
                place.with_mut(|visits| unsafe { *visits += 1 });
                inside.leave();
                admission.release_from(slot);
            }
        };
        let others = [1, 2].map(|slot| spawn(visit(slot)));
        visit(0)();
        others.into_iter().for_each(|other| other.join().unwrap());
        // SAFETY: as above.
        place.with(|visits| assert_eq!(unsafe { *visits }, 3));
        assert_eq!(admission.depth(), 0);
        assert_eq!(admission.waiting(), 0);
    });
}

/// A1, with callers that do not wait. Kills `admission_torn_take`.
#[test]
fn a1_two_places_have_at_most_two_owners() {
    explore(|| {
        let admission = admission(2, 3, 0);
        let inside = Inside::new(2);
        let visit = |slot: usize| {
            let admission = Arc::clone(&admission);
            let inside = Arc::clone(&inside);
            move || {
                if admission.try_acquire().is_ok() {
                    inside.enter();
                    assert!(admission.depth() <= 2);
                    inside.leave();
                    admission.release_from(slot);
                }
            }
        };
        let others = [1, 2].map(|slot| spawn(visit(slot)));
        visit(0)();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(admission.depth(), 0);
    });
}

/// D4: a shutdown that waits for the places to be released is woken by the last release, or
/// observes it. Kills `admission_no_fence_watch`.
#[test]
fn d4_a_watcher_sees_a_released_place_or_is_notified() {
    explore(|| {
        let admission = admission(1, 1, 1);
        let worker = {
            let admission = Arc::clone(&admission);
            spawn(move || admission.release_from(0))
        };
        admission.watch();
        let seen = admission.queued() == 0;
        let notified = worker.join().unwrap();
        assert!(seen || notified);
    });
}
