//! The consumer of a batch, which takes the results of its items, in order or as they end.

use std::{cell::Cell, collections::VecDeque, sync::Arc};

use super::{
    feeder::Feeder,
    home::Home,
    state::{ChunkOf, Item, Leavings, Outcome, Types, Work},
};
use crate::{
    protocol::{
        admission::{Admitted, Refusal},
        chunk::Chunk,
        completion::event::{self, Mark},
        wait::Condition,
    },
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Entry, Place},
        span::Origin,
        wait::{Assist, Assisted, Spin, Waited, wait_until},
        worker,
    },
    sync::unwind::quietly,
    tuning::{YIELD_WORTHY, YIELDS},
};

/// The outcome of a consumer's wait, with the result.
pub(super) enum Got<R> {
    /// The result that is due.
    Result(Outcome<R>),
    /// A place, for the item that was refused.
    Place,
    /// Neither: the consumer runs this item, and all later ones.
    Closed,
}

pub(super) struct Consumer<'p, B: Types> {
    feeder: Feeder<'p, B>,
    pub(super) is_ordered: bool,
    /// Chunks with results to take, the oldest in front.
    chunks: VecDeque<Part<B>>,
}

/// A result that is there: the index of its chunk, and its slot.
pub(super) struct Ready {
    at: usize,
    number: usize,
}

/// A chunk, and how much of it was taken.
pub(super) struct Part<B: Types> {
    chunk: ChunkOf<B>,
    /// A bit for each slot.
    taken: u64,
}

impl<B: Types> Part<B> {
    /// Returns the first slot that was not taken.
    #[inline]
    fn next(&self) -> usize {
        self.taken.trailing_ones() as usize
    }

    /// Returns the slots that were not taken.
    fn untaken(&self) -> impl Iterator<Item = usize> {
        let taken = self.taken;
        (self.next()..self.chunk.len()).filter(move |number| taken >> number & 1 == 0)
    }

    /// Returns a slot whose result is there, and was not taken.
    fn ready(&self) -> Option<usize> {
        // An item that was not claimed has no result.
        let claimed = self.chunk.claimed();
        self.untaken()
            .take_while(|&number| number < claimed)
            .find(|&number| self.chunk.has_ended(number))
    }

    #[inline]
    fn take(&mut self, number: usize) -> Outcome<B::Result> {
        self.taken |= 1 << number;
        // SAFETY: it was ready, and is marked as taken.
        unsafe { self.chunk.take(number) }
    }

    #[inline]
    fn is_used_up(&self) -> bool {
        self.next() == self.chunk.len()
    }

    /// Claims all unclaimed items.
    pub(super) fn claim_rest(&mut self, items: &mut Vec<Item<B::Item>>) {
        for (number, item) in self.chunk.claim_rest() {
            self.taken |= 1 << number;
            items.push(item);
        }
    }

    /// Whether some item has not ended. All unclaimed items have been claimed before.
    pub(super) fn is_running(&self) -> bool {
        self.untaken().any(|number| !self.chunk.has_ended(number))
    }

    /// Takes the results that are there, except those that the items' threads have taken. Returns
    /// how many others there are.
    pub(super) fn take_rest(&mut self, outcomes: &mut Vec<Outcome<B::Result>>) -> usize {
        let before = outcomes.len();
        let untaken = self.untaken();
        // SAFETY: the slots that were not taken before are taken in this way alone.
        let all =
            untaken.inspect(|&number| outcomes.extend(unsafe { self.chunk.race_to_take(number) }));
        all.count() - (outcomes.len() - before)
    }
}

impl<'p, B: Types> Consumer<'p, B> {
    pub(super) fn new(inner: &'p Inner, home: B::Home, f: B::Function, is_ordered: bool) -> Self {
        Self {
            feeder: Feeder::new(inner, home, f),
            is_ordered,
            chunks: VecDeque::new(),
        }
    }

