//! `for_each`: a batch without a consumer. A scope waits for it, and resumes the first panic of its
//! items.

use super::{feeder::Feeder, home::InScope, state::Of};
use crate::{
    api::pool::Pool,
    runtime::{job::Entry, span::Origin, worker},
};

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
        type Batch<'scope, T, F> = Of<InScope<'scope, true>, T, &'scope F, ()>;
        let f = &f;
        self.in_place_scope(|scope| {
            let inner = scope.inner();
            let home = InScope(scope.address());
            let mut feeder = Feeder::<Batch<'_, I::Item, F>>::new(inner, home, f);
            for item in items {
                if scope.has_panicked() {
                    break;
                }
                let origin = Origin::here();
                match inner.admit_item(&feeder.batch.yield_hint) {
                    Entry::Queued => drop(feeder.put(origin, item)),
                    // A job of the scope like any other.
                    _ => {
                        let current = worker::current_of(inner);
                        scope.enter_refused(inner, current, origin, move |_| f(item));
                    }
                }
            }
        });
    }
}
