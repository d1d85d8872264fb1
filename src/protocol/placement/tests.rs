//! An exhaustive search: every order of steps in a small pool, with the real placement and the real
//! idle protocol.
//!
//! Workers run jobs, block in them, come back, search in vain, become idle, return to rayon and are
//! activated. Meanwhile jobs are submitted, and places are added and removed. Threads also run
//! rayon's jobs, wait in them, and block in them. rayon itself is a count: the activations that lie
//! in its pool, and in those of the spare threads.
//!
//! One step is one whole call of the placement, or of the idle protocol, by one thread. So the
//! search does not cover races within those calls: the models do. Between the calls, a worker does
//! what `worker.rs` does, in short.

mod steps;
mod world;

use std::collections::HashSet;

use self::world::{At, SMALL, Setting, Thread, World};
use super::*;

impl World {
    /// Returns what is wrong with a state in which no step is taken in any case.
    fn fault(&self) -> Option<&'static str> {
        let placement = &self.placement;
        let pool = &self.threads[..self.submitter()];
        let (most, spares) = pool.split_at(placement.most);
        let is_at = |at: At| move |thread: &&Thread| thread.at == at;
        let busy = pool.iter().filter(is_at(At::Busy));
        let running: u8 = busy.map(Thread::places).sum();
        let running = usize::from(running);
        let blocked = pool.iter().filter(is_at(At::Blocked)).count();
        let parked = pool.iter().filter(is_at(At::Idle)).count();
        let [searching, idle_workers, workers_in_rayon, activating] = self.idle.census();

        if searching != 0 || idle_workers != parked || self.idle.idle_workers() != parked {
            return Some("the idle workers are not counted");
        }
        if running + idle_workers + workers_in_rayon + activating
            != self.idle.in_service() + self.idle.excess()
        {
            return Some("the places do not add up");
        }
        let is_counted = |thread: &&Thread| thread.in_loop || thread.aside;
        let activated = placement.spares.iter().filter(|spare| spare.is_activated);
        if placement.working != most.iter().filter(is_counted).count()
            || placement.blocked != blocked
            || placement.activating + placement.void != usize::from(self.in_rayon)
            || placement.activating + activated.count() != activating
        {
            return Some("the placement does not add up");
        }
        for (index, spare) in placement.spares.iter().enumerate() {
            let is_busy = is_counted(&&spares[index]) || spare.is_activated;
            let in_spare = usize::from(spare.is_activated) + spare.void;
            if spare.is_busy != is_busy || usize::from(self.in_spares[index]) != in_spare {
                return Some("the spare threads do not add up");
            }
        }

        let is_refused = placement.refused;
        let can_start = placement.started < placement.limit() && !is_refused;
        let can_make = placement.spares.len() < placement.most_spare && !is_refused;
        let all_blocked = blocked == placement.started + placement.spares.len();
        if placement.is_starved() != (all_blocked && !can_start && !can_make) {
            return Some("the starvation is wrong");
        }

        // A thread that runs a job of rayon, and is not a worker, will take up its activation. (If
        // other threads could be started, the activation is watched.)
        let helps = |thread: &Thread| thread.at == At::Busy && !thread.in_loop;
        let is_activated = |(thread, spare): (&Thread, &Spare)| helps(thread) && spare.is_activated;
        let spare_will_take = spares.iter().zip(&placement.spares).any(is_activated);
        let will_take = spare_will_take || placement.activating > 0 && most.iter().any(helps);
        let has_idle = can_start || most.iter().any(|thread| thread.at == At::InRayon);
        let added = placement.max.saturating_sub(placement.most);
        let busy = placement
            .spares
            .iter()
            .filter(|spare| spare.is_busy)
            .count();
        let has_spare = (busy < placement.spares.len() || can_make) && busy < blocked + added;
        let has_place = running < self.idle.in_service();
        let is_stranded =
            parked > 0 || has_place && (has_idle && !spare_will_take || has_spare && !will_take);
        (self.waiting > 0 && is_stranded).then_some("a job is stranded")
    }
}

/// Explores every state, breadth first. Returns the number of states, or the shortest path to a
/// fault.
fn explore(setting: Setting) -> Result<usize, String> {
    let mut seen = HashSet::new();
    // Each state with the index of the one before it.
    let mut worlds = vec![(World::new(setting), 0)];
    let mut at = 0;
    while let Some((world, _)) = worlds.get(at).cloned() {
        let steps = world.steps();
        if steps.is_empty() {
            if let Some(fault) = world.fault() {
                return Err(format!("{fault}:\n{}", path_to(&worlds, at)));
            }
        }
        for step in steps.into_iter().chain(world.slow_steps()) {
            let next = world.step(step);
            if seen.insert(next.clone()) {
                worlds.push((next, at));
            }
        }
        at += 1;
    }
    Ok(worlds.len())
}

