//! The placement of work on a pool's threads: what each thread does, and which one an activation
//! goes to. The decision alone.
//!
//! `runtime/rayon_host/table.rs` keeps it under its lock. `orders.rs` there carries out its orders
//! with real threads and rayon's pools, and reports the outcome. An activation *lies in rayon*
//! while it was sent and no thread has taken it up. An activation that finds no thread waits for
//! one that comes back to rayon, and keeps others from being sent (`idle.rs`). So no activation may
//! stay in rayon while a thread could do its work and rayon does not give it to that thread. Such a
//! thread is a spare one, or a worker without a place.
//!
//! - A worker that comes back from a wait, and finds all places taken, fills that of the
//!   activation.
//! - An excess worker that is about to leave does the same.
//! - If there is an excess worker, an activation that finds no thread leaves its place to that
//!   worker.
//! - A worker that goes back to rayon puts such activations back, so that a new one can be sent to
//!   it.
//! - When there are more activations than threads that can take them up, other threads are started
//!   for them, or spare threads answer them (*reroute*). This is checked after a worker, or a
//!   thread in rayon, has blocked. It is checked after a spare thread has come back from such a
//!   wait, or from an activation that it answered by one job. It is also checked after the range
//!   has grown.
//! - A thread that takes back an activation without making its place idle again rechecks the queues
//!   (`Idle::recheck`). That activation kept others from being sent, and there may be another place
//!   in rayon.
//! - If a spare thread blocks before it takes up its activation, the activation is sent once more.

#[cfg(all(test, loom))]
mod model;
// Slow, and not for miri: this module has no unsafe code.
#[cfg(all(test, not(any(loom, miri))))]
mod tests;

use std::mem;

use crate::protocol::idle::Idle;

/// The next step for an activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Order {
    Nothing,
    /// Start the next thread that is not spare.
    Start,
    /// Spawn an activation into rayon.
    Send,
    /// As `Send`. If the activation is late, another thread has to be started: see
    /// `start_for_late_activation`.
    SendAndWatch,
    /// Spawn an activation into the pool of this spare thread.
    ActivateSpare(usize),
    /// Make another spare thread, and activate it.
    MakeSpare,
    /// Do nothing, but `recheck` has to follow.
    Recheck,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Placement {
    /// The most threads that are not spare, and the most spare ones.
    most: usize,
    most_spare: usize,
    /// The most workers in service.
    max: usize,
    /// The pool is built, and has not stopped.
    is_open: bool,
    /// Counts of the threads that are not spare. `started` were started. `working` are workers, or
    /// run a part of a broadcast or block while they are in rayon. `activating` activations to them
    /// were not taken up.
    started: usize,
    working: usize,
    activating: usize,
    /// One of these activations may be late.
    is_watched: bool,
    /// The activations still in rayon that spare threads have answered meanwhile, or workers that
    /// came back from a wait.
    void: usize,
    spares: Vec<Spare>,
    /// Threads that are blocked in waits, as workers or in rayon.
    blocked: usize,
    /// The system refused to start the last thread that was requested.
    refused: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Spare {
    /// It is a worker, or was activated to be one, or blocks while it is in rayon.
    is_busy: bool,
    /// It was activated, and has not taken up that activation.
    is_activated: bool,
    /// The activations in its pool that were sent elsewhere meanwhile.
    void: usize,
}

/// How a thread in rayon blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) struct Aside {
    /// It has to be counted as free again afterwards.
    pub(crate) counts: bool,
    /// An activation to it is void: `activate` has to follow.
    pub(crate) is_voided: bool,
}

impl Placement {
    pub(crate) fn new() -> Self {
        Self {
            most: 0,
            most_spare: 0,
            max: 0,
            is_open: false,
            started: 0,
            working: 0,
            activating: 0,
            is_watched: false,
            void: 0,
            spares: Vec::new(),
            blocked: 0,
            refused: false,
        }
    }

    /// Opens the pool with `most` threads that can be started, all of which may be in service, and
    /// `most_spare` spare ones.
    pub(crate) fn open(&mut self, most: usize, most_spare: usize) {
        self.is_open = true;
        (self.most, self.max) = (most, most);
        self.most_spare = most_spare;
    }

