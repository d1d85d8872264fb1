//! Pushing a job without a place from any thread: onto the caller's deque, or to the injectors.

use crate::runtime::{
    context::Overdrawn,
    inner::{Inner, Job},
    job::{Holder, Runnable},
    worker::{Current, current_of},
};

impl Inner {
    /// Enqueues a submitted job over the bound: into the deque of the thread that keeps it, or into
    /// an injector.
    pub(crate) fn enqueue_overdrawn<R: Runnable<Inner> + 'static>(&self, holder: Holder, job: R) {
        let job = Job::new(Overdrawn::<_, false> { holder, job });
        let current = match holder {
            Holder::Thread(_) => current_of(self),
            Holder::Queue => None,
        };
        self.pushed(match current.and_then(Current::local) {
            Some(local) => local.keep(job),
            None => self.queue.push(job),
        });
    }

    /// Offers a job without a place to idle workers, on behalf of a thread that is about to do
    /// something else.
    pub(crate) fn offer<J: Runnable<Inner> + 'static>(&self, job: J) {
        match current_of(self) {
            Some(current)
                if current.frame().is_null() && current.has_deques() && !current.is_joining() =>
            {
                // SAFETY: a `'static` job borrows nothing.
                self.wake_for_offer(unsafe { current.offering().push_structured(job) });
            }
            _ => self.wake_for(self.queue.push_structured(Job::new(job))),
        }
    }
}