    pub(super) fn inner(&self) -> &'p Inner {
        self.feeder.inner
    }

    /// Returns a result that may be taken next, if one is there.
    #[inline]
    pub(super) fn ready(&self) -> Option<Ready> {
        let front = self.chunks.front()?;
        let number = front.next();
        if front.chunk.has_ended(number) {
            Some(Ready { at: 0, number })
        } else if self.is_ordered {
            None
        } else {
            self.ready_elsewhere()
        }
    }

    #[inline(never)]
    fn ready_elsewhere(&self) -> Option<Ready> {
        // Items start in their order, so behind a chunk that is not closed none has started.
        let closed = self.chunks.iter().take_while(|part| part.chunk.is_closed());
        closed.enumerate().find_map(|(at, part)| {
            let number = part.ready()?;
            Some(Ready { at, number })
        })
    }

    /// Whether at least `least` items were put in and have not ended.
    ///
    /// The last chunks are counted first. If none of their items is left, a thread that runs items
    /// has found no other, so fewer items are under way than there are workers.
    #[inline]
    pub(super) fn are_in_flight(&self, least: usize) -> bool {
        let mut left = least;
        for part in self.chunks.iter().rev() {
            if left == 0 {
                break;
            }
            match part.chunk.in_flight(left) {
                0 if !part.is_used_up() => return false,
                some => left -= some,
            }
        }
        left == 0
    }

    /// Returns what the consumer waits for when no result is there.
    fn awaited(&self) -> Mark {
        match self.chunks.front() {
            Some(part) if self.is_ordered => part.chunk.mark(part.next()),
            _ => event::ANY,
        }
    }

    /// Takes a result that is there.
    #[inline]
    pub(super) fn take_ready(&mut self, Ready { at, number }: Ready) -> Outcome<B::Result> {
        let outcome = self.chunks[at].take(number);
        self.forget_if_used_up(at);
        outcome
    }

    #[inline]
    fn forget_if_used_up(&mut self, at: usize) {
        // The last chunk may get more items.
        if at + 1 < self.chunks.len() && self.chunks[at].is_used_up() {
            self.chunks.remove(at);
        }
    }

    /// Returns the chunks with an item to claim whose result may be taken next.
    fn claimable(&self) -> impl Iterator<Item = &Part<B>> {
        let eligible = if self.is_ordered { 1 } else { usize::MAX };
        self.chunks.iter().take(eligible).filter(|part| {
            if self.is_ordered {
                part.chunk.is_next(part.next())
            } else {
                part.chunk.unclaimed() > 0
            }
        })
    }
}

