//! What the consumer of a batch and the jobs that work on it share.
//!
//! # Tickets
//!
//! For each chunk of items that nobody has begun, a job is in the queue that will serve one: a *ticket*. It
//! does not belong to a chunk: it serves the oldest that is waiting when it starts. So items are begun
//! in their order, although a scope's own deque is last in, first out; and a chunk that the consumer has used
//! up himself leaves a ticket that serves a later one. There may be more tickets than chunks, then.
//!
//! Who serves a chunk runs its items one by one. If there are more than one, he offers the others to whoever has
//! nothing to do: a *helper* is put into the queue, a job that serves the same chunk, before the first is
//! begun. So there are never items that nobody can come to, and idle workers, while somebody is busy with a
//! long one.
//!
//! # Places
//!
//! Each item has a place in the queue of its own, from when it is put until it is begun or dropped. Tickets and helpers
//! have none; how many there are is bounded by the items and by the threads. But in a scope, where
//! nobody can take a job back out of the queue, a ticket whose chunk is used up or dropped keeps one of the
//! places of that chunk, until it starts. So a scope can open and leave as many batches as it likes.
//! A pool's own tickets become *shells* when the batch is left, as the jobs of cancelled handles do.

use std::{
    cell::Cell,
    collections::VecDeque,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use crate::{
    bell::{self, Bell},
    chunk::{Chunk, Claimed},
    inner::Inner,
    job::{Place, Runnable},
    metrics::{BatchPlaces, Stamp},
    site::{Site, Visit},
    span::Origin,
    sync::{AtomicBool, Mutex, Ordering, lock},
    unwind::quietly,
    worker::{self, Current},
    yielders::Yielders,
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
    fn push_ticket<J: Runnable + 'a>(&self, inner: &Inner, job: J);

    /// Puts a job where those find it who have nothing to do. It is run before 'a ends.
    fn push_helper<J: Runnable + 'a>(&self, inner: &Inner, job: J);

    /// A job has run that was pushed. What it borrows may be gone after this.
    fn ended(&self, site: &Site<'_>);

    /// An item has ended, whose outcome is not yielded. Gives it back if it is.
    fn keep<R>(&self, outcome: Outcome<R>) -> Option<Outcome<R>> {
        Some(outcome)
    }

    /// Whether the jobs are run even when the pool is emptied.
    fn is_kept(&self) -> bool {
        false
    }
}

pub(super) struct Shared<T, F, R> {
    pub(super) f: F,
    state: Mutex<State<T, R>>,
    /// The consumer is gone.
    is_left: AtomicBool,
    pub(super) bell: Bell,
    pub(super) places: BatchPlaces,
    /// Whether the last item that was timed was short.
    are_short: AtomicBool,
    /// The consumer, while he waits for results without blocking for one.
    pub(super) yielders: Yielders,
}

struct State<T, R> {
    /// Not served yet; the oldest in front. Each has an item that nobody has begun.
    waiting: VecDeque<ChunkOf<T, R>>,
    /// Jobs that will come to serve one.
    tickets: usize,
    /// Places that were left to tickets, whose items ran without them. They are held, as those of permits.
    unused: usize,
    /// Places that were left to tickets, whose items were dropped.
    cancelled: usize,
}

impl<T, R> State<T, R> {
    /// How many tickets have no place.
    fn placeless(&self) -> usize {
        self.tickets - self.unused - self.cancelled
    }
}

impl<T, F, R> Shared<T, F, R> {
    pub(super) fn new(inner: &Inner, f: F) -> Arc<Self> {
        Arc::new(Self {
            f,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                tickets: 0,
                unused: 0,
                cancelled: 0,
            }),
            is_left: AtomicBool::new(false),
            bell: Bell::new(),
            places: inner.recorder.open_batch(),
            are_short: AtomicBool::new(false),
            yielders: Yielders::default(),
        })
    }

    /// Whether the items are so short that not each is worth a look at the clock.
    #[inline]
    pub(super) fn are_short(&self) -> bool {
        self.are_short.load(Ordering::Relaxed)
    }

    /// One more chunk, with an item in it. Returns whether it needs a ticket, which is counted already.
    pub(super) fn bring(&self, chunk: &ChunkOf<T, R>) -> bool {
        let mut state = lock(&self.state);
        state.waiting.push_back(Arc::clone(chunk));
        let needs_ticket = state.waiting.len() > state.tickets;
        state.tickets += usize::from(needs_ticket);
        needs_ticket
    }

    /// Whether the workers come to an end of what was brought soon.
    pub(super) fn are_few_left(&self) -> bool {
        lock(&self.state).waiting.len() <= FEW
    }

    /// The next item of a chunk that is not served yet. For the consumer. If it is the last, a
    /// ticket is left over; then, if `leaves_place`, the item's place is left to that. Returns whether it is, too.
    pub(super) fn begin_unserved(
        &self,
        inner: &Inner,
        chunk: &ChunkOf<T, R>,
        leaves_place: bool,
    ) -> Option<(Claimed<Item<T>>, bool)> {
        let mut state = lock(&self.state);
        let at = state
            .waiting
            .iter()
            .position(|one| Arc::ptr_eq(one, chunk))?;
        chunk.close();
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

    /// The consumer is gone, and will claim all that nobody has begun. Returns the chunks of each of which one
    /// place is left to a ticket, if `leaves_place`, and the number of tickets that are shells now.
    pub(super) fn leave(
        &self,
        inner: &Inner,
        leaves_place: bool,
    ) -> (VecDeque<ChunkOf<T, R>>, usize) {
        let mut state = lock(&self.state);
        let mut waiting = mem::take(&mut state.waiting);
        waiting.iter().for_each(|chunk| chunk.close());
        let (placed, shells) = if leaves_place {
            waiting.truncate(state.placeless());
            state.cancelled += waiting.len();
            (waiting.len(), 0)
        } else {
            waiting.clear();
            (state.tickets, state.tickets)
        };
        inner.queue.count_placeless(-(placed as i64));
        self.is_left.store(true, Ordering::Relaxed);
        (waiting, shells)
    }

    /// A ticket starts. Returns the chunk that it is to serve, as its owner.
    fn begin_ticket(&self, site: &Site<'_>, is_kept: bool) -> Option<ChunkOf<T, R>> {
        let mut state = lock(&self.state);
        state.tickets -= 1;
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
        let inner = site.inner;
        match kept {
            Kept::Nothing => inner.queue.count_placeless(-1),
            Kept::Shell => inner.queue.shell_gone(),
            Kept::Unused => {
                inner.queue.count_placeless(-1);
                inner.admission.release_held();
                inner.look_if_drained();
            }
            Kept::Cancelled => site.cancelled(Place::Queue),
        }
        chunk
    }
}

impl<T, F: Fn(T) -> R, R> Shared<T, F, R> {
    /// Runs an item, in the books of the pool too. Without `placed`, its place is left to a ticket, or it has
    /// none. Always inlined: called, it costs a batch of short items an eighth more.
    #[inline(always)]
    pub(super) fn run(&self, site: &Site<'_>, placed: bool, item: Item<T>) -> Outcome<R> {
        let Item {
            since,
            origin,
            item,
        } = item;
        // In this order: see `BatchPlaces`.
        site.inner.recorder.left_batch(site.counts());
        let place = if placed { Place::Queue } else { Place::None };
        let started = site.begin(place, since);
        let run = || origin.enter(|| (self.f)(item));
        let outcome = catch_unwind(AssertUnwindSafe(run));
        site.end(started, outcome.is_ok());
        if started.is_timed() {
            self.was_timed(site);
        }
        outcome
    }

    /// An item was timed: those that are put in from now on are taken to be as long.
    #[inline]
    fn was_timed(&self, site: &Site<'_>) {
        let Some(times) = site.times() else { return };
        let is_short = site.inner.timing.is_short(times) == Some(true);
        if self.are_short() != is_short {
            self.are_short.store(is_short, Ordering::Relaxed);
        }
    }

    /// Runs an item that was not put in, in the books of the pool too.
    pub(super) fn run_inline(&self, site: &Site<'_>, item: T) -> Outcome<R> {
        let started = site.begin(Place::None, site.inner.timing.stamp_inline(site.times()));
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.f)(item)));
        site.end(started, outcome.is_ok());
        outcome
    }

    /// The same on a thread that is not the pool's.
    #[inline]
    pub(super) fn run_on_visit(&self, visit: &Visit<'_>, item: T) -> Outcome<R> {
        let started = visit.begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.f)(item)));
        visit.end(started, outcome.is_ok());
        outcome
    }
}

