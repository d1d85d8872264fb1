//! Loom models of a chunk. Each names the mutants that it kills.

use std::sync::Arc;

use super::Chunk;
use crate::{
    protocol::model::explore,
    sync::thread::{spawn, yield_now},
};

type Numbers = Chunk<Box<usize>, Box<usize>>;

/// A chunk with the items 1 to `count`.
fn filled(count: usize) -> Arc<Numbers> {
    let chunk = Numbers::new(count);
    for number in 1..=count {
        // SAFETY: there is one feeder.
        unsafe { chunk.put(Box::new(number)) }.unwrap();
    }
    Arc::new(chunk)
}

fn claim(chunk: &Numbers) -> usize {
    chunk.claim().map_or(0, |(_, item)| *item)
}

/// Claims what is left, one by one, and returns the sum.
fn claim_all(chunk: &Numbers) -> usize {
    let items = std::iter::from_fn(|| chunk.claim());
    items.map(|(_, item)| *item).sum()
}

/// R1: an item is put in before the chunk is closed, and is claimed, or its feeder has it back.
/// Kills `chunk_relaxed_put` and `chunk_torn_close`.
#[test]
fn r1_an_item_that_meets_the_closing_is_claimed_or_given_back() {
    explore(|| {
        let chunk = Arc::new(Numbers::new(3));
        // SAFETY: no other thread puts anything in.
        unsafe { chunk.put(Box::new(1)) }.unwrap();
        let own = Arc::clone(&chunk);
        let puts = spawn(move || {
            let refused = [2, 3].map(|number| {
                // SAFETY: from now on this thread is the feeder.
                let refused = unsafe { own.put(Box::new(number)) };
                refused.err().map_or(0, |item| *item)
            });
            refused.into_iter().sum::<usize>()
        });
        let claimed = claim_all(&chunk);
        assert_eq!(claimed + puts.join().unwrap(), 6);
        assert_eq!(chunk.unclaimed(), 0);
    });
}

/// R1: two threads close the chunk and claim; each item is one thread's. Kills `chunk_torn_claim`.
#[test]
fn r1_each_item_is_claimed_once() {
    explore(|| {
        let chunk = filled(2);
        let own = Arc::clone(&chunk);
        let claims = spawn(move || claim(&own));
        let next = chunk.claim_if_next(0).map_or(0, |(_, item)| *item);
        let claimed = next + claim_all(&chunk);
        assert_eq!(claimed + claims.join().unwrap(), 3);
    });
}

/// A2: the consumer that leaves a batch claims all that is unclaimed. Kills `chunk_torn_rest`.
#[test]
fn a2_the_remaining_items_are_claimed_once() {
    explore(|| {
        let chunk = filled(3);
        let own = Arc::clone(&chunk);
        let claims = spawn(move || own.claim_rest().map(|(_, item)| *item).sum::<usize>());
        let claimed = claim_all(&chunk);
        assert_eq!(claimed + claims.join().unwrap(), 6);
        assert_eq!(chunk.claim_rest().len(), 0);
    });
}

/// R4: a result that the consumer and its thread race for is taken once. Kills `chunk_torn_take`.
#[test]
fn r4_a_result_that_two_threads_race_for_is_taken_once() {
    explore(|| {
        let chunk = filled(1);
        let (number, item) = chunk.claim().unwrap();
        let own = Arc::clone(&chunk);
        let runs = spawn(move || {
            // SAFETY: it was claimed above, and ends once.
            unsafe { own.end(number, item) };
            // SAFETY: it is taken in this way alone.
            unsafe { own.race_to_take(number) }.is_some()
        });
        // SAFETY: as above.
        let taken = unsafe { chunk.race_to_take(number) }.is_some();
        assert!(taken != runs.join().unwrap());
    });
}

/// R6: a thread that observes that an item has ended observes its result. Kills
/// `chunk_relaxed_end`.
#[test]
fn r6_the_end_of_an_item_publishes_its_result() {
    explore(|| {
        let chunk = filled(1);
        let own = Arc::clone(&chunk);
        let serves = spawn(move || {
            let (number, item) = own.claim().unwrap();
            // SAFETY: it has claimed it.
            unsafe { own.end(number, item) };
        });
        while !chunk.has_ended(0) {
            yield_now();
        }
        // SAFETY: it has ended, and is taken once.
        let result = unsafe { chunk.take(0) };
        assert_eq!(*result, 1);
        serves.join().unwrap();
    });
}

/// R2: while items are left, a job is in the queue that claims some, or a thread is about to put
/// one there. Kills `chunk_keep_offer`.
#[test]
fn r2_a_chunk_task_offers_the_remaining_items_again() {
    explore(|| {
        let chunk = filled(3);
        // The chunk task claims one, offers the rest, and never ends.
        let begun = claim(&chunk);
        assert!(chunk.is_to_be_offered());
        let own = Arc::clone(&chunk);
        let splits = spawn(move || {
            own.offer_taken();
            let claimed = claim(&own);
            (claimed, own.is_to_be_offered())
        });
        let (claimed, is_queued) = splits.join().unwrap();
        assert_eq!(is_queued, begun + claimed < 6);
    });
}
