//! The iterator of [`Pool::map_unordered`]: results as the jobs end, each of which tells so.

use std::{
    collections::VecDeque,
    fmt,
    iter::FusedIterator,
    sync::{Arc, Condvar, Mutex},
};

use super::{Door, Lane, Outcome, Stream, outcome, stream};
use crate::{handle::JobHandle, pool::Pool, submit::Permit, sync::lock, worker};

/// The iterator of [`Pool::map_unordered`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct MapUnordered<'p, I: Iterator, F, R: 'static> {
    stream: Stream<I, Unordered<'p, F, R>>,
}

/// Jobs with handles, and which of them have ended.
struct Unordered<'p, F, R: 'static> {
    door: Door<'p, F>,
    /// By number; the ones in front that were yielded are gone.
    jobs: VecDeque<Option<JobHandle<R>>>,
    /// The number of the first in `jobs`.
    first: usize,
    finished: Arc<Finished>,
}

/// The numbers of the jobs that have ended, in the order in which they did.
#[derive(Debug, Default)]
struct Finished {
    numbers: Mutex<VecDeque<usize>>,
    one_more: Condvar,
}

impl Finished {
    /// Blocks until a number is there. There is one consumer, so nobody else takes it.
    fn wait(&self) {
        let numbers = lock(&self.numbers);
        let waited = self
            .one_more
            .wait_while(numbers, |numbers| numbers.is_empty());
        drop(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

/// Tells that a job has ended, by returning or by a panic.
struct Tell {
    finished: Arc<Finished>,
    number: usize,
}

impl Drop for Tell {
    fn drop(&mut self) {
        lock(&self.finished.numbers).push_back(self.number);
        self.finished.one_more.notify_one();
    }
}

impl<'p, I: Iterator, F, R> MapUnordered<'p, I, F, R> {
    pub(super) fn new(pool: &'p Pool, items: I, f: F) -> Self {
        let lane = Unordered {
            door: Door::new(pool, f),
            jobs: VecDeque::new(),
            first: 0,
            finished: Arc::new(Finished::default()),
        };
        Self {
            stream: Stream::new(&pool.inner, items, lane),
        }
    }
}

impl<F, R> Unordered<'_, F, R> {
    fn submit<T>(&mut self, permit: Permit<'_>, item: T)
    where
        T: Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Send,
    {
        let f = Arc::clone(&self.door.f);
        let tell = Tell {
            finished: Arc::clone(&self.finished),
            number: self.first + self.jobs.len(),
        };
        let handle = permit.submit_kept(move || {
            let _tell = tell;
            f(item)
        });
        self.jobs.push_back(Some(handle.cancel_on_drop()));
    }

    /// The handle of the next job to yield. Waits until there is one.
    fn next_finished(&mut self) -> JobHandle<R> {
        loop {
            let number = lock(&self.finished.numbers).pop_front();
            if let Some(number) = number {
                // One that was yielded before it could be told that it has ended is not there.
                let slot = number.checked_sub(self.first);
                if let Some(job) = slot.and_then(|slot| self.jobs.get_mut(slot)?.take()) {
                    return job;
                }
            } else if let Some(job) = self.oldest_on_a_worker() {
                return job;
            } else {
                self.finished.wait();
            }
        }
    }

    /// A worker must not wait for a queue that it should empty: it takes the oldest, and runs it if it
    /// has not started. A worker of another pool does so when this one is stuck.
    fn oldest_on_a_worker(&mut self) -> Option<JobHandle<R>> {
        if worker::is_worker() {
            self.jobs.iter_mut().find_map(Option::take)
        } else {
            None
        }
    }
}

impl<T, F, R> Lane<T> for Unordered<'_, F, R>
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
        let job = self.next_finished();
        while let Some(None) = self.jobs.front() {
            self.jobs.pop_front();
            self.first += 1;
        }
        outcome(job.join())
    }
}

stream!(MapUnordered<'p, I, F, R> where {
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
});
