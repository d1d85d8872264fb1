//! `for_each`: a batch that leaves nothing but its panics.

use super::{
    producer::Producer,
    shared::{Home, Outcome},
};
use crate::{
    inner::Inner,
    job::Runnable,
    pool::Pool,
    scope::{Scope, ScopeRef},
    site::Site,
    span::Origin,
    submit::{Entry, Wait},
    worker,
};

/// The jobs of a scope, which keeps the first panic of their items.
#[derive(Clone, Copy)]
struct Each<'scope>(ScopeRef<'scope>);

impl<'scope> Home<'scope> for Each<'scope> {
    fn push_ticket<J: Runnable + 'scope>(&self, inner: &Inner, job: J) {
        self.0.push_ticket(inner, job);
    }

    fn push_helper<J: Runnable + 'scope>(&self, inner: &Inner, job: J) {
        self.0.push_helper(inner, job);
    }

    fn ended(&self, site: &Site<'_>) {
        self.0.ended(site);
    }

    fn keep<R>(&self, outcome: Outcome<R>) -> Option<Outcome<R>> {
        if let Err(payload) = outcome {
            // SAFETY: the scope counts the job that has run the item.
            unsafe { self.0.get() }.keep_panic(payload);
        }
        None
    }
}

type Feed<'p, 'scope, T, F> = Producer<'p, Each<'scope>, T, F, ()>;

/// Puts the item into the queue, or runs it here.
fn feed<'scope, T, F>(scope: &Scope<'scope>, producer: &mut Feed<'_, 'scope, T, F>, item: T)
where
    T: Send + 'scope,
    F: Fn(T) + Send + Sync + 'scope,
{
    let inner = scope.inner();
    let current = worker::current_of(inner);
    let origin = Origin::here();
    if let Ok(Entry::Place) = inner.admit_structured(Wait::Inline, current) {
        producer.put(origin, item);
        return;
    }
    let site = Site {
        inner,
        seat: current.map(worker::Current::index),
    };
    if let Err(payload) = producer.shared.run_inline(&site, item) {
        scope.keep_panic(payload);
    }
    inner.look_if_drained();
}

/// # Batches
impl Pool {
    /// Applies `f` to every item, and returns when all are done. Both may borrow.
    ///
    /// The items are pulled on the calling thread, which runs one itself whenever the queue is full.
    ///
    /// # Panics
    /// With the first panic of `f`, after everything that was begun has ended. Once it was seen nothing
    /// more is begun.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let words = vec!["to", "be", "or", "not"];
    /// let letters = AtomicUsize::new(0);
    /// pool.for_each(&words, |word| { letters.fetch_add(word.len(), Ordering::Relaxed); });
    /// assert_eq!(letters.into_inner(), 9);
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
                feed(scope, &mut producer, item);
            }
        });
    }
}
