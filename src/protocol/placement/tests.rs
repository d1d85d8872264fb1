//! Every way in which the threads of a small pool can go, with the real placement and the real idle: workers
//! that run jobs, block in them and come back, run dry, announce_idle, fall asleep and are activating, while jobs come
//! and places are added and removed; and threads that run pieces of rayon's work, wait in them, and block in them.
//! rayon is some numbers: the calls that lie in it, and those that lie in a spare thread's.
//!
//! A step is one activate of the placement, or of the idle, by one thread. So this says nothing of what happens
//! within them: the models do. What a worker does between is `worker.rs`, in short.

use std::collections::HashSet;

use super::*;
use crate::protocol::idle::{Frozen, WakeUp};

/// What a thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    /// It was not started, or not made.
    Nowhere,
    /// Asleep there: only a activate wakes it, or a piece of rayon's work.
    Rayon,
    /// At the top of its loop: it looks for a job in its own deques and the injectors.
    Look,
    Search,
    /// It gives rayon one chance.
    Gift,
    LieDown,
    Doze,
    Recheck,
    /// In a job, or in a piece of rayon's work.
    Busy,
    /// It waits there in rayon, was given a activate, and answers it itself.
    Hop,
    /// That job has ended.
    EndHop,
    /// About to block, with so many places to leave yet.
    Block(u8),
    Reroute,
    /// Until somebody outside ends it, who may never do so.
    Blocked,
    /// It fills so many places again.
    Back(u8, Then),
    /// They were all taken.
    Late(u8, Then),
    LookLate(u8, Then),
    Unblock,
    AfterJob,
    Leave,
    LeaveSearch,
    EndSearch,
    /// It has left for the excess, and handed its jobs over.
    HandOver,
}

