//! Batches: results of a function over an iterator, pulled only as fast as admission allows.
//!
//! The iterator is pulled on the consumer's thread, one item ahead of the places that are won: nobody
//! holds a place while he pulls, since what he pulls from may be another batch that needs one.
//! All share one loop, [`Stream::next`]; how an item becomes a job, and in which order the results come,
//! is a [`Lane`]. A job of `map` and `map_unordered` has a handle, so it can be cancelled, and claimed by
//! a consumer that is a worker. No shutdown drops it: the consumer waits for it.

mod extension;
mod ordered;
mod scoped;
mod unordered;

use std::{iter::Fuse, panic::resume_unwind, sync::Arc, thread};

pub use self::{
    extension::IteratorExt,
    ordered::Map,
    scoped::{ScopedMap, ScopedMapUnordered},
    unordered::MapUnordered,
};
use crate::{error::JobError, inner::Inner, pool::Pool, submit::Permit};

/// What an item leaves: its result, or the payload of its panic.
type Outcome<R> = thread::Result<R>;

/// How the items of a batch become jobs, and their results come back.
trait Lane<T> {
    type Output;

    /// Makes a job of the item, if there is a place for it.
    ///
    /// # Errors
    /// The item.
    fn offer(&mut self, item: T) -> Result<(), T>;

    /// Brings in an item that was refused, when no result is due. Waits for a place, or runs it here;
    /// its result, if there is no job to take it from.
    fn insist(&mut self, item: T) -> Option<Self::Output>;

    /// The next result; waits for it. Not to be called without a job that is due.
    fn take(&mut self) -> Outcome<Self::Output>;
}

/// An iterator, and the lane that its items take.
struct Stream<I: Iterator, L> {
    // Dropped first: what it cancels does not wait for the iterator's own drop.
    lane: L,
    items: Fuse<I>,
    /// Pulled, and without a place so far.
    staged: Option<I::Item>,
    /// How many are in the lane: of these no result was yielded.
    due: usize,
    /// How many items may have been pulled and not yielded.
    ahead: usize,
}

impl<I: Iterator, L> Stream<I, L> {
    fn new(inner: &Inner, items: I, lane: L) -> Self {
        let capacity = usize::try_from(inner.admission.capacity()).unwrap_or(usize::MAX);
        Self {
            lane,
            items: items.fuse(),
            staged: None,
            due: 0,
            ahead: capacity.saturating_add(inner.sleep.in_service()),
        }
    }

    fn next(&mut self) -> Option<L::Output>
    where
        L: Lane<I::Item>,
    {
        while self.due < self.ahead {
            let Some(item) = self.staged.take().or_else(|| self.items.next()) else {
                break;
            };
            if let Err(item) = self.lane.offer(item) {
                if self.due > 0 {
                    self.staged = Some(item);
                    break;
                }
                if let Some(result) = self.lane.insist(item) {
                    return Some(result);
                }
            }
            self.due += 1;
        }
        if self.due == 0 {
            return None;
        }
        let outcome = self.lane.take();
        self.due -= 1;
        Some(outcome.unwrap_or_else(|payload| resume_unwind(payload)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.items.size_hint();
        let pulled = self.due + usize::from(self.staged.is_some());
        (
            least.saturating_add(pulled),
            most.and_then(|most| most.checked_add(pulled)),
        )
    }
}

/// Implements what every iterator over a batch is, by its stream. The bounds are those of its `Iterator`.
macro_rules! stream {
    ($name:ident<$($lt:lifetime,)* I, F, R> where { $($bounds:tt)* }) => {
        impl<$($lt,)* I, F, R> Iterator for $name<$($lt,)* I, F, R>
        where
            I: Iterator,
            $($bounds)*
        {
            type Item = R;

            fn next(&mut self) -> Option<R> {
                self.stream.next()
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.stream.size_hint()
            }
        }

        // Each item leaves one result, if only a panic.
        impl<$($lt,)* I, F, R> ExactSizeIterator for $name<$($lt,)* I, F, R>
        where
            I: ExactSizeIterator,
            $($bounds)*
        {
        }

        impl<$($lt,)* I, F, R> FusedIterator for $name<$($lt,)* I, F, R>
        where
            I: Iterator,
            $($bounds)*
        {
        }

        impl<$($lt,)* I: Iterator, F, R> fmt::Debug for $name<$($lt,)* I, F, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("due", &self.stream.due)
                    .finish_non_exhaustive()
            }
        }
    };
}
use stream;

/// A pool, and the function that its jobs apply.
struct Door<'p, F> {
    pool: &'p Pool,
    f: Arc<F>,
}

impl<'p, F> Door<'p, F> {
    fn new(pool: &'p Pool, f: F) -> Self {
        Self {
            pool,
            f: Arc::new(f),
        }
    }

    /// A place, if there is one.
    fn try_permit(&self) -> Option<Permit<'p>> {
        self.pool.inner.peek_reserve().ok()
    }

    /// A place; waits for it. None if the pool is closed: the consumer's own thread is what there is.
    fn permit(&self) -> Option<Permit<'p>> {
        if self.pool.is_closed() {
            return None;
        }
        self.pool.reserve().ok()
    }
}

/// What has become of a job of a batch.
fn outcome<R>(result: Result<R, JobError>) -> Outcome<R> {
    match result {
        Ok(result) => Ok(result),
        Err(JobError::Panicked(payload)) => Err(payload),
        Err(JobError::Cancelled) => unreachable!("a batch cancels its jobs when it is dropped"),
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
        Map::new(self, items.into_iter(), f)
    }

    /// As [`map`](Self::map), but yields each result as soon as it is there.
    ///
    /// On a worker, of whatever pool, that has no finished result it yields the oldest; one of this pool runs it itself if it
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
        MapUnordered::new(self, items.into_iter(), f)
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
