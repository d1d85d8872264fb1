//! Loom models of a wait for several conditions of different kinds. Each names the mutants that it
//! kills.

use std::sync::Arc;

use super::{Condition, Unparked, park_until};
use crate::{
    protocol::{
        completion::{
            event::{ANY, Event, FIRST},
            latch::{CountLatch, Latch},
        },
        model::{Slots, explore},
    },
    sync::{AtomicBool, Ordering, asymmetric::Fences, thread::spawn},
};

/// R2: a thread that waits for a result or the end of a job is unparked by the first of the two.
/// Kills `wait_announce_to_one`.
#[test]
fn r2_a_thread_that_waits_for_either_is_notified_of_the_one_that_comes() {
    for comes in [0, 1] {
        explore(move || {
            let shared = Arc::new((
                Event::new(Fences::PLAIN),
                AtomicBool::new(false),
                Latch::new(),
            ));
            let own = Arc::clone(&shared);
            let notifier = spawn(move || {
                let (event, is_there, latch) = &*own;
                if comes == 0 {
                    is_there.store(true, Ordering::Relaxed);
                    let _ = event.notify(FIRST);
                } else {
                    latch.end();
                }
            });
            let (event, is_there, latch) = &*shared;
            let is_there = || is_there.load(Ordering::Relaxed);
            let result = event.awaited(ANY, is_there);
            latch.await_end(|ended| {
                let unparked = park_until(&[&result, ended], &|| false, None);
                assert_eq!(unparked, Unparked::Met);
                assert_eq!((result.is_met(), ended.is_met()), (comes == 0, comes == 1));
            });
            notifier.join().unwrap();
        });
    }
}

/// R2: a notifier takes the announcement back without meeting the condition. The notifier that
/// meets it still unparks the thread. Kills `wait_announce_once`.
#[test]
fn r2_a_thread_that_is_unparked_in_vain_announces_itself_again() {
    explore(|| {
        let shared = Arc::new((
            Event::new(Fences::PLAIN),
            [(); 2].map(|()| AtomicBool::new(false)),
        ));
        let own = Arc::clone(&shared);
        let notifier = spawn(move || {
            let (event, are_there) = &*own;
            for (number, is_there) in are_there.iter().enumerate() {
                is_there.store(true, Ordering::Relaxed);
                let _ = event.notify(FIRST + number);
            }
        });
        let (event, [_, last]) = &*shared;
        let is_there = || last.load(Ordering::Relaxed);
        park_until(&[&event.awaited(ANY, is_there)], &|| false, None);
        notifier.join().unwrap();
    });
}

/// R3: a frame that is interrupted for a side entry waits again, and is unparked at the end of its
/// last job. Kills `wait_stay`.
#[test]
fn r3_a_wait_that_is_interrupted_begins_again() {
    explore(|| {
        let shared = Arc::new((CountLatch::new(), Slots::<1>::new()));
        shared.0.begin_near();
        let own = Arc::clone(&shared);
        let job = spawn(move || {
            let (latch, side_list) = &*own;
            latch.begin_far();
            side_list.push(0);
            latch.notify();
            latch.end_far();
        });
        let (latch, side_list) = &*shared;
        latch.await_end(|ended| {
            while !latch.is_met() {
                let unparked = park_until(&[ended], &|| side_list.has_work(), None);
                if unparked == Unparked::Interrupted && side_list.take().is_some() {
                    latch.end_near();
                }
            }
        });
        job.join().unwrap();
    });
}