/// What comes after a return to service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Then {
    Unblock,
    Look,
    Search,
    LieDown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Owes {
    Activate,
    Look,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Thread {
    at: At,
    /// It has to do this first.
    owes: Option<Owes>,
    /// It is a worker, in the slots.
    in_loop: bool,
    /// What it runs comes from its loop.
    has_deques: bool,
    /// The jobs that it runs on top of waits in rayon.
    hops: u8,
    /// It blocks while it is with rayon, and is counted as free again afterwards.
    aside: bool,
}

impl Thread {
    /// How many places it fills while it is busy.
    fn places(&self) -> u8 {
        u8::from(self.has_deques) + self.hops
    }

    fn leave_loop(&mut self) {
        (self.in_loop, self.has_deques) = (false, false);
    }
}

/// How large a pool is, and what happens in it.
#[derive(Clone, Copy, Debug)]
struct Setting {
    threads: usize,
    spares: usize,
    /// How many threads were started before, and how many the system gives.
    started: usize,
    given: usize,
    /// How many places are in service at first.
    places: usize,
    jobs: u8,
    /// How often somebody blocks.
    blocks: u8,
    /// How many pieces of work rayon has, and how often somebody who waits in one answers a activate.
    pieces: u8,
    hops: u8,
    /// How often a place is added or removed, or the range changes.
    changes: u8,
}

const SMALL: Setting = Setting {
    threads: 1,
    spares: 1,
    started: 1,
    given: 9,
    places: 1,
    jobs: 2,
    blocks: 2,
    pieces: 0,
    hops: 0,
    changes: 0,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    idle: Frozen,
    placement: Placement,
    /// The threads that are not spare, those that are, and two that are not the pool's: one submits, one
    /// changes the number of places.
    threads: Vec<Thread>,
    /// How many jobs wait.
    waiting: u8,
    /// What comes yet.
    jobs: u8,
    blocks: u8,
    pieces: u8,
    hops: u8,
    changes: u8,
    given: usize,
    /// The calls that lie in rayon, and in that of each spare thread.
    in_rayon: u8,
    in_spares: Vec<u8>,
}

/// A thread, and which of the things that it could do.
type Step = (usize, u8);

impl World {
    fn new(setting: Setting) -> Self {
        let Setting {
            threads, spares, ..
        } = setting;
        let mut placement = Placement::new();
        placement.open(threads, spares);
        let nowhere = Thread {
            at: At::Nowhere,
            owes: None,
            in_loop: false,
            has_deques: false,
            hops: 0,
            aside: false,
        };
        let mut world = Self {
            idle: Idle::for_threads(setting.places, threads + spares).freeze(),
            placement,
            threads: vec![nowhere; threads + spares + 2],
            waiting: 0,
            jobs: setting.jobs,
            blocks: setting.blocks,
            pieces: setting.pieces,
            hops: setting.hops,
            changes: setting.changes,
            given: setting.given,
            in_rayon: 0,
            in_spares: vec![0; spares],
        };
        for _ in 0..setting.started {
            assert!(world.carry_out(Order::Start));
        }
        world
    }

    fn outsider(&self) -> usize {
        self.threads.len() - 2
    }

    fn scaler(&self) -> usize {
        self.threads.len() - 1
    }

    /// The calls that this thread may be given.
    fn calls(&mut self, index: usize) -> &mut u8 {
        match index.checked_sub(self.placement.most) {
            None => &mut self.in_rayon,
            Some(spare) => &mut self.in_spares[spare],
        }
    }

    fn carry_out(&mut self, order: Order) -> bool {
        let most = self.placement.most;
        match order {
            Order::Nothing | Order::Recheck => {}
            Order::Start | Order::MakeSpare => {
                let is_given = self.given > 0;
                self.placement.system_has(is_given);
                if !is_given {
                    return false;
                }
                self.given -= 1;
                if order == Order::Start {
                    self.threads[self.placement.started].at = At::Rayon;
                    self.placement.thread_started();
                } else {
                    let spare = self.placement.spares.len();
                    self.threads[most + spare].at = At::Rayon;
                    self.in_spares[spare] += 1;
                    self.placement.spare_made();
                }
            }
            Order::Send | Order::SendAndWatch => self.in_rayon += 1,
            Order::ActivateSpare(spare) => self.in_spares[spare] += 1,
        }
        true
    }

    /// As `ThreadTable::activate`. Returns whether it has to look at the queues again.
    fn activate(&mut self, idle: &Idle) -> bool {
        let mut order = self.placement.activate(idle);
        while order != Order::Nothing {
            if order == Order::Recheck {
                return true;
            }
            let done = self.carry_out(order);
            order = self.placement.activate_on(order, done, idle);
        }
        false
    }

    /// As `ThreadTable::reroute`.
    fn reroute(&mut self) {
        let mut order = self.placement.reroute();
        while order != Order::Nothing {
            let done = self.carry_out(order);
            order = self.placement.reroute_on(order, done);
        }
    }

    /// What happens without anybody's help; what takes time, a job's end or that of a wait, does not.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, thread) in self.threads.iter().enumerate() {
            let can = thread.owes.is_some()
                || match thread.at {
                    At::Nowhere | At::Busy | At::Blocked => false,
                    At::Rayon => *self.clone().calls(index) > 0,
                    At::Doze => self.idle.has_rung(index),
                    _ => true,
                };
            steps.extend(can.then_some((index, 0)));
        }
        if self.placement.is_watched() {
            steps.push((self.threads.len(), 0));
        }
        steps
    }

    /// What takes time, or comes from outside.
    fn slow_steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, thread) in self.threads.iter().enumerate() {
            if thread.owes.is_some() {
                continue;
            }
            if index == self.outsider() {
                steps.extend((self.jobs > 0).then_some((index, 0)));
                continue;
            }
            if index == self.scaler() {
                let most = self.outsider();
                let (places, max) = (self.idle.in_service(), self.placement.max);
                let can = [
                    places < max,
                    places > 1,
                    places == max && max < most,
                    places == max && max > 1,
                ];
                let can = (0..4).filter(|&change| self.changes > 0 && can[usize::from(change)]);
                steps.extend(can.map(|change| (index, change)));
                continue;
            }
            match thread.at {
                At::Rayon | At::Gift => steps.extend((self.pieces > 0).then_some((index, 1))),
                At::Busy => {
                    let is_given_call = *self.clone().calls(index) > 0;
                    let can = [true, self.blocks > 0, is_given_call && self.hops > 0];
                    let can = (0..3).filter(|&choice| can[usize::from(choice)]);
                    steps.extend(can.map(|choice| (index, choice)));
                    // One that waits for a job takes it back.
                    steps.extend((thread.has_deques && self.waiting > 0).then_some((index, 3)));
                }
                At::Blocked => steps.push((index, 0)),
                // Whose last announce_idle was brief searches anyway.
                At::Look if self.waiting == 0 => steps.push((index, 1)),
                At::Doze if !self.idle.has_rung(index) => steps.push((index, 0)),
                _ => {}
            }
        }
        steps
    }

    /// One step of one thread. See `worker.rs`.
    fn step(&self, (index, choice): Step) -> Self {
        let mut world = self.clone();
        let idle = self.idle.thaw();
        if index == self.threads.len() {
            let order = world.placement.start_for_late_activation();
            world.carry_out(order);
            return world;
        }
        let mut wake_up = WakeUp::None;
        if let Some(thread_owes) = self.threads[index].owes {
            world.threads[index].owes = None;
            if thread_owes == Owes::Look {
                wake_up = idle.recheck(|| self.waiting > 0);
            } else if world.activate(&idle) {
                world.threads[index].owes = Some(Owes::Look);
            }
        } else if index == self.outsider() {
            world.jobs -= 1;
            world.waiting += 1;
            wake_up = idle.after_push();
        } else if index == self.scaler() {
            world.changes -= 1;
            let is_wider = choice == 2;
            if choice >= 2 {
                let max = world.placement.max;
                world
                    .placement
                    .set_max(if is_wider { max + 1 } else { max - 1 });
                world.reroute();
            }
            if choice == 0 || is_wider {
                wake_up = idle.add_places(1, || self.waiting > 0);
            } else {
                idle.remove_places(1);
            }
        } else {
            wake_up = world.step_of_pool(index, choice, &idle);
        }
        assert_ne!(wake_up, WakeUp::Discard);
        if wake_up == WakeUp::Activate {
            world.threads[index].owes = Some(Owes::Activate);
        }
        world.idle = idle.freeze();
        world
    }

    fn step_of_pool(&mut self, index: usize, choice: u8, idle: &Idle) -> WakeUp {
        let mut thread = self.threads[index];
        let waiting = self.waiting;
        let work = || waiting > 0;
        let mut wake_up = WakeUp::None;
        thread.at = match thread.at {
            At::Nowhere => unreachable!(),
            At::Rayon if choice == 1 => {
                self.pieces -= 1;
                At::Busy
            }
            At::Rayon => {
                *self.calls(index) -= 1;
                if self.placement.begin_work(index) {
                    idle.activation_taken();
                    (thread.in_loop, thread.has_deques) = (true, true);
                    At::Search
                } else {
                    At::Rayon
                }
            }
            At::Look if work() => {
                self.waiting -= 1;
                At::Busy
            }
            At::Look if idle.try_search(choice == 1) => At::Search,
            At::Look => At::LieDown,
            At::Search if idle.take_excess() => At::LeaveSearch,
            At::Search if work() => {
                self.waiting -= 1;
                wake_up = idle.stop_searching(|| waiting > 1);
                At::Busy
            }
            At::Search => {
                wake_up = idle.search_in_vain(work);
                thread.has_deques = false;
                At::Gift
            }
            At::Gift if choice == 1 => {
                self.pieces -= 1;
                At::Busy
            }
            At::Gift => {
                thread.has_deques = true;
                At::Back(1, Then::LieDown)
            }
            At::LieDown => {
                wake_up = idle.announce_idle(index, work);
                At::Doze
            }
            At::Doze if self.idle.has_rung(index) => {
                idle.wake(index);
                At::Search
            }
            At::Doze if self.placement.go_to_rayon(idle, index) => {
                thread.leave_loop();
                At::Recheck
            }
            At::Doze => At::Doze,
            At::Recheck => {
                wake_up = idle.recheck(work);
                At::Rayon
            }
            At::Busy => self.step_of_busy(index, choice, &mut thread, idle),
            At::Hop => {
                idle.activation_taken();
                self.waiting = waiting.saturating_sub(1);
                wake_up = idle.stop_searching(|| self.waiting > 0);
                if work() {
                    thread.hops += 1;
                    At::Busy
                } else {
                    At::EndHop
                }
            }
            At::EndHop => {
                wake_up = idle.leave_service(work);
                At::Busy
            }
            At::Block(0) => At::Reroute,
            At::Block(places) => {
                wake_up = idle.block(work);
                At::Block(places - 1)
            }
            At::Reroute => {
                self.reroute();
                At::Blocked
            }
            At::Blocked => At::Back(thread.places(), Then::Unblock),
            At::Back(0, Then::Unblock) => At::Unblock,
            At::Back(0, Then::Look) => At::Look,
            At::Back(0, Then::Search) => At::Search,
            At::Back(0, Then::LieDown) => At::LieDown,
            At::Back(places, then) if idle.return_to_service() => At::Back(places - 1, then),
            At::Back(places, then) => At::Late(places - 1, then),
            At::Late(places, then) if self.placement.come_back(idle) => At::LookLate(places, then),
            At::Late(places, then) => At::Back(places, then),
            At::LookLate(places, then) => {
                wake_up = idle.recheck(work);
                At::Back(places, then)
            }
            At::Unblock => {
                if thread.in_loop {
                    self.placement.unblock();
                } else {
                    self.placement.unblock_aside(index, thread.aside);
                    thread.aside = false;
                    self.reroute();
                }
                At::Busy
            }
            At::AfterJob if idle.take_excess() => At::Leave,
            At::AfterJob => At::Look,
            At::Leave if self.placement.leave_as_excess(idle, index) => {
                thread.leave_loop();
                At::HandOver
            }
            At::Leave => At::LookLate(0, Then::Look),
            At::LeaveSearch if self.placement.leave_as_excess(idle, index) => {
                thread.leave_loop();
                At::EndSearch
            }
            At::LeaveSearch => At::LookLate(0, Then::Search),
            At::EndSearch => {
                wake_up = idle.stop_searching(work);
                At::Rayon
            }
            At::HandOver => {
                wake_up = idle.after_push();
                At::Rayon
            }
        };
        self.threads[index] = thread;
        wake_up
    }

    fn step_of_busy(&mut self, index: usize, choice: u8, thread: &mut Thread, idle: &Idle) -> At {
        match choice {
            0 if thread.hops > 0 => {
                thread.hops -= 1;
                At::EndHop
            }
            0 if thread.has_deques => At::AfterJob,
            0 if thread.in_loop => {
                thread.has_deques = true;
                At::Back(1, Then::Look)
            }
            0 => At::Rayon,
            1 if thread.in_loop => {
                self.blocks -= 1;
                self.placement.block();
                At::Block(thread.places())
            }
            1 => {
                self.blocks -= 1;
                let aside = self.placement.block_aside(index, false);
                thread.aside = aside.counts;
                if aside.is_voided && self.activate(idle) {
                    thread.owes = Some(Owes::Look);
                }
                At::Block(thread.places())
            }
            2 => {
                self.hops -= 1;
                *self.calls(index) -= 1;
                let is_taken = self.placement.take_activation(index);
                self.reroute();
                if is_taken { At::Hop } else { At::Busy }
            }
            _ => {
                self.waiting -= 1;
                At::Busy
            }
        }
    }
}

