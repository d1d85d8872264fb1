//! The iterator of [`Pool::map`]: results in the order of the items.

use std::{collections::VecDeque, fmt, iter::FusedIterator, sync::Arc};

use super::{Door, Lane, Outcome, Stream, outcome, stream};
use crate::{handle::JobHandle, pool::Pool, submit::Permit};

/// The iterator of [`Pool::map`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Map<'p, I: Iterator, F, R: 'static> {
    stream: Stream<I, Ordered<'p, F, R>>,
}

/// Jobs with handles, the oldest in front.
struct Ordered<'p, F, R: 'static> {
    door: Door<'p, F>,
    jobs: VecDeque<JobHandle<R>>,
}

impl<'p, I: Iterator, F, R> Map<'p, I, F, R> {
    pub(super) fn new(pool: &'p Pool, items: I, f: F) -> Self {
        let lane = Ordered {
            door: Door::new(pool, f),
            jobs: VecDeque::new(),
        };
        Self {
            stream: Stream::new(&pool.inner, items, lane),
        }
    }
}

impl<F, R> Ordered<'_, F, R> {
    fn submit<T>(&mut self, permit: Permit<'_>, item: T)
    where
        T: Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Send,
    {
        let f = Arc::clone(&self.door.f);
        let handle = permit.submit_kept(move || f(item));
        self.jobs.push_back(handle.cancel_on_drop());
    }
}

impl<T, F, R> Lane<T> for Ordered<'_, F, R>
where
    T: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn offer(&mut self, item: T) -> Result<(), T> {
        let Some(permit) = self.door.try_permit() else {
            return Err(item);
        };
        self.submit(permit, item);
        Ok(())
    }

    fn insist(&mut self, item: T) -> Option<R> {
        let Some(permit) = self.door.permit() else {
            return Some((self.door.f)(item));
        };
        self.submit(permit, item);
        None
    }

    fn take(&mut self) -> Outcome<R> {
        match self.jobs.pop_front() {
            Some(job) => outcome(job.join()),
            None => unreachable!("a job is due"),
        }
    }
}

stream!(Map<'p, I, F, R> where {
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
});
