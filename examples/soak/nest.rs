//! Scopes, joins, installed closures, broadcasts, and rayon's own functions inside a job.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use adaptive_pool::Scope;

use crate::{
    ledger::Class,
    random::Random,
    totals::{TOTALS, add},
    world::{Task, World, home, origin},
};

/// A job of a scope, and what to check after its end.
struct Child {
    id: usize,
    panics: bool,
    way: usize,
}

impl World {
    fn children(&self, count: usize, random: &mut Random, depth: u32) -> (Vec<Task>, Vec<Child>) {
        let tasks: Vec<Task> = (0..count)
            .map(|_| Task::new(self, Class::Loose, random, depth))
            .collect();
        let children = tasks.iter().map(|task| Child {
            id: task.id(),
            panics: task.plan.panics,
            way: random.below(6),
        });
        let children = children.collect();
        (tasks, children)
    }

    /// A wait for all of these has ended.
    fn check_raised(&self, what: &str, children: &[Child], raised: Option<Box<dyn Any + Send>>) {
        let from = raised.as_ref().map(|payload| origin(payload.as_ref()));
        let is_right = match from {
            None => children.iter().all(|child| !child.panics),
            Some(from) => children
                .iter()
                .any(|child| child.panics && from == Some(child.id)),
        };
        self.ledger.check(is_right, || {
            let panics = children.iter().filter(|child| child.panics);
            let panics: Vec<usize> = panics.map(|child| child.id).collect();
            format!("{what}: raised from {from:?}, the panics are of {panics:?}")
        });
    }

    pub fn scope(self: &Arc<Self>, at: usize, random: &mut Random, depth: u32, in_place: bool) {
        let pool = &self.pools[at];
        let count = random.below(7);
        let (tasks, children) = self.children(count, random, depth);
        // The jobs write to this stack frame.
        let results: Vec<AtomicUsize> =
            tasks.iter().map(|_| AtomicUsize::new(usize::MAX)).collect();
        let mut own = random.fork();
        let raised = catch_unwind(AssertUnwindSafe(|| {
            if in_place {
                pool.in_place_scope(|s| self.fill(s, tasks, &children, &results, &mut own, depth));
            } else {
                pool.scope(|s| self.fill(s, tasks, &children, &results, &mut own, depth));
            }
        }));
        for (child, result) in children.iter().zip(&results) {
            self.ledger.must_have_run(child.id);
            let result = result.load(Relaxed);
            let is_right = child.panics || result == child.id;
            self.ledger.check(is_right, || {
                format!("job {} has left {result} in its scope", child.id)
            });
        }
        self.check_raised("scope", &children, raised.err());
    }

    /// The body of a scope.
    fn fill<'scope>(
        self: &'scope Arc<Self>,
        s: &Scope<'scope>,
        tasks: Vec<Task>,
        children: &[Child],
        results: &'scope [AtomicUsize],
        random: &mut Random,
        depth: u32,
    ) {
        for ((task, child), result) in tasks.into_iter().zip(children).zip(results) {
            let job = move |_: &Scope<'scope>| result.store(task.run(self), Relaxed);
            match child.way {
                0 => {
                    if let Err(refused) = s.try_spawn(job) {
                        s.spawn(refused.into_job());
                    }
                }
                1 => {
                    let timeout = Duration::from_micros(random.below(200) as u64);
                    if let Err(refused) = s.spawn_timeout(timeout, job) {
                        s.spawn(refused.into_job());
                    }
                }
                2 => s.spawn(move |s| s.spawn(job)),
                _ => s.spawn(job),
            }
        }
        // Other waits inside this one.
        if depth > 0 && random.one_in(4) {
            self.act(random, depth - 1);
        }
    }

    pub fn join(self: &Arc<Self>, at: usize, random: &mut Random, depth: u32) {
        let (mut tasks, children) = self.children(2, random, depth);
        let (b, a) = (tasks.pop(), tasks.pop());
        let run = |task: Option<Task>| task.map(|task| task.run(self));
        let pool = &self.pools[at];
        let both = catch_unwind(AssertUnwindSafe(|| pool.join(|| run(a), || run(b))));
        self.check_join("join", &children, both);
    }

    /// Both halves have run, or the second was dropped because the first panicked.
    fn check_join(
        &self,
        what: &str,
        children: &[Child],
        both: std::thread::Result<(Option<usize>, Option<usize>)>,
    ) {
        let [a, b] = children else {
            return;
        };
        self.ledger.must_have_run(a.id);
        if !a.panics {
            self.ledger.must_have_run(b.id);
        }
        if let Ok(both) = &both {
            let is_right = *both == (Some(a.id), Some(b.id));
            self.ledger.check(is_right, || {
                format!("{what} of {} and {}: {both:?}", a.id, b.id)
            });
        }
        let of = if a.panics { &children[..1] } else { children };
        self.check_raised(what, of, both.err());
    }

    pub fn install(self: &Arc<Self>, at: usize, random: &mut Random, depth: u32) {
        let (mut tasks, children) = self.children(1, random, depth);
        let task = tasks.pop();
        let pool = &self.pools[at];
        let done = catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| task.map(|task| task.run(self)))
        }));
        self.ledger.must_have_run(children[0].id);
        self.check_raised("install", &children, done.err());
    }

    pub fn broadcast(&self, at: usize) {
        let parts = AtomicUsize::new(0);
        let results = self.pools[at].broadcast(|_| {
            let _ = parts.fetch_add(1, Relaxed);
            home()
        });
        add(&TOTALS.broadcasts, 1);
        let parts = parts.into_inner();
        let is_right = results.len() == parts && results.iter().all(|&home| home == Some(at));
        self.ledger.check(is_right, || {
            format!("a broadcast on {at} of {parts} parts: {results:?}")
        });
    }

    /// rayon's own functions; only on a worker, where they use the pool's threads.
    pub fn rayon(self: &Arc<Self>, random: &mut Random, depth: u32) {
        if random.one_in(2) {
            let (mut tasks, children) = self.children(2, random, depth);
            let (b, a) = (tasks.pop(), tasks.pop());
            let run = |task: Option<Task>| task.map(|task| task.run(self));
            let both = catch_unwind(AssertUnwindSafe(|| rayon_core::join(|| run(a), || run(b))));
            return self.check_join("rayon's join", &children, both);
        }
        let count = random.below(5);
        let (tasks, children) = self.children(count, random, depth);
        let done = catch_unwind(AssertUnwindSafe(|| {
            rayon_core::scope(|s| {
                for task in tasks {
                    s.spawn(move |_| {
                        task.run(self);
                    });
                }
            });
        }));
        for child in &children {
            self.ledger.must_have_run(child.id);
        }
        self.check_raised("rayon's scope", &children, done.err());
    }
}
