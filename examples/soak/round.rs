//! A round: pools, threads that use them in every way, their shutdown, and the ledger.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, ShutdownReport, Snapshot};

use crate::{
    admit::Kept,
    ledger::Ledger,
    life::is_all,
    random::Random,
    totals::{TOTALS, add, at},
    world::{World, build, is_inside},
};

/// The current round, for the watchdog.
pub static NOW: Mutex<Option<(u64, Arc<World>)>> = Mutex::new(None);

impl World {
    /// One or two operations, and what remains to be waited for.
    pub fn act(self: &Arc<Self>, random: &mut Random, depth: u32) {
        let mut kept = Vec::new();
        self.operate(random, depth, &mut kept);
        for kept in kept {
            at("settle", 0, || self.settle(kept, random));
        }
    }

    /// One operation.
    fn operate(self: &Arc<Self>, random: &mut Random, depth: u32, kept: &mut Vec<Kept>) {
        add(&TOTALS.operations, 1);
        let pool = random.below(self.pools.len());
        match random.below(40) {
            0..=7 => at("handle", pool, || {
                self.with_handle(pool, random, depth, kept)
            }),
            8..=14 => at("detached", pool, || self.detached(pool, random, depth)),
            15 | 16 => at("permits", pool, || self.drop_permits(pool, random)),
            17..=19 => at("scope", pool, || self.scope(pool, random, depth, false)),
            20 | 21 => at("in_place_scope", pool, || {
                self.scope(pool, random, depth, true)
            }),
            22 | 23 => at("join", pool, || self.join(pool, random, depth)),
            24 | 25 => at("install", pool, || self.install(pool, random, depth)),
            26..=28 => at("batch", pool, || self.batch(pool, random, depth)),
            29 => at("for_each", pool, || self.for_each(pool, random, depth)),
            30 => at("broadcast", pool, || self.broadcast(pool)),
            31 | 32 => at("resize", pool, || self.resize(pool, random)),
            33 | 34 => at("set_capacity", pool, || self.set_capacity(pool, random)),
            35 => at("metrics", pool, || self.look(pool)),
            36 if random.one_in(10) => at("private", pool, || self.private(random)),
            37 if is_inside() && random.one_in(20) => {
                at("end inside", pool, || self.end_inside(random));
            }
            38 | 39 if is_inside() => at("rayon", pool, || self.rayon(random, depth)),
            _ => {}
        }
    }

    /// One of the threads that use the pools.
    fn drive(self: &Arc<Self>, mut random: Random, operations: usize, stall: bool) {
        if stall {
            at("stall", 0, || {
                loop {
                    thread::park();
                }
            });
        }
        let mut kept = Vec::new();
        for _ in 0..operations {
            // A generator for each operation, since its outcome must not change later choices.
            let random = &mut random.fork();
            match random.below(250) {
                0 => {
                    let pool = random.below(self.pools.len());
                    at("end", pool, || self.end(pool, random));
                }
                // Long enough for workers to go idle, to sleep, and to be parked.
                1 | 2 => at("rest", 0, || {
                    thread::sleep(Duration::from_micros(random.below(15_000) as u64));
                }),
                _ => self.operate(random, 2, &mut kept),
            }
            if kept.len() > 20 {
                let one = kept.swap_remove(random.below(20));
                at("settle", 0, || self.settle(one, random));
            }
        }
        for one in kept {
            at("settle", 0, || self.settle(one, &mut random));
        }
    }

    fn look_on(&self, done: &AtomicBool) {
        let mut seen = vec![Snapshot::default(); self.pools.len()];
        while !done.load(Ordering::Acquire) {
            for (at, before) in seen.iter_mut().enumerate() {
                self.look_again(at, before);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Plays one round, and returns the failed checks. A round that stalls never ends.
pub fn play(seed: u64, stall: bool) -> Vec<String> {
    let before = threads();
    let mut random = Random(seed);
    let ledger = Arc::new(Ledger::new());
    let pools = 1 + random.below(3);
    let pools = (0..pools).map(|i| build(&ledger, &i.to_string(), &mut random));
    let world = Arc::new(World {
        pools: pools.collect(),
        ledger: Arc::clone(&ledger),
    });
    set_now(Some((seed, Arc::clone(&world))));
    let done = AtomicBool::new(false);
    let looks_on = random.one_in(2);
    thread::scope(|scope| {
        let drivers: Vec<_> = (0..1 + random.below(4))
            .map(|i| {
                let own = random.fork();
                let operations = random.pick(&[10, 50, 200, 1000]);
                let world = &world;
                let drive = move || world.drive(own, operations, stall);
                let builder = thread::Builder::new().name(format!("driver-{i}"));
                builder.spawn_scoped(scope, drive)
            })
            .collect();
        if looks_on {
            scope.spawn(|| world.look_on(&done));
        }
        for driver in drivers {
            let ended = driver.map(|driver| driver.join());
            ledger.check(matches!(ended, Ok(Ok(()))), || {
                "a driver has panicked".into()
            });
        }
        done.store(true, Ordering::Release);
    });
    at("last end", 0, || check_ledger(&world, before));
    set_now(None);
    let left = Arc::strong_count(&world) - 1;
    ledger.check(left == 0, || format!("{left} jobs still hold the round"));
    ledger.take_wrongs()
}

/// Shuts all pools down, and compares their reports with the ledger. `threads` existed before.
fn check_ledger(world: &World, before: usize) {
    let ledger = &world.ledger;
    let mut lost = 0;
    // All of them first: a running job of one pool may run a job of another, closed pool itself.
    let reports: Vec<ShutdownReport> = world.pools.iter().map(Pool::shutdown).collect();
    for (pool, report) in world.pools.iter().zip(reports) {
        let seen = pool.metrics();
        let ended = seen.completed + seen.panicked + seen.cancelled + seen.dropped;
        let rejected = seen.rejected_full + seen.rejected_timed_out + seen.rejected_closed;
        let is_right = seen.depth == 0
            && seen.waiting_submitters == 0
            && seen.threads == 0
            && seen.admitted == ended
            && is_all(&report, &seen)
            && seen.started == seen.completed + seen.panicked
            && seen.submitted == seen.admitted + rejected;
        ledger.check(is_right, || format!("{report:?}, {seen:?}"));
        lost += seen.cancelled + seen.dropped;
        let totals = &TOTALS;
        add(&totals.shutdowns, 1);
        add(&totals.completed, seen.completed);
        add(&totals.panicked, seen.panicked);
        add(&totals.cancelled, seen.cancelled);
        add(&totals.dropped, seen.dropped);
        add(&totals.inlined, seen.inlined);
        add(&totals.rejected, rejected);
        add(&totals.steals, seen.steals);
        add(&totals.scale_ups, seen.scale_ups);
        add(&totals.parks, seen.parks);
    }
    // The threads of a pool that its own job has dropped end a moment later, and the kernel forgets
    // a thread shortly after it was joined. If they do not, the watchdog reports it.
    while threads() > before {
        thread::sleep(Duration::from_micros(50));
    }
    ledger.balance(lost);
}

/// The threads of this process. Not by name: a new thread has no name of its own before it has run.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn set_now(round: Option<(u64, Arc<World>)>) {
    *NOW.lock().unwrap_or_else(PoisonError::into_inner) = round;
}
