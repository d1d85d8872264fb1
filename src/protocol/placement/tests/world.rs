//! The state of a small pool, and the steps that are possible in it.

use super::super::*;
use crate::protocol::idle::Frozen;

/// The next step of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum At {
    /// The thread was not started, or not made.
    NotStarted,
    /// Asleep in rayon: an activation or a job of rayon wakes it.
    InRayon,
    /// At the top of the loop: poll the own deques and the injectors.
    Poll,
    Search,
    /// Poll rayon once, out of service.
    RayonTurn,
    AnnounceIdle,
    /// Parked on the own parker.
    Idle,
    Recheck,
    /// In a job, or in a job of rayon.
    Busy,
    /// In a nested wait of rayon: run one job for the activation that this thread took up.
    StartNested,
    /// That job has ended.
    EndNested,
    /// About to block, with this number of places still to leave.
    Block(u8),
    Reroute,
    /// In a wait that ends at any time, or never.
    Blocked,
    /// Return to service, with this number of places still to fill.
    ComeBack(u8, Then),
    /// As `ComeBack`, but the other places were taken.
    ComeLate(u8, Then),
    RecheckLate(u8, Then),
    Unblock,
    AfterJob,
    Leave,
    LeaveSearch,
    EndSearch,
    /// The worker has left for the excess, and has handed its jobs over.
    HandOver,
}

/// The step that follows a return to service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Then {
    Unblock,
    Poll,
    Search,
    AnnounceIdle,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Owes {
    Activate,
    Recheck,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Thread {
    pub(super) at: At,
    /// A step that has to precede `at`.
    pub(super) owes: Option<Owes>,
    /// The thread is a worker.
    pub(super) in_loop: bool,
    /// Its job comes from its loop.
    pub(super) has_deques: bool,
    /// The number of jobs that it runs on top of waits in rayon.
    pub(super) nested: u8,
    /// It blocks in rayon, and has to be counted as free again afterwards.
    pub(super) aside: bool,
}

impl Thread {
    /// Returns the number of places that the thread fills while it is busy.
    pub(super) fn places(&self) -> u8 {
        u8::from(self.has_deques) + self.nested
    }

    pub(super) fn leave_loop(&mut self) {
        (self.in_loop, self.has_deques) = (false, false);
    }
}

/// The size of a pool, and bounds for what happens in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) threads: usize,
    pub(super) spares: usize,
    /// The number of threads that are started at first.
    pub(super) started: usize,
    /// The number of threads that the system starts, at most.
    pub(super) startable: usize,
    /// The number of places in service at first.
    pub(super) places: usize,
    pub(super) jobs: u8,
    /// The number of times that a thread blocks.
    pub(super) blocks: u8,
    /// The number of jobs of rayon.
    pub(super) rayon_jobs: u8,
    /// The number of times that a thread that waits in rayon answers an activation by one job.
    pub(super) nested: u8,
    /// The number of times that a place is added or removed, or the range changes.
    pub(super) changes: u8,
}

pub(super) const SMALL: Setting = Setting {
    threads: 1,
    spares: 1,
    started: 1,
    startable: 9,
    places: 1,
    jobs: 2,
    blocks: 2,
    rayon_jobs: 0,
    nested: 0,
    changes: 0,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) idle: Frozen,
    pub(super) placement: Placement,
    /// The threads that are not spare, the spare ones, and two outside the pool: the first submits,
    /// the second changes the number of places.
    pub(super) threads: Vec<Thread>,
    /// The number of jobs that wait.
    pub(super) waiting: u8,
    /// What is left of the setting's bounds.
    pub(super) jobs: u8,
    pub(super) blocks: u8,
    pub(super) rayon_jobs: u8,
    pub(super) nested: u8,
    pub(super) changes: u8,
    pub(super) startable: usize,
    /// The activations that lie in rayon, and in the pool of each spare thread.
    pub(super) in_rayon: u8,
    pub(super) in_spares: Vec<u8>,
}

/// The index of a thread, and which of its possible steps it takes.
pub(super) type Step = (usize, u8);

