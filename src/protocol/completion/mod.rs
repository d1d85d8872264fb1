//! Completion: how the end of one job, of all jobs of a frame, or of the next item of a batch is
//! published and awaited.

pub(crate) mod event;
pub(crate) mod latch;
pub(crate) mod task_state;

use std::task::Waker;

use crate::sync::{lock_order::assert_none_held, thread::Thread, unwind::quietly};

/// The way to wake a waiter.
#[derive(Debug)]
pub(crate) enum Wake {
    Thread(Thread),
    Task(Waker),
}

impl Wake {
    /// Wakes the waiter. Never called under a lock: a waker is user code. Its panic is dropped.
    pub(crate) fn wake(self) {
        assert_none_held();
        match self {
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(waker) => quietly(|| waker.wake()),
        }
    }
}
