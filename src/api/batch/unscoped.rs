//! The batches of a pool: items, results and the function own what they need.

use super::{Map, MapUnordered, home::InPool, stream::Stream};
use crate::api::pool::Pool;

/// # Batches
///
/// A function over an iterator, in parallel, with back-pressure, which rayon's `par_bridge` lacks.
/// The iterator is pulled on the consumer's thread, only as fast as jobs are admitted. At most a
/// *window* of items is pulled and not yet yielded: capacity + workers items, or what
/// [`Map::window`] sets. If the capacity or the workers decrease meanwhile, nothing more is pulled
/// until that holds again.
///
/// **Off the pool nothing runs on the consumer's thread.** It waits for places and results, and
/// holds no place meanwhile. So it must hold no lock, borrow or permit that the function needs, and
/// the pool's workers must not wait for it. One exception: a worker of another pool runs an item
/// itself while every thread of this one is blocked.
///
/// **A source that blocks**, such as a socket or a channel, delays results that become ready during
/// a pull: one result for each item at most, if the source is slow. A result that is ready is
/// yielded before the next pull. Only after a pull that took less than 50 us may another item be
/// pulled first, while fewer items are under way than there are workers. If items depend on results
/// of earlier ones, set the window to 1.
///
/// **On a closed pool** the function runs on the consumer's thread. Neither `close` nor
/// `shutdown_now` ends a batch: it goes on there, alone. To end it with the pool, bound the
/// iterator: `items.take_while(|_| !pool.is_closed())`.
impl Pool {
    /// Applies `f` to every item, and yields the results in the order of the items, as they come.
    ///
    /// Nothing is pulled before the first `next`. While no due result is ready, `next` pulls and
    /// submits what is admitted, and blocks until a place is free or the result is there. A
    /// consumer on a thread of this pool runs the item that it waits for itself, if no worker has
    /// started it.
    ///
    /// Dropping the iterator half way cancels what has not started, and waits for nothing. Items
    /// that run then end, and their panics go to the pool's panic handler. When all items that have
    /// started have ended, the batch has dropped `f`.
    ///
    /// `f` owns what it captures. In a method, copy or clone the field before the closure: `|x| x *
    /// self.factor` borrows `self`, which is error E0521. Or use [`Scope::map`](crate::Scope::map),
    /// which may borrow:
    ///
    /// ```
    /// # use adaptive_pool::Pool;
    /// struct Scale {
    ///     factor: u64,
    ///     pool: Pool,
    /// }
    ///
    /// impl Scale {
    ///     fn owned(&self, items: Vec<u64>) -> Vec<u64> {
    ///         let factor = self.factor;
    ///         self.pool.map(items, move |x| x * factor).collect()
    ///     }
    ///
    ///     fn borrowed(&self, items: &[u64]) -> Vec<u64> {
    ///         self.pool.in_place_scope(|s| s.map(items, |x| x * self.factor).collect())
    ///     }
    /// }
    /// # let scale = Scale { factor: 3, pool: Pool::new().unwrap() };
    /// # assert_eq!(scale.owned(vec![1, 2]), [3, 6]);
    /// # assert_eq!(scale.borrowed(&[1, 2]), [3, 6]);
    /// ```
    ///
    /// # Panics
    /// If `f` panics for an item, `next` resumes the panic in place of that item's result; the
    /// iterator can be used further.
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
        let stream = Stream::new(&self.inner, items.into_iter(), InPool, f, true);
        Map { stream }
    }

    /// As [`map`](Self::map), but yields each result as soon as it is there.
    ///
    /// A consumer on a thread of this pool that has no finished result runs the oldest item that no
    /// worker has started.
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
        let stream = Stream::new(&self.inner, items.into_iter(), InPool, f, false);
        MapUnordered { stream }
    }
}
