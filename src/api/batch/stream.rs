//! The iterator of a batch: it decides when items are pulled, and when results are yielded.
//!
//! A pull may block for any length of time. The source may be a socket, or a channel to which the
//! user of the results sends the next item. So a due result that is there is yielded first. There
//! is one exception: if the last pulls were quick, and fewer items are under way than there are
//! workers, an item is pulled first. Otherwise workers would become idle while the user is busy
//! with the results.
//!
//! Without a result to yield, items are pulled until a *window* of them is pulled and not yet
//! yielded, or one finds no place. Then the consumer waits for the result. In the second case it
//! also waits for a place, whichever comes first.

use std::{iter::Fuse, panic::resume_unwind};

use super::{
    consumer::{Consumer, Got, Ready},
    state::{Outcome, Types, Work},
};
use crate::{
    protocol::admission::Refusal,
    runtime::{inner::Inner, worker},
    sync::{Instant, backoff::FullQueue},
    tuning::{BRIEF_PULLS, PULLS, QUICK_SOURCE, UNCOUNTED_RESULTS},
};

/// An iterator, and the consumer that its items take.
pub(super) struct Stream<'p, I: Iterator, B: Types> {
    // Dropped first: what it cancels must not wait for the iterator's own drop.
    consumer: Consumer<'p, B>,
    items: Fuse<I>,
    /// Pulled, and still without a place.
    staged: Option<I::Item>,
    /// How many items are in the consumer, whose results are not yet yielded.
    pub(super) due: usize,
    /// How many items may be pulled and not yet yielded, if the user has set that.
    pub(super) window: Option<usize>,
    /// How many results a consumer on a thread of the pool yields before it offers the refused item
    /// again. It runs items itself meanwhile.
    full_queue: FullQueue,
    /// When the items under way were last counted, which reads what the workers write. While
    /// results are taken at short intervals, `stride` of them are yielded between two counts, of
    /// which `skips` are left.
    counted: Option<Instant>,
    stride: u32,
    skips: u32,
    /// How many items are pulled next.
    batch: usize,
    /// Whether each of the last pulls took less than [`QUICK_SOURCE`]. False while a pull has not
    /// returned.
    was_quick: bool,
}

/// The reason why pulling has stopped.
enum Pulled<T> {
    All,
    /// No more may be pulled before a result is yielded.
    Window,
    /// The source has ended.
    End,
    /// The item has no place, for this reason.
    Refused((T, Refusal)),
}

impl<'p, I: Iterator, B: Types<Item = I::Item>> Stream<'p, I, B> {
    pub(super) fn new(
        inner: &'p Inner,
        items: I,
        home: B::Home,
        f: B::Function,
        is_ordered: bool,
    ) -> Self {
        Self {
            consumer: Consumer::new(inner, home, f, is_ordered),
            items: items.fuse(),
            staged: None,
            due: 0,
            window: None,
            full_queue: FullQueue::default(),
            counted: None,
            stride: 0,
            skips: 0,
            batch: 1,
            was_quick: false,
        }
    }

    /// Returns how many items may be pulled and not yet yielded; never 0. Unless the user has set
    /// it, the capacity and the workers of this moment define it. Both may decrease half way; then
    /// results are yielded until the window holds again.
    #[inline]
    fn window(&self) -> usize {
        if let Some(window) = self.window {
            return window;
        }
        let inner = self.consumer.inner();
        let capacity = usize::try_from(inner.admission.capacity()).unwrap_or(usize::MAX);
        capacity.saturating_add(inner.idle.in_service()).max(1)
    }

    /// Whether another item is pulled before a result that is there is yielded.
    #[inline]
    fn may_pull_first(&mut self) -> bool {
        if self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        self.are_workers_short()
    }

    /// Whether the source is quick, and fewer items are under way than there are workers.
    #[inline(never)]
    fn are_workers_short(&mut self) -> bool {
        let now = Instant::now();
        let is_brief = self
            .counted
            .is_some_and(|before| now - before < BRIEF_PULLS);
        self.counted = Some(now);
        self.stride = if is_brief {
            (2 * self.stride + 1).min(UNCOUNTED_RESULTS)
        } else {
            0
        };
        self.skips = self.stride;
        let workers = self.consumer.inner().idle.in_service();
        (self.was_quick || self.staged.is_some())
            && !self.consumer.are_in_flight(self.window().min(workers))
    }

    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.items.size_hint();
        let pulled = self.due + usize::from(self.staged.is_some());
        (
            least.saturating_add(pulled),
            most.and_then(|most| most.checked_add(pulled)),
        )
    }
}

impl<'a, I: Iterator, B: Work<'a> + Types<Item = I::Item>> Stream<'_, I, B> {
    pub(super) fn next(&mut self) -> Option<B::Result> {
        if self.full_queue.skips() && self.due > 0 {
            return Some(self.take());
        }
        loop {
            let ready = self.consumer.ready();
            let most = match ready {
                Some(ready) if !self.may_pull_first() => return Some(self.take_ready(ready)),
                Some(_) => 1,
                None => self.batch,
            };
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

    /// Pulls at most `most` items, and makes jobs of them.
    #[inline]
    fn pull(&mut self, most: usize) -> Pulled<I::Item> {
        let start = Instant::now();
        self.was_quick = false;
        let pulled = self.pull_until(most);
        let elapsed = start.elapsed();
        self.was_quick = elapsed < QUICK_SOURCE;
        self.batch = if elapsed < BRIEF_PULLS {
            (2 * self.batch).min(PULLS)
        } else {
            1
        };
        pulled
    }

    fn pull_until(&mut self, most: usize) -> Pulled<I::Item> {
        for _ in 0..most {
            if self.due >= self.window() {
                return Pulled::Window;
            }
            let Some(item) = self.staged.take().or_else(|| self.items.next()) else {
                return Pulled::End;
            };
            if let Err(refused) = self.consumer.offer(item) {
                return Pulled::Refused(refused);
            }
            self.due += 1;
        }
        Pulled::All
    }

    /// Handles an item that has found no place. Returns a result to yield, if one comes first.
    #[inline(never)]
    fn refused(&mut self, (item, refusal): (I::Item, Refusal)) -> Option<Outcome<B::Result>> {
        if refusal == Refusal::Closed {
            return self.run_outside(item);
        }
        if self.due == 0 {
            let outcome = self.consumer.insist(item);
            self.due += usize::from(outcome.is_none());
            return outcome;
        }
        match self.consumer.take_or_place(self.due) {
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
    fn run_outside(&mut self, item: I::Item) -> Option<Outcome<B::Result>> {
        let outcome = self.consumer.run_outside(item);
        if self.due == 0 || !self.consumer.is_ordered {
            return Some(outcome);
        }
        self.consumer.keep(outcome);
        self.due += 1;
        None
    }

    #[inline]
    fn take(&mut self) -> B::Result {
        let outcome = self.consumer.take(self.due);
        self.due -= 1;
        yielded(outcome)
    }

    #[inline]
    fn take_ready(&mut self, ready: Ready) -> B::Result {
        let outcome = self.consumer.take_ready(ready);
        self.due -= 1;
        yielded(outcome)
    }
}

fn yielded<R>(outcome: Outcome<R>) -> R {
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}
