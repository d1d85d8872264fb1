//! Batches as methods of every iterator, which can be chained.

use super::{Map, MapUnordered};
use crate::api::pool::Pool;

/// Runs an iterator's items through a pool: [`Pool::map`] and its like as methods, which read well
/// in a chain.
///
/// Each step is a batch of its own, which pulls from the one before it on the consumer's thread.
/// All steps share the pool's capacity.
///
/// # Examples
/// ```
/// use std::{fs, io};
/// use adaptive_pool::{IteratorExt, Pool};
///
/// /// The lengths of the files' longest lines, in the order of the files.
/// fn widths(pool: &Pool, paths: Vec<&'static str>) -> io::Result<Vec<usize>> {
///     paths
///         .into_iter()
///         .par_map(pool, |path| fs::read_to_string(path))
///         .par_map(pool, |text| {
///             let text = text?;
///             let width = text.lines().map(str::len).max();
///             width.ok_or_else(|| io::Error::other("empty"))
///         })
///         .collect() // stops at the first error, and cancels the rest
/// }
///
/// let pool = Pool::new().unwrap();
/// assert!(widths(&pool, vec!["Cargo.toml", "README.md"]).unwrap()[0] > 10);
/// assert!(widths(&pool, vec!["Cargo.toml", "not there"]).is_err());
/// ```
pub trait IteratorExt: Iterator + Sized {
    /// [`Pool::map`]: applies `f` to every item; yields the results in the order of the items.
    ///
    /// # Panics
    /// As [`Pool::map`].
    ///
    /// # Examples
    /// ```
    /// use adaptive_pool::{IteratorExt, Pool};
    ///
    /// let pool = Pool::new().unwrap();
    /// assert!((1..=3).par_map(&pool, |x| x * x).eq([1, 4, 9]));
    /// ```
    fn par_map<F, R>(self, pool: &Pool, f: F) -> Map<'_, Self, F, R>
    where
        Self::Item: Send + 'static,
        F: Fn(Self::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        pool.map(self, f)
    }

    /// [`Pool::map_unordered`]: yields each result as soon as it is there.
    ///
    /// # Panics
    /// As [`Pool::map`].
    ///
    /// # Examples
    /// ```
    /// use adaptive_pool::{IteratorExt, Pool};
    ///
    /// let pool = Pool::new().unwrap();
    /// let sum: u32 = (1..=3).par_map_unordered(&pool, |x| x * x).sum();
    /// assert_eq!(sum, 14);
    /// ```
    fn par_map_unordered<F, R>(self, pool: &Pool, f: F) -> MapUnordered<'_, Self, F, R>
    where
        Self::Item: Send + 'static,
        F: Fn(Self::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        pool.map_unordered(self, f)
    }

    /// [`Pool::for_each`]: applies `f` to every item, and returns when all items have ended. Both
    /// may borrow.
    ///
    /// # Panics
    /// As [`Pool::for_each`].
    ///
    /// # Examples
    /// ```
    /// use adaptive_pool::{IteratorExt, Pool};
    ///
    /// let pool = Pool::new().unwrap();
    /// let mut numbers = [1, 2, 3];
    /// numbers.iter_mut().par_for_each(&pool, |x| *x *= 10);
    /// assert_eq!(numbers, [10, 20, 30]);
    /// ```
    fn par_for_each<F>(self, pool: &Pool, f: F)
    where
        Self::Item: Send,
        F: Fn(Self::Item) + Sync,
    {
        pool.for_each(self, f);
    }
}

impl<I: Iterator> IteratorExt for I {}
