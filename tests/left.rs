//! What a pool that has ended keeps of the user's: nothing (D2).
mod support;

use std::sync::Arc;

use adaptive_pool::Pool;
use support::*;

const ROUNDS: usize = if cfg!(miri) { 2 } else { 100 };

/// What is left of a batch is a shell in the queue, and the worker that was woken for it may find that the pool has
/// stopped.
#[test]
fn d2_the_closure_of_a_batch_that_is_left_does_not_outlive_the_shutdown() {
    watched(|| {
        for _ in 0..ROUNDS {
            let pool = Pool::builder().workers(1).capacity(2).build().unwrap();
            let closure = Arc::new(());
            let own = Arc::clone(&closure);
            let mut results = pool.map(0..20, move |item| (Arc::strong_count(&own), item).1);
            assert_eq!(results.next(), Some(0));
            wait_until(|| pool.metrics().workers_idle == 1);
            // It brings one more, and takes what is there.
            assert_eq!(results.next(), Some(1));
            drop(results);
            pool.shutdown();
            assert_eq!(Arc::strong_count(&closure), 1);
        }
    });
}
