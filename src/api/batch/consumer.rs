//! The consumer's end of a batch: what was put in, and comes out again.

use std::{collections::VecDeque, sync::Arc};

use super::{
    producer::Producer,
    shared::{ChunkOf, Home, Item, Leavings, Outcome},
};
use crate::{
    error::AdmissionError,
    protocol::{
        admission::{Admitted, Refusal},
        chunk::{Chunk, Claimed},
        completion::event::{self, Mark},
        wait::Condition,
    },
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Entry, Place},
        span::Origin,
        wait::{Help, IfStarved, Spin, Waited, wait_until},
        worker,
    },
    sync::{backoff::Yields, unwind::quietly},
    tuning::YIELDS,
};

/// With fewer items under way he does not yield: the results would not be worth the milliseconds.
const MANY: usize = if cfg!(shuttle) { 2 } else { 32 };

/// How the consumer of a batch gets his items in.
pub(super) trait Door<'a>: Home<'a> {
    /// Whether a place stays with a chunk_task that is left over.
    const LEAVES_PLACE: bool;

    /// Whether what the consumer runs for a closed pool is in none of its slots.
    const IS_BESIDE_A_CLOSED_POOL: bool;
}

/// What a consumer has got, of what it has waited for.
pub(super) enum Got<R> {
    /// The result that is due.
    Result(Outcome<R>),
    /// A place, for the item that was refused.
    Place,
    /// None of the two: the item is to be run by the consumer, as all that come after it.
    Closed,
}

/// How a wait has ended.
enum Awaited {
    Result,
    Place,
    Closed,
    /// The calling thread has to run an item itself, if it finds one.
    Starved,
}

pub(super) struct Consumer<'p, H, T, F, R> {
    producer: Producer<'p, H, T, F, R>,
    is_ordered: bool,
    leaves_place: bool,
    /// Those from which something is to be taken, the oldest in front.
    chunks: VecDeque<Part<T, R>>,
    /// The one of `chunks` to look at first, without an order.
    cursor: usize,
}

/// A chunk, and how much of it was taken.
struct Part<T, R> {
    chunk: ChunkOf<T, R>,
    /// A bit for each slot.
    taken: u64,
}

impl<T, R> Part<T, R> {
    fn was_taken(&self, number: usize) -> bool {
        self.taken >> number & 1 == 1
    }

    /// The first slot that was not taken.
    #[inline]
    fn next(&self) -> usize {
        self.taken.trailing_ones() as usize
    }

    /// The slot with the next result, if there is one. In order, it is the first that was not taken.
    #[inline]
    fn ready(&self, is_ordered: bool) -> Option<usize> {
        let next = self.next();
        if self.chunk.has_ended(next) {
            return Some(next);
        }
        if is_ordered {
            return None;
        }
        self.ready_after(next)
    }

    fn ready_after(&self, next: usize) -> Option<usize> {
        // Most that are not closed have many items, and none of them has ended.
        if !self.chunk.is_closed() {
            return None;
        }
        (next..self.chunk.len())
            .find(|&number| self.chunk.has_ended(number) && !self.was_taken(number))
    }

    #[inline]
    fn take(&mut self, number: usize) -> Outcome<R> {
        self.taken |= 1 << number;
        // SAFETY: it was ready, and is marked as taken.
        unsafe { self.chunk.take(number) }
    }

    #[inline]
    fn is_used_up(&self) -> bool {
        self.next() == self.chunk.len()
    }
}

impl<T, R> Drop for Part<T, R> {
    fn drop(&mut self) {
        self.chunk.leave(self.taken);
    }
}

