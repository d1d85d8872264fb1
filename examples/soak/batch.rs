//! Batches: ordered and unordered, owned and borrowed, finished and dropped early.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use adaptive_pool::{IteratorExt, Scope};

use crate::{
    ledger::Class,
    random::Random,
    totals::{TOTALS, add},
    world::{Task, World, origin},
};

/// The items of a batch: created when pulled, so that each existing item has an owner.
struct Items {
    own: Arc<World>,
    random: Random,
    left: usize,
    depth: u32,
    class: Class,
    /// The jobs, and whether they panic, in order.
    pulled: Arc<Mutex<Vec<(usize, bool)>>>,
}

impl Iterator for Items {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        self.left = self.left.checked_sub(1)?;
        let task = Task::new(&self.own, self.class, &mut self.random, self.depth);
        let pulled = self.pulled.lock();
        pulled
            .unwrap_or_else(PoisonError::into_inner)
            .push((task.id(), task.plan.panics));
        Some(task)
    }
}

impl World {
    fn items(self: &Arc<Self>, class: Class, random: &mut Random, depth: u32) -> Items {
        Items {
            own: Arc::clone(self),
            random: random.fork(),
            left: random.pick(&[0, 1, 3, 6, 20]),
            depth,
            class,
            pulled: Arc::default(),
        }
    }

    pub fn batch(self: &Arc<Self>, at: usize, random: &mut Random, depth: u32) {
        let pool = &self.pools[at];
        let kind = random.below(6);
        let items = self.items(Class::Item, random, depth);
        let pulled = Arc::clone(&items.pulled);
        let count = items.left;
        // All of them, or the iterator is dropped early.
        let take = if random.one_in(2) {
            count + 1
        } else {
            random.below(count + 1)
        };
        add(&self.ledger.batches, 1);
        add(&TOTALS.batches_cut, u64::from(take <= count));
        let own = Arc::clone(self);
        let f = move |task: Task| task.run(&own);
        let late = Mutex::new(Vec::new());
        let know = |consumed: &mut dyn Iterator<Item = usize>, ordered| {
            let not_seen = self.consume(consumed, count, take, ordered, &pulled);
            *late.lock().unwrap_or_else(PoisonError::into_inner) = not_seen;
        };
        let done = catch_unwind(AssertUnwindSafe(|| match kind {
            0 => know(&mut pool.map(items, f), true),
            1 => know(&mut pool.map_unordered(items, f), false),
            2 => know(&mut items.par_map(pool, f), true),
            3 => know(&mut items.par_map_unordered(pool, f), false),
            4 => pool.scope(|s| self.batch_in(s, items, random.one_in(2), &know)),
            _ => pool.in_place_scope(|s| self.batch_in(s, items, random.one_in(2), &know)),
        }));
        let late = late.into_inner().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(()) if kind < 4 => {
                self.ledger.late.fetch_add(late.len() as u64, Relaxed);
            }
            Ok(()) => {}
            // An item ran when the iterator was dropped; the scope has its panic.
            Err(payload) => self.ledger.check(
                kind >= 4 && origin(payload.as_ref()).is_some_and(|id| late.contains(&id)),
                || "a batch has panicked".into(),
            ),
        }
    }

    fn batch_in<'scope>(
        self: &'scope Arc<Self>,
        s: &Scope<'scope>,
        items: Items,
        ordered: bool,
        know: &dyn Fn(&mut dyn Iterator<Item = usize>, bool),
    ) {
        let f = |task: Task| task.run(self);
        if ordered {
            know(&mut s.map(items, f), true);
        } else {
            know(&mut s.map_unordered(items, f), false);
        }
    }

    /// Takes results, and compares them with the pulled items. Returns a pulled item that is not
    /// among them and panics if it runs.
    fn consume(
        &self,
        results: &mut dyn Iterator<Item = usize>,
        count: usize,
        take: usize,
        ordered: bool,
        pulled: &Mutex<Vec<(usize, bool)>>,
    ) -> Vec<usize> {
        let mut seen = Vec::new();
        let ledger = &self.ledger;
        for _ in 0..take {
            let (id, panicked) = match catch_unwind(AssertUnwindSafe(|| results.next())) {
                Ok(None) => {
                    ledger.check(seen.len() == count, || {
                        format!("a batch of {count} has ended after {}", seen.len())
                    });
                    break;
                }
                Ok(Some(id)) => (id, false),
                Err(payload) => (origin(payload.as_ref()).unwrap_or(usize::MAX), true),
            };
            let place = seen.len();
            let pulled = pulled.lock().unwrap_or_else(PoisonError::into_inner);
            let is_right = if ordered {
                pulled.get(place) == Some(&(id, panicked))
            } else {
                pulled.contains(&(id, panicked)) && !seen.contains(&id)
            };
            ledger.check(is_right, || {
                format!("result {place} of a batch is {id}, panicked: {panicked}, of {pulled:?}")
            });
            seen.push(id);
        }
        let pulled = pulled.lock().unwrap_or_else(PoisonError::into_inner);
        let late = pulled
            .iter()
            .filter(|(id, panics)| *panics && !seen.contains(id));
        late.map(|&(id, _)| id).collect()
    }

    pub fn for_each(self: &Arc<Self>, at: usize, random: &mut Random, depth: u32) {
        let items = self.items(Class::Loose, random, depth);
        let pulled = Arc::clone(&items.pulled);
        let count = items.left;
        let runs = AtomicU64::new(0);
        let panics = Cell::new(false);
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.pools[at].for_each(items, |task| {
                runs.fetch_add(1, Relaxed);
                task.run(self);
            });
        }));
        let pulled = pulled.lock().unwrap_or_else(PoisonError::into_inner);
        for &(id, panicked) in &*pulled {
            panics.set(panics.get() || (panicked && self.ledger.has_run(id)));
            if done.is_ok() {
                self.ledger.must_have_run(id);
            }
        }
        let is_right = match &done {
            Ok(()) => pulled.len() == count && !panics.get() && runs.into_inner() == count as u64,
            Err(payload) => pulled
                .iter()
                .any(|&(id, panicked)| panicked && origin(payload.as_ref()) == Some(id)),
        };
        self.ledger.check(is_right, || {
            format!("for_each of {count}: {done:?}, {pulled:?}")
        });
    }
}
