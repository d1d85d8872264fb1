//! What the consumer of a batch and the jobs that work on it share.
//!
//! # Tickets
//!
//! For each chunk of items that nobody has begun, a job is in the queue that will serve one: a *chunk_task*. It
//! does not belong to a chunk: it serves the oldest that is waiting when it starts. So items are begun
//! in their order, although a scope's own deque is last in, first out; and a chunk that the consumer has used
//! up himself leaves a chunk_task that serves a later one. There may be more chunk_tasks than chunks, then.
//!
//! Who serves a chunk runs its items one by one. If there are more than one, he offers the others to whoever has
//! nothing to do: a *split_task* is put into the queue, a job that serves the same chunk, before the first is
//! begun. So there are never items that nobody can come to, and idle workers, while somebody is busy with a
//! long one.
//!
//! # Places
//!
//! Each item has a place in the queue of its own, from when it is put until it is begun or dropped. Tickets and helpers
//! have none; how many there are is bounded by the items and by the threads. But in a scope, where
//! nobody can take a job back out of the queue, a chunk_task whose chunk is used up or dropped keeps one of the
//! places of that chunk, until it starts. So a scope can open and leave as many batches as it likes.
//! A pool's own chunk_tasks become *tombstones* when the batch is left, as the jobs of cancelled handles do.
//!
//! # The end
//!
//! The closure is called between the beginning and the end of an item, and never else. So it can be dropped as soon as the
//! consumer has left and all items that were begun have ended: nobody waits for the jobs that have only a
//! reference to [`Shared`] left. The consumer leaves under the lock of the state: it claims what nobody has begun, says at the
//! event that it has left, and looks which items have ended. The others *run on*. Each thread that ends one of these is
//! told so at the event, and settles, under the same lock, all that have ended by then: it takes their results, and
//! if none runs on any longer, the closure. So the last of them, or the consumer if there is none, drops the closure.
//!
//! # The turn of others
//!
//! A job that serves a chunk counts as many items, for those who wait for the worker. When its turn is over it stops: the owner puts
//! the chunk back in front of those that wait, for another chunk_task; a split_task leaves it to the next split_task.

use std::{
    any::Any,
    cell::Cell,
    collections::VecDeque,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use crate::{
    metrics::{BatchPlaces, Stamp},
    protocol::{
        chunk::{Chunk, Claimed},
        completion::event::Event,
    },
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Place, Runnable},
        span::Origin,
        turn::{LIMIT_JOBS, LIMIT_TIME},
        worker,
    },
    sync::{
        AtomicBool, Instant, Mutex, Ordering, UnsafeCell, backoff::YieldHint, lock, unwind::quietly,
    },
};

/// With so many chunks that nobody serves, the consumer is to bring others soon.
const FEW: usize = 4;

/// What an item leaves: its result, or the payload of its panic.
pub(super) type Outcome<R> = thread::Result<R>;

/// What lies in a chunk.
pub(super) struct Item<T> {
    /// Since when it has its place.
    pub(super) since: Stamp,
    /// The span in which it was pulled.
    pub(super) origin: Origin,
    pub(super) item: T,
}

pub(super) type ChunkOf<T, R> = Arc<Chunk<Item<T>, Outcome<R>>>;

/// How the jobs of a batch get to the threads of the pool. What they borrow outlives 'a.
pub(super) trait Home<'a>: Copy + Send + 'a {
    /// Puts a job into the queue, in its turn. It is run before 'a ends.
    fn push_chunk_task<J: Runnable + 'a>(&self, inner: &Inner, job: J);

    /// Puts a job where those find it who have nothing to do. It is run before 'a ends.
    fn push_split_task<J: Runnable + 'a>(&self, inner: &Inner, job: J);

