//! The feature `tracing`: a subscriber that panics does not harm the pool.
mod support;

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use adaptive_pool::Pool;
use support::*;
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_core::span::Current;

thread_local! {
    static FAILS: Cell<bool> = const { Cell::new(false) };
}

/// Panics on the threads that request it.
struct Moody;

impl Subscriber for Moody {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn current_span(&self) -> Current {
        assert!(!FAILS.get(), "in a subscriber");
        Current::none()
    }
}

fn fails<R>(f: impl FnOnce() -> R) {
    FAILS.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    FAILS.set(false);
    assert!(outcome.is_err());
}

#[test]
fn a2_a_subscriber_that_panics_keeps_no_place_and_no_scope_open() {
    // Process-wide: this is its only test.
    tracing::subscriber::set_global_default(Moody).unwrap();
    watched(|| {
        let pool = Pool::builder().workers(1).capacity(1).build().unwrap();
        let held = occupy(&pool);
        fails(|| pool.spawn(|| ()));
        fails(|| pool.try_submit(|| ()));
        fails(|| pool.install(|| ()));
        let permit = pool.reserve().unwrap();
        fails(|| permit.spawn(|| ()));
        let permit = pool.reserve().unwrap();
        fails(|| permit.submit(|| ()));
        pool.in_place_scope(|scope| fails(|| scope.spawn(|_| ())));
        assert_eq!(pool.metrics().depth, 0);
        held.release();
        pool.shutdown();
        assert_conserved(&pool);
    });
}
