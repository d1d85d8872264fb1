//! Permits: a place in the queue that the user holds, uses for a job, or gives back.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    api::{
        admit::Wait,
        handle::{self, JobHandle},
    },
    error::AdmissionError,
    metrics::Stamp,
    protocol::admission::{Refusal, WaiterId},
    runtime::{
        context::{Detached, JobContext},
        inner::Inner,
        job::{Entry, Holder, Place, Runnable},
        span, worker,
    },
};

/// A place in the queue, taken before the job's data need exist.
///
/// Dropping it gives the place back. A shutdown does not wait for it. If the permit of a pool that
/// has ended is used, its job runs at once on the calling thread. If that shutdown was one that
/// drops what has not started, the job is dropped.
///
/// It holds its place until it is used or dropped. A thread that waits for a second place, or for a
/// job that needs one, while it holds a permit may wait for itself.
///
/// # Examples
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let permit = pool.reserve().unwrap(); // waits while the queue is full
/// let data = vec![1u8; 1 << 20]; // only now the memory is needed
/// let sum = permit.submit(move || data.iter().map(|&b| b as u64).sum::<u64>());
/// assert_eq!(sum.join().unwrap(), 1 << 20);
/// ```
#[must_use = "a permit that is dropped gives its place back"]
#[derive(Debug)]
pub struct Permit<'p> {
    inner: &'p Arc<Inner>,
    /// Whether it holds a place. A permit that was granted on a full pool's own thread does not.
    placed: bool,
    /// Whether its job never runs where it is submitted.
    deferred: bool,
}

impl Permit<'_> {
    /// Submits the job. It cannot be refused, and does not wait. A shutdown that drops what has not
    /// started may drop it, as any other job. On a pool that has ended otherwise, it runs on the
    /// calling thread, before this returns.
    ///
    /// A permit that was granted on one of the pool's own threads while the queue was full holds no
    /// place. If it is used on a thread of the pool, its job runs in place, or is kept: see
    /// [Admission](crate::Pool#when-a-job-runs-on-top-of-another). On another thread its job is
    /// queued over the bound.
    pub fn submit<F, T>(mut self, f: F) -> JobHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let f = span::carried(f);
        let used = self.use_up();
        let (job, handle) = handle::pair(self.inner, used.place(), f);
        used.put_in(self.inner, job);
        handle
    }

    /// Submits a job without a handle. It cannot be refused, and does not wait: see
    /// [`submit`](Self::submit). A panic in the job goes to the pool's panic handler.
    pub fn spawn<F>(mut self, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        let since = self.inner.timing.stamp();
        let f = span::carried(f);
        let used = self.use_up();
        used.put_in(self.inner, Detached { since, f });
    }

    /// Uses up the permit, so that its drop gives nothing back. Returns what becomes of its job.
    fn use_up(&mut self) -> Used {
        let inner = self.inner;
        if !std::mem::take(&mut self.placed) {
            let entry = match worker::current_of(inner) {
                Some(current) if !self.deferred => Ok(current.refused()),
                _ => inner.overdraw(false, Holder::Queue),
            };
            return match entry {
                Ok(entry) => Used::Enters(entry),
                Err(_) if inner.life.is_discarding() => {
                    // Counted as admitted nevertheless, so that the sums agree.
                    inner.recorder.overdraws(Holder::Queue);
                    Used::Discarded(Place::Overdrawn(Holder::Queue))
                }
                Err(_) => Used::Enters(Entry::InPlace),
            };
        }
        if inner.admission.unhold() {
            Used::Enters(Entry::Queued)
        } else if inner.life.is_discarding() {
            Used::Discarded(Place::Queue)
        } else {
            inner.admission.release_unused();
            Used::Enters(Entry::InPlace)
        }
    }
}

/// What becomes of the job of a used permit.
enum Used {
    Enters(Entry),
    /// The pool has ended, and drops what has not started.
    Discarded(Place),
}

impl Used {
    fn place(&self) -> Place {
        match self {
            Self::Enters(entry) => entry.place(),
            Self::Discarded(place) => *place,
        }
    }

