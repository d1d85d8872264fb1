//! Batches whose items, results and closure borrow: those of a scope.
//!
//! # Tickets
//!
//! The jobs of such a batch are spawned into the scope, so that it waits for them, and no code here has
//! to see to it. They are *tickets*: each takes the oldest item that nobody has begun, when it
//! starts. So items are begun in their order, although a scope's own deque is last in, first out; and one that the
//! consumer begins itself leaves a ticket that serves a later item.
//!
//! Every item that was not begun has a ticket on its way. There may be more tickets than items: those of
//! items that the consumer has begun, or that were dropped with the iterator. Such an empty ticket
//! keeps its place in the queue until it starts, and does nothing then. It is the place that bounds the
//! empty ones: a scope can open and leave as many batches as it likes.

use std::{
    collections::VecDeque,
    fmt,
    iter::FusedIterator,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex},
};

use super::{Lane, Outcome, Stream, stream};
use crate::{
    metrics::Stamp,
    scope::Scope,
    site::Site,
    submit::Wait,
    sync::lock,
    unwind::{Delivered, quietly},
    worker,
};

/// The iterator of [`Scope::map`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct ScopedMap<'s, 'scope, I: Iterator, F, R> {
    stream: Stream<I, Tickets<'s, 'scope, I::Item, F, R>>,
}

/// The iterator of [`Scope::map_unordered`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct ScopedMapUnordered<'s, 'scope, I: Iterator, F, R> {
    stream: Stream<I, Tickets<'s, 'scope, I::Item, F, R>>,
}

/// The consumer's end of a batch.
struct Tickets<'s, 'scope, T, F, R> {
    scope: &'s Scope<'scope>,
    batch: Arc<Batch<T, F, R>>,
}

/// What the consumer and the tickets share.
struct Batch<T, F, R> {
    f: F,
    state: Mutex<State<T, R>>,
    /// A result came that may be due.
    one_more: Condvar,
}

/// No item and no result is dropped under the lock.
struct State<T, R> {
    /// Not begun, with their numbers; the oldest in front.
    waiting: VecDeque<(usize, T)>,
    /// Jobs that will come to take one.
    tickets: usize,
    /// Not yielded. In order, an item's place is here from the start, and empty until it has ended.
    results: VecDeque<Option<Outcome<R>>>,
    ordered: bool,
    /// The number of the first in `results`, in order.
    first: usize,
    /// How many items were brought.
    brought: usize,
    /// The consumer is gone.
    left: bool,
}

impl<T, R> State<T, R> {
    fn new(ordered: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            tickets: 0,
            results: VecDeque::new(),
            ordered,
            first: 0,
            brought: 0,
            left: false,
        }
    }

    /// One more item. Returns whether it needs a ticket, which is counted already.
    fn bring(&mut self, item: T) -> bool {
        self.waiting.push_back((self.brought, item));
        self.brought += 1;
        if self.ordered {
            self.results.push_back(None);
        }
        let needs_ticket = self.waiting.len() > self.tickets;
        self.tickets += usize::from(needs_ticket);
        needs_ticket
    }

    /// The ticket of the last item was refused. The others take no more than there are of them, so that
    /// item is there.
    fn take_back(&mut self) -> Option<T> {
        self.tickets -= 1;
        let (_, item) = self.waiting.pop_back()?;
        self.brought -= 1;
        if self.ordered {
            self.results.pop_back();
        }
        Some(item)
    }

    /// An item has ended. Gives the outcome back if nobody wants it.
    fn end(&mut self, number: usize, outcome: Outcome<R>) -> Option<Outcome<R>> {
        if self.left {
            return Some(outcome);
        }
        if self.ordered {
            self.results[number - self.first] = Some(outcome);
        } else {
            self.results.push_back(Some(outcome));
        }
        None
    }

    /// The outcome that is due, if it is there.
    fn next(&mut self) -> Option<Outcome<R>> {
        let outcome = self.results.front_mut()?.take()?;
        self.results.pop_front();
        self.first += 1;
        Some(outcome)
    }

    /// The item whose outcome is due, if nobody has begun it. Without an order it is the oldest.
    fn claim(&mut self) -> Option<T> {
        let &(number, _) = self.waiting.front()?;
        if self.ordered {
            if number != self.first {
                return None;
            }
            self.results.pop_front();
            self.first += 1;
        }
        self.waiting.pop_front().map(|(_, item)| item)
    }
}

