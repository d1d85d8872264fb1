//! Spawns into a scope: how a job enters the pool.
//!
//! # Where a scope's job goes
//!
//! Onto the deque of the thread that spawns it, if that thread's stack has no wait, or its nearest
//! wait is for this scope. Only then can no other wait there take it. Otherwise the job goes into a
//! side list. That is the case if the spawn is made inside another scope or join nested in this
//! one. It is also the case on a thread that helps rayon and is no worker. Workers that wait for
//! nothing take jobs from the side list, and so does the thread that waits for this scope. The
//! scope of a worker of another pool uses the side list too: that worker runs the jobs if this pool
//! is starved. The scope of a thread of no pool runs nothing while it waits; its jobs go into the
//! injector.

use std::ptr;

use super::{Scope, ScopeRef};
use crate::{
    api::admit::Wait,
    error::SubmitError,
    metrics::Stamp,
    runtime::{
        context::{JobContext, Overdrawn},
        inner::{Inner, Job},
        job::{Ended, Entry, Holder, Place, Runnable},
        span::Origin,
        worker::{self, Current},
    },
};

/// A job of a scope.
pub(super) struct ScopeJob<'scope, F> {
    scope: ScopeRef<'scope>,
    /// When it got its place.
    since: Stamp,
    origin: Origin,
    f: F,
}

impl<'scope, F: FnOnce(&Scope<'scope>) + Send> Runnable<Inner> for ScopeJob<'scope, F> {
    #[inline]
    fn run(self, context: &JobContext<'_>, place: Place) -> Ended {
        let Self {
            scope,
            since,
            origin,
            f,
        } = self;
        // SAFETY: this job is counted until `end`.
        let scope = unsafe { scope.get() };
        let ended = scope.run_job(context, place, since, |scope| origin.enter(|| f(scope)));
        // The scope may be gone after this.
        scope.countdown.end(context.index());
        ended
    }

    fn frame(&self) -> *const () {
        self.scope.0.cast()
    }

    fn is_of_worker(&self, slot: usize) -> bool {
        // SAFETY: this job is counted, since it has not run.
        unsafe { self.scope.get() }.countdown.is_of(Some(slot))
    }

    /// Runs it: a scope waits for all its jobs, and cannot report that one was dropped.
    fn discard(self, context: &JobContext<'_>, place: Place) {
        context.inner.check_drained(self.run(context, place));
    }
}

