//! Loom model of a thread that waits for a pool while the pool becomes starved.

use std::sync::Arc;

use loom::{model, thread};

use super::*;

#[test]
fn r3_a_waiter_for_a_pool_is_notified_of_its_starvation() {
    model(|| {
        let starvation = Arc::new(Starvation::new());
        let pool = PoolId::of(Arc::as_ptr(&starvation));
        let other = Arc::clone(&starvation);
        let thread = thread::spawn(move || other.set(pool, true));
        let watch = starvation.watch(pool);
        while !watch.is_starved() {
            crate::sync::thread::park();
        }
        thread.join().unwrap();
    });
}
