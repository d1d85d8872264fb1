//! The batches of a scope: items, results and the function may borrow.

use super::{ScopedMap, ScopedMapUnordered, home::InScope, stream::Stream};
use crate::api::scope::Scope;

/// # Batches
///
/// As those of a [`Pool`](crate::Pool), but items, results and the function may borrow what
/// outlives the scope.
impl<'scope> Scope<'scope> {
    /// Applies `f` to every item, and yields the results in the order of the items, as they come.
    ///
    /// Nothing is pulled before the first `next`, and then always on the consumer's thread. At most
    /// a window of items is pulled and not yet yielded: capacity + workers items, or what
    /// [`ScopedMap::window`] sets. If the capacity or the workers decrease meanwhile, nothing more
    /// is pulled until that holds again. While no due result is ready, `next` submits what is
    /// admitted, and blocks until a place is free or the result is there.
    ///
    /// A consumer that is no thread of this pool runs no item: see [`Pool::map`](crate::Pool::map),
    /// also for sources that block and closed pools. A consumer on a thread of this pool runs the
    /// item that it waits for itself, if no worker has started it. If it waits for no result and
    /// the queue is full, it runs the next item itself.
    ///
    /// Dropping the iterator half way cancels the items that have not started, and waits for
    /// nothing. At its end, the scope waits for the items that run, and resumes their first panic.
    /// Of up to 64 cancelled items, one keeps its place in the queue until a worker reaches it, or
    /// the scope ends; the others give theirs back at once.
    ///
    /// # Panics
    /// If `f` panics for an item, `next` resumes the panic in place of that item's result; the
    /// iterator can be used further. The scope does not resume that panic.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let text = String::from("to be\nor not\nto be");
    /// let longest = pool.in_place_scope(|s| {
    ///     s.map(text.lines(), |line| line.split(' ').max_by_key(|word| word.len()))
    ///         .map(Option::unwrap)
    ///         .collect::<Vec<&str>>()
    /// });
    /// assert_eq!(longest, ["be", "not", "be"]);
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> ScopedMap<'_, 'scope, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'scope,
        F: Fn(I::Item) -> R + Send + Sync + 'scope,
        R: Send + 'scope,
    {
        let home = InScope(self.address());
        let stream = Stream::new(self.inner(), items.into_iter(), home, f, true);
        ScopedMap { stream }
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
    /// let words = vec!["to", "be", "or", "not"];
    /// let messages: usize = pool.scope(|s| s.map_unordered(&words, |word| word.len()).sum());
    /// assert_eq!(messages, 9);
    /// ```
    pub fn map_unordered<I, F, R>(
        &self,
        items: I,
        f: F,
    ) -> ScopedMapUnordered<'_, 'scope, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'scope,
        F: Fn(I::Item) -> R + Send + Sync + 'scope,
        R: Send + 'scope,
    {
        let home = InScope(self.address());
        let stream = Stream::new(self.inner(), items.into_iter(), home, f, false);
        ScopedMapUnordered { stream }
    }
}