impl World {
    /// What is wrong with it, when nothing happens without anybody's help.
    fn fault(&self) -> Option<&'static str> {
        let placement = &self.placement;
        let pool = &self.threads[..self.outsider()];
        let (most, spares) = pool.split_at(placement.most);
        let is_at = |at: At| move |thread: &&Thread| thread.at == at;
        let busy = pool.iter().filter(is_at(At::Busy));
        let running: u8 = busy.map(Thread::places).sum();
        let running = usize::from(running);
        let blocked = pool.iter().filter(is_at(At::Blocked)).count();
        let dozing = pool.iter().filter(is_at(At::Doze)).count();
        let [searching, idle_workers, asleep, activating] = self.idle.census();

        if searching != 0 || idle_workers != dozing || self.idle.idle_workers() != dozing {
            return Some("who dozes is not counted");
        }
        if running + idle_workers + asleep + activating
            != self.idle.in_service() + self.idle.excess()
        {
            return Some("the places do not add up");
        }
        let is_counted = |thread: &&Thread| thread.in_loop || thread.aside;
        let calls = placement.spares.iter().filter(|spare| spare.is_activated);
        if placement.working != most.iter().filter(is_counted).count()
            || placement.blocked != blocked
            || placement.activating + placement.void != usize::from(self.in_rayon)
            || placement.activating + calls.count() != activating
        {
            return Some("the placement does not add up");
        }
        for (index, spare) in placement.spares.iter().enumerate() {
            let is_busy = is_counted(&&spares[index]) || spare.is_activated;
            let calls = usize::from(spare.is_activated) + spare.void;
            if spare.is_busy != is_busy || usize::from(self.in_spares[index]) != calls {
                return Some("the spare threads do not add up");
            }
        }

