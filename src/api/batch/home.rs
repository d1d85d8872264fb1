//! Where the jobs of a batch go: into a pool's queue, or into a scope.

use std::any::Any;

use crate::{
    api::scope::ScopeRef,
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::Runnable,
        worker::{self, Current},
    },
};

/// The home of a batch's jobs, and what it does when they end.
pub(super) trait Home: Copy {
    /// Whether a scope waits for the jobs. No thread can take such a job back out of the queue.
    const IS_SCOPED: bool;

    /// Whether no consumer takes the results.
    const DISCARDS: bool;

    /// Ends a job that was pushed or offered, and has run. What it borrows may be gone after this.
    fn ended(self, context: &JobContext<'_>);

    /// Reports the panic of an item whose result no consumer takes, in a job that has not `ended`.
    fn panicked(self, inner: &Inner, payload: Box<dyn Any + Send>);
}

/// A home for jobs that borrow what outlives `'a`.
pub(super) trait HomeOf<'a>: Home + Send + Sync + 'a {
    /// Puts a job into the queue, in its turn. It runs before `'a` ends.
    fn push<J: Runnable<Inner> + 'a>(self, inner: &Inner, job: J);

    /// Puts a job where idle workers find it. It runs before `'a` ends.
    fn offer<J: Runnable<Inner> + 'a>(self, inner: &Inner, job: J);
}

/// The queue of submitted jobs.
#[derive(Clone, Copy)]
pub(super) struct InPool;

impl Home for InPool {
    const IS_SCOPED: bool = false;
    const DISCARDS: bool = false;

    fn ended(self, _: &JobContext<'_>) {}

    fn panicked(self, inner: &Inner, payload: Box<dyn Any + Send>) {
        inner.handle_panic(payload);
    }
}

impl HomeOf<'static> for InPool {
    fn push<J: Runnable<Inner> + 'static>(self, inner: &Inner, job: J) {
        inner.enqueue(Job::new(job));
    }

    fn offer<J: Runnable<Inner> + 'static>(self, inner: &Inner, job: J) {
        inner.offer(job);
    }
}

/// The jobs of a scope, with or without a consumer.
#[derive(Clone, Copy)]
pub(super) struct InScope<'scope, const DISCARDS: bool>(pub(super) ScopeRef<'scope>);

impl<const DISCARDS: bool> Home for InScope<'_, DISCARDS> {
    const IS_SCOPED: bool = true;
    const DISCARDS: bool = DISCARDS;

    fn ended(self, context: &JobContext<'_>) {
        // SAFETY: the scope has counted the job until now.
        unsafe { self.0.get() }.end_job(context);
    }

    fn panicked(self, _: &Inner, payload: Box<dyn Any + Send>) {
        // SAFETY: the scope counts the job that has run the item.
        unsafe { self.0.get() }.keep_panic(payload);
    }
}

impl<'scope, const DISCARDS: bool> HomeOf<'scope> for InScope<'scope, DISCARDS> {
    fn push<J: Runnable<Inner> + 'scope>(self, inner: &Inner, job: J) {
        // SAFETY: the caller is in the scope's body, or in a job that it counts.
        let scope = unsafe { self.0.get() };
        let current = worker::current_of(inner);
        scope.begin_job(current.map(Current::index));
        scope.push(inner, current, job);
    }

    fn offer<J: Runnable<Inner> + 'scope>(self, inner: &Inner, job: J) {
        self.push(inner, job);
    }
}
