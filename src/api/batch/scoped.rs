//! The batches of a scope: items, results and the function may borrow.

use std::{fmt, iter::FusedIterator};

use super::{home::InScope, iterator, state::Of, stream::Stream};
use crate::api::scope::Scope;

iterator! {
    /// The iterator of [`Scope::map`].
    ScopedMap<'s, 'scope, I, F, R> in InScope<'scope, false>, for 'scope, of 's
}

iterator! {
    /// The iterator of [`Scope::map_unordered`].
    ScopedMapUnordered<'s, 'scope, I, F, R> in InScope<'scope, false>, for 'scope, of 's
}

/// # Batches
///
/// As those of a [`Pool`](crate::Pool), but items, results and the function may borrow what
/// outlives the scope.
impl<'scope> Scope<'scope> {
    /// Applies `f` to every item; yields the results in the order of the items, as they come.
    ///
    /// Nothing is pulled before the first `next`, and then always on the consumer's thread: what
    /// was pulled and not yet yielded is at most the window: capacity + workers items, or what
    /// [`ScopedMap::window`] sets. If there come to be fewer of either half way, nothing more is
    /// pulled until that holds again. While no result is due that is ready, `next` brings in what
    /// is admitted, and blocks until a place is free or the result is there.
    ///
    /// A consumer that is no thread of this pool runs no item, as told at
    /// [`Pool::map`](crate::Pool::map), where sources that block and closed pools are told of, too.
    /// One on a thread of this pool runs the item that it waits for itself, if no worker has begun
    /// it, and if it has no result to wait for, the next one when the queue is full.
    ///
    /// Dropping the iterator half way cancels the items that have not started, and waits for
    /// nothing; the scope waits at its end for those that run, and re-raises the first panic of
    /// these. Of up to 64 such items, one place in the queue is free only when a worker comes to
    /// it, or when the scope ends; the others are at once.
    ///
    /// # Panics
    /// `next` panics with the panic of `f` in the place of that item's result; the iterator can be
    /// used further. The scope does not panic with it.
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
        ScopedMap {
            stream: self.stream(items.into_iter(), f, true),
        }
    }

    /// As [`map`](Self::map), but yields each result as soon as it is there.
    ///
    /// On a thread of this pool that has no finished result it runs the oldest item that no worker
    /// has begun.
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
        ScopedMapUnordered {
            stream: self.stream(items.into_iter(), f, false),
        }
    }

    fn stream<I: Iterator, F, R>(
        &self,
        items: I,
        f: F,
        is_ordered: bool,
    ) -> Stream<'_, I, Of<InScope<'scope, false>, I::Item, F, R>> {
        Stream::new(self.inner(), items, InScope(self.address()), f, is_ordered)
    }
}