        let is_refused = placement.refused;
        let can_start = placement.started < placement.limit() && !is_refused;
        let can_make = placement.spares.len() < placement.most_spare && !is_refused;
        let all_blocked = blocked == placement.started + placement.spares.len();
        if placement.is_starved() != (all_blocked && !can_start && !can_make) {
            return Some("whether it is starvation is not told");
        }

        // A thread that runs a piece of rayon's work, and is no worker, is trusted to perform its activation. (An
        // activation that waits in rayon while other threads could be started is watched.)
        let helps = |thread: &Thread| thread.at == At::Busy && !thread.in_loop;
        let is_activated = |(thread, spare): (&Thread, &Spare)| helps(thread) && spare.is_activated;
        let trusts_spare = spares.iter().zip(&placement.spares).any(is_activated);
        let trusts = trusts_spare || placement.activating > 0 && most.iter().any(helps);
        let has_idle = can_start || most.iter().any(|thread| thread.at == At::Rayon);
        let added = placement.max.saturating_sub(placement.most);
        let busy = placement
            .spares
            .iter()
            .filter(|spare| spare.is_busy)
            .count();
        let has_spare = (busy < placement.spares.len() || can_make) && busy < blocked + added;
        let has_place = running < self.idle.in_service();
        let is_stranded =
            dozing > 0 || has_place && (has_idle && !trusts_spare || has_spare && !trusts);
        (self.waiting > 0 && is_stranded).then_some("a job is stranded")
    }
}

