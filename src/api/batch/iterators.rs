//! The iterators over the results of batches: one for each home of the jobs, with and without
//! order.

use std::{
    fmt,
    iter::FusedIterator,
    panic::{RefUnwindSafe, UnwindSafe},
};

use super::{
    home::{InPool, InScope},
    state::Of,
    stream::Stream,
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
            pub(super) stream: Stream<$p, I, Of<$home, I::Item, F, R>>,
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

iterator! {
    /// The iterator of [`Pool::map`](crate::Pool::map).
    Map<'p, I, F, R: 'static> in InPool, for 'static, of 'p
}

iterator! {
    /// The iterator of [`Pool::map_unordered`](crate::Pool::map_unordered).
    MapUnordered<'p, I, F, R: 'static> in InPool, for 'static, of 'p
}

iterator! {
    /// The iterator of [`Scope::map`](crate::Scope::map).
    ScopedMap<'s, 'scope, I, F, R> in InScope<'scope, false>, for 'scope, of 's
}

iterator! {
    /// The iterator of [`Scope::map_unordered`](crate::Scope::map_unordered).
    ScopedMapUnordered<'s, 'scope, I, F, R> in InScope<'scope, false>, for 'scope, of 's
}

/// A panic leaves no invariant of the batch broken; it may break those of the user's types.
macro_rules! unwind_safe {
    ($name:ident) => {
        impl<I: Iterator + UnwindSafe, F: RefUnwindSafe, R> UnwindSafe for $name<'_, I, F, R> where
            I::Item: UnwindSafe
        {
        }

        impl<I: Iterator + RefUnwindSafe, F: RefUnwindSafe, R> RefUnwindSafe for $name<'_, I, F, R> where
            I::Item: RefUnwindSafe
        {
        }
    };
}

unwind_safe!(Map);
unwind_safe!(MapUnordered);
