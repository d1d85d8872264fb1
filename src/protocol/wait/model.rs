//! Loom models of a wait for several conditions of different kinds. Each names the mutants that it
//! kills.

use std::sync::Arc;

use super::{Condition, Unparked, park_until};
use crate::{
    protocol::{
        completion::{
            countdown::{Ending, Tally},
            event::{ANY, Event, FIRST},
        },
        model::{Slots, explore},
    },
    sync::{
        AtomicBool, Ordering,
        asymmetric::Fences,
        thread::{self, spawn},
    },
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
                Ending::new(),
            ));
            let (own, owner) = (Arc::clone(&shared), thread::current());
            let notifier = spawn(move || {
                let (event, is_there, ending) = &*own;
                if comes == 0 {
                    is_there.store(true, Ordering::Relaxed);
                    let _ = event.notify(FIRST);
                } else if ending.end().is_some() {
                    owner.unpark();
                }
            });
            let (event, is_there, ending) = &*shared;
            let is_there = || is_there.load(Ordering::Relaxed);
            let result = event.awaited(ANY, is_there);
            let ended = ending.for_owner(0);
            let unparked = park_until(&[&result, &ended], &|| false, None);
            assert_eq!(unparked, Unparked::Met);
            assert_eq!((result.is_met(), ended.is_met()), (comes == 0, comes == 1));
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
        let shared = Arc::new((Tally::new(), Slots::<1>::new()));
        let owner = thread::current();
        shared.0.begin_near();
        let own = Arc::clone(&shared);
        let job = spawn(move || {
            let (tally, side_list) = &*own;
            tally.begin_far();
            side_list.push(0);
            if tally.is_awaited() {
                owner.unpark();
            }
            if tally.end_far() {
                owner.unpark();
            }
        });
        let (tally, side_list) = &*shared;
        while !tally.is_met() {
            let unparked = park_until(&[tally], &|| side_list.has_work(), None);
            if unparked == Unparked::Interrupted && side_list.take().is_some() {
                tally.end_near();
            }
        }
        job.join().unwrap();
    });
}
