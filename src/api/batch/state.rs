//! The state of a batch, shared by its feeder, its consumer and its chunk tasks.
//!
//! # The end of the function
//!
//! The function is called only between the beginning and the end of an item. So it can be dropped
//! as soon as the consumer has left and all items that were begun have ended, whatever jobs still
//! refer to the batch. The consumer leaves under the lock of the state: it claims what is
//! unclaimed, publishes at the event that it has left, and takes each result that is there. The
//! other items *run on*. A thread that ends one of these observes at the event that the consumer
//! has left. Either it or the consumer wins the result ([`Chunk::race_to_take`]), so each item that
//! runs on is counted once in `running`. The last of them, or the consumer if there is none, drops
//! the function.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use super::{
    consumer::Part,
    home::{Home, HomeOf},
};
use crate::{
    metrics::{BatchPlaces, Stamp},
    protocol::{chunk::Chunk, completion::event::Event},
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Ended, Place},
        span::Origin,
    },
    sync::{
        AtomicBool, Mutex, Ordering, Rank, UnsafeCell, backoff::YieldHint, lock, unwind::quietly,
    },
    tuning::FEW_CHUNKS,
};

/// The types of a batch, as one parameter.
pub(super) trait Types {
    type Home: Home;
    type Item;
    type Function;
    type Result;
}

/// The batch of these types.
pub(super) struct Of<H, T, F, R>(PhantomData<(H, T, F, R)>);

impl<H: Home, T, F, R> Types for Of<H, T, F, R> {
    type Home = H;
    type Item = T;
    type Function = F;
    type Result = R;
}

/// Types of a batch on which threads of the pool can work before `'a` ends.
pub(super) trait Work<'a>:
    Types<
        Home: HomeOf<'a>,
        Item: Send + 'a,
        Function: Fn(<Self as Types>::Item) -> <Self as Types>::Result + Send + Sync + 'a,
        Result: Send + 'a,
    > + 'a
{
}

impl<'a, H, T, F, R> Work<'a> for Of<H, T, F, R>
where
    H: HomeOf<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
}

/// What an item leaves: its result, or the payload of its panic.
pub(super) type Outcome<R> = thread::Result<R>;

/// The content of a slot of a chunk.
pub(super) struct Item<T> {
    /// When it got its place.
    pub(super) since: Stamp,
    /// The span in which it was pulled.
    pub(super) origin: Origin,
    pub(super) item: T,
}

pub(super) type ChunkOf<B> = Arc<Chunk<Item<<B as Types>::Item>, Outcome<<B as Types>::Result>>>;

/// The function of a batch.
struct Function<F>(UnsafeCell<ManuallyDrop<F>>);

// SAFETY: it returns shared references, and the value only by an unsafe function, once.
unsafe impl<F: Send + Sync> Sync for Function<F> {}

impl<F> Function<F> {
    /// # Safety
    /// The function was not taken, and is not taken before this returns.
    #[inline(always)]
    unsafe fn call<T, R>(&self, item: T) -> R
    where
        F: Fn(T) -> R,
    {
        // SAFETY: passed on to the caller.
        self.0.with(|f| unsafe { (**f)(item) })
    }

    /// # Safety
    /// No thread calls it, or takes it, now or later.
    unsafe fn take(&self) -> F {
        // SAFETY: passed on to the caller.
        self.0.with_mut(|f| unsafe { ManuallyDrop::take(&mut *f) })
    }
}

pub(super) struct Batch<B: Types> {
    pub(super) home: B::Home,
    function: Function<B::Function>,
    state: Mutex<State<B>>,
    /// Whether the consumer has left.
    is_left: AtomicBool,
    pub(super) event: Event,
    pub(super) places: BatchPlaces,
    /// Raised while the feeder or the consumer yields.
    pub(super) yield_hint: YieldHint,
}

struct State<B: Types> {
    /// Chunks that no chunk task serves yet, the oldest in front. The consumer may have claimed
    /// items of the first ones.
    waiting: VecDeque<ChunkOf<B>>,
    /// Chunk tasks in the queue. Each will serve one of these chunks, or none.
    chunk_tasks: usize,
    /// How many of these tasks have the place of an item that has run without it. That place is
    /// held, as a permit's is.
    held: usize,
    /// How many have the place of an item that was dropped.
    cancelled: usize,
    /// Items that run on.
    running: usize,
}

