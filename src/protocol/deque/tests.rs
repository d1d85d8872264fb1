use std::{
    hint,
    sync::atomic::{AtomicBool, AtomicU8},
    thread,
    time::{Duration, Instant},
};

use super::*;

/// Failure 29: the numbers do not grow forever. When no value is left, they are what they were at
/// the mark, whatever was stolen.
#[test]
fn r1_the_numbers_go_back_to_the_mark() {
    for below in [0, 1, 200] {
        let (owner, thief) = new(Fences::PLAIN);
        for value in 0..below {
            owner.push(value);
        }
        let mark = owner.mark();
        for round in 0..1000 {
            for value in 0..1 + round % 7 {
                owner.push(value);
            }
            // A thief takes the values below the mark too, and first.
            let (mut own, mut stolen) = (0, 0);
            while round % 2 == 0 && thief.steal().success().is_some() {
                stolen += 1;
            }
            while owner.pop(mark).is_some() {
                own += 1;
            }
            assert_eq!(owner.mark(), mark, "{own} popped, {stolen} stolen");
        }
    }
}

/// The values above a number are gone: they were popped, or stolen and then cleared.
#[test]
fn r1_what_is_taken_back_is_there_or_all_above_was_stolen() {
    for above in 0..3 {
        for stolen in 0..=above + 1 {
            let (owner, thief) = new(Fences::PLAIN);
            let mark = owner.mark();
            (0..=above).for_each(|value| owner.push(value));
            (0..stolen).for_each(|value| assert_eq!(thief.steal(), Theft::Success(value)));
            if stolen <= above {
                while owner.pop(mark + 1).is_some() {}
            }
            owner.clear_stolen(mark + 1);
            assert_eq!(owner.mark(), mark + 1);
            let is_here = owner.retract_at_once(mark) || owner.retract(mark);
            assert_eq!((is_here, owner.mark()), (stolen == 0, mark));
            assert!(thief.is_empty());
        }
    }
}

/// A batch that a thief steals fits into the thief's own deque, however full that is. Values that
/// no thread takes are dropped.
#[test]
fn r1_what_is_stolen_into_a_full_deque_is_dropped_with_it() {
    let value = Arc::new(());
    for own in [0, 1, LENGTH - STEAL_BATCH, LENGTH - 1, LENGTH] {
        let (owner, thief) = new(Fences::PLAIN);
        let (into, _) = new(Fences::PLAIN);
        (0..3 * LENGTH).for_each(|_| owner.push(Arc::clone(&value)));
        (0..own).for_each(|_| into.push(Arc::clone(&value)));
        let first = thief.steal_batch(&into, |_, _| true).success();
        assert!(first.is_some());
        assert_eq!(into.mark(), own + STEAL_BATCH - 1);
        assert_eq!(thief.len(), 3 * LENGTH - STEAL_BATCH);
        assert_eq!(Arc::strong_count(&value), 1 + 3 * LENGTH + own);
        drop((owner, thief, into, first));
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

/// Races one owner with two thieves, until the owner's pops have gained and lost fences a thousand
/// times. Ends after a limited time if that does not happen.
#[test]
fn r1_each_value_is_taken_once_while_fences_come_and_go() {
    let fences = Fences::new(true);
    const CHANGES: u32 = if cfg!(miri) { 2 } else { 2000 };
    const ROUNDS: usize = if cfg!(miri) { 100 } else { 1_000_000 };
    const MOST: usize = 12;
    let takes: Vec<AtomicU8> = (0..ROUNDS * MOST).map(|_| AtomicU8::new(0)).collect();
    let take = |value: usize| takes[value].fetch_add(1, Ordering::Relaxed);
    let (owner, thief) = new::<usize>(fences);
    let is_over = AtomicBool::new(false);
    let steal = || {
        let (into, _) = new(fences);
        let mut pause = 0;
        while !is_over.load(Ordering::Relaxed) {
            let theft = if pause % 2 == 0 {
                thief.steal_batch(&into, |_, _| true)
            } else {
                thief.steal()
            };
            theft.success().map(take);
            while into.pop(0).map(take).is_some() {}
            pause = (pause + 1) % 300;
            (0..pause).for_each(|_| hint::spin_loop());
        }
    };
    let pushed = thread::scope(|scope| {
        scope.spawn(steal);
        scope.spawn(steal);
        let (mut next, mut changes) = (0, 0);
        let end = Instant::now() + Duration::from_secs(10);
        for round in 0..ROUNDS {
            let mark = owner.mark();
            for _ in 0..1 + round % MOST {
                owner.push(next);
                next += 1;
            }
            loop {
                let was_on = owner.fencing.is_on();
                let value = owner.pop(mark);
                changes += u32::from(owner.fencing.is_on() != was_on);
                if value.map(take).is_none() {
                    break;
                }
            }
            if changes >= CHANGES || Instant::now() > end {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        next
    });
    let taken = takes.into_iter().map(AtomicU8::into_inner);
    assert!(
        taken
            .enumerate()
            .all(|(value, takes)| takes == u8::from(value < pushed))
    );
}
