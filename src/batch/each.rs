//! `for_each`: a batch that leaves nothing but its panics.

use super::{
    producer::Producer,
    shared::{Home, Outcome},
};
use crate::{
    inner::Inner,
    job::Runnable,
    looks::Looks,
    pool::Pool,
    scope::{Scope, ScopeRef},
    site::{Site, Visit},
    span::Origin,
    submit::Entry,
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

/// So many items it runs without books of its own, which would cost more than they spare.
const FEW: u32 = 8;

/// The calling thread, if it is not the pool's.
struct Caller<'p> {
    /// How many items it has run without a visit.
    few: u32,
    visit: Option<Visit<'p>>,
    looks: Looks,
}

impl<'p> Caller<'p> {
    fn new() -> Self {
        Self {
            few: 0,
            visit: None,
            looks: Looks::default(),
        }
    }

    /// Its books, if it has some.
    #[inline]
    fn visit(&mut self, inner: &'p Inner) -> Option<&Visit<'p>> {
        if self.visit.is_none() {
            if self.few < FEW {
                self.few += 1;
                return None;
            }
            self.visit = Some(Visit::new(inner));
        }
        self.visit.as_ref()
    }

    /// Whether it has got a place. If not, it is to run the item.
    #[inline]
    fn admit(&self, inner: &Inner) -> bool {
        let is_short = match &self.visit {
            Some(visit) => visit.is_short(),
            None => Some(false),
        };
        if !self.looks.are_recent(inner) {
            self.looks.end();
        }
        if self.looks.is_spared(is_short) {
            return inner.admission.try_acquire_uncollected().is_ok();
        }
        let dry_spells = inner.sleep.dry_spells();
        if let Ok(Entry::Queued) = inner.admit_item() {
            return true;
        }
        self.looks.found_full(inner, dry_spells, is_short);
        false
    }
}

/// Puts the item into the queue, or runs it here.
fn feed<'p, 'scope, T, F>(
    scope: &Scope<'scope>,
    producer: &mut Feed<'p, 'scope, T, F>,
    caller: &mut Caller<'p>,
    item: T,
) where
    T: Send + 'scope,
    F: Fn(T) + Send + Sync + 'scope,
{
    let inner = producer.inner;
    let current = worker::current_of(inner);
    let origin = Origin::here();
    let is_admitted = match current {
        None => caller.admit(inner),
        Some(_) => matches!(inner.admit_item(), Ok(Entry::Queued)),
    };
    if is_admitted {
        producer.put(origin, item);
        return;
    }
    let shared = &producer.shared;
    let visit = current.is_none().then(|| caller.visit(inner)).flatten();
    let outcome = match visit {
        Some(visit) => shared.run_on_visit(visit, item),
        None => shared.run_inline(&Site::here(inner), item),
    };
    if let Err(payload) = outcome {
        scope.keep_panic(payload);
    }
    inner.look_if_drained();
}

/// # Batches
impl Pool {
    /// Applies `f` to every item, and returns when all are done. Both may borrow.
    ///
    /// The items are pulled on the calling thread, which runs one itself whenever the queue is full. If they are
    /// short it looks at the queue once for several of them.
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
            let mut caller = Caller::new();
            for item in items {
                if scope.has_panicked() {
                    break;
                }
                feed(scope, &mut producer, &mut caller, item);
            }
        });
    }
}