impl<'a, B: Work<'a>> Consumer<'_, B> {
    /// Makes a job of the item, if a place is free.
    ///
    /// # Errors
    /// Returns the item, and the reason of the refusal.
    #[inline]
    pub(super) fn offer(&mut self, item: B::Item) -> Result<(), (B::Item, Refusal)> {
        match self.inner().admission.try_acquire() {
            Ok(()) => {
                self.put(item);
                Ok(())
            }
            Err(refusal) => Err((item, refusal)),
        }
    }

    /// Makes a job of an item that has a place.
    pub(super) fn put(&mut self, item: B::Item) {
        if let Some(chunk) = self.feeder.put(Origin::here(), item) {
            self.add(chunk);
        }
    }

    /// Adds a chunk, as the last.
    fn add(&mut self, chunk: ChunkOf<B>) {
        let last = self.chunks.len().checked_sub(1);
        self.chunks.push_back(Part { chunk, taken: 0 });
        if let Some(last) = last {
            // The previous last chunk may be used up.
            self.forget_if_used_up(last);
        }
    }

    /// Submits an item that was refused, when nothing is under way. Waits for a place. If no other
    /// thread will run the item, runs it here, and returns its outcome.
    pub(super) fn insist(&mut self, item: B::Item) -> Option<Outcome<B::Result>> {
        let entry = self.inner().admit_item(&self.feeder.batch.yield_hint);
        if let Entry::Queued = entry {
            self.put(item);
            return None;
        }
        Some(self.run_refused(item))
    }

    /// Runs an item on the consumer's thread, for a closed pool.
    pub(super) fn run_outside(&self, item: B::Item) -> Outcome<B::Result> {
        if B::Home::IS_SCOPED {
            self.run_refused(item)
        } else {
            self.feeder.batch.run_beside(item)
        }
    }

    fn run_refused(&self, item: B::Item) -> Outcome<B::Result> {
        let inner = self.inner();
        let (outcome, ended) = self.feeder.batch.run_inline(&JobContext::here(inner), item);
        inner.check_drained(ended);
        outcome
    }

    /// Keeps the outcome of an item until it is due.
    pub(super) fn keep(&mut self, outcome: Outcome<B::Result>) {
        self.feeder.end_chunk();
        self.add(Arc::new(Chunk::ended(outcome)));
    }

    /// Takes the next result; blocks until it is there. An item must be `due`.
    #[inline]
    pub(super) fn take(&mut self, due: usize) -> Outcome<B::Result> {
        let ready = self.ready().unwrap_or_else(|| self.await_ready(due));
        self.take_ready(ready)
    }

    #[inline(never)]
    fn await_ready(&self, due: usize) -> Ready {
        self.wait(due, None);
        self.ready().unwrap_or_else(|| unreachable!())
    }

    /// Takes the next result, or a place, whichever comes first; blocks until then. An item must be
    /// `due`.
    pub(super) fn take_or_place(&mut self, due: usize) -> Got<B::Result> {
        let inner = self.inner();
        let since = Cell::new(None);
        let joins = || since.set(since.get().or_else(|| Some(inner.timing.begins_to_wait())));
        let place = Admitted::new(&inner.admission, false, &joins);
        self.wait(due, Some(&place));
        let has_place = place.outcome().is_ok();
        match since.get() {
            Some(since) if has_place => inner.timing.has_waited(since, true),
            Some(_) => inner.timing.waits_no_more(),
            None => {}
        }
        if has_place {
            return Got::Place;
        }
        self.ready()
            .map_or(Got::Closed, |ready| Got::Result(self.take_ready(ready)))
    }

    /// Blocks until a result is there, or the next item has its `place`, or gets none.
    fn wait(&self, due: usize, place: Option<&Admitted<'_>>) {
        let (inner, batch) = (self.inner(), &self.feeder.batch);
        let result = batch
            .event
            .awaited(self.awaited(), || self.ready().is_some());
        let conditions: &[&dyn Condition] = match place {
            Some(place) => &[&result, place],
            None => &[&result],
        };
        let spin = if due < YIELD_WORTHY {
            Spin::Adaptive
        } else {
            Spin::Yields(YIELDS, Some(&batch.yield_hint))
        };
        let mut items = Items {
            consumer: self,
            // A worker must not wait for a queue that it should drain.
            is_worker: worker::current_of(inner).is_some(),
        };
        let waited = wait_until(inner, conditions, &mut items, spin, None);
        debug_assert_eq!(waited, Waited::Met);
    }

    /// Runs the oldest item whose result may be taken next, if it can be claimed.
    fn run_one(&self) -> Assisted {
        let claimed = self.claimable().find_map(|part| {
            let claimed = if self.is_ordered {
                part.chunk.claim_if_next(part.next())
            } else {
                part.chunk.claim()
            };
            Some((part, claimed?))
        });
        let Some((part, (number, item))) = claimed else {
            return Assisted::Nothing;
        };
        let (inner, batch) = (self.inner(), &self.feeder.batch);
        let is_placed = !(B::Home::IS_SCOPED && batch.keeps_place(inner));
        let (outcome, ended) = batch.run(&JobContext::here(inner), is_placed, item);
        // SAFETY: the number was claimed just now.
        unsafe { part.chunk.end(number, outcome) };
        inner.check_drained(ended);
        Assisted::Ran
    }
}

/// What a consumer runs while it waits: the items whose results it may take next. A worker runs
/// them in any case; a thread of another pool only if no thread of this one can.
struct Items<'a, 'p, B: Types> {
    consumer: &'a Consumer<'p, B>,
    is_worker: bool,
}

impl<'a, B: Work<'a>> Assist for Items<'_, '_, B> {
    fn assist(&mut self, is_starved: bool) -> Assisted {
        if self.is_worker || is_starved {
            self.consumer.run_one()
        } else {
            Assisted::Nothing
        }
    }

    fn has_work(&self, is_starved: bool) -> bool {
        is_starved && self.consumer.claimable().next().is_some()
    }
}

impl<B: Types> Drop for Consumer<'_, B> {
    fn drop(&mut self) {
        let inner = self.inner();
        let context = JobContext::here(inner);
        let Leavings {
            items,
            places,
            outcomes,
            function,
            tombstones,
        } = self
            .feeder
            .batch
            .leave(inner, self.chunks.make_contiguous());
        items
            .iter()
            .for_each(|_| inner.recorder.left_batch(context.counts()));
        (0..places).for_each(|_| context.cancelled(Place::Queue));
        (0..tombstones).for_each(|_| inner.tombstone_left());
        // One by one: a panic in one must not meet that of another. In this order: a drop may end
        // the pool, which must not wait for what is cancelled then.
        items.into_iter().for_each(|item| quietly(|| drop(item)));
        outcomes
            .into_iter()
            .for_each(|outcome| quietly(|| drop(outcome)));
        quietly(|| drop(function));
    }
}
