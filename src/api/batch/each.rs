//! `for_each`: a batch that leaves nothing but its panics.

use std::any::Any;

use super::{
    producer::Producer,
    shared::{Home, Outcome},
};
use crate::{
    api::{
        pool::Pool,
        scope::{Scope, ScopeRef},
    },
    runtime::{
        context::JobContext,
        inner::Inner,
        job::{Entry, Runnable},
        span::Origin,
        worker,
    },
};

/// The jobs of a scope, which keeps the first panic of their items.
#[derive(Clone, Copy)]
struct Each<'scope>(ScopeRef<'scope>);

impl<'scope> Home<'scope> for Each<'scope> {
    fn push_chunk_task<J: Runnable + 'scope>(&self, inner: &Inner, job: J) {
        self.0.push_chunk_task(inner, job);
    }

    fn push_split_task<J: Runnable + 'scope>(&self, inner: &Inner, job: J) {
        self.0.push_split_task(inner, job);
    }

    fn ended(&self, context: &JobContext<'_>) {
        self.0.ended(context);
    }

    fn keep<R>(&self, outcome: Outcome<R>) -> Option<Outcome<R>> {
        if let Err(payload) = outcome {
            // SAFETY: the scope counts the job that has run the item.
            unsafe { self.0.get() }.keep_panic(payload);
        }
        None
    }

    fn panicked(&self, inner: &Inner, payload: Box<dyn Any + Send>) {
        self.0.panicked(inner, payload);
    }
}

type Feed<'p, 'scope, T, F> = Producer<'p, Each<'scope>, T, F, ()>;

/// Puts the item into the queue; waits for its place there, if the calling thread is not the pool's. What is refused is a job
/// of the scope like any other.
fn feed<'scope, T, F>(
    scope: &Scope<'scope>,
    producer: &mut Feed<'_, 'scope, T, &'scope F>,
    f: &'scope F,
    item: T,
) where
    T: Send + 'scope,
    F: Fn(T) + Sync + 'scope,
{
    let inner = producer.inner;
    let origin = Origin::here();
    match inner.admit_item(&producer.shared.yield_hint) {
        Entry::Queued => drop(producer.put(origin, item)),
        _ => scope.enter_refused(inner, worker::current_of(inner), origin, move |_| f(item)),
    }
}

/// # Batches
impl Pool {
    /// Applies `f` to every item, and returns when all are done. Both may borrow.
    ///
    /// The items are pulled on the calling thread, only as fast as jobs are admitted. A thread that is not the pool's
    /// runs none of them: while the queue is full it waits, so it must hold no lock, borrow or permit
    /// that the items need. A thread of the pool runs an item itself whenever the queue is full. On a closed pool the calling
    /// thread runs the items, also those that are pulled after the pool was closed: neither `close` nor `shutdown_now` ends
    /// a `for_each` half way. To end it with the pool, bound the iterator: `items.take_while(|_| !pool.is_closed())`.
    ///
    /// # Panics
    /// With the first panic of `f`, after all items that were pulled have ended. Once it is seen no more are
    /// pulled; those that wait in the queue still run.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let words = vec!["to", "be", "or", "not"];
    /// let messages = AtomicUsize::new(0);
    /// pool.for_each(&words, |word| { messages.fetch_add(word.len(), Ordering::Relaxed); });
    /// assert_eq!(messages.into_inner(), 9);
    /// ```
    pub fn for_each<I, F>(&self, items: I, f: F)
    where
        I: IntoIterator,
        I::Item: Send,
        F: Fn(I::Item) + Sync,
    {
        let f = &f;
        self.in_place_scope(|scope| {
            let mut producer = Producer::new(scope.inner(), Each(scope.address()), f);
            for item in items {
                if scope.has_panicked() {
                    break;
                }
                feed(scope, &mut producer, f, item);
            }
        });
    }
}