    fn put_in<R: Runnable<Inner> + 'static>(self, inner: &Inner, runnable: R) {
        match self {
            Self::Enters(entry) => inner.put_in(entry, runnable),
            Self::Discarded(place) => runnable.discard(&JobContext::here(inner), place),
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.placed && !self.inner.is_inherited() {
            let ended = self.inner.admission.release_held();
            self.inner.check_drained(ended);
        }
    }
}

/// The future of [`Pool::reserve_async`].
pub(crate) struct ReserveAsync<'p> {
    inner: &'p Arc<Inner>,
    deferred: bool,
    /// Its place in the line, while it waits.
    waiting: Option<WaiterId>,
    /// When it began to wait, while that is counted. This may be before it has joined the line: a
    /// poll calls the user's code, which may panic.
    since: Option<Stamp>,
}

impl<'p> ReserveAsync<'p> {
    pub(crate) fn new(inner: &'p Arc<Inner>, deferred: bool) -> Self {
        Self {
            inner,
            deferred,
            waiting: None,
            since: None,
        }
    }
}

impl<'p> Future for ReserveAsync<'p> {
    type Output = Result<Permit<'p>, AdmissionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let inner = this.inner;
        let deferred = this.deferred;
        let permit = |placed| {
            Poll::Ready(Ok(Permit {
                inner,
                placed,
                deferred,
            }))
        };
        if this.since.is_none() {
            match inner.admission.try_acquire_held() {
                Ok(()) => return permit(true),
                // A deferred permit does not wait.
                Err(Refusal::Full) if deferred => return permit(false),
                // Before it joins the line: the recorder has to know of a wait first.
                Err(Refusal::Full) => this.since = Some(inner.timing.begins_to_wait()),
                Err(Refusal::Closed) => {
                    inner.recorder.rejected(AdmissionError::Closed);
                    return Poll::Ready(Err(AdmissionError::Closed));
                }
            }
        }
        let polled = inner.admission.poll_acquire_held(&mut this.waiting, cx);
        if let Poll::Ready(outcome) = &polled {
            if let Some(since) = this.since.take() {
                inner.timing.has_waited(since, outcome.is_ok());
            }
        }
        match polled {
            Poll::Ready(Ok(())) => permit(true),
            Poll::Ready(Err(reason)) => {
                inner.recorder.rejected(reason);
                Poll::Ready(Err(reason))
            }
            // A thread of the pool that blocks on this future might wait for itself.
            Poll::Pending if worker::index_in(inner).is_some() => {
                this.leave();
                permit(false)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl ReserveAsync<'_> {
    fn leave(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            if let Some(ended) = self.inner.admission.abandon(waiting) {
                self.inner.check_drained(ended);
            }
        }
        if self.since.take().is_some() {
            self.inner.timing.waits_no_more();
        }
    }
}

impl Drop for ReserveAsync<'_> {
    fn drop(&mut self) {
        // If it was granted a place in the meantime, the next in the line gets that.
        if !self.inner.is_inherited() {
            self.leave();
        }
    }
}

impl Inner {
    /// Takes a place that is held. On one of the pool's own threads, and for a deferred job, it may
    /// return a permit without a place.
    pub(crate) fn reserve(self: &Arc<Self>, wait: Wait) -> Result<Permit<'_>, AdmissionError> {
        let deferred = matches!(wait, Wait::Deferred);
        let granted = |placed| Permit {
            inner: self,
            placed,
            deferred,
        };
        match (self.admission.try_acquire_held(), wait) {
            (Ok(()), _) => Ok(granted(true)),
            (Err(Refusal::Full), Wait::Deferred) => Ok(granted(false)),
            (Err(Refusal::Full), Wait::Until(_) | Wait::Forever) => {
                // A thread of the pool does not wait for a place: it might wait for itself.
                if worker::index_in(self).is_some() {
                    return Ok(granted(false));
                }
                let entry = self.wait_for_place(wait.deadline(), true, None);
                entry.map(|entry| granted(matches!(entry, Entry::Queued)))
            }
            (Err(refusal), _) => Err(refusal.into()),
        }
        .inspect_err(|&reason| self.recorder.rejected(reason))
    }
}