    /// A job has run that was pushed. What it borrows may be gone after this.
    fn ended(&self, context: &JobContext<'_>);

    /// An item has ended, whose outcome is not yielded. Gives it back if it is.
    fn keep<R>(&self, outcome: Outcome<R>) -> Option<Outcome<R>> {
        Some(outcome)
    }

    /// An item has panicked after the consumer has left. By a job that was pushed, before it has `ended`.
    fn panicked(&self, inner: &Inner, payload: Box<dyn Any + Send>);

    /// Whether the jobs are run even when the pool is emptied.
    fn is_kept(&self) -> bool {
        false
    }
}

/// The function of a batch, which is dropped once, at the latest with this.
struct Closure<F>(UnsafeCell<ManuallyDrop<F>>);

// SAFETY: it gives out shared references, and by an unsafe function, once, the value.
unsafe impl<F: Send + Sync> Sync for Closure<F> {}

impl<F> Closure<F> {
    fn new(f: F) -> Self {
        Self(UnsafeCell::new(ManuallyDrop::new(f)))
    }

    /// Calls it.
    ///
    /// # Safety
    /// It was not taken, and is not before this returns.
    #[inline(always)]
    unsafe fn call<T, R>(&self, item: T) -> R
    where
        F: Fn(T) -> R,
    {
        // SAFETY: passed on to the caller.
        self.0.with(|f| unsafe { (**f)(item) })
    }

    /// # Safety
    /// Nobody calls it, or takes it, now or later.
    unsafe fn take(&self) -> F {
        // SAFETY: passed on to the caller.
        self.0.with_mut(|f| unsafe { ManuallyDrop::take(&mut *f) })
    }
}

/// A chunk of a consumer that has left, with items that run on.
struct Rest<T, R> {
    chunk: ChunkOf<T, R>,
    /// A bit for each slot whose item or result was taken.
    settled: u64,
}

impl<T, R> Rest<T, R> {
    /// Takes the results that are there.
    fn settle(&mut self, outcomes: &mut Vec<Outcome<R>>) {
        for number in 0..self.chunk.len() {
            if self.settled >> number & 1 == 0 && self.chunk.has_ended(number) {
                self.settled |= 1 << number;
                // SAFETY: it has ended, and is marked as taken, under the lock of the state.
                outcomes.push(unsafe { self.chunk.take(number) });
            }
        }
        self.chunk.leave(self.settled);
    }

