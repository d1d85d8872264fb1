//! A pool that has ended keeps no value of the user (D2).
mod support;

use std::sync::Arc;

use adaptive_pool::Pool;
use support::*;

const ROUNDS: usize = if cfg!(miri) { 2 } else { 100 };

/// A dropped batch leaves a tombstone in the queue, and the worker that is woken for it may find
/// the pool stopped.
#[test]
fn d2_the_closure_of_a_dropped_batch_does_not_outlive_the_shutdown() {
    watched(|| {
        for _ in 0..ROUNDS {
            let pool = Pool::builder().workers(1).capacity(2).build().unwrap();
            let closure = Arc::new(());
            let own = Arc::clone(&closure);
            let mut results = pool.map(0..20, move |item| (Arc::strong_count(&own), item).1);
            assert_eq!(results.next(), Some(0));
            wait_until(|| pool.metrics().workers_idle == 1);
            // The consumer submits one more item, and takes the results.
            assert_eq!(results.next(), Some(1));
            drop(results);
            pool.shutdown();
            assert_eq!(Arc::strong_count(&closure), 1);
        }
    });
}
