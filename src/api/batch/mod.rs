//! Batches: results of a function over an iterator, pulled only as fast as admission allows.
//!
//! The iterator is pulled on the consumer's thread, one item ahead of the places that are won: a consumer holds no
//! place while it pulls, since what it pulls from may be another batch that needs one.
//! Each item has a place, and a line in the pool's slots, of its own, but what lies in the queue is a job for a
//! whole chunk of items that have come since anybody looked: `shared.rs` and `chunk.rs` tell how.
//! No shutdown drops an item: the consumer waits for it.
//!
//! # When the source is asked
//!
//! A pull may block for as long as it likes: the source may be a socket, or a channel to which the user of the results
//! sends the next item. So a due result that is there is yielded first. Only a source that was quick just now is
//! asked nevertheless, while fewer items are under way than there are workers: else these would run dry while the user is busy with
//! the results. `pace.rs` tells how often the consumer looks for either.
//!
//! With no result to yield, items are pulled until a *window* of them is pulled and not yet yielded, or one finds no
//! place. Then the consumer waits for the result, and in the second case for a place too, whichever is first.

mod consumer;
mod each;
mod extension;
mod pace;
mod producer;
mod scoped;
mod shared;
mod unscoped;

use std::{iter::Fuse, panic::resume_unwind, time::Duration};

use self::{
    consumer::{Consumer, Door, Got},
    pace::Pace,
};
pub use self::{
    extension::IteratorExt,
    scoped::{ScopedMap, ScopedMapUnordered},
    unscoped::{Map, MapUnordered},
};
use crate::{
    protocol::admission::Refusal,
    runtime::{inner::Inner, worker},
    sync::{Instant, backoff::FullQueue},
};

/// An iterator, and the consumer that its items take.
struct Stream<'p, I: Iterator, H, F, R> {
    // Dropped first: what it cancels does not wait for the iterator's own drop.
    consumer: Consumer<'p, H, I::Item, F, R>,
    items: Fuse<I>,
    /// Pulled, and without a place so far.
    staged: Option<I::Item>,
    /// How many are in the consumer: of these no result was yielded.
    due: usize,
    /// How many may have been pulled and not yielded, if that was chosen.
    window: Option<usize>,
    is_ordered: bool,
    /// How many results a consumer on a thread of the pool yields before it offers the refused item again: it runs items
    /// itself meanwhile.
    full_queue: FullQueue,
    pace: Pace,
    /// When it was looked whether the workers have enough.
    looked: Option<Instant>,
}