fn path_to(worlds: &[(World, usize)], mut at: usize) -> String {
    let mut path = Vec::new();
    while at > 0 {
        let (world, from) = &worlds[at];
        let threads = world.threads.iter().map(|thread| match thread.owes {
            Some(owes) => format!("{:?} after {owes:?}", thread.at),
            None => format!("{:?}", thread.at),
        });
        let threads: Vec<_> = threads.collect();
        let (counts, excess) = (world.idle.census(), world.idle.excess());
        let (places, waiting) = (world.idle.in_service(), world.waiting);
        let (in_rayon, in_spares) = (world.in_rayon, &world.in_spares);
        path.push(format!(
            "{threads:?} counts {counts:?} excess {excess} places {places} waiting {waiting} \
             in rayon {in_rayon} {in_spares:?}"
        ));
        at = *from;
    }
    path.reverse();
    path.join("\n")
}

fn check(settings: impl IntoIterator<Item = Setting>) {
    for setting in settings {
        let start = std::time::Instant::now();
        match explore(setting) {
            Ok(states) => println!("{setting:?}: {states} states, {:?}", start.elapsed()),
            Err(fault) => panic!("{setting:?}: {fault}"),
        }
    }
}

/// With no spare thread, with one, and with two.
#[test]
fn r2_no_job_is_stranded_in_a_pool_of_one() {
    check([0, 1, 2].map(|spares| Setting {
        spares,
        started: spares % 2,
        ..SMALL
    }));
}

/// All threads are started before, or only when they are activated, or the system refuses one.
#[test]
fn r2_no_job_is_stranded_in_a_pool_of_two() {
    check(
        [(2, 9), (0, 1), (0, 2)].map(|(started, startable)| Setting {
            threads: 2,
            places: 2,
            started,
            startable,
            ..SMALL
        }),
    );
}

#[test]
fn r2_no_job_is_stranded_by_what_rayon_does() {
    check([Setting {
        rayon_jobs: 1,
        nested: 1,
        ..SMALL
    }]);
}

#[test]
fn s1_no_job_is_stranded_while_places_come_and_go() {
    check([Setting {
        changes: 2,
        ..SMALL
    }]);
}

/// A worker that is about to leave for the excess stays, and fills the place of an activation.
/// Meanwhile another place was added, for a job that counts on that activation.
#[test]
fn r2_a_worker_that_stays_in_place_of_an_activation_polls_the_queues() {
    check([Setting {
        threads: 2,
        spares: 0,
        jobs: 3,
        blocks: 1,
        changes: 1,
        ..SMALL
    }]);
}

/// A spare thread answers an activation by one job, on top of a wait in rayon. Another activation
/// lies in rayon, and no other thread can take it up.
#[test]
fn r2_a_spare_thread_that_took_an_activation_takes_the_next() {
    check([Setting {
        jobs: 3,
        blocks: 1,
        rayon_jobs: 1,
        nested: 1,
        changes: 1,
        ..SMALL
    }]);
}

/// An activation leaves its place to a worker that runs without one. Meanwhile another place was
/// added, for a job that counts on that activation.
#[test]
#[cfg_attr(debug_assertions, ignore = "many states: cargo test --release")]
fn r2_a_thread_that_leaves_an_activation_to_an_excess_worker_polls_the_queues() {
    check([Setting {
        spares: 2,
        blocks: 3,
        rayon_jobs: 2,
        changes: 1,
        ..SMALL
    }]);
}

/// Larger pools and more jobs.
#[test]
#[cfg_attr(debug_assertions, ignore = "many states: cargo test --release")]
fn r2_no_job_is_stranded_in_any_of_many_ways() {
    check([
        Setting {
            spares: 2,
            jobs: 3,
            ..SMALL
        },
        Setting {
            threads: 2,
            places: 2,
            started: 0,
            changes: 1,
            ..SMALL
        },
        Setting {
            threads: 2,
            places: 2,
            started: 2,
            rayon_jobs: 1,
            nested: 1,
            ..SMALL
        },
        Setting {
            threads: 2,
            places: 2,
            started: 2,
            jobs: 3,
            ..SMALL
        },
    ]);
}
