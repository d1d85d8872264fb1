//! How far a worker has stopped, and why it had to.
//!
//! The states follow each other and never go back: working, stopping (no more fetches), draining
//! (no more starts). A handler that finds the process unfit makes the worker stop by itself.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::failure::Failure;

pub(crate) struct Stop {
    stopping: watch::Sender<bool>,
    draining: AtomicBool,
    unfit: watch::Sender<Option<Failure>>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            stopping: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            unfit: watch::Sender::new(None),
        }
    }

    /// Ends the fetches.
    pub(crate) fn begin(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits for [`begin`](Self::begin).
    pub(crate) async fn begun(&self) {
        // The sender is part of self, so the channel stays open.
        let _ = self.stopping.subscribe().wait_for(|stop| *stop).await;
    }

    /// Keeps every job that has not started from its start.
    pub(crate) fn drain(&self) {
        // Pairs with the load in is_draining: no job starts after its cancellation.
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Records that no job can succeed in this process. The first failure stays.
    pub(crate) fn set_unfit(&self, failure: Failure) {
        self.unfit.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
    }

    /// Waits for [`set_unfit`](Self::set_unfit).
    pub(crate) async fn unfit(&self) {
        let _ = self.unfit.subscribe().wait_for(Option::is_some).await;
    }

    pub(crate) fn take_unfit(&self) -> Option<Failure> {
        self.unfit.send_replace(None)
    }
}