impl<'p, I: Iterator, H, F, R> Stream<'p, I, H, F, R> {
    fn new<'a>(inner: &'p Inner, items: I, home: H, f: F, is_ordered: bool) -> Self
    where
        H: Door<'a>,
    {
        Self {
            consumer: Consumer::new(inner, home, f, is_ordered),
            items: items.fuse(),
            staged: None,
            due: 0,
            window: None,
            is_ordered,
            full_queue: FullQueue::default(),
            pace: Pace::new(),
            looked: None,
        }
    }

    fn next<'a>(&mut self) -> Option<R>
    where
        H: Door<'a>,
        I::Item: Send + 'a,
        F: Fn(I::Item) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        if self.full_queue.skips() && self.due > 0 {
            return Some(self.take());
        }
        loop {
            let is_ready = self.due > 0 && self.consumer.is_ready();
            if is_ready && !self.may_pull_first() {
                return Some(self.take());
            }
            let most = if is_ready { 1 } else { self.pace.batch() };
            match self.pull(most) {
                Pulled::All => {}
                Pulled::Window => return Some(self.take()),
                Pulled::End => return (self.due > 0).then(|| self.take()),
                Pulled::Refused(refused) => {
                    if let Some(outcome) = self.refused(refused) {
                        return Some(yielded(outcome));
                    }
                }
            }
        }
    }

    /// Pulls so many items, and makes jobs of them.
    #[inline]
    fn pull<'a>(&mut self, most: usize) -> Pulled<I::Item>
    where
        H: Door<'a>,
        I::Item: Send + 'a,
        F: Fn(I::Item) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        let start = Instant::now();
        self.pace.pulls();
        for _ in 0..most {
            if self.due >= self.window() {
                self.pace.pulled(start.elapsed());
                return Pulled::Window;
            }
            let Some(item) = self.staged.take().or_else(|| self.items.next()) else {
                return Pulled::End;
            };
            if let Err(refused) = self.consumer.offer(item) {
                self.pace.pulled(start.elapsed());
                return Pulled::Refused(refused);
            }
            self.due += 1;
        }
        self.pace.pulled(start.elapsed());
        Pulled::All
    }

    /// What becomes of an item that has found no place. Returns a result that is to be yielded, if there is one first.
    #[inline(never)]
    fn refused<'a>(&mut self, (item, refusal): (I::Item, Refusal)) -> Option<shared::Outcome<R>>
    where
        H: Door<'a>,
        I::Item: Send + 'a,
        F: Fn(I::Item) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        if refusal == Refusal::Closed {
            return self.run_outside(item);
        }
        if self.due == 0 {
            let outcome = self.consumer.insist(item);
            self.due += usize::from(outcome.is_none());
            return outcome;
        }
        match self.consumer.take_or_place(self.due, true) {
            Got::Result(outcome) => {
                self.staged = Some(item);
                self.due -= 1;
                let inner = self.consumer.inner();
                if worker::current_of(inner).is_some() {
                    let window = self.window() as u64;
                    self.full_queue.found_full(window, inner.idle.in_service());
                }
                Some(outcome)
            }
            Got::Place => {
                self.consumer.put(item);
                self.due += 1;
                None
            }
            Got::Closed => self.run_outside(item),
        }
    }

    /// Runs an item on the consumer's thread, since the pool is closed.
    fn run_outside<'a>(&mut self, item: I::Item) -> Option<shared::Outcome<R>>
    where
        H: Door<'a>,
        I::Item: Send + 'a,
        F: Fn(I::Item) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        let outcome = self.consumer.run_outside(item);
        if self.due == 0 || !self.is_ordered {
            return Some(outcome);
        }
        self.consumer.keep(outcome);
        self.due += 1;
        None
    }

    #[inline]
    fn take<'a>(&mut self) -> R
    where
        H: Door<'a>,
        I::Item: Send + 'a,
        F: Fn(I::Item) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        let ready = self.consumer.try_take();
        let outcome = ready.unwrap_or_else(|| self.consumer.take(self.due));
        self.due -= 1;
        yielded(outcome)
    }

    /// How many items may have been pulled and not yielded. If it was not chosen, by the capacity and the workers of this
    /// moment: both may change half way. What was pulled by more generous ones is yielded before another is pulled. Never 0.
    #[inline]
    fn window(&self) -> usize {
        if let Some(window) = self.window {
            return window;
        }
        let inner = self.consumer.inner();
        let capacity = usize::try_from(inner.admission.capacity()).unwrap_or(usize::MAX);
        capacity.saturating_add(inner.idle.in_service()).max(1)
    }

    /// Whether another item is brought in before a result that is there is yielded.
    #[inline]
    fn may_pull_first(&mut self) -> bool {
        !self.pace.is_look_spared() && self.looks_whether_to_pull()
    }

    #[inline(never)]
    fn looks_whether_to_pull(&mut self) -> bool {
        let now = Instant::now();
        let before = self.looked.replace(now);
        self.pace
            .looks(before.map_or(Duration::MAX, |before| now - before));
        let workers = self.consumer.inner().idle.in_service();
        if self.consumer.are_in_flight(self.window().min(workers)) {
            return false;
        }
        self.pace.was_quick() || self.staged.is_some()
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

/// What has ended a batch of pulls.
enum Pulled<T> {
    All,
    /// No more may be pulled before a result was yielded.
    Window,
    /// There are no more.
    End,
    /// There is no place for this one, for this reason.
    Refused((T, Refusal)),
}

fn yielded<R>(outcome: shared::Outcome<R>) -> R {
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Implements what every iterator over a batch is, by its stream. The bounds are those of its `Iterator`.
macro_rules! stream {
    ($name:ident<$($lt:lifetime,)* I, F, R> where { $($bounds:tt)* }) => {
        impl<$($lt,)* I: Iterator, F, R> $name<$($lt,)* I, F, R> {
            /// Has at most `items` items be pulled and not yet yielded at a time; 0 counts as 1.
            ///
            /// By default that is the capacity and the number of workers in service together, as they are at each pull.
            /// With 1 an item is pulled when the result of the one before was yielded: question and answer. Fewer than
            /// there are workers leave some of these without work. With more than the default, results in the order of the
            /// items get past a slow item: what is done holds no place in the queue. How many items wait to
            /// be begun is bounded by the capacity, however large the window.
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
