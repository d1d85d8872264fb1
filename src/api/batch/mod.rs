//! Batches: a function over an iterator, whose items are pulled only as fast as admission allows.
//!
//! The consumer's thread pulls the iterator, one item ahead of the places that it has won. It holds
//! no place while it pulls, since its source may be another batch that needs one. Each item has a
//! place, and is counted as a job. But a job in the queue stands for a whole chunk of items, those
//! that have come since a thread last claimed one: see `task.rs` and `chunk.rs`. No shutdown drops
//! an item: the consumer waits for it.
//!
//! An item's way: `stream.rs` pulls it, `feeder.rs` puts it into a chunk, `task.rs` runs it,
//! `consumer.rs` takes its result.

mod consumer;
mod feeder;
mod for_each;
mod home;
mod iterator_ext;
mod scoped;
mod state;
mod stream;
mod task;
mod unscoped;

pub use self::{
    iterator_ext::IteratorExt,
    scoped::{ScopedMap, ScopedMapUnordered},
    unscoped::{Map, MapUnordered},
};

/// Defines an iterator over the results of a batch, whose jobs go to a home for jobs that borrow
/// for a lifetime.
macro_rules! iterator {
    (
        $(#[$doc:meta])*
        $name:ident<$($lt:lifetime,)* I, F, R $(: $static:lifetime)?>
        in $home:ty, for $a:lifetime, of $p:lifetime
    ) => {
        $(#[$doc])*
        #[must_use = "iterators do nothing unless they are consumed"]
        pub struct $name<$($lt,)* I: Iterator, F, R $(: $static)?> {
            stream: Stream<$p, I, Of<$home, I::Item, F, R>>,
        }

        impl<$($lt,)* I: Iterator, F, R> $name<$($lt,)* I, F, R> {
            /// Bounds the items that are pulled and not yet yielded; 0 counts as 1.
            ///
            /// By default the bound is the capacity plus the number of workers in service, as they
            /// are at each pull. With 1 an item is pulled after the result of the one before was
            /// yielded: question and answer. With fewer than there are workers, some of these have
            /// no work. With more than the default, results in the order of the items get past a
            /// slow item: a finished item holds no place in the queue. The capacity bounds how many
            /// items wait to be started, however large the window.
            ///
            /// # Examples
            /// ```
            /// use adaptive_pool::Pool;
            ///
            /// let pool = Pool::builder().workers(2).capacity(4).build().unwrap();
            /// pool.in_place_scope(|s| {
            ///     assert!(s.map(0..100, |n| n + 1).window(50).eq(1..101));
            /// });
            /// assert!(pool.map(0..100, |n| n + 1).window(1).eq(1..101));
            /// ```
            pub fn window(mut self, items: usize) -> Self {
                self.stream.window = Some(items.max(1));
                self
            }
        }

        impl<$($lt,)* I, F, R> Iterator for $name<$($lt,)* I, F, R>
        where
            I: Iterator,
            I::Item: Send + $a,
            F: Fn(I::Item) -> R + Send + Sync + $a,
            R: Send + $a,
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
            I::Item: Send + $a,
            F: Fn(I::Item) -> R + Send + Sync + $a,
            R: Send + $a,
        {
        }

        impl<$($lt,)* I, F, R> FusedIterator for $name<$($lt,)* I, F, R>
        where
            I: Iterator,
            I::Item: Send + $a,
            F: Fn(I::Item) -> R + Send + Sync + $a,
            R: Send + $a,
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
use iterator;