/// What a ticket has, when it starts.
enum Kept {
    Nothing,
    /// It is a shell.
    Shell,
    /// The place of an item that has run without it.
    Unused,
    /// The place of an item that was dropped.
    Cancelled,
}

/// A job that serves the oldest chunk that is waiting.
pub(super) struct Ticket<'a, H, T, F, R> {
    home: H,
    shared: Arc<Shared<T, F, R>>,
    marker: PhantomData<&'a ()>,
}

/// A job that serves a chunk which somebody else has begun to serve.
struct Helper<'a, H, T, F, R> {
    home: H,
    shared: Arc<Shared<T, F, R>>,
    chunk: ChunkOf<T, R>,
    marker: PhantomData<&'a ()>,
}

impl<'a, H, T, F, R> Runnable for Ticket<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    fn run(self, site: &Site<'_>, _: Place) {
        let Self { home, shared, .. } = self;
        let chunk = shared.begin_ticket(site, home.is_kept());
        match chunk {
            Some(chunk) => briefly(site.inner, shared.are_short(), || {
                // Of one item the rest is nothing.
                if chunk.unbegun() > 1 && chunk.is_to_be_offered() {
                    Helper::push(site.inner, home, &shared, &chunk);
                }
                // SAFETY: the ticket that takes a chunk out of the list is its owner.
                serve(site, home, shared, chunk, |chunk| unsafe { chunk.begin() });
            }),
            // If it is the last of the batch, this is the end of the closure too.
            None => quietly(move || drop(shared)),
        }
        home.ended(site);
    }

    fn discard(self, site: &Site<'_>, place: Place) {
        self.run(site, place);
        site.inner.look_if_drained();
    }

    fn is_shell(&self) -> bool {
        self.home.is_kept() && self.shared.is_left.load(Ordering::Relaxed)
    }

    fn is_kept(&self) -> bool {
        self.home.is_kept() && !self.is_shell()
    }
}