impl<T, F: Fn(T) -> R, R> Batch<T, F, R> {
    fn apply(&self, item: T) -> Outcome<R> {
        catch_unwind(AssertUnwindSafe(|| (self.f)(item)))
    }

    /// A ticket's work. Returns whether the item panicked, if there was one.
    fn serve(&self) -> bool {
        let next = {
            let mut state = lock(&self.state);
            state.tickets -= 1;
            state.waiting.pop_front()
        };
        let Some((number, item)) = next else {
            return false;
        };
        let outcome = self.apply(item);
        let panicked = outcome.is_err();
        let unwanted = lock(&self.state).end(number, outcome);
        self.one_more.notify_one();
        quietly(move || drop(unwanted));
        panicked
    }

    /// Blocks until the outcome is there that is due.
    fn wait(&self) -> Outcome<R> {
        let mut state = lock(&self.state);
        loop {
            if let Some(outcome) = state.next() {
                return outcome;
            }
            state = self
                .one_more
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl<'s, 'scope, T, F, R> Tickets<'s, 'scope, T, F, R> {
    fn new(scope: &'s Scope<'scope>, f: F, ordered: bool) -> Self {
        Self {
            scope,
            batch: Arc::new(Batch {
                f,
                state: Mutex::new(State::new(ordered)),
                one_more: Condvar::new(),
            }),
        }
    }

    fn ticket(&self) -> impl FnOnce(&Scope<'scope>) + Send + use<'scope, T, F, R>
    where
        T: Send + 'scope,
        F: Fn(T) -> R + Send + Sync + 'scope,
        R: Send + 'scope,
    {
        let batch = Arc::clone(&self.batch);
        move |_| {
            let panicked = batch.serve();
            // If it is the last of the batch, this is the end of the closure too.
            quietly(move || drop(batch));
            if panicked {
                resume_unwind(Box::new(Delivered));
            }
        }
    }

    /// Applies the function on the consumer's own stack, as a job that runs inline.
    fn apply_here(&self, item: T) -> Outcome<R>
    where
        F: Fn(T) -> R,
    {
        let inner = self.scope.inner();
        let site = Site {
            inner,
            seat: worker::seat_in(inner),
        };
        let started = site.begin(false, Stamp::NONE);
        let outcome = self.batch.apply(item);
        site.end(started, outcome.is_ok());
        inner.look_if_drained();
        outcome
    }
}

impl<'scope, T, F, R> Lane<T> for Tickets<'_, 'scope, T, F, R>
where
    T: Send + 'scope,
    F: Fn(T) -> R + Send + Sync + 'scope,
    R: Send + 'scope,
{
    type Output = R;

    fn offer(&mut self, item: T) -> Result<(), T> {
        // Not under the lock: a spawn may have to do much else, for the pool.
        if !lock(&self.batch.state).bring(item) {
            return Ok(());
        }
        if self.scope.spawn_waiting(Wait::Peek, self.ticket()).is_ok() {
            return Ok(());
        }
        lock(&self.batch.state).take_back().map_or(Ok(()), Err)
    }

    fn insist(&mut self, item: T) -> Option<R> {
        if lock(&self.batch.state).bring(item) {
            // On a full queue, or a closed pool, the ticket runs before this returns.
            self.scope.spawn(self.ticket());
        }
        None
    }

    fn take(&mut self) -> Outcome<R> {
        let mut state = lock(&self.batch.state);
        if let Some(outcome) = state.next() {
            return outcome;
        }
        // A worker must not wait for a queue that it should empty, or that waits for it in the end.
        let item = worker::is_worker().then(|| state.claim()).flatten();
        drop(state);
        match item {
            Some(item) => self.apply_here(item),
            None => worker::blocking(|| self.batch.wait()),
        }
    }
}

impl<T, F, R> Drop for Tickets<'_, '_, T, F, R> {
    fn drop(&mut self) {
        let mut state = lock(&self.batch.state);
        state.left = true;
        let (items, results) = (mem::take(&mut state.waiting), mem::take(&mut state.results));
        drop(state);
        // One by one: a panic in one must not meet that of another.
        items.into_iter().for_each(|item| quietly(|| drop(item)));
        results
            .into_iter()
            .for_each(|result| quietly(|| drop(result)));
    }
}

stream!(ScopedMap<'s, 'scope, I, F, R> where {
    I::Item: Send + 'scope,
    F: Fn(I::Item) -> R + Send + Sync + 'scope,
    R: Send + 'scope,
});

stream!(ScopedMapUnordered<'s, 'scope, I, F, R> where {
    I::Item: Send + 'scope,
    F: Fn(I::Item) -> R + Send + Sync + 'scope,
    R: Send + 'scope,
});

/// # Batches
///
/// As those of a [`Pool`](crate::Pool), but items, results and the function may borrow what outlives the
/// scope.
impl<'scope> Scope<'scope> {
    /// Applies `f` to every item; yields the results in the order of the items, as they come.
    ///
    /// Nothing is pulled before the first `next`, and then always on the consumer's thread: what was
    /// pulled and not yet yielded is at most capacity + workers items. Each `next` brings in what is
    /// admitted at once, and then blocks until the result that is due is there. A consumer on a
    /// thread of this pool, or of another, runs the item that it waits for itself, if that has not started; one that has
    /// no result to wait for does so, wherever it is, when the queue is full or the pool closed.
    ///
    /// Dropping the iterator half way drops the items that have not started, and waits for nothing;
    /// the scope waits at its end for those that run. The place that such an item had in the queue is
    /// free when a worker comes to it, or when the scope ends.
    ///
    /// # Panics
    /// `next` panics with the panic of `f` in the place of that item's result; the iterator can be
    /// used further. The scope does not panic with it.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let text = String::from("to be\nor not\nto be");
    /// let longest = pool.in_place_scope(|s| {
    ///     s.map(text.lines(), |line| line.split(' ').max_by_key(|word| word.len()))
    ///         .map(Option::unwrap)
    ///         .collect::<Vec<&str>>()
    /// });
    /// assert_eq!(longest, ["be", "not", "be"]);
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> ScopedMap<'_, 'scope, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'scope,
        F: Fn(I::Item) -> R + Send + Sync + 'scope,
        R: Send + 'scope,
    {
        let lane = Tickets::new(self, f, true);
        ScopedMap {
            stream: Stream::new(self.inner(), items.into_iter(), lane),
        }
    }

    /// As [`map`](Self::map), but yields each result as soon as it is there.
    ///
    /// On a thread of this pool, or of another, that has no finished result it runs the oldest item that has not started.
    ///
    /// # Panics
    /// As [`map`](Self::map).
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let words = vec!["to", "be", "or", "not"];
    /// let letters: usize = pool.scope(|s| s.map_unordered(&words, |word| word.len()).sum());
    /// assert_eq!(letters, 9);
    /// ```
    pub fn map_unordered<I, F, R>(
        &self,
        items: I,
        f: F,
    ) -> ScopedMapUnordered<'_, 'scope, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'scope,
        F: Fn(I::Item) -> R + Send + Sync + 'scope,
        R: Send + 'scope,
    {
        let lane = Tickets::new(self, f, false);
        ScopedMapUnordered {
            stream: Stream::new(self.inner(), items.into_iter(), lane),
        }
    }
}