    fn runs_on(&self) -> bool {
        (self.settled.trailing_ones() as usize) < self.chunk.len()
    }
}

/// What a consumer leaves that is to be dropped, one by one.
pub(super) struct Leavings<T, F, R> {
    /// Nobody has begun them.
    pub(super) items: Vec<T>,
    /// How many of their places are to be given back.
    pub(super) places: usize,
    pub(super) outcomes: Vec<Outcome<R>>,
    pub(super) closure: Option<F>,
    /// How many chunk_tasks are tombstones now.
    pub(super) tombstones: usize,
}

pub(super) struct Shared<T, F, R> {
    closure: Closure<F>,
    state: Mutex<State<T, R>>,
    /// The consumer is gone.
    is_left: AtomicBool,
    pub(super) event: Event,
    pub(super) places: BatchPlaces,
    /// Whether the last item that was timed was short.
    are_short: AtomicBool,
    /// Raised while its feeder or consumer yields.
    pub(super) yield_hint: YieldHint,
}

struct State<T, R> {
    /// Not served yet; the oldest in front. Each has an item that nobody has begun.
    waiting: VecDeque<ChunkOf<T, R>>,
    /// Jobs that will come to serve one.
    chunk_tasks: usize,
    /// Places that were left to chunk_tasks, whose items ran without them. They are held, as those of permits.
    unused: usize,
    /// Places that were left to chunk_tasks, whose items were dropped.
    cancelled: usize,
    /// What runs on.
    rests: Vec<Rest<T, R>>,
    is_closure_taken: bool,
}

impl<T, R> State<T, R> {
    /// How many chunk_tasks have no place.
    fn placeless(&self) -> usize {
        self.chunk_tasks - self.unused - self.cancelled
    }
}

impl<T, F, R> Shared<T, F, R> {
    pub(super) fn new(inner: &Inner, f: F) -> Arc<Self> {
        Arc::new(Self {
            closure: Closure::new(f),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                chunk_tasks: 0,
                unused: 0,
                cancelled: 0,
                rests: Vec::new(),
                is_closure_taken: false,
            }),
            is_left: AtomicBool::new(false),
            event: Event::new(inner.fences),
            places: inner.recorder.open_batch(),
            are_short: AtomicBool::new(false),
            yield_hint: YieldHint::default(),
        })
    }

    /// Whether the items are so short that not each is worth a look at the clock.
    #[inline]
    pub(super) fn are_short(&self) -> bool {
        self.are_short.load(Ordering::Relaxed)
    }

    /// One more chunk, with an item in it. Returns whether it needs a chunk_task, which is counted already.
    pub(super) fn bring(&self, chunk: &ChunkOf<T, R>) -> bool {
        let mut state = lock(&self.state);
        state.waiting.push_back(Arc::clone(chunk));
        let needs_chunk_task = state.waiting.len() > state.chunk_tasks;
        state.chunk_tasks += usize::from(needs_chunk_task);
        needs_chunk_task
    }

    /// Whether the workers come to an end of what was brought soon.
    pub(super) fn are_few_left(&self) -> bool {
        lock(&self.state).waiting.len() <= FEW
    }

    /// The next item of a chunk that is not served yet, if it is the `due` one, or any will do. For the consumer. (Of one
    /// that was put back the item before it may have ended just now.) If it is the last, a
    /// chunk_task is left over; then, if `leaves_place`, the item's place is left to that. Returns whether it is, too.
    pub(super) fn begin_unserved(
        &self,
        inner: &Inner,
        chunk: &ChunkOf<T, R>,
        due: Option<usize>,
        leaves_place: bool,
    ) -> Option<(Claimed<Item<T>>, bool)> {
        let mut state = lock(&self.state);
        let at = state
            .waiting
            .iter()
            .position(|one| Arc::ptr_eq(one, chunk))?;
        chunk.close();
        if due.is_some_and(|due| due != chunk.first_unbegun()) {
            return None;
        }
        // SAFETY: nobody serves it: who has the lock is the owner.
        let claimed = unsafe { chunk.begin() }?;
        if chunk.unbegun() > 0 {
            return Some((claimed, false));
        }
        // The consumer has another reference to it.
        drop(state.waiting.remove(at));
        // One that is left over from an earlier chunk may have a place already.
        let leaves_place = leaves_place && state.placeless() > 0;
        if leaves_place {
            state.unused += 1;
            inner.admission.hold();
        }
        Some((claimed, leaves_place))
    }

    /// The consumer leaves, and has taken these of each chunk. If `leaves_place`, one place of each chunk that waits is left
    /// to its chunk_task.
    pub(super) fn leave(
        &self,
        inner: &Inner,
        leaves_place: bool,
        parts: impl Iterator<Item = (ChunkOf<T, R>, u64)>,
    ) -> Leavings<T, F, R> {
        let (mut items, mut places, mut outcomes) = (Vec::new(), 0, Vec::new());
        let mut state = lock(&self.state);
        self.is_left.store(true, Ordering::Relaxed);
        let waiting = mem::take(&mut state.waiting);
        waiting.iter().for_each(|chunk| chunk.close());
        let mut rests = Vec::new();
        for (chunk, taken) in parts {
            let mut rest = Rest {
                chunk,
                settled: taken,
            };
            rest.chunk.leave(taken);
            if !rest.runs_on() {
                continue;
            }
            let unbegun = items.len();
            for (number, item) in rest.chunk.claim_rest() {
                rest.settled |= 1 << number;
                items.push(item.item);
            }
            let unbegun = items.len() - unbegun;
            let is_waiting = waiting.iter().any(|one| Arc::ptr_eq(one, &rest.chunk));
            let is_left = leaves_place && is_waiting && unbegun > 0 && state.placeless() > 0;
            state.cancelled += usize::from(is_left);
            places += unbegun - usize::from(is_left);
            rests.push(rest);
        }
        let tombstones = if leaves_place { 0 } else { state.chunk_tasks };
        let placed = if leaves_place {
            state.cancelled
        } else {
            tombstones
        };
        inner.queue.count_placeless(-(placed as i64));
        if !rests.is_empty() {
            self.event.leave();
        }
        state.rests = rests;
        let closure = self.settle(&mut state, &mut outcomes);
        drop(state);
        Leavings {
            items,
            places,
            outcomes,
            closure,
            tombstones,
        }
    }

    /// Takes what has ended of what runs on after the consumer has left, and if that was the last, the closure.
    fn settle(&self, state: &mut State<T, R>, outcomes: &mut Vec<Outcome<R>>) -> Option<F> {
        state
            .rests
            .iter_mut()
            .for_each(|rest| rest.settle(outcomes));
        // Nothing of the user's is left in them to be dropped here.
        state.rests.retain(Rest::runs_on);
        if !state.rests.is_empty() || mem::replace(&mut state.is_closure_taken, true) {
            return None;
        }
        // SAFETY: the consumer has left, and all items that were begun have ended, so nobody calls it any more. It was
        // not taken, by the flag, which is read under the lock.
        Some(unsafe { self.closure.take() })
    }

    fn is_waiting(&self, chunk: &ChunkOf<T, R>) -> bool {
        let state = lock(&self.state);
        state.waiting.iter().any(|one| Arc::ptr_eq(one, chunk))
    }

    /// The owner of a chunk ends its turn, and leaves the rest to another chunk_task. Returns whether one is to be put into the
    /// queue, which is counted already.
    fn put_back(&self, chunk: &ChunkOf<T, R>) -> bool {
        let mut state = lock(&self.state);
        if self.is_left.load(Ordering::Relaxed) {
            return false;
        }
        state.waiting.push_front(Arc::clone(chunk));
        let needs_chunk_task = state.waiting.len() > state.chunk_tasks;
        state.chunk_tasks += usize::from(needs_chunk_task);
        needs_chunk_task
    }

    /// A chunk_task starts. Returns the chunk that it is to serve, as its owner.
    fn begin_chunk_task(&self, context: &JobContext<'_>, is_kept: bool) -> Option<ChunkOf<T, R>> {
        let mut state = lock(&self.state);
        state.chunk_tasks -= 1;
        let chunk = state.waiting.pop_front();
        if let Some(chunk) = &chunk {
            chunk.close();
        }
        let kept = if state.unused > 0 {
            state.unused -= 1;
            Kept::Unused
        } else if state.cancelled > 0 {
            state.cancelled -= 1;
            Kept::Cancelled
        } else if is_kept && self.is_left.load(Ordering::Relaxed) {
            Kept::Shell
        } else {
            Kept::Nothing
        };
        drop(state);
        let inner = context.inner;
        match kept {
            Kept::Nothing => inner.queue.count_placeless(-1),
            Kept::Shell => inner.queue.tombstone_gone(),
            Kept::Unused => {
                inner.queue.count_placeless(-1);
                inner.admission.release_held();
                inner.check_drained();
            }
            Kept::Cancelled => context.cancelled(Place::Queue),
        }
        chunk
    }
}