impl<'a, H, T, F, R> Runnable for Helper<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    fn run(self, site: &Site<'_>, _: Place) {
        let Self {
            home,
            shared,
            chunk,
            ..
        } = self;
        site.inner.queue.count_placeless(-1);
        chunk.offer_taken();
        let first = chunk.claim();
        briefly(site.inner, shared.are_short(), || {
            if chunk.is_to_be_offered() {
                Self::push(site.inner, home, &shared, &chunk);
            }
            let first = Cell::new(first);
            let next = |chunk: &ChunkOf<T, R>| first.take().or_else(|| chunk.claim());
            serve(site, home, shared, chunk, next);
        });
        home.ended(site);
    }

    fn discard(self, site: &Site<'_>, place: Place) {
        self.run(site, place);
        site.inner.look_if_drained();
    }
}

/// Runs `f`, which offers items of a chunk, and serves it. If the items are short, there will be none soon; so workers
/// that ran dry just now leave them alone at first.
fn briefly(inner: &Inner, are_short: bool, f: impl FnOnce()) {
    let local = worker::current_of(inner).and_then(Current::local);
    match local {
        Some(local) if are_short => {
            local.set_brief(true);
            f();
            local.set_brief(false);
        }
        _ => f(),
    }
}

/// Runs items of a closed chunk until `next` finds none.
fn serve<'a, H, T, F, R>(
    site: &Site<'_>,
    home: H,
    shared: Arc<Shared<T, F, R>>,
    chunk: ChunkOf<T, R>,
    next: impl Fn(&ChunkOf<T, R>) -> Option<Claimed<Item<T>>>,
) where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    while let Some((number, item)) = next(&chunk) {
        let outcome = shared.run(site, true, item);
        if let Some(times) = site.times() {
            site.inner.timing.next_follows(times);
        }
        if let Some(outcome) = home.keep(outcome) {
            // SAFETY: the number was claimed just now.
            unsafe { chunk.end(number, outcome) };
            shared.bell.ring(chunk.mark(number));
        }
    }
    shared.yielders.give_way(|| {
        let are_few_left = shared.are_few_left();
        if are_few_left {
            shared.bell.ring(bell::FEW_LEFT);
        }
        are_few_left
    });
    // If it is the last of the batch, this is the end of what nobody has taken, and of the closure.
    quietly(move || drop(chunk));
    quietly(move || drop(shared));
}

impl<'a, H, T, F, R> Helper<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    /// Puts a helper into the queue.
    fn push(inner: &Inner, home: H, shared: &Arc<Shared<T, F, R>>, chunk: &ChunkOf<T, R>) {
        let helper = Self {
            home,
            shared: Arc::clone(shared),
            chunk: Arc::clone(chunk),
            marker: PhantomData,
        };
        inner.queue.count_placeless(1);
        home.push_helper(inner, helper);
    }
}

impl<'a, H, T, F, R> Ticket<'a, H, T, F, R>
where
    H: Home<'a>,
    T: Send + 'a,
    F: Fn(T) -> R + Send + Sync + 'a,
    R: Send + 'a,
{
    /// Puts a ticket into the queue.
    pub(super) fn push(inner: &Inner, home: H, shared: &Arc<Shared<T, F, R>>) {
        let ticket = Self {
            home,
            shared: Arc::clone(shared),
            marker: PhantomData,
        };
        inner.queue.count_placeless(1);
        home.push_ticket(inner, ticket);
    }
}