impl World {
    pub(super) fn new(setting: Setting) -> Self {
        let Setting {
            threads, spares, ..
        } = setting;
        let mut placement = Placement::new();
        placement.open(threads, spares);
        let unstarted = Thread {
            at: At::NotStarted,
            owes: None,
            in_loop: false,
            has_deques: false,
            nested: 0,
            aside: false,
        };
        let mut world = Self {
            idle: Idle::for_threads(setting.places, threads + spares).freeze(),
            placement,
            threads: vec![unstarted; threads + spares + 2],
            waiting: 0,
            jobs: setting.jobs,
            blocks: setting.blocks,
            rayon_jobs: setting.rayon_jobs,
            nested: setting.nested,
            changes: setting.changes,
            startable: setting.startable,
            in_rayon: 0,
            in_spares: vec![0; spares],
        };
        for _ in 0..setting.started {
            assert!(world.carry_out(Order::Start));
        }
        world
    }

    /// Returns the index of the thread that submits.
    pub(super) fn submitter(&self) -> usize {
        self.threads.len() - 2
    }

    /// Returns the index of the thread that changes the number of places.
    pub(super) fn scaler(&self) -> usize {
        self.threads.len() - 1
    }

    /// The activations that rayon may run on this thread.
    pub(super) fn activations(&mut self, index: usize) -> &mut u8 {
        match index.checked_sub(self.placement.most) {
            None => &mut self.in_rayon,
            Some(spare) => &mut self.in_spares[spare],
        }
    }

    /// Carries out an order of the placement, as `ThreadTable` does. Returns whether it was done.
    pub(super) fn carry_out(&mut self, order: Order) -> bool {
        let most = self.placement.most;
        match order {
            Order::Nothing | Order::Recheck => {}
            Order::Start | Order::MakeSpare => {
                let is_startable = self.startable > 0;
                self.placement.system_has(is_startable);
                if !is_startable {
                    return false;
                }
                self.startable -= 1;
                if order == Order::Start {
                    self.threads[self.placement.started].at = At::InRayon;
                    self.placement.thread_started();
                } else {
                    let spare = self.placement.spares.len();
                    self.threads[most + spare].at = At::InRayon;
                    self.in_spares[spare] += 1;
                    self.placement.spare_made();
                }
            }
            Order::Send | Order::SendAndWatch => self.in_rayon += 1,
            Order::ActivateSpare(spare) => self.in_spares[spare] += 1,
        }
        true
    }

    /// As `ThreadTable::activate`. Returns whether the queues have to be rechecked.
    pub(super) fn activate(&mut self, idle: &Idle) -> bool {
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
    pub(super) fn reroute(&mut self) {
        let mut order = self.placement.reroute();
        while order != Order::Nothing {
            let done = self.carry_out(order);
            order = self.placement.reroute_on(order, done);
        }
    }

    /// Returns the steps that are taken in any case: none waits for the end of a job or of a wait,
    /// or for a thread outside the pool.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, thread) in self.threads.iter().enumerate() {
            let can = thread.owes.is_some()
                || match thread.at {
                    At::NotStarted | At::Busy | At::Blocked => false,
                    At::InRayon => *self.clone().activations(index) > 0,
                    At::Idle => self.idle.is_notified(index),
                    _ => true,
                };
            steps.extend(can.then_some((index, 0)));
        }
        if self.placement.is_watched() {
            steps.push((self.threads.len(), 0));
        }
        steps
    }

    /// Returns the steps that may come late, or never.
    pub(super) fn slow_steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, thread) in self.threads.iter().enumerate() {
            if thread.owes.is_some() {
                continue;
            }
            if index == self.submitter() {
                steps.extend((self.jobs > 0).then_some((index, 0)));
                continue;
            }
            if index == self.scaler() {
                let most = self.submitter();
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
                At::InRayon | At::RayonTurn => {
                    steps.extend((self.rayon_jobs > 0).then_some((index, 1)))
                }
                At::Busy => {
                    let has_activation = *self.clone().activations(index) > 0;
                    let can = [true, self.blocks > 0, has_activation && self.nested > 0];
                    let can = (0..3).filter(|&choice| can[usize::from(choice)]);
                    steps.extend(can.map(|choice| (index, choice)));
                    // A thread that waits for a job takes it back.
                    steps.extend((thread.has_deques && self.waiting > 0).then_some((index, 3)));
                }
                At::Blocked => steps.push((index, 0)),
                // A worker whose last idle time was short searches anyway.
                At::Poll if self.waiting == 0 => steps.push((index, 1)),
                At::Idle if !self.idle.is_notified(index) => steps.push((index, 0)),
                _ => {}
            }
        }
        steps
    }
}
