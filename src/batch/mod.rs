//! Batches: results of a function over an iterator, pulled only as fast as admission allows.
//!
//! The iterator is pulled on the consumer's thread, one item ahead of the places that are won: nobody
//! holds a place while he pulls, since what he pulls from may be another batch that needs one.
//! Each item has a place, and a line in the pool's books, of its own, but what lies in the queue is a job for a
//! whole chunk of items that have come since anybody looked: `shared.rs` and `chunk.rs` tell how.
//! No shutdown drops an item: the consumer waits for it.

mod each;
mod extension;
mod lane;
mod producer;
mod scoped;
mod shared;
mod solitude;
mod unscoped;

use std::{iter::Fuse, panic::resume_unwind};

use self::lane::{Door, Lane};
pub use self::{
    extension::IteratorExt,
    scoped::{ScopedMap, ScopedMapUnordered},
    unscoped::{Map, MapUnordered},
};
use crate::{chunk::MOST, inner::Inner};

/// How many items a consumer brings in for a result that is there: more than he takes out, so that the
/// queue fills, and not so many that he makes the workers wait for him.
const AT_ONCE: u32 = 2;

/// A queue that was full is looked at again when a consumer whose results are there has taken one in so many of it:
/// to find out whether a place is free costs a look at every worker. The workers are ahead of him then.
const FULL: usize = 64;

/// An iterator, and the lane that its items take.
struct Stream<'p, I: Iterator, H, F, R> {
    // Dropped first: what it cancels does not wait for the iterator's own drop.
    lane: Lane<'p, H, I::Item, F, R>,
    items: Fuse<I>,
    /// Pulled, and without a place so far.
    staged: Option<I::Item>,
    /// How many are in the lane: of these no result was yielded.
    due: usize,
    /// How many results that are there are to be yielded before the refused item is offered again.
    refused: usize,
}

impl<'p, I: Iterator, H, F, R> Stream<'p, I, H, F, R> {
    fn new<'a>(inner: &'p Inner, items: I, home: H, f: F, is_ordered: bool) -> Self
    where
        H: Door<'a>,
    {
        Self {
            lane: Lane::new(inner, home, f, is_ordered),
            items: items.fuse(),
            staged: None,
            due: 0,
            refused: 0,
        }
    }

    fn next<'a>(&mut self) -> Option<R>
    where
        H: Door<'a>,
        I::Item: Send + 'a,
        F: Fn(I::Item) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        let mut brought = 0;
        let mut ahead = self.ahead();
        while self.due < ahead && !(self.has_enough(brought) && self.lane.is_ready()) {
            let Some(item) = self.staged.take().or_else(|| self.items.next()) else {
                break;
            };
            if let Err(item) = self.lane.offer(item) {
                if self.due > 0 {
                    self.staged = Some(item);
                    self.refused = (ahead / FULL).min(MOST);
                    break;
                }
                if let Some(outcome) = self.lane.insist(item) {
                    return Some(yielded(outcome));
                }
            }
            self.due += 1;
            brought += 1;
            if brought >= AT_ONCE {
                // Who has no result yet may bring in many.
                ahead = self.ahead();
            }
        }
        if self.due == 0 {
            return None;
        }
        let outcome = self.lane.take(self.due);
        self.due -= 1;
        Some(yielded(outcome))
    }

    /// How many items may have been pulled and not yielded, by the capacity and the workers of this moment: both may
    /// change half way. What was pulled by more generous ones is yielded before another is pulled. Never 0.
    #[inline]
    fn ahead(&self) -> usize {
        let inner = self.lane.inner();
        let capacity = usize::try_from(inner.admission.capacity()).unwrap_or(usize::MAX);
        capacity.saturating_add(inner.sleep.in_service())
    }

    /// Whether those that were brought in are enough, if a result is there.
    fn has_enough(&mut self, brought: u32) -> bool {
        if self.staged.is_some() && self.refused > 0 {
            self.refused -= 1;
            return true;
        }
        brought >= AT_ONCE
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

fn yielded<R>(outcome: shared::Outcome<R>) -> R {
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
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
