//! Loom models of a chunk. Each names the mutants that it kills. The fences are plain ones here, on both
//! sides, as in the models of the deque.

use std::sync::Arc;

use super::Chunk;
use crate::{
    protocol::model::explore,
    sync::{
        AtomicBool, Ordering,
        asymmetric::Fences,
        thread::{spawn, yield_now},
    },
};

type Numbers = Chunk<Box<usize>, Box<usize>>;

/// A closed chunk with the items 1 to `count`.
fn closed(count: usize) -> Arc<Numbers> {
    let chunk = Numbers::new(count, Fences::PLAIN);
    for number in 1..=count {
        // SAFETY: there is one producer.
        unsafe { chunk.put(Box::new(number)) }.unwrap();
    }
    chunk.close();
    Arc::new(chunk)
}

/// Begins what is left, as the owner, and returns the sum.
fn begin_all(chunk: &Numbers) -> usize {
    // SAFETY: in each model one thread calls this.
    let items = std::iter::from_fn(|| unsafe { chunk.begin() });
    items.map(|(_, item)| *item).sum()
}

/// R1: an item is put in before the chunk is closed, and begun, or its producer has it back. Kills
/// `chunk_relaxed_put` and `chunk_torn_close`.
#[test]
fn r1_an_item_that_meets_the_closing_is_begun_or_given_back() {
    explore(|| {
        let chunk = Arc::new(Numbers::new(3, Fences::PLAIN));
        // SAFETY: no other thread puts anything in.
        unsafe { chunk.put(Box::new(1)) }.unwrap();
        let own = Arc::clone(&chunk);
        let puts = spawn(move || {
            let refused = [2, 3].map(|number| {
                // SAFETY: from now on this one is the producer.
                let refused = unsafe { own.put(Box::new(number)) };
                refused.err().map_or(0, |item| *item)
            });
            refused.into_iter().sum::<usize>()
        });
        chunk.close();
        let begun = begin_all(&chunk);
        assert_eq!(begun + puts.join().unwrap(), 6);
        assert_eq!(chunk.unbegun(), 0);
    });
}

/// R1: the last item is the owner's or another's. Kills `chunk_no_fence_begin`, `chunk_no_fence_claim` and
/// `chunk_keep_claim`.
#[test]
fn r1_who_begins_and_who_claims_share_out_what_there_is() {
    explore(|| {
        let chunk = closed(2);
        let own = Arc::clone(&chunk);
        let claims = spawn(move || own.claim().map_or(0, |(_, item)| *item));
        let begun = begin_all(&chunk);
        assert_eq!(begun + claims.join().unwrap(), 3);
    });
}

/// A2: who leaves a batch claims all that nobody has begun. Kills `chunk_no_fence_begin`,
/// `chunk_no_fence_claim` and `chunk_keep_claim`.
#[test]
fn a2_who_claims_the_rest_leaves_the_owner_what_it_has_begun() {
    explore(|| {
        let chunk = closed(3);
        let own = Arc::clone(&chunk);
        let claims = spawn(move || own.claim_rest().map(|(_, item)| *item).sum::<usize>());
        let begun = begin_all(&chunk);
        assert_eq!(begun + claims.join().unwrap(), 6);
        assert_eq!(chunk.claim_rest().len(), 0);
    });
}

/// R6: who sees that an item has ended sees its result. Kills `chunk_relaxed_end`.
#[test]
fn r6_who_sees_the_end_of_an_item_sees_its_result() {
    explore(|| {
        let chunk = closed(1);
        let own = Arc::clone(&chunk);
        let serves = spawn(move || {
            // SAFETY: it is the owner.
            let (number, item) = unsafe { own.begin() }.unwrap();
            // SAFETY: it has begun it.
            unsafe { own.end(number, item) };
        });
        while !chunk.has_ended(0) {
            yield_now();
        }
        // SAFETY: it has ended, and is taken once.
        let result = unsafe { chunk.take(0) };
        chunk.leave(1);
        assert_eq!(*result, 1);
        serves.join().unwrap();
    });
}

/// R2: while items are left, a job is in the queue that claims some, or somebody is about to put one there.
/// Kills `chunk_keep_offer`.
#[test]
fn r2_what_is_left_is_offered_again_by_who_takes_an_offer() {
    explore(|| {
        let chunk = closed(3);
        // A split_task was put into the queue before the owner begins.
        assert!(chunk.is_to_be_offered());
        let queued = Arc::new(AtomicBool::new(false));
        let (own, queue) = (Arc::clone(&chunk), Arc::clone(&queued));
        let helps = spawn(move || {
            own.offer_taken();
            let claimed = own.claim();
            if own.is_to_be_offered() {
                queue.store(true, Ordering::Relaxed);
            }
            claimed.map_or(0, |(_, item)| *item)
        });
        // The owner begins one, and is busy with it for ever.
        // SAFETY: it is the owner.
        let begun = unsafe { chunk.begin() }.map_or(0, |(_, item)| *item);
        let helped = helps.join().unwrap();
        assert_eq!(queued.load(Ordering::Relaxed), begun + helped < 6);
        drop(chunk);
    });
}