impl<B: Types> State<B> {
    /// Drops the oldest chunks that have no unclaimed item.
    fn forget_exhausted(&mut self) {
        while self
            .waiting
            .front()
            .is_some_and(|chunk| chunk.unclaimed() == 0)
        {
            self.waiting.pop_front();
        }
    }

    /// Whether the chunks need one more chunk task, which this then counts.
    fn needs_task(&mut self) -> bool {
        let needs_task = self.waiting.len() > self.chunk_tasks;
        self.chunk_tasks += usize::from(needs_task);
        needs_task
    }
}

/// What is left to drop when the consumer leaves, one by one.
pub(super) struct Leavings<B: Types> {
    /// Unclaimed items.
    pub(super) items: Vec<Item<B::Item>>,
    /// How many of their places are given back.
    pub(super) places: usize,
    pub(super) outcomes: Vec<Outcome<B::Result>>,
    pub(super) function: Option<B::Function>,
    /// How many chunk tasks are tombstones now.
    pub(super) tombstones: usize,
}

impl<B: Types> Batch<B> {
    pub(super) fn new(inner: &Inner, home: B::Home, f: B::Function) -> Arc<Self> {
        Arc::new(Self {
            home,
            function: Function(UnsafeCell::new(ManuallyDrop::new(f))),
            state: Mutex::new(
                Rank::Batch,
                State {
                    waiting: VecDeque::new(),
                    chunk_tasks: 0,
                    held: 0,
                    cancelled: 0,
                    running: 0,
                },
            ),
            is_left: AtomicBool::new(false),
            event: Event::new(inner.fences),
            places: inner.recorder.open_batch(),
            yield_hint: YieldHint::default(),
        })
    }

    pub(super) fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }

    /// Adds a chunk, with an item in it. Returns whether it needs a chunk task, which is then
    /// already counted.
    pub(super) fn bring(&self, chunk: &ChunkOf<B>) -> bool {
        let mut state = lock(&self.state);
        state.forget_exhausted();
        state.waiting.push_back(Arc::clone(chunk));
        state.needs_task()
    }

    /// Called when the consumer in a scope has claimed an item, which has a place. Returns whether
    /// that place stays with a chunk task that has no chunk to serve now.
    pub(super) fn keeps_place(&self, inner: &Inner) -> bool {
        let mut state = lock(&self.state);
        state.forget_exhausted();
        let keeps = state.chunk_tasks > state.waiting.len() + state.held;
        if keeps {
            state.held += 1;
            inner.admission.hold();
        }
        keeps
    }

    /// Whether the workers will soon reach the end of the chunks.
    pub(super) fn are_few_left(&self) -> bool {
        lock(&self.state).waiting.len() <= FEW_CHUNKS
    }

    /// Puts the rest of a chunk back in front when the turn of its job is over, so that items start
    /// in their order. Returns whether that needs a chunk task, which is then already counted.
    pub(super) fn put_back(&self, chunk: &ChunkOf<B>) -> bool {
        let mut state = lock(&self.state);
        let is_waiting = state.waiting.iter().any(|one| Arc::ptr_eq(one, chunk));
        if is_waiting || chunk.unclaimed() == 0 || self.is_left() {
            return false;
        }
        state.waiting.push_front(Arc::clone(chunk));
        state.needs_task()
    }

    /// Lets the consumer leave, and returns what it has to drop.
    pub(super) fn leave(&self, inner: &Inner, parts: &mut [Part<B>]) -> Leavings<B> {
        let mut state = lock(&self.state);
        self.is_left.store(true, Ordering::Relaxed);
        state.waiting.clear();
        let mut items = Vec::new();
        for part in &mut *parts {
            part.claim_rest(&mut items);
        }
        if parts.iter().any(Part::is_running) {
            self.event.leave();
        }
        let mut outcomes = Vec::new();
        for part in parts {
            // From now on the threads of its items race for what has not ended.
            state.running += part.take_rest(&mut outcomes);
        }
        let (tombstones, kept) = if B::Home::IS_SCOPED {
            state.cancelled = items.len().min(state.chunk_tasks - state.held);
            (0, state.cancelled)
        } else {
            (state.chunk_tasks, 0)
        };
        inner.queue.count_placeless(-((tombstones + kept) as i64));
        // SAFETY: the consumer has left, and no item runs on, so no thread calls it.
        let function = (state.running == 0).then(|| unsafe { self.function.take() });
        Leavings {
            places: items.len() - kept,
            items,
            outcomes,
            function,
            tombstones,
        }
    }

    /// Takes the outcome of an item that has ended on the calling thread, after the consumer has
    /// left.
    #[cold]
    pub(super) fn ran_on(&self, inner: &Inner, chunk: &ChunkOf<B>, number: usize) {
        // SAFETY: the consumer takes it in the same way.
        let Some(outcome) = (unsafe { chunk.race_to_take(number) }) else {
            return;
        };
        let mut state = lock(&self.state);
        state.running -= 1;
        // SAFETY: as in `leave`.
        let function = (state.running == 0).then(|| unsafe { self.function.take() });
        drop(state);
        self.discard(inner, outcome);
        quietly(move || drop(function));
    }

    /// Drops an outcome that no consumer takes.
    pub(super) fn discard(&self, inner: &Inner, outcome: Outcome<B::Result>) {
        match outcome {
            Ok(result) => quietly(move || drop(result)),
            Err(payload) => self.home.panicked(inner, payload),
        }
    }

    /// Accounts for a chunk task that starts. Returns the chunk that it serves.
    pub(super) fn begin_task(&self, context: &JobContext<'_>) -> Option<ChunkOf<B>> {
        let inner = context.inner;
        let mut state = lock(&self.state);
        state.chunk_tasks -= 1;
        state.forget_exhausted();
        let chunk = state.waiting.pop_front();
        if state.held > 0 {
            state.held -= 1;
            drop(state);
            inner.queue.count_placeless(-1);
            inner.check_drained(inner.admission.release_held());
        } else if state.cancelled > 0 {
            state.cancelled -= 1;
            drop(state);
            context.cancelled(Place::Queue);
        } else if self.is_left() && !B::Home::IS_SCOPED {
            inner.queue.tombstone_gone();
        } else {
            inner.queue.count_placeless(-1);
        }
        chunk
    }
}

