//! The guard in each job, and the job's first and last steps.
//!
//! A job is a closure that owns a guard. Whatever becomes of the closure, the guard is dropped, and
//! its drop reports to the settler how the delivery ended:
//!
//! - the handler returned: done, or failed;
//! - the handler panicked: failed, with the panic's text, and the panic continues into the pool;
//! - the closure was dropped before it ran (cancelled, or the pool shut down): given back.
//!
//! So cancellation and shutdown need no code of their own, and a message cannot be forgotten.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use crate::{failure::Failure, job::Job, lease::Lease, shared::Shared};

/// How a delivery ended, in this process.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Failed(Failure),
    /// It did not start.
    GivenBack,
    /// It did not start, since its lease was over.
    LeaseOver,
    /// It has crashed too often, and does not start again.
    Crashed(u64),
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) lease: Arc<Lease>,
    pub(crate) outcome: Outcome,
}

pub(crate) struct Guard {
    lease: Arc<Lease>,
    shared: Arc<Shared>,
    outcome: Outcome,
}

impl Guard {
    pub(crate) fn new(shared: &Arc<Shared>, lease: Arc<Lease>) -> Self {
        Self {
            lease,
            shared: Arc::clone(shared),
            outcome: Outcome::GivenBack,
        }
    }

    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The job's body.
    pub(crate) fn run(self) {
        if self.shared.stop.is_draining() {
            return self.end(Outcome::GivenBack);
        }
        // The machine has slept: another one has the message by now.
        if self.lease.age() >= self.shared.lease {
            return self.end(Outcome::LeaseOver);
        }
        let job = Job::new(&self.lease);
        match catch_unwind(AssertUnwindSafe(|| (self.shared.handler)(&job))) {
            Ok(Ok(())) => self.end(Outcome::Done),
            Ok(Err(failure)) => self.end(Outcome::Failed(failure)),
            Err(payload) => {
                let text = format!("panicked: {}", panic_text(payload.as_ref()));
                self.end(Outcome::Failed(Failure::again(text)));
                // The pool counts it like any panic.
                resume_unwind(payload);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::GivenBack);
        let lease = Arc::clone(&self.lease);
        // After the worker's end there is no settler: the lease expires.
        let _ = self.shared.ended.send(Ended { lease, outcome });
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "with a payload that is not a string"
    }
}