impl<'p, H, T, F, R> Consumer<'p, H, T, F, R> {
    pub(super) fn new<'a>(inner: &'p Inner, home: H, f: F, is_ordered: bool) -> Self
    where
        H: Door<'a>,
    {
        Self {
            producer: Producer::new(inner, home, f),
            is_ordered,
            leaves_place: H::LEAVES_PLACE,
            chunks: VecDeque::new(),
            cursor: 0,
        }
    }

    pub(super) fn inner(&self) -> &'p Inner {
        self.producer.inner
    }

    /// Whether a result is there that may be taken next.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        // In order, that stays 0.
        let part = self.chunks.get(self.cursor);
        let is_ready = part.is_some_and(|part| part.ready(self.is_ordered).is_some());
        // In order there is no other.
        is_ready || !self.is_ordered && self.is_ready_elsewhere()
    }

    fn is_ready_elsewhere(&self) -> bool {
        self.begun().any(|(_, part)| part.ready(false).is_some())
    }

    /// Those of which an item may have begun, and where they are. Items are begun in order: behind a chunk that is not closed
    /// there is none.
    fn begun(&self) -> impl Iterator<Item = (usize, &Part<T, R>)> {
        let chunks = self.chunks.iter().enumerate();
        chunks.take_while(|(_, part)| part.chunk.is_closed())
    }

    /// Whether so many items, at least, were put in and have not ended.
    ///
    /// Those that were begun last are looked at first: if none of them is left, somebody who runs items has found no
    /// other, so fewer are under way than there are workers.
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

    /// Those that may have an item to be run next.
    fn candidates(&self) -> impl Iterator<Item = &Part<T, R>> {
        let count = if self.is_ordered {
            1
        } else {
            self.chunks.len()
        };
        self.chunks.iter().take(count)
    }

    /// Whether an item may be claimed.
    fn is_claimable(&self) -> bool {
        self.candidates().any(|part| part.chunk.may_be_begun())
    }

    /// What is waited for when no result is there.
    fn awaited(&self) -> Mark {
        match self.chunks.front() {
            Some(part) if self.is_ordered => part.chunk.mark(part.next()),
            _ => event::ANY,
        }
    }

    /// The result that is due, if it is there.
    #[inline]
    pub(super) fn try_take(&mut self) -> Option<Outcome<R>> {
        let outcome = self.take_at(self.cursor);
        // In order there is no other.
        if outcome.is_some() || self.is_ordered {
            return outcome;
        }
        self.take_elsewhere()
    }

    fn take_elsewhere(&mut self) -> Option<Outcome<R>> {
        let ready = |&(_, part): &(_, &Part<T, R>)| part.ready(false).is_some();
        let at = self.begun().find(ready)?.0;
        self.take_at(at)
    }

    /// The next result of one of the chunks, if it is there.
    #[inline(always)]
    fn take_at(&mut self, at: usize) -> Option<Outcome<R>> {
        let part = self.chunks.get_mut(at)?;
        let number = part.ready(self.is_ordered)?;
        let outcome = part.take(number);
        self.cursor = at;
        self.forget_if_used_up(at);
        Some(outcome)
    }

    #[inline]
    fn forget_if_used_up(&mut self, at: usize) {
        if self.chunks[at].is_used_up() {
            self.forget(at);
        }
    }

    /// Forgets a chunk that is used up.
    fn forget(&mut self, at: usize) {
        // To the last more may be added.
        if at + 1 < self.chunks.len() {
            self.chunks.remove(at);
            if self.cursor > at {
                self.cursor -= 1;
            }
        }
    }

    /// Claims an item whose result may be taken next, and that nobody has begun; the oldest, if it can be had.
    /// Returns where it is, and whether its place is left to a chunk_task.
    fn claim(&self) -> Option<(usize, Claimed<Item<T>>, bool)> {
        let (inner, shared) = (self.inner(), &self.producer.shared);
        for (at, part) in self.candidates().enumerate() {
            let chunk = &part.chunk;
            let due = self.is_ordered.then(|| part.next());
            let begun = shared.begin_unserved(inner, chunk, due, self.leaves_place);
            if let Some((claimed, leaves_place)) = begun {
                return Some((at, claimed, leaves_place));
            }
            // Who serves it comes to the next by himself.
            let claimed = if self.is_ordered { None } else { chunk.claim() };
            if let Some(claimed) = claimed {
                return Some((at, claimed, false));
            }
        }
        None
    }
}

