//! How the end of work is published and awaited: of one job, of all jobs of a frame, of the next item of a batch.

pub(crate) mod countdown;
pub(crate) mod event;
pub(crate) mod task_state;

use std::task::Waker;

use crate::sync::{thread::Thread, unwind::quietly};

/// How a waiter is woken.
#[derive(Debug)]
pub(crate) enum Wake {
    Thread(Thread),
    Task(Waker),
}

impl Wake {
    /// Never called under a lock: a waker is the user's code. Its panic is dropped.
    pub(crate) fn wake(self) {
        match self {
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(waker) => quietly(|| waker.wake()),
        }
    }
}
