//! A round's pools, and their jobs.

use std::{any::Any, hint, panic::resume_unwind, sync::Arc, thread, time::Duration};

use adaptive_pool::Pool;

use crate::{
    ledger::{Class, Ledger},
    random::Random,
    totals::{TOTALS, add},
};

pub struct World {
    pub pools: Vec<Pool>,
    pub ledger: Arc<Ledger>,
}

/// The payload of all panics here: the job that raised it.
pub struct Payload(pub usize);

/// The name prefix of all threads of the pools. No program has it, so no main thread has.
const PREFIX: &str = "soak/";

/// Whether this thread belongs to some pool.
pub fn is_inside() -> bool {
    thread::current()
        .name()
        .is_some_and(|name| name.starts_with(PREFIX))
}

/// The pool of this thread.
pub fn home() -> Option<usize> {
    let thread = thread::current();
    let rest = thread.name()?.strip_prefix(PREFIX)?;
    rest.split('-').next()?.parse().ok()
}

/// A pool with random options.
pub fn build(ledger: &Arc<Ledger>, name: &str, random: &mut Random) -> Pool {
    let most = 1 + random.below(4);
    let least = if random.one_in(2) { 1 } else { most };
    let (handled, begun, ended) = (Arc::clone(ledger), Arc::clone(ledger), Arc::clone(ledger));
    let millis = Duration::from_millis;
    add(&TOTALS.pools, 1);
    Pool::builder()
        .workers(least..=most)
        .max_threads(most + random.below(3))
        .capacity(random.pick(&[1, 1, 2, 3, 4, 8, 64]))
        .scale_up_threshold(random.pick(&[0.0, 0.5, 1.0]))
        .scale_cooldown(random.pick(&[millis(0), millis(1), millis(5000)]))
        .idle_timeout(random.pick(&[millis(0), millis(1), millis(5), millis(30_000)]))
        .latency_tracking(random.one_in(2))
        .name(format!("{PREFIX}{name}"))
        .start_handler(move |_| add(&begun.begun_threads, 1))
        .exit_handler(move |_| add(&ended.ended_threads, 1))
        .panic_handler(move |payload| {
            handled.check(payload.is::<Payload>(), || "a strange panic".into());
            add(&handled.handled, 1);
        })
        .build()
        .unwrap_or_else(|error| panic!("no pool: {error}"))
}

/// Travels with one job, and records its fate.
pub struct Token {
    ledger: Arc<Ledger>,
    pub id: usize,
    class: Class,
}

impl Token {
    pub fn new(world: &World, class: Class) -> Self {
        let ledger = Arc::clone(&world.ledger);
        let id = ledger.open();
        add(&TOTALS.jobs, 1);
        Self { ledger, id, class }
    }

    fn run(&self) {
        self.ledger.run(self.id);
        add(&TOTALS.steps, 1);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.ledger.close(self.id, self.class);
    }
}

/// What a job does when it runs. Derived from the seed alone.
pub struct Plan {
    pub panics: bool,
    random: Random,
    /// How deep it may nest.
    depth: u32,
}

impl Plan {
    pub fn new(random: &mut Random, depth: u32) -> Self {
        Self {
            panics: random.one_in(12),
            random: random.fork(),
            depth,
        }
    }
}

/// A job, before it runs.
pub struct Task {
    pub token: Token,
    pub plan: Plan,
}

impl Task {
    pub fn new(world: &World, class: Class, random: &mut Random, depth: u32) -> Self {
        Self {
            token: Token::new(world, class),
            plan: Plan::new(random, depth),
        }
    }

    pub fn id(&self) -> usize {
        self.token.id
    }

    /// From now on, no counter includes the job if it does not run.
    pub fn loose(mut self) -> Self {
        self.token.class = Class::Loose;
        self
    }

    /// Runs it here.
    ///
    /// # Panics
    /// If its plan says so.
    pub fn run(self, world: &Arc<World>) -> usize {
        let Self { token, mut plan } = self;
        token.run();
        let random = &mut plan.random;
        for _ in 0..random.pick(&[0, 0, 100, 10_000]) {
            hint::spin_loop();
        }
        if plan.depth > 0 && random.one_in(4) {
            let depth = plan.depth - 1;
            for _ in 0..=random.below(2) {
                world.act(&mut random.fork(), depth);
            }
        }
        if plan.panics {
            add(&TOTALS.panics, 1);
            resume_unwind(Box::new(Payload(token.id)));
        }
        token.id
    }
}

/// Where a panic began.
pub fn origin(payload: &(dyn Any + Send)) -> Option<usize> {
    payload.downcast_ref::<Payload>().map(|payload| payload.0)
}