impl<'a, B: Work<'a>> Batch<B> {
    /// Runs an item, and counts it in the pool's slots. Without `placed`, its place stays with a
    /// chunk task. Always inlined: a call costs a batch of short items an eighth more.
    #[inline(always)]
    pub(super) fn run(
        &self,
        context: &JobContext<'_>,
        placed: bool,
        item: Item<B::Item>,
    ) -> (Outcome<B::Result>, Ended) {
        let Item {
            since,
            origin,
            item,
        } = item;
        // In this order: see `BatchPlaces`.
        context.inner.recorder.left_batch(context.counts());
        let place = if placed { Place::Queue } else { Place::None };
        let started = context.begin(place, since);
        // SAFETY: the item was begun, and has not ended.
        let run = || origin.enter(|| unsafe { self.function.call(item) });
        let outcome = catch_unwind(AssertUnwindSafe(run));
        let ended = context.end(started, outcome.is_ok());
        (outcome, ended)
    }

    /// Runs an item that was not put in, and counts it in the pool's slots. Called by the consumer.
    pub(super) fn run_inline(
        &self,
        context: &JobContext<'_>,
        item: B::Item,
    ) -> (Outcome<B::Result>, Ended) {
        let since = context.inner.timing.stamp();
        let started = context.begin(Place::None, since);
        let outcome = self.run_beside(item);
        let ended = context.end(started, outcome.is_ok());
        (outcome, ended)
    }

    /// Runs an item that was not put in, without counting it. Called by the consumer.
    pub(super) fn run_beside(&self, item: B::Item) -> Outcome<B::Result> {
        // SAFETY: the consumer has not left.
        catch_unwind(AssertUnwindSafe(|| unsafe { self.function.call(item) }))
    }
}

impl<B: Types> Drop for Batch<B> {
    fn drop(&mut self) {
        // Otherwise the consumer that has left has taken it, or the last item that ran on.
        if !self.is_left() {
            // SAFETY: no other thread is left, and it was not taken.
            drop(unsafe { self.function.take() });
        }
    }
}
