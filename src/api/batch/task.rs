//! The jobs that work on a batch.
//!
//! For each chunk with waiting items, a *chunk task* is in the queue. It does not belong to one
//! chunk: it serves the oldest that waits when it starts. So items start in their order, although a
//! scope's own deque is last in, first out. There may be more chunk tasks than chunks, if the
//! consumer has claimed all items of one.
//!
//! A job that serves a chunk runs its items one by one. Before it runs the first, it puts a *split
//! task*, a job that serves the same chunk, where idle workers find it. So while one item takes
//! long, idle workers run those behind it.
//!
//! # Places
//!
//! Each item has a place in the queue, from when it is put until it is begun or dropped. Tasks have
//! none; the items and the threads bound their number. When a consumer leaves its batch, a pool's
//! own chunk tasks become *tombstones*, as the jobs of cancelled handles do. No thread can take a
//! job of a scope back out of the queue. There, a chunk task without a chunk keeps a place until it
//! starts: that of an item that the consumer has claimed, or that was dropped. So a scope can open
//! and leave any number of batches.
//!
//! # Turns (R8)
//!
//! A job that serves a chunk counts as many jobs as it runs items. When its turn is over, it puts
//! the rest of the chunk back in front of the waiting chunks, for another chunk task.

use std::sync::Arc;

use super::{
    home::{Home, HomeOf},
    state::{Batch, ChunkOf, Types, Work},
};
use crate::{
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Ended, Place, Runnable},
        turn::{LIMIT_TIME, StridedClock},
        worker::{self, Current},
    },
    sync::{Instant, unwind::quietly},
};

pub(super) struct Task<B: Types> {
    batch: Arc<Batch<B>>,
    /// The chunk of a split task; none for a chunk task.
    chunk: Option<ChunkOf<B>>,
}

impl<'a, B: Work<'a>> Task<B> {
    /// Puts a chunk task into the queue. The state already counts it.
    pub(super) fn push(inner: &Inner, batch: &Arc<Batch<B>>) {
        inner.queue.count_placeless(1);
        let (batch, chunk) = (Arc::clone(batch), None);
        batch.home.push(inner, Self { batch, chunk });
    }

    /// Offers the rest of the chunk to idle workers, unless it is already offered.
    fn split(inner: &Inner, batch: &Arc<Batch<B>>, chunk: &ChunkOf<B>) {
        if chunk.is_to_be_offered() {
            inner.queue.count_placeless(1);
            let (batch, chunk) = (Arc::clone(batch), Some(Arc::clone(chunk)));
            batch.home.offer(inner, Self { batch, chunk });
        }
    }

    fn is_in_pool(&self) -> bool {
        self.chunk.is_none() && !B::Home::IS_SCOPED
    }
}

impl<'a, B: Work<'a>> Runnable<Inner> for Task<B> {
    fn run(self, context: &JobContext<'_>, _: Place) -> Ended {
        let Self { batch, chunk } = self;
        let home = batch.home;
        let chunk = match chunk {
            Some(chunk) => {
                context.inner.queue.count_placeless(-1);
                chunk.offer_taken();
                Some(chunk)
            }
            None => batch.begin_task(context),
        };
        let ended = match chunk {
            Some(chunk) => serve(context, &batch, &chunk),
            None => Ended::new(),
        };
        // The last reference to the batch also drops the function.
        quietly(move || drop(batch));
        home.ended(context);
        ended
    }

    fn discard(self, context: &JobContext<'_>, place: Place) {
        context.inner.check_drained(self.run(context, place));
    }

    fn is_tombstone(&self) -> bool {
        self.is_in_pool() && self.batch.is_left()
    }

    fn is_kept(&self) -> bool {
        self.is_in_pool() && !self.batch.is_left()
    }
}

/// Runs items of a chunk until none is left, or its turn is over. Returns the end of the last one.
fn serve<'a, B: Work<'a>>(
    context: &JobContext<'_>,
    batch: &Arc<Batch<B>>,
    chunk: &ChunkOf<B>,
) -> Ended {
    let inner = context.inner;
    let current = worker::current_of(inner);
    let turn = current.map(ChunkTurn::new);
    let mut served = 0;
    let mut last = Ended::new();
    let mut next = chunk.claim();
    Task::split(inner, batch, chunk);
    while let Some((number, item)) = next {
        let (outcome, ended) = batch.run(context, true, item);
        last = ended;
        if B::Home::DISCARDS {
            batch.discard(inner, outcome);
        } else {
            // SAFETY: the number was claimed just now.
            unsafe { chunk.end(number, outcome) };
            if batch.event.notify(chunk.mark(number)) {
                batch.ran_on(inner, chunk, number);
            }
        }
        served += 1;
        if turn.as_ref().is_some_and(ChunkTurn::is_over) {
            if batch.put_back(chunk) {
                Task::push(inner, batch);
            }
            break;
        }
        next = chunk.claim();
    }
    if let Some(current) = current {
        current.count_items(served);
    }
    batch.yield_hint.heed(|| batch.are_few_left());
    last
}

/// The turn of a job that serves a chunk, on a thread of the pool. Elsewhere there is no loop.
struct ChunkTurn<'a> {
    inner: &'a Inner,
    since: Instant,
    /// Begins with what the worker knows of its last jobs.
    clock: StridedClock,
}

impl<'a> ChunkTurn<'a> {
    fn new(current: &'a Current) -> Self {
        let clock = current.clock().clone();
        Self {
            inner: current.inner(),
            since: clock.resume(),
            clock,
        }
    }

    /// Counts an item. Returns whether the turn is over. The number of items is not counted: a
    /// chunk has no more than a turn. While the pool is emptied, no other source has a turn.
    fn is_over(&self) -> bool {
        self.clock.count(1) && {
            let now = Instant::now();
            self.clock.read(now);
            now.saturating_duration_since(self.since) >= LIMIT_TIME
                && !self.inner.life.is_discarding()
        }
    }
}
