//! Batches: results of a function over an iterator, pulled only as fast as admission allows.
//!
//! The iterator is pulled on the consumer's thread, one item ahead of the places that are won: nobody
//! holds a place while he pulls, since what he pulls from may be another batch that needs one.
//! A job of `map` and `map_unordered` has a handle, so it can be cancelled, and claimed by a consumer that is a worker.
//! No shutdown drops it: the consumer waits for it.

use std::{
    collections::VecDeque,
    fmt,
    iter::{Fuse, FusedIterator},
    panic::resume_unwind,
    sync::{Arc, Condvar, Mutex},
};

use crate::{
    admission::Refusal, error::JobError, handle::JobHandle, pool::Pool, submit::Permit, sync::lock,
    worker,
};

/// An iterator, and what is done with its items.
struct Source<'p, I: Iterator, F> {
    pool: &'p Pool,
    items: Fuse<I>,
    /// Pulled, and without a place so far.
    staged: Option<I::Item>,
    f: Arc<F>,
    /// How many items may have been pulled and not yielded.
    ahead: usize,
}

/// What becomes of the next item.
enum Step<'p, T> {
    Submit(Permit<'p>, T),
    /// The pool is closed: the consumer's own thread is what there is.
    Here(T),
    /// First a result has to be yielded, or there is no item left.
    Yield,
}

impl<'p, I: Iterator, F> Source<'p, I, F> {
    fn new(pool: &'p Pool, items: I, f: F) -> Self {
        let capacity = usize::try_from(pool.inner.admission.capacity()).unwrap_or(usize::MAX);
        Self {
            pool,
            items: items.fuse(),
            staged: None,
            f: Arc::new(f),
            ahead: capacity.saturating_add(pool.inner.settings.workers_max),
        }
    }

    /// The next item and a place for it, when the results of `submitted` were not yielded yet. Waits
    /// for a place only if there is no result to wait for.
    fn step(&mut self, submitted: usize) -> Step<'p, I::Item> {
        if submitted >= self.ahead {
            return Step::Yield;
        }
        let Some(item) = self.staged.take().or_else(|| self.items.next()) else {
            return Step::Yield;
        };
        let permit = match self.pool.inner.peek_reserve() {
            Err(Refusal::Full) if submitted == 0 => self.pool.reserve().ok(),
            Err(Refusal::Closed) if submitted == 0 => None,
            Ok(permit) => Some(permit),
            Err(_) => {
                self.staged = Some(item);
                return Step::Yield;
            }
        };
        match permit {
            Some(permit) => Step::Submit(permit, item),
            None => Step::Here(item),
        }
    }

    /// Given the items of which the results were not yielded.
    fn size_hint(&self, submitted: usize) -> (usize, Option<usize>) {
        let (least, most) = self.items.size_hint();
        let pulled = submitted + usize::from(self.staged.is_some());
        (
            least.saturating_add(pulled),
            most.and_then(|most| most.checked_add(pulled)),
        )
    }
}

/// The result of a job of a batch, in its consumer's place.
fn yielded<R>(result: Result<R, JobError>) -> R {
    match result {
        Ok(result) => result,
        Err(JobError::Panicked(payload)) => resume_unwind(payload),
        Err(JobError::Cancelled) => unreachable!("a batch cancels its jobs when it is dropped"),
    }
}

/// The iterator of [`Pool::map`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Map<'p, I: Iterator, F, R: 'static> {
    source: Source<'p, I, F>,
    pulled: VecDeque<JobHandle<R>>,
}

impl<I, F, R> Iterator for Map<'_, I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            match self.source.step(self.pulled.len()) {
                Step::Yield => break,
                Step::Here(item) => return Some((self.source.f)(item)),
                Step::Submit(permit, item) => {
                    let f = Arc::clone(&self.source.f);
                    let handle = permit.submit_kept(move || f(item));
                    self.pulled.push_back(handle.cancel_on_drop());
                }
            }
        }
        Some(yielded(self.pulled.pop_front()?.join()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.source.size_hint(self.pulled.len())
    }
}

impl<I, F, R> FusedIterator for Map<'_, I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
}

impl<I: Iterator, F, R> fmt::Debug for Map<'_, I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("pulled", &self.pulled.len())
            .finish_non_exhaustive()
    }
}

/// The numbers of the jobs that have ended, in the order in which they did.
#[derive(Debug, Default)]
struct Finished {
    numbers: Mutex<VecDeque<usize>>,
    one_more: Condvar,
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

/// The iterator of [`Pool::map_unordered`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct MapUnordered<'p, I: Iterator, F, R: 'static> {
    source: Source<'p, I, F>,
    /// By number; the ones in front that were yielded are gone.
    pulled: VecDeque<Option<JobHandle<R>>>,
    /// The number of the first in `pulled`, and how many were not yielded.
    first: usize,
    waiting: usize,
    finished: Arc<Finished>,
}

