//! The consumer's end of a batch: what was put in, and comes out again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    producer::Producer,
    shared::{ChunkOf, Home, Item, Outcome},
    solitude::Solitude,
};
use crate::{
    backoff::Yields,
    bell::{self, Mark},
    chunk::Claimed,
    error::AdmissionError,
    inner::Inner,
    linger::linger,
    site::Site,
    span::Origin,
    stuck::{self, Blocked},
    submit::Entry,
    sync::{Instant, thread},
    unwind::quietly,
    worker,
};

/// How often a consumer yields before he blocks: to a worker, most likely, if there are more threads than cores,
/// who has many results for him then. If it is to something else, that may take milliseconds.
const YIELDS: u32 = if cfg!(shuttle) { 1 } else { 8 };

/// With fewer items under way he does not yield: the results would not be worth the milliseconds.
const MANY: usize = if cfg!(shuttle) { 2 } else { 32 };

/// How long he rests at most. The timer of most systems makes it some 50 us more, in which two workers come
/// to the end of a thousand of the shortest items that it pays to hand in one by one.
const REST: Duration = Duration::from_micros(20);

/// How the consumer of a batch gets his items in.
pub(super) trait Door<'a>: Home<'a> {
    /// Whether a place stays with a ticket that is left over.
    const LEAVES_PLACE: bool;

    /// Waits for a place, if the calling thread may wait. `Closed` if there is no pool to be asked any more.
    fn enter(&self, inner: &Inner) -> Result<Entry, AdmissionError>;
}

pub(super) struct Lane<'p, H, T, F, R> {
    producer: Producer<'p, H, T, F, R>,
    is_ordered: bool,
    leaves_place: bool,
    /// Those from which something is to be taken, the oldest in front.
    chunks: VecDeque<Part<T, R>>,
    /// The one of `chunks` to look at first, without an order.
    cursor: usize,
    solitude: Solitude,
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

