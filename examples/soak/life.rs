//! The life of a pool as a whole: resizes, shutdowns, and checks of its metrics.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use adaptive_pool::{Pool, ShutdownError, ShutdownReport, Snapshot};

use crate::{
    ledger::{Class, Ledger},
    random::Random,
    totals::{TOTALS, add},
    world::{Task, World, build, home},
};

impl World {
    pub fn resize(&self, at: usize, random: &mut Random) {
        let least = 1 + random.below(4);
        // Refused if it exceeds `max_threads`; that is a valid outcome too.
        let _ = self.pools[at].resize(least..=least + random.below(3));
        add(&TOTALS.resizes, 1);
    }

    pub fn set_capacity(&self, at: usize, random: &mut Random) {
        let done = self.pools[at].set_capacity(random.pick(&[1, 1, 2, 3, 8, 64]));
        self.ledger
            .check(done.is_ok(), || format!("set_capacity: {done:?}"));
        add(&TOTALS.capacities, 1);
    }

    pub fn look(&self, at: usize) {
        let seen = self.pools[at].metrics();
        self.check_snapshot(&seen);
    }

    fn check_snapshot(&self, seen: &Snapshot) {
        add(&TOTALS.snapshots, 1);
        let ended = seen.completed + seen.panicked + seen.cancelled + seen.dropped;
        // The largest capacity here, plus a few submits in progress when it was lowered.
        let is_right = ended <= seen.admitted && seen.depth <= 64 + 16;
        self.ledger.check(is_right, || format!("{seen:?}"));
    }

    /// Takes another snapshot: no counter has decreased.
    pub fn look_again(&self, at: usize, before: &mut Snapshot) {
        let seen = self.pools[at].metrics();
        self.check_snapshot(&seen);
        let counters = |seen: &Snapshot| {
            [
                ("submitted", seen.submitted),
                ("admitted", seen.admitted),
                ("started", seen.started),
                ("completed", seen.completed),
                ("panicked", seen.panicked),
                ("cancelled", seen.cancelled),
                ("dropped", seen.dropped),
                ("inlined", seen.inlined),
                ("steals", seen.steals),
            ]
        };
        for ((name, old), (_, new)) in counters(before).into_iter().zip(counters(&seen)) {
            self.ledger.check(old <= new, || {
                format!("{name} has gone from {old} to {new}")
            });
        }
        *before = seen;
    }

    /// Shuts a pool down while it is in use. Called on a thread outside every pool.
    pub fn end(self: &Arc<Self>, at: usize, random: &mut Random) {
        let pool = &self.pools[at];
        // Something that it may find in the queue.
        for _ in 0..random.pick(&[0, 3, 20]) {
            self.detached(at, random, 0);
        }
        let ledger = &self.ledger;
        add(&TOTALS.shutdowns, 1);
        let ended = match random.below(5) {
            0 => return pool.close(),
            1 => Ok(pool.shutdown()),
            2 => pool.shutdown_now(),
            3 => pool.shutdown_timeout(Duration::MAX),
            _ => pool.shutdown_timeout(Duration::from_micros(random.below(1000) as u64)),
        };
        match ended {
            Ok(report) => {
                let seen = pool.metrics();
                // Other threads go on using it, and may add admitted jobs.
                let is_right = report.total() <= seen.admitted && seen.threads == 0;
                ledger.check(is_right, || format!("{report:?}, then {seen:?}"));
                let again = pool.shutdown();
                ledger.check(again == report, || format!("{report:?}, then {again:?}"));
            }
            Err(ShutdownError::TimedOut { .. }) => {}
            Err(error) => ledger.wrong(format!("a shutdown from outside: {error}")),
        }
    }

    /// Shuts down the pool of this thread: it must not wait for itself.
    pub fn end_inside(&self, random: &mut Random) {
        let Some(pool) = home().and_then(|at| self.pools.get(at)) else {
            return;
        };
        add(&TOTALS.inside_shutdowns, 1);
        let ended = match random.below(3) {
            0 => {
                pool.shutdown();
                return;
            }
            1 => pool.shutdown_now(),
            _ => pool.shutdown_timeout(Duration::MAX),
        };
        let is_right = ended == Err(ShutdownError::InsideJob);
        self.ledger
            .check(is_right, || format!("a shutdown from inside: {ended:?}"));
    }

    /// A private pool, built, used and dropped: outside, or by its own last job.
    pub fn private(self: &Arc<Self>, random: &mut Random) {
        let pool = Arc::new(build(&self.ledger, "p", random));
        for _ in 0..random.below(6) {
            // Not `Plain`: the round's ledger does not count what this pool drops.
            let task = Task::new(self, Class::Loose, random, 0);
            if task.plan.panics {
                continue;
            }
            let own = Arc::clone(self);
            let spawned = pool.spawn(move || {
                task.run(&own);
            });
            self.ledger
                .check(spawned.is_ok(), || "an open pool refuses".into());
        }
        add(&TOTALS.shutdowns, 1);
        if random.one_in(2) {
            return drop_inside(pool, &self.ledger);
        }
        match random.below(3) {
            0 => drop(pool),
            1 => {
                let report = pool.shutdown();
                let seen = pool.metrics();
                let is_right = report.dropped == 0 && is_all(&report, &seen);
                self.ledger
                    .check(is_right, || format!("{report:?} of {seen:?}"));
            }
            _ => drop(pool.shutdown_now()),
        }
    }
}

/// Whether every admitted job is in the report, except jobs that scopes and batches ran on their
/// callers' threads after the close.
pub fn is_all(report: &ShutdownReport, seen: &Snapshot) -> bool {
    let since = seen.admitted.checked_sub(report.total());
    since.is_some_and(|since| since <= seen.inlined)
}

/// Leaves the pool to one of its own jobs, which drops it.
fn drop_inside(pool: Arc<Pool>, ledger: &Ledger) {
    let (ours_is_gone, wait) = mpsc::channel::<()>();
    let last = Arc::clone(&pool);
    let spawned = pool.spawn(move || {
        // Ends with an error when the other end is dropped.
        let _ = wait.recv();
        drop(last);
    });
    ledger.check(spawned.is_ok(), || "an open pool refuses".into());
    add(&TOTALS.inside_shutdowns, 1);
    drop(pool);
    drop(ours_is_gone);
}