impl<'scope> Scope<'scope> {
    /// Spawns a job on the general path.
    #[inline(never)]
    pub(super) fn spawn_aside<F>(
        &self,
        wait: Wait,
        origin: Origin,
        f: F,
    ) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        let inner = self.inner();
        let current = worker::current_of(inner);
        match inner.admit_structured(wait, current) {
            Ok(entry) => {
                self.enter(inner, current, entry, origin, f);
                Ok(())
            }
            Err(reason) => Err(SubmitError::new(reason, f)),
        }
    }

    /// Enters a job that found no place, and does not wait for one.
    #[inline(never)]
    pub(crate) fn enter_refused<F>(
        &self,
        inner: &Inner,
        current: Option<&Current>,
        origin: Origin,
        f: F,
    ) where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        match current.map(|current| (current, current.refused())) {
            Some((current, Entry::InPlace)) => self.run_in_place(current, f),
            Some((_, entry)) => self.enter(inner, current, entry, origin, f),
            None => self.enter(inner, None, Entry::InPlace, origin, f),
        }
    }

    /// Queues, runs or keeps a job that was admitted.
    fn enter<F>(&self, inner: &Inner, current: Option<&Current>, entry: Entry, origin: Origin, f: F)
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        match entry {
            Entry::Queued => {
                self.countdown.begin(current.map(Current::index));
                let since = inner.timing.stamp();
                self.push(inner, current, self.job(since, origin, f));
            }
            Entry::Overdrawn(holder) => {
                self.countdown.begin(current.map(Current::index));
                let job = self.job(inner.timing.stamp(), origin, f);
                self.push_overdrawn(inner, current, holder, job);
            }
            Entry::InPlace => match current {
                Some(current) => self.run_in_place(current, f),
                None => {
                    self.countdown.begin(None);
                    let job = self.job(inner.timing.stamp(), origin, f);
                    // SAFETY: the scope waits for the job before 'scope ends, and so does the
                    // borrower of the pool.
                    unsafe { inner.run_borrowing_outside(job, || None) };
                }
            },
        }
    }

    /// Runs a job that has no place, on the calling thread. Always inlined: on a full queue most
    /// jobs take this path.
    #[inline(always)]
    fn run_in_place<F>(&self, current: &Current, f: F)
    where
        F: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        let inner = current.inner();
        let since = inner.timing.stamp();
        let run = || self.run_job(current.context(), Place::None, since, f);
        inner.check_drained(current.inline().run(run));
    }

    /// Queues a job over the bound, which is already counted.
    fn push_overdrawn<J>(&self, inner: &Inner, current: Option<&Current>, holder: Holder, job: J)
    where
        J: Runnable<Inner> + 'scope,
    {
        inner.queue.count_overdrawn(1);
        let job = Overdrawn::<_, true> { holder, job };
        match holder {
            Holder::Thread(_) => self.push(inner, current, job),
            Holder::Queue => self.push_aside(inner, job),
        }
    }

    #[inline]
    pub(super) fn job<F>(&self, since: Stamp, origin: Origin, f: F) -> ScopeJob<'scope, F> {
        ScopeJob {
            scope: ScopeRef(self),
            since,
            origin,
            f,
        }
    }

    pub(crate) fn address(&self) -> ScopeRef<'scope> {
        ScopeRef(self)
    }

    /// Counts one more job, spawned by the thread of this slot.
    pub(crate) fn begin_job(&self, slot: Option<usize>) {
        self.countdown.begin(slot);
    }

    /// Counts a job as ended. The scope may be gone after this.
    pub(crate) fn end_job(&self, context: &JobContext<'_>) {
        self.countdown.end(context.index());
    }

    /// Queues a job that is already counted.
    pub(crate) fn push<J>(&self, inner: &Inner, current: Option<&Current>, job: J)
    where
        J: Runnable<Inner> + 'scope,
    {
        match current {
            Some(current)
                if current.has_deques() && self.is_nearest(current) && !current.is_joining() =>
            {
                self.push_own(current, job);
            }
            _ => self.push_aside(inner, job),
        }
    }

    /// Queues it where the scope's waiter and other workers take it: on the side list or in the
    /// injector.
    #[inline(never)]
    pub(super) fn push_aside<J>(&self, inner: &Inner, job: J)
    where
        J: Runnable<Inner> + 'scope,
    {
        // SAFETY: the scope waits for the job before 'scope ends; it is run even when the pool is
        // emptied.
        let job = unsafe { Job::borrowing(job) };
        inner.pushed(if self.countdown.takes_from_side() {
            let countdown = &self.countdown;
            let side_list = Some(&countdown.side_list);
            let pushed = inner.queue.push_to_side(countdown, side_list, job);
            countdown.notified_of_side();
            pushed
        } else {
            inner.queue.push_structured(job)
        });
    }

    /// Pushes it onto the calling thread's own deque. Always inlined, so that the closure is
    /// written in place.
    #[inline(always)]
    pub(super) fn push_own<J>(&self, current: &Current, job: J)
    where
        J: Runnable<Inner> + 'scope,
    {
        // SAFETY: as in `push_aside`.
        let offered = unsafe { current.offering().push_structured(job) };
        self.inner().offered(offered);
    }

    /// Whether this scope is the next frame for which the calling thread waits or will wait, apart
    /// from a join.
    #[inline]
    pub(super) fn is_nearest(&self, current: &Current) -> bool {
        let frame = current.frame();
        ptr::eq(frame, self.frame()) || frame.is_null() && current.may_push_for(self.frame())
    }

    pub(super) fn frame(&self) -> *const () {
        ptr::from_ref(self).cast()
    }
}