impl<T, F: Fn(T) -> R, R> Shared<T, F, R> {
    /// Runs an item, in the slots of the pool too. Without `placed`, its place is left to a chunk_task, or it has
    /// none. Always inlined: called, it costs a batch of short items an eighth more.
    #[inline(always)]
    pub(super) fn run(&self, context: &JobContext<'_>, placed: bool, item: Item<T>) -> Outcome<R> {
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
        let run = || origin.enter(|| unsafe { self.closure.call(item) });
        let outcome = catch_unwind(AssertUnwindSafe(run));
        context.end(started, outcome.is_ok());
        if started.is_timed() {
            self.was_timed(context);
        }
        outcome
    }

    /// An item was timed: those that are put in from now on are taken to be as long.
    #[inline]
    fn was_timed(&self, context: &JobContext<'_>) {
        let Some(times) = context.times() else { return };
        let is_short = context.inner.timing.is_short(times) == Some(true);
        if self.are_short() != is_short {
            self.are_short.store(is_short, Ordering::Relaxed);
        }
    }

    /// Runs an item that was not put in, in the slots of the pool too.
    pub(super) fn run_inline(&self, context: &JobContext<'_>, item: T) -> Outcome<R> {
        let started = context.begin(
            Place::None,
            context.inner.timing.stamp_inline(context.times()),
        );
        // SAFETY: the consumer, or the caller of a `for_each`, which runs it, has not left.
        let run = || unsafe { self.closure.call(item) };
        let outcome = catch_unwind(AssertUnwindSafe(run));
        context.end(started, outcome.is_ok());
        outcome
    }