/// Goes every way, the shortest first, and returns how many states there are, or the way to a fault.
fn explore(setting: Setting) -> Result<usize, String> {
    let mut seen = HashSet::new();
    // Each with the state that it came from.
    let mut worlds = vec![(World::new(setting), 0)];
    let mut at = 0;
    while let Some((world, _)) = worlds.get(at).cloned() {
        let steps = world.steps();
        if steps.is_empty() {
            if let Some(fault) = world.fault() {
                return Err(format!("{fault}:\n{}", way_to(&worlds, at)));
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

fn way_to(worlds: &[(World, usize)], mut at: usize) -> String {
    let mut way = Vec::new();
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
        way.push(format!(
            "{threads:?} counts {counts:?} excess {excess} places {places} waiting {waiting} \
             in rayon {in_rayon} {in_spares:?}"
        ));
        at = *from;
    }
    way.reverse();
    way.join("\n")
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

/// It has an only thread, with one to stand in for it, and with two.
#[test]
fn r2_no_job_is_stranded_in_a_pool_of_one() {
    check([0, 1, 2].map(|spares| Setting {
        spares,
        started: spares % 2,
        ..SMALL
    }));
}

/// Its threads are there from the start, or come when they are activating, or not all come.
#[test]
fn r2_no_job_is_stranded_in_a_pool_of_two() {
    check([(2, 9), (0, 1), (0, 2)].map(|(started, given)| Setting {
        threads: 2,
        places: 2,
        started,
        given,
        ..SMALL
    }));
}

#[test]
fn r2_no_job_is_stranded_by_what_rayon_does() {
    check([Setting {
        pieces: 1,
        hops: 1,
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

/// One who leaves for the excess stays in place of a activate. Another place was added meanwhile, for a job that
/// counts on that activate.
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

/// A spare thread answers a activate by one job, on top of a wait in rayon, while another activate lies in rayon that
/// nobody else can take up.
#[test]
fn r2_a_spare_thread_that_took_an_activation_takes_the_next() {
    check([Setting {
        jobs: 3,
        blocks: 1,
        pieces: 1,
        hops: 1,
        changes: 1,
        ..SMALL
    }]);
}

/// A activate is left to one who runs without a place. Another place was added meanwhile, for a job that counts
/// on that activate.
#[test]
#[cfg_attr(debug_assertions, ignore = "many states: cargo test --release")]
fn r2_a_thread_that_leaves_an_activation_to_an_excess_worker_polls_the_queues() {
    check([Setting {
        spares: 2,
        blocks: 3,
        pieces: 2,
        changes: 1,
        ..SMALL
    }]);
}

/// The larger of the same.
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
            pieces: 1,
            hops: 1,
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
