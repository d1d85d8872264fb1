//! Loom models of the event. Each names the mutants that it kills.

use std::sync::Arc;

use super::{ANY, Event, FIRST, Mark};
use crate::{
    protocol::{model::explore, wait::park_until},
    sync::{AtomicBool, Ordering, asymmetric::Fences, thread::spawn},
};

const RESULT: Mark = FIRST;

fn await_that(event: &Event, mark: Mark, is_there: &AtomicBool) {
    let is_there = || is_there.load(Ordering::Relaxed);
    park_until(&[&event.awaited(mark, is_there)], &|| false, None);
}

/// R2: a consumer that waits for a result is unparked by the thread that publishes it, or observes
/// it. Kills `event_no_fence_set`, `event_no_fence_wait` and `event_wake_unseen`.
#[test]
fn r2_a_waiter_for_a_result_is_notified_of_it() {
    explore(|| {
        let shared = Arc::new((Event::new(Fences::PLAIN), AtomicBool::new(false)));
        let own = Arc::clone(&shared);
        let leaves = spawn(move || {
            let (event, is_there) = &*own;
            is_there.store(true, Ordering::Relaxed);
            let _ = event.notify(RESULT);
        });
        let (event, is_there) = &*shared;
        await_that(event, RESULT, is_there);
        leaves.join().unwrap();
    });
}

/// R2: a consumer waits twice, for two threads that publish one result each, and may be woken for
/// the other result. Kills the same mutants, and `event_withdraw_late`.
#[test]
fn r2_a_waiter_that_waits_again_is_notified_again() {
    explore(|| {
        let shared = Arc::new((
            Event::new(Fences::PLAIN),
            [(); 2].map(|()| AtomicBool::new(false)),
        ));
        let leaves = [0, 1].map(|number| {
            let own = Arc::clone(&shared);
            spawn(move || {
                own.1[number].store(true, Ordering::Relaxed);
                let _ = own.0.notify(RESULT + number);
            })
        });
        let (event, are_there) = &*shared;
        for is_there in are_there {
            await_that(event, ANY, is_there);
        }
        for leave in leaves {
            leave.join().unwrap();
        }
    });
}

/// Fault 14: a result that comes while the consumer leaves is observed by the consumer, or by the
/// thread that publishes the result. Kills `event_no_fence_leave`.
#[test]
fn r6_a_result_that_meets_a_leaving_consumer_is_seen_by_one_of_the_two() {
    explore(|| {
        let shared = Arc::new((Event::new(Fences::PLAIN), AtomicBool::new(false)));
        let own = Arc::clone(&shared);
        let leaves = spawn(move || {
            let (event, is_there) = &*own;
            is_there.store(true, Ordering::Relaxed);
            event.notify(RESULT)
        });
        let (event, is_there) = &*shared;
        event.leave();
        let is_seen = is_there.load(Ordering::Relaxed);
        let is_notified = leaves.join().unwrap();
        assert!(is_seen || is_notified);
    });
}