    /// Runs an item that was not put in, beside the pool's slots. By the consumer.
    pub(super) fn run_beside(&self, item: T) -> Outcome<R> {
        // SAFETY: the consumer has not left.
        catch_unwind(AssertUnwindSafe(|| unsafe { self.closure.call(item) }))
    }
}

impl<T, F, R> Drop for Shared<T, F, R> {
    fn drop(&mut self) {
        let is_taken = lock(&self.state).is_closure_taken;
        if !is_taken {
            // SAFETY: nobody else is left, and it was not taken.
            drop(unsafe { self.closure.take() });
        }
    }
}

/// What a chunk_task has, when it starts.
enum Kept {
    Nothing,
    /// It is a tombstone.
    Shell,
    /// The place of an item that has run without it.
    Unused,
    /// The place of an item that was dropped.
    Cancelled,
}

/// A job that serves the oldest chunk that is waiting.
pub(super) struct ChunkTask<'a, H, T, F, R> {
    home: H,
    shared: Arc<Shared<T, F, R>>,
    marker: PhantomData<&'a ()>,
}

/// A job that serves a chunk which somebody else has begun to serve.
struct SplitTask<'a, H, T, F, R> {
    home: H,
    shared: Arc<Shared<T, F, R>>,
    chunk: ChunkOf<T, R>,
    marker: PhantomData<&'a ()>,
}

impl<'a, H, T, F, R> Runnable for ChunkTask<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    fn run(self, context: &JobContext<'_>, _: Place) {
        let Self { home, shared, .. } = self;
        let chunk = shared.begin_chunk_task(context, home.is_kept());
        match chunk {
            Some(chunk) => {
                // Of one item the rest is nothing.
                if chunk.unbegun() > 1 && chunk.is_to_be_offered() {
                    SplitTask::push(context.inner, home, &shared, &chunk);
                }
                serve(context, home, shared, chunk, Server::Owner);
            }
            // If it is the last of the batch, this is the end of the closure too.
            None => quietly(move || drop(shared)),
        }
        home.ended(context);
    }

    fn discard(self, context: &JobContext<'_>, place: Place) {
        self.run(context, place);
        context.inner.check_drained();
    }

    fn is_tombstone(&self) -> bool {
        self.home.is_kept() && self.shared.is_left.load(Ordering::Relaxed)
    }

    fn is_kept(&self) -> bool {
        self.home.is_kept() && !self.is_tombstone()
    }
}

impl<'a, H, T, F, R> Runnable for SplitTask<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    fn run(self, context: &JobContext<'_>, _: Place) {
        let Self {
            home,
            shared,
            chunk,
            ..
        } = self;
        context.inner.queue.count_placeless(-1);
        chunk.offer_taken();
        let first = chunk.claim();
        if chunk.is_to_be_offered() {
            Self::push(context.inner, home, &shared, &chunk);
        }
        serve(
            context,
            home,
            shared,
            chunk,
            Server::SplitTask(Cell::new(first)),
        );
        home.ended(context);
    }

    fn discard(self, context: &JobContext<'_>, place: Place) {
        self.run(context, place);
        context.inner.check_drained();
    }
}

/// In which part a job serves a chunk.
enum Server<T> {
    /// It has taken the chunk out of the list.
    Owner,
    /// It has claimed this item, if there was one.
    SplitTask(Cell<Option<Claimed<Item<T>>>>),
}

/// Whether the worker's loop is to have its turn, after a job of it has served so many items, since then.
fn turn_is_over(context: &JobContext<'_>, items_served: u32, since: Instant) -> bool {
    if context.slots.is_none() || context.inner.life.is_discarding() {
        // There is no loop, or nothing else has a turn.
        return false;
    }
    items_served >= LIMIT_JOBS || since.elapsed() >= LIMIT_TIME
}