impl<I: Iterator, F, R> MapUnordered<'_, I, F, R> {
    /// The handle of the next job to yield; waits for it if `waiting` is not zero.
    fn next_finished(&mut self) -> Option<JobHandle<R>> {
        if self.waiting == 0 {
            return None;
        }
        let mut numbers = lock(&self.finished.numbers);
        let handle = loop {
            if let Some(number) = numbers.pop_front() {
                // One that was yielded before it could be told that it has ended is not there.
                let slot = number.checked_sub(self.first);
                if let Some(handle) = slot.and_then(|slot| self.pulled.get_mut(slot)?.take()) {
                    break handle;
                }
            } else if worker::is_worker() {
                // A worker must not wait for a queue that it should empty: it takes the oldest, and
                // runs it if it has not started.
                break self.pulled.iter_mut().find_map(Option::take)?;
            } else {
                numbers = self
                    .finished
                    .one_more
                    .wait(numbers)
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        };
        drop(numbers);
        self.waiting -= 1;
        while let Some(None) = self.pulled.front() {
            self.pulled.pop_front();
            self.first += 1;
        }
        Some(handle)
    }
}

impl<I, F, R> Iterator for MapUnordered<'_, I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            match self.source.step(self.waiting) {
                Step::Yield => break,
                Step::Here(item) => return Some((self.source.f)(item)),
                Step::Submit(permit, item) => {
                    let f = Arc::clone(&self.source.f);
                    let tell = Tell {
                        finished: Arc::clone(&self.finished),
                        number: self.first + self.pulled.len(),
                    };
                    let handle = permit.submit_kept(move || {
                        let _tell = tell;
                        f(item)
                    });
                    self.pulled.push_back(Some(handle.cancel_on_drop()));
                    self.waiting += 1;
                }
            }
        }
        Some(yielded(self.next_finished()?.join()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.source.size_hint(self.waiting)
    }
}

impl<I: Iterator, F, R> fmt::Debug for MapUnordered<'_, I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered")
            .field("pulled", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// # Batches
///
/// A function over an iterator, in parallel, with back-pressure: what rayon's `par_bridge` does not
/// have. The iterator is pulled on the consumer's thread, only as fast as jobs are admitted; what was
/// pulled and not yet yielded is at most capacity + workers items. On a closed pool the function runs
/// on the consumer's thread.
impl Pool {
    /// Applies `f` to every item; yields the results in the order of the items, as they come.
    ///
    /// Nothing is pulled before the first `next`. Each `next` pulls and submits what is admitted at
    /// once, and then blocks until the result that is due is there. Dropping the iterator half way
    /// cancels what has not started, and waits for nothing.
    ///
    /// # Panics
    /// `next` panics with the panic of `f` in the place of that item's result; the iterator can be
    /// used further.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let lines = "3 1\n4 1\n5 x\n".lines().map(String::from);
    /// let sums: Result<Vec<i32>, _> = pool
    ///     .map(lines, |line| line.split(' ').map(str::parse::<i32>).sum::<Result<i32, _>>())
    ///     .collect(); // stops at the first error, and cancels the rest
    /// assert!(sums.is_err());
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> Map<'_, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        Map {
            source: Source::new(self, items.into_iter(), f),
            pulled: VecDeque::new(),
        }
    }

    /// As [`map`](Self::map), but yields each result as soon as it is there.
    ///
    /// On a worker of the pool that has no finished result it yields the oldest, and runs it itself if it
    /// has not started.
    ///
    /// # Panics
    /// As [`map`](Self::map).
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let mut squares: Vec<u32> = pool.map_unordered(1..=4, |x| x * x).collect();
    /// squares.sort();
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// ```
    pub fn map_unordered<I, F, R>(&self, items: I, f: F) -> MapUnordered<'_, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        MapUnordered {
            source: Source::new(self, items.into_iter(), f),
            pulled: VecDeque::new(),
            first: 0,
            waiting: 0,
            finished: Arc::new(Finished::default()),
        }
    }

    /// Applies `f` to every item, and returns when all are done. Both may borrow.
    ///
    /// The items are pulled on the calling thread, which runs one itself whenever the queue is full.
    ///
    /// # Panics
    /// With the first panic of `f`, after everything that was begun has ended. Once it was seen nothing
    /// more is begun.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let words = vec!["to", "be", "or", "not"];
    /// let letters = AtomicUsize::new(0);
    /// pool.for_each(&words, |word| { letters.fetch_add(word.len(), Ordering::Relaxed); });
    /// assert_eq!(letters.into_inner(), 9);
    /// ```
    pub fn for_each<I, F>(&self, items: I, f: F)
    where
        I: IntoIterator,
        I::Item: Send,
        F: Fn(I::Item) + Sync,
    {
        let f = &f;
        self.in_place_scope(|scope| {
            for item in items {
                if scope.has_panicked() {
                    break;
                }
                scope.spawn(move |_| f(item));
            }
        });
    }
}