    /// Closes the placement of a pool that has stopped.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
    }

    /// Returns the spare thread of this index, if it is a spare one.
    fn spare(&mut self, index: usize) -> Option<&mut Spare> {
        let spare = index.checked_sub(self.most)?;
        Some(&mut self.spares[spare])
    }

    /// Sets the most workers in service. `reroute` has to follow.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) fn started(&self) -> usize {
        self.started
    }

    pub(crate) fn can_start(&self) -> bool {
        self.is_open && self.started < self.most
    }

    /// Records whether the system has started the last thread.
    pub(crate) fn system_has(&mut self, started: bool) {
        self.refused = !started;
    }

    /// Counts a thread that was started and is not spare.
    pub(crate) fn thread_started(&mut self) {
        self.started += 1;
    }

    /// Adds a spare thread that was made and activated.
    pub(crate) fn spare_made(&mut self) {
        self.spares.push(Spare {
            is_busy: true,
            is_activated: true,
            void: 0,
        });
    }

    /// Returns how many of the threads that are not spare may be started by now.
    fn limit(&self) -> usize {
        self.max.min(self.most)
    }

    /// Returns the first order to make a worker of a thread in rayon, or of a new one. The next
    /// orders come from `activate_on`.
    pub(crate) fn activate(&mut self, idle: &Idle) -> Order {
        if !self.is_open {
            return Order::Nothing;
        }
        if self.started - self.working > self.activating {
            // A thread in rayon may be helping a job there, for an unbounded time.
            let maybe_late = self.working > 0 && self.started < self.limit();
            return self.send(maybe_late);
        }
        if self.started < self.limit() {
            return Order::Start;
        }
        self.activate_elsewhere(idle)
    }

    /// Returns the order that follows `order`. `done` is whether that was carried out.
    pub(crate) fn activate_on(&mut self, order: Order, done: bool, idle: &Idle) -> Order {
        match order {
            Order::Start if done => self.send(false),
            Order::Start => self.activate_elsewhere(idle),
            Order::MakeSpare if !done => self.activate_without_thread(idle),
            _ => Order::Nothing,
        }
    }

    /// Orders a spare thread for the activation: no other thread is left.
    fn activate_elsewhere(&mut self, idle: &Idle) -> Order {
        match self.activate_spare() {
            Order::Nothing => self.activate_without_thread(idle),
            order => order,
        }
    }

    /// Orders for an activation that finds no thread. Unless an excess worker fills its place, it
    /// waits for a thread that comes back to rayon.
    fn activate_without_thread(&mut self, idle: &Idle) -> Order {
        if !mutant!("placement_activate_blind") && idle.take_excess() {
            // A worker runs without a place: it came back from a wait after the activation was
            // sent.
            idle.activation_voided();
            return Order::Recheck;
        }
        // If one more thread is allowed, the system has just refused it, and may grant it later.
        self.send(self.started < self.limit())
    }

    fn send(&mut self, maybe_late: bool) -> Order {
        self.activating += 1;
        if maybe_late {
            self.is_watched = true;
            Order::SendAndWatch
        } else {
            Order::Send
        }
    }

    /// Activates a spare thread. The busy ones are bounded by the blocked threads, plus what the
    /// range was widened by after the pool was built.
    fn activate_spare(&mut self) -> Order {
        let busy = self.spares.iter().filter(|spare| spare.is_busy).count();
        let added = self.max.saturating_sub(self.most);
        if busy >= self.blocked + added || !self.is_open {
            return Order::Nothing;
        }
        if let Some(idle) = self.spares.iter().position(|spare| !spare.is_busy) {
            self.spares[idle].is_busy = true;
            self.spares[idle].is_activated = true;
            Order::ActivateSpare(idle)
        } else if self.spares.len() < self.most_spare {
            Order::MakeSpare
        } else {
            Order::Nothing
        }
    }

    /// Returns whether an activation may be late.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Returns the order for a late activation: the threads in rayon are busy there, or the system
    /// has refused one. If it refuses again, `stays_late` has to follow.
    pub(crate) fn start_for_late_activation(&mut self) -> Order {
        self.is_watched = false;
        if self.is_open && self.activating > 0 && self.started < self.limit() {
            Order::Start
        } else {
            Order::Nothing
        }
    }

    /// Records that the thread for a late activation could not be started.
    pub(crate) fn stays_late(&mut self) {
        self.is_watched = true;
    }

    /// Returns the first order if there are more activations than threads that can take them up.
    /// The next orders come from `reroute_on`.
    pub(crate) fn reroute(&mut self) -> Order {
        let missing = self.activating > 0 && self.activating + self.working > self.started;
        if !self.is_open || !missing || mutant!("placement_no_reroute") {
            Order::Nothing
        } else if self.started < self.limit() {
            Order::Start
        } else {
            self.activate_spare()
        }
    }

    /// Returns the order that follows `order`. `done` is whether that was carried out.
    pub(crate) fn reroute_on(&mut self, order: Order, done: bool) -> Order {
        match order {
            Order::Start if !done => self.activate_spare(),
            Order::Start => self.reroute(),
            Order::ActivateSpare(_) | Order::MakeSpare if done => {
                self.void_activation();
                self.reroute()
            }
            _ => Order::Nothing,
        }
    }

    /// Counts a worker that is about to block in a wait. When it has left service, `reroute` has to
    /// follow: it may have been the only thread left to take up an activation in rayon.
    pub(crate) fn block(&mut self) {
        self.blocked += 1;
    }

    /// Counts a worker whose wait is over.
    pub(crate) fn unblock(&mut self) {
        self.blocked -= 1;
    }

    /// Counts a thread in rayon, of this index, that is about to block: it takes up no activation
    /// meanwhile. `is_counted` means that it is counted as busy already. `reroute` has to follow.
    pub(crate) fn block_aside(&mut self, index: usize, is_counted: bool) -> Aside {
        self.blocked += 1;
        let mut aside = Aside {
            counts: false,
            is_voided: false,
        };
        if is_counted {
            return aside;
        }
        match self.spare(index) {
            None => {
                self.working += 1;
                aside.counts = true;
            }
            Some(spare) => {
                // The activation lies behind what blocks here.
                aside.is_voided = !mutant!("placement_spare_keeps_activation")
                    && mem::take(&mut spare.is_activated);
                spare.void += usize::from(aside.is_voided);
                aside.counts = !mem::replace(&mut spare.is_busy, true) || aside.is_voided;
            }
        }
        aside
    }

    /// Ends a `block_aside`. `reroute` has to follow, for a spare thread that has come back.
    pub(crate) fn unblock_aside(&mut self, index: usize, counts: bool) {
        self.blocked -= 1;
        if counts {
            self.end_work(index);
        }
    }

    /// Takes back an activation that lies in rayon. Returns false if there is none.
    fn void_activation(&mut self) -> bool {
        let is_activated = self.activating > 0;
        if is_activated {
            self.activating -= 1;
            self.void += 1;
        }
        is_activated
    }

    /// Places a worker that came back from a wait and found all places taken. If an activation for
    /// one of them lies in rayon, the worker fills that place and this returns true. `recheck` then
    /// has to follow: that activation kept others from being sent. Otherwise the worker is an
    /// excess one.
    #[must_use]
    pub(crate) fn come_back(&mut self, idle: &Idle) -> bool {
        if !mutant!("placement_come_back_blind") && self.void_activation() {
            idle.activation_voided();
            !mutant!("placement_come_back_silent")
        } else {
            idle.add_excess();
            false
        }
    }

    /// Lets a worker, of this index, leave for the excess, which it has taken. Returns whether it
    /// leaves. If an activation lies in rayon, the worker stays and fills that place, and `recheck`
    /// has to follow.
    #[must_use]
    pub(crate) fn leave_as_excess(&mut self, idle: &Idle, index: usize) -> bool {
        if !mutant!("placement_leave_blind") && self.void_activation() {
            idle.activation_voided();
            return false;
        }
        self.end_work(index);
        true
    }

    /// Moves a worker, of this index, back to rayon. Returns false if a waker is about to notify
    /// it.
    #[must_use]
    pub(crate) fn go_to_rayon(&mut self, idle: &Idle, index: usize) -> bool {
        if !idle.go_to_rayon(index) {
            return false;
        }
        self.end_work(index);
        // This thread can take up an activation now. Activations that found no thread would keep a
        // new one from being sent.
        while !mutant!("placement_keep_activations") && self.void_activation() {
            idle.activation_put_back();
        }
        idle.settle_excess();
        true
    }

    /// Ends an activation that was given to a thread of this index, if it, or another one, was
    /// answered already. Returns whether it was.
    pub(crate) fn take_if_void(&mut self, index: usize) -> bool {
        let void = match index.checked_sub(self.most) {
            None => &mut self.void,
            Some(spare) => &mut self.spares[spare].void,
        };
        let is_void = *void > 0;
        *void -= usize::from(is_void);
        is_void
    }

    /// Ends an activation that was given to a thread of this index, which does not become a worker.
    /// `reroute` has to follow. Returns false if that activation, or another one, was answered
    /// already: which one does not matter.
    #[must_use]
    pub(crate) fn take_activation(&mut self, index: usize) -> bool {
        if self.take_if_void(index) {
            return false;
        }
        match self.spare(index) {
            None => {
                self.activating -= 1;
                self.is_watched &= self.activating > 0;
            }
            Some(spare) => {
                spare.is_activated = false;
                spare.is_busy = false;
            }
        }
        true
    }

    /// Makes a worker of a thread, of this index, by an activation. Returns false if that was
    /// answered already.
    #[must_use]
    pub(crate) fn begin_work(&mut self, index: usize) -> bool {
        if !self.take_activation(index) {
            return false;
        }
        match self.spare(index) {
            None => self.working += 1,
            Some(spare) => spare.is_busy = true,
        }
        true
    }

    /// Moves a worker, of this index, back to rayon.
    pub(crate) fn end_work(&mut self, index: usize) {
        match self.spare(index) {
            None => self.working -= 1,
            Some(spare) => spare.is_busy = false,
        }
    }

    /// Counts a thread in rayon, not a spare one, as busy there with work of this pool: it takes up
    /// no activation meanwhile. An activation under way may have been meant for it, so `reroute`
    /// has to follow.
    pub(crate) fn begin_aside(&mut self) {
        self.working += 1;
    }

    pub(crate) fn end_aside(&mut self) {
        self.working -= 1;
    }

    /// Returns whether every thread that exists, or can exist, is blocked. Called after each
    /// change.
    pub(crate) fn is_starved(&self) -> bool {
        let all_busy =
            self.working == self.started && self.spares.iter().all(|spare| spare.is_busy);
        let all_made = self.started >= self.limit() && self.spares.len() >= self.most_spare;
        all_busy
            && self.blocked == self.working + self.spares.len()
            && (all_made || self.refused)
            && self.is_open
    }
}