impl<'p, H, T, F, R> Lane<'p, H, T, F, R> {
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
            solitude: Solitude::new(),
        }
    }

    pub(super) fn inner(&self) -> &'p Inner {
        self.producer.inner
    }

    /// Whether a result is there without a look at everything.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        // In order, that stays 0.
        let part = self.chunks.get(self.cursor);
        part.is_some_and(|part| part.ready(self.is_ordered).is_some())
    }

    /// Those that may have a result to be taken, or an item to be run, next.
    fn candidates(&self) -> impl Iterator<Item = &Part<T, R>> {
        let count = if self.is_ordered {
            1
        } else {
            self.chunks.len()
        };
        self.chunks.iter().take(count)
    }

    /// Whether a result is there that may be taken next.
    fn is_any_ready(&self) -> bool {
        self.candidates()
            .any(|part| part.ready(self.is_ordered).is_some())
    }

    /// What is waited for when no result is there.
    fn awaited(&self) -> Mark {
        match self.chunks.front() {
            Some(part) if self.is_ordered => part.chunk.mark(part.next()),
            _ => bell::ANY,
        }
    }

    /// The result that is due, if it is there.
    #[inline]
    fn try_take(&mut self) -> Option<Outcome<R>> {
        let outcome = self.take_at(self.cursor);
        // In order there is no other.
        if outcome.is_some() || self.is_ordered {
            return outcome;
        }
        self.take_elsewhere()
    }

    fn take_elsewhere(&mut self) -> Option<Outcome<R>> {
        let (cursor, count) = (self.cursor, self.chunks.len());
        (cursor + 1..count)
            .chain(0..cursor)
            .find_map(|at| self.take_at(at))
    }

    /// The next result of one of the chunks, if it is there.
    #[inline]
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
    /// Returns where it is, and whether its place is left to a ticket.
    fn claim(&self) -> Option<(usize, Claimed<Item<T>>, bool)> {
        let (inner, shared) = (self.inner(), &self.producer.shared);
        for (at, part) in self.candidates().enumerate() {
            let chunk = &part.chunk;
            let begun = shared.begin_unserved(inner, chunk, self.leaves_place);
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

impl<'a, H, T, F, R> Lane<'_, H, T, F, R>
where
    H: Door<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    /// Makes a job of the item, if there is a place for it.
    ///
    /// # Errors
    /// The item.
    pub(super) fn offer(&mut self, item: T) -> Result<(), T> {
        let origin = Origin::here();
        if !self.producer.try_place() {
            return Err(item);
        }
        self.put(origin, item);
        Ok(())
    }

    fn put(&mut self, origin: Origin, item: T) {
        if let Some(chunk) = self.producer.put(origin, item) {
            // What was the last may be used up.
            if let Some(last) = self.chunks.len().checked_sub(1) {
                self.chunks.push_back(Part { chunk, taken: 0 });
                self.forget_if_used_up(last);
            } else {
                self.chunks.push_back(Part { chunk, taken: 0 });
            }
        }
    }

    /// Brings in an item that was refused, when no result is due. Waits for a place, or runs it here; what
    /// comes of it, then.
    pub(super) fn insist(&mut self, item: T) -> Option<Outcome<R>> {
        let inner = self.inner();
        let origin = Origin::here();
        match self.producer.home.enter(inner) {
            Ok(Entry::Place) => {
                self.put(origin, item);
                None
            }
            Ok(Entry::Inline) => {
                let site = Site::here(inner);
                let outcome = self.producer.shared.run_inline(&site, item);
                inner.look_if_drained();
                Some(outcome)
            }
            Err(_) => Some(Ok((self.producer.shared.f)(item))),
        }
    }

    /// The next result; waits for it. Not to be called without an item that is `due`.
    pub(super) fn take(&mut self, due: usize) -> Outcome<R> {
        loop {
            if let Some(outcome) = self.try_take() {
                return outcome;
            }
            // A worker must not wait for a queue that it should empty.
            let is_own_worker = worker::current_of(self.inner()).is_some();
            if is_own_worker || self.wait(due) == Blocked::Stuck {
                if let Some((at, claimed, leaves_place)) = self.claim() {
                    return self.run_here(at, claimed, leaves_place);
                }
                if is_own_worker {
                    self.wait(due);
                }
            }
        }
    }

    /// Blocks until the result is there that is due. If the thread is another pool's, and this one is stuck,
    /// until there is an item to be claimed.
    fn wait(&mut self, due: usize) -> Blocked {
        let mut yields = Yields::new(if due < MANY { 0 } else { YIELDS });
        while self.leave_core(&mut yields) {
            if self.is_any_ready() {
                return Blocked::Done;
            }
        }
        if linger(None, || self.is_any_ready()) {
            return Blocked::Done;
        }
        self.solitude.end();
        let is_unbegun = || self.candidates().any(|part| part.chunk.may_be_begun());
        let park = |say: &dyn Fn()| {
            let is_ready = || {
                say();
                self.is_any_ready()
            };
            stuck::block(self.inner(), None, is_ready, is_unbegun)
        };
        self.producer.shared.bell.wait(self.awaited(), park)
    }

    /// Yields, or rests. Returns false if it is time to block.
    fn leave_core(&mut self, yields: &mut Yields) -> bool {
        let shared = &self.producer.shared;
        if self.solitude.is_enough() {
            let rest = |say: &dyn Fn()| {
                say();
                if !shared.are_few_left() {
                    thread::park_timeout(REST);
                }
            };
            let until_few_are_left = || shared.bell.wait(bell::FEW_LEFT, rest);
            shared.yielders.leave(until_few_are_left);
            true
        } else {
            let start = Instant::now();
            let has_yielded = shared.yielders.yield_next(yields);
            self.solitude.yielded(start.elapsed());
            has_yielded
        }
    }

    /// Runs an item on the consumer's own stack.
    fn run_here(
        &mut self,
        at: usize,
        (number, item): Claimed<Item<T>>,
        leaves_place: bool,
    ) -> Outcome<R> {
        let inner = self.inner();
        let part = &mut self.chunks[at];
        part.taken |= 1 << number;
        let site = Site::here(inner);
        let outcome = self.producer.shared.run(&site, !leaves_place, item);
        self.forget_if_used_up(at);
        inner.look_if_drained();
        outcome
    }
}

impl<H, T, F, R> Drop for Lane<'_, H, T, F, R> {
    fn drop(&mut self) {
        let inner = self.inner();
        let site = Site::here(inner);
        let (waiting, shells) = self.producer.shared.leave(inner, self.leaves_place);
        let mut dropped = Vec::new();
        for part in &self.chunks {
            let rest = part.chunk.claim_rest();
            let is_waiting = waiting.iter().any(|one| Arc::ptr_eq(one, &part.chunk));
            let left = usize::from(self.leaves_place && is_waiting);
            for n in 0..rest.len() {
                inner.recorder.left_batch(site.counts());
                if n >= left {
                    site.cancelled();
                }
            }
            dropped.extend(rest.map(|(_, item)| item));
        }
        (0..shells).for_each(|_| inner.shell_left());
        // One by one: a panic in one must not meet that of another. In this order: a drop may be the end of the
        // pool, which must not wait for what is cancelled then.
        dropped.into_iter().for_each(|item| quietly(|| drop(item)));
        for part in &mut self.chunks {
            while let Some(number) = part.ready(false) {
                let outcome = part.take(number);
                quietly(move || drop(outcome));
            }
        }
    }
}
