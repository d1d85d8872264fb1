//! `for_each`: a batch without a consumer. A scope waits for it, and resumes the first panic of its
//! items.

use super::{feeder::Feeder, home::InScope, state::Of};
use crate::{
    api::{pool::Pool, scope::Scope},
    runtime::{job::Entry, span::Origin, worker},
};

/// The batch of a `for_each`.
type Each<'scope, T, F> = Of<InScope<'scope, true>, T, &'scope F, ()>;

/// Puts the item into the queue; off the pool, blocks until it has a place. An item that is refused
/// becomes a job of the scope like any other.
fn feed<'scope, T, F>(
    scope: &Scope<'scope>,
    feeder: &mut Feeder<'_, Each<'scope, T, F>>,
    f: &'scope F,
    item: T,
) where
    T: Send + 'scope,
    F: Fn(T) + Sync + 'scope,
{
    let inner = feeder.inner;
    let origin = Origin::here();
    match inner.admit_item(&feeder.batch.yield_hint) {
        Entry::Queued => drop(feeder.put(origin, item)),
        _ => scope.enter_refused(inner, worker::current_of(inner), origin, move |_| f(item)),
    }
}

/// # Batches
impl Pool {
    /// Applies `f` to every item, and returns when all items have ended. Both may borrow.
    ///
    /// The items are pulled on the calling thread, only as fast as jobs are admitted. A thread that
    /// is not the pool's runs none of them. It blocks while the queue is full, so it must hold no
    /// lock, borrow or permit that the items need. A thread of the pool runs an item itself
    /// whenever the queue is full. On a closed pool the calling thread runs the items, including
    /// those pulled after the pool was closed: neither `close` nor `shutdown_now` ends a `for_each`
    /// half way. To end it with the pool, bound the iterator: `items.take_while(|_|
    /// !pool.is_closed())`.
    ///
    /// # Panics
    /// With the first panic of `f`, after all items that were pulled have ended. Once a panic is
    /// observed no more items are pulled; those that wait in the queue still run.
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
            let mut feeder = Feeder::new(scope.inner(), InScope(scope.address()), f);
            for item in items {
                if scope.has_panicked() {
                    break;
                }
                feed(scope, &mut feeder, f, item);
            }
        });
    }
}