/// Runs items of a closed chunk until there are no more, or its turn is over.
fn serve<'a, H, T, F, R>(
    context: &JobContext<'_>,
    home: H,
    shared: Arc<Shared<T, F, R>>,
    chunk: ChunkOf<T, R>,
    server: Server<T>,
) where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    let (mut served, mut since) = (0, None);
    loop {
        let claimed = match &server {
            // SAFETY: the chunk_task that takes a chunk out of the list is its owner.
            Server::Owner => unsafe { chunk.begin() },
            Server::SplitTask(first) => first.take().or_else(|| chunk.claim()),
        };
        let Some((number, item)) = claimed else {
            break;
        };
        // Of short ones a chunk takes less than a turn.
        let is_watched = !shared.are_short();
        if is_watched && since.is_none() {
            since = Some(Instant::now());
        }
        let outcome = shared.run(context, true, item);
        if let Some(times) = context.times() {
            context.inner.timing.next_follows(times);
        }
        if let Some(outcome) = home.keep(outcome) {
            // SAFETY: the number was claimed just now.
            unsafe { chunk.end(number, outcome) };
            if shared.event.notify(chunk.mark(number)) {
                shared.settle_rest(context, home);
            }
        }
        served += 1;
        if let Some(since) = since.filter(|_| is_watched) {
            if turn_is_over(context, served, since) {
                end_turn(context, home, &shared, &chunk, &server);
                break;
            }
        }
    }
    if let Some(current) = worker::current_of(context.inner) {
        current.count_items(served);
    }
    shared.yield_hint.heed(|| shared.are_few_left());
    // If it is the last of the batch, this is the end of what nobody has taken, and of the closure.
    quietly(move || drop(chunk));
    quietly(move || drop(shared));
}

/// Leaves what is left of a chunk to another job.
#[cold]
fn end_turn<'a, H, T, F, R>(
    context: &JobContext<'_>,
    home: H,
    shared: &Arc<Shared<T, F, R>>,
    chunk: &ChunkOf<T, R>,
    server: &Server<T>,
) where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    match server {
        Server::Owner if chunk.unbegun() > 0 && shared.put_back(chunk) => {
            ChunkTask::push(context.inner, home, shared);
        }
        // The worker that takes the chunk_task of one that was put back comes to it.
        Server::SplitTask(_) if !shared.is_waiting(chunk) && chunk.is_to_be_offered() => {
            SplitTask::push(context.inner, home, shared, chunk);
        }
        _ => {}
    }
}

impl<T, F, R> Shared<T, F, R> {
    /// An item has ended on the calling thread, and the consumer may not have seen that when it has left.
    #[cold]
    fn settle_rest<'a, H: Home<'a>>(&self, context: &JobContext<'_>, home: H) {
        let mut outcomes = Vec::new();
        let closure = self.settle(&mut lock(&self.state), &mut outcomes);
        for outcome in outcomes {
            match outcome {
                Ok(result) => quietly(move || drop(result)),
                Err(payload) => home.panicked(context.inner, payload),
            }
        }
        quietly(move || drop(closure));
    }
}

impl<'a, H, T, F, R> SplitTask<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    /// Puts a split_task into the queue.
    fn push(inner: &Inner, home: H, shared: &Arc<Shared<T, F, R>>, chunk: &ChunkOf<T, R>) {
        let split_task = Self {
            home,
            shared: Arc::clone(shared),
            chunk: Arc::clone(chunk),
            marker: PhantomData,
        };
        inner.queue.count_placeless(1);
        home.push_split_task(inner, split_task);
    }
}

impl<'a, H, T, F, R> ChunkTask<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    /// Puts a chunk_task into the queue.
    pub(super) fn push(inner: &Inner, home: H, shared: &Arc<Shared<T, F, R>>) {
        let chunk_task = Self {
            home,
            shared: Arc::clone(shared),
            marker: PhantomData,
        };
        inner.queue.count_placeless(1);
        home.push_chunk_task(inner, chunk_task);
    }
}