impl<'a, H, T, F, R> Consumer<'_, H, T, F, R>
where
    H: Door<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    /// Makes a job of the item, if there is a place for it.
    ///
    /// # Errors
    /// The item, and why there is none.
    #[inline]
    pub(super) fn offer(&mut self, item: T) -> Result<(), (T, Refusal)> {
        match self.producer.try_place() {
            Ok(()) => {
                self.put(item);
                Ok(())
            }
            Err(refusal) => Err((item, refusal)),
        }
    }

    /// Makes a job of the item, which has a place.
    pub(super) fn put(&mut self, item: T) {
        if let Some(chunk) = self.producer.put(Origin::here(), item) {
            self.leapfrog(chunk);
        }
    }

    /// One more chunk, the last.
    fn leapfrog(&mut self, chunk: ChunkOf<T, R>) {
        let last = self.chunks.len().checked_sub(1);
        self.chunks.push_back(Part { chunk, taken: 0 });
        if let Some(last) = last {
            // What was the last may be used up.
            self.forget_if_used_up(last);
        }
    }

    /// Brings in an item that was refused, when nothing is under way. Waits for a place, or runs it here, if nobody else
    /// will; what comes of it, then.
    pub(super) fn insist(&mut self, item: T) -> Option<Outcome<R>> {
        let inner = self.inner();
        if let Entry::Queued = inner.admit_item(&self.producer.shared.yield_hint) {
            self.put(item);
            return None;
        }
        Some(self.run_refused(item))
    }

    /// Runs an item for a closed pool.
    pub(super) fn run_outside(&self, item: T) -> Outcome<R> {
        if H::IS_BESIDE_A_CLOSED_POOL {
            self.producer.shared.run_beside(item)
        } else {
            self.run_refused(item)
        }
    }

    fn run_refused(&self, item: T) -> Outcome<R> {
        let inner = self.inner();
        let outcome = self
            .producer
            .shared
            .run_inline(&JobContext::here(inner), item);
        inner.check_drained();
        outcome
    }

    /// Keeps what has come of an item until it is due.
    pub(super) fn keep(&mut self, outcome: Outcome<R>) {
        self.producer.end_chunk();
        self.leapfrog(Arc::new(Chunk::ended(outcome, self.producer.inner.fences)));
    }

    /// The next result; waits for it. Not to be called without an item that is `due`.
    #[inline(never)]
    pub(super) fn take(&mut self, due: usize) -> Outcome<R> {
        loop {
            if let Got::Result(outcome) = self.take_or_place(due, false) {
                return outcome;
            }
        }
    }

    /// The next result, or a place if it `wants_place`, whichever is there first; waits for it. Not to be called without an
    /// item that is `due`.
    pub(super) fn take_or_place(&mut self, due: usize, wants_place: bool) -> Got<R> {
        loop {
            if let Some(outcome) = self.try_take() {
                return Got::Result(outcome);
            }
            // A worker must not wait for a queue that it should empty.
            let is_own_worker = worker::current_of(self.inner()).is_some();
            if let Some(claim) = is_own_worker.then(|| self.claim()).flatten() {
                return Got::Result(self.run_here(claim));
            }
            match self.wait(due, wants_place) {
                Awaited::Result => {}
                Awaited::Place => return Got::Place,
                Awaited::Closed => return Got::Closed,
                Awaited::Starved => {
                    if let Some(claim) = self.claim() {
                        return Got::Result(self.run_here(claim));
                    }
                }
            }
        }
    }

    /// Blocks until the result is there that is due, or if it `wants_place`, until there is a place for the next item. If
    /// the thread is another pool's, and this one is starved, until there is an item to be claimed.
    fn wait(&self, due: usize, wants_place: bool) -> Awaited {
        let (inner, shared) = (self.inner(), &self.producer.shared);
        let mut yields = Yields::new(if due < MANY { 0 } else { YIELDS });
        while shared.yield_hint.yield_next(&mut yields) {
            if self.is_ready() {
                return Awaited::Result;
            }
            if wants_place {
                match self.producer.try_place() {
                    Ok(()) => return Awaited::Place,
                    Err(Refusal::Closed) => return Awaited::Closed,
                    Err(Refusal::Full) => {}
                }
            }
        }
        let result = shared.event.awaited(self.awaited(), || self.is_ready());
        let place = Admitted::in_line(&inner.admission);
        let conditions: [&dyn Condition; 2] = [&result, &place];
        let conditions = &conditions[..1 + usize::from(wants_place)];
        let since = wants_place.then(|| inner.timing.begins_to_wait());
        let mut claims = IfStarved(|| self.is_claimable(), || Help::Starved);
        let waited = wait_until(inner, conditions, &mut claims, Spin::Adaptive, None);
        let outcome = place.outcome();
        match since {
            Some(since) if outcome.is_ok() => inner.timing.has_waited(since, true),
            Some(_) => inner.timing.waits_no_more(),
            None => {}
        }
        match outcome {
            Ok(()) => Awaited::Place,
            Err(_) if self.is_ready() => Awaited::Result,
            Err(AdmissionError::Closed) => Awaited::Closed,
            Err(_) if waited == Waited::Starved => Awaited::Starved,
            Err(_) => Awaited::Result,
        }
    }

    /// Runs an item on the consumer's own stack.
    fn run_here(
        &mut self,
        (at, (number, item), leaves_place): (usize, Claimed<Item<T>>, bool),
    ) -> Outcome<R> {
        let inner = self.inner();
        let part = &mut self.chunks[at];
        part.taken |= 1 << number;
        let context = JobContext::here(inner);
        let outcome = self.producer.shared.run(&context, !leaves_place, item);
        self.forget_if_used_up(at);
        inner.check_drained();
        outcome
    }
}

impl<H, T, F, R> Drop for Consumer<'_, H, T, F, R> {
    fn drop(&mut self) {
        let inner = self.inner();
        let context = JobContext::here(inner);
        let parts = self.chunks.drain(..);
        let parts = parts.map(|part| (Arc::clone(&part.chunk), part.taken));
        let shared = &self.producer.shared;
        let Leavings {
            items,
            places,
            outcomes,
            closure,
            tombstones,
        } = shared.leave(inner, self.leaves_place, parts);
        items
            .iter()
            .for_each(|_| inner.recorder.left_batch(context.counts()));
        (0..places).for_each(|_| context.cancelled(Place::Queue));
        (0..tombstones).for_each(|_| inner.tombstone_left());
        // One by one: a panic in one must not meet that of another. In this order: a drop may be the end of the
        // pool, which must not wait for what is cancelled then.
        items.into_iter().for_each(|item| quietly(|| drop(item)));
        outcomes
            .into_iter()
            .for_each(|outcome| quietly(|| drop(outcome)));
        quietly(|| drop(closure));
    }
}
