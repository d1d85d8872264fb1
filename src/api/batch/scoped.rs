//! The batches of a scope: items, results and the closure may borrow.

use std::{any::Any, fmt, iter::FusedIterator};

use super::{Stream, consumer::Door, shared::Home, stream};
use crate::{
    api::scope::{Scope, ScopeRef},
    runtime::{
        context::JobContext,
        inner::Inner,
        job::Runnable,
        worker::{self, Current},
    },
};

/// The iterator of [`Scope::map`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct ScopedMap<'s, 'scope, I: Iterator, F, R> {
    stream: Stream<'s, I, ScopeRef<'scope>, F, R>,
}

/// The iterator of [`Scope::map_unordered`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct ScopedMapUnordered<'s, 'scope, I: Iterator, F, R> {
    stream: Stream<'s, I, ScopeRef<'scope>, F, R>,
}

impl<'scope> Home<'scope> for ScopeRef<'scope> {
    fn push_chunk_task<J: Runnable + 'scope>(&self, inner: &Inner, job: J) {
        // SAFETY: the caller is in the scope's body, or in a job that it counts.
        let scope = unsafe { self.get() };
        let current = worker::current_of(inner);
        scope.begin_job(current.map(Current::index));
        scope.push(inner, current, job);
    }

    fn push_split_task<J: Runnable + 'scope>(&self, inner: &Inner, job: J) {
        self.push_chunk_task(inner, job);
    }

    fn ended(&self, context: &JobContext<'_>) {
        // SAFETY: the job is counted until now.
        unsafe { self.get() }.end_job(context);
    }

    fn panicked(&self, _: &Inner, payload: Box<dyn Any + Send>) {
        // SAFETY: the scope counts the job that has run the item.
        unsafe { self.get() }.keep_panic(payload);
    }
}

impl<'scope> Door<'scope> for ScopeRef<'scope> {
    const LEAVES_PLACE: bool = true;
    const IS_BESIDE_A_CLOSED_POOL: bool = false;
}

stream!(ScopedMap<'s, 'scope, I, F, R> where {
    I::Item: Send + 'scope,
    F: Fn(I::Item) -> R + Send + Sync + 'scope,
    R: Send + 'scope,
});

stream!(ScopedMapUnordered<'s, 'scope, I, F, R> where {
    I::Item: Send + 'scope,
    F: Fn(I::Item) -> R + Send + Sync + 'scope,
    R: Send + 'scope,
});

/// # Batches
///
/// As those of a [`Pool`](crate::Pool), but items, results and the function may borrow what outlives the
/// scope.
impl<'scope> Scope<'scope> {
    /// Applies `f` to every item; yields the results in the order of the items, as they come.
    ///
    /// Nothing is pulled before the first `next`, and then always on the consumer's thread: what was
    /// pulled and not yet yielded is at most the window: capacity + workers items, or what [`ScopedMap::window`] sets. If
    /// there come to be fewer of either half way, nothing more is pulled until that holds again. While no result is
    /// due that is ready, `next` brings in what is admitted, and blocks until a place is free or the result is there.
    ///
    /// A consumer that is no thread of this pool runs no item, as told at [`Pool::map`](crate::Pool::map), where sources that
    /// block and closed pools are told of, too. One on a thread of this pool runs the item that it waits for itself, if nobody has
    /// come to it, and if it has no result to wait for, the next one when the queue is full.
    ///
    /// Dropping the iterator half way cancels the items that have not started, and waits for nothing;
    /// the scope waits at its end for those that run, and re-raises the first panic of these. Of up to 64 such items, one place in the queue is
    /// free only when a worker comes to it, or when the scope ends; the others are at once.
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
            stream: Stream::new(self.inner(), items.into_iter(), self.address(), f, true),
        }
    }

    /// As [`map`](Self::map), but yields each result as soon as it is there.
    ///
    /// On a thread of this pool that has no finished result it runs the oldest item that nobody has come to.
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
            stream: Stream::new(self.inner(), items.into_iter(), self.address(), f, false),
        }
    }
}
