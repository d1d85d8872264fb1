//! Which of a pool's threads does what, and which of them an activation goes to: the decision alone.
//!
//! `runtime/rayon_host/table.rs` keeps it under its lock, carries out its orders with real threads and rayon's pools, and
//! reports the outcome. An activation *lies in rayon* when it was sent and no thread has taken it up. An activation that
//! finds no thread waits for one that comes back to rayon, and keeps others from being sent (`idle.rs`). So no
//! activation may stay in rayon while there is a thread that could do its work, and that rayon does not give it to: a spare
//! thread, or a worker without a place.
//!
//! - A worker that comes back from a wait, and finds all places taken, fills that of the activation.
//! - So does a worker that leaves because there is one too many.
//! - An activation that finds no thread, but one worker too many, leaves its place to that one.
//! - A worker that goes back to rayon puts such activations back, so that a new one can be sent to it.
//! - When there are more activations than threads that can take them up, others are started for them, or spare
//!   threads answer them (*reroute*): after a worker has blocked, or a thread that is with rayon; after
//!   a spare thread has come back from such a wait, or from an activation that it answered by one job; after the range has
//!   grown.
//! - A thread that takes back an activation without making its place idle again rechecks the queues (`Idle::recheck`): that
//!   activation kept others from being sent, and there may be another place in rayon.
//! - An activation that lies with a spare thread which blocks before it takes it up is sent once more.

#[cfg(all(test, loom))]
mod model;
// Long, and nothing for miri: there is no unsafe code in it.
#[cfg(all(test, not(any(loom, miri))))]
mod tests;

use std::mem;

use crate::protocol::idle::Idle;

/// What is to be done for an activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Order {
    Nothing,
    /// Start the next thread that is not spare.
    Start,
    /// Spawn an activation into rayon.
    Send,
    /// The same; and if it is late, another thread is to be started: see `start_for_late_activation`.
    SendAndWatch,
    /// Spawn an activation into the pool of this spare thread.
    ActivateSpare(usize),
    /// Make the next spare thread, and activate it.
    MakeSpare,
    /// Nothing, but `recheck` has to follow.
    Recheck,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Placement {
    /// How many threads there can be that are not spare, and how many spare ones.
    most: usize,
    most_spare: usize,
    /// How many may be in service.
    max: usize,
    /// The pool is built, and has not stopped.
    is_open: bool,
    /// Of the threads that are not spare: how many were started, how many are workers, or run a part of
    /// a broadcast or block while they are with rayon, and how many
    /// activations to them were not taken up.
    started: usize,
    working: usize,
    activating: usize,
    /// One of these may be late.
    is_watched: bool,
    /// Of the activations that rayon still has, how many were answered by spare threads meanwhile, or by
    /// workers that came back from a wait.
    void: usize,
    spares: Vec<Spare>,
    /// Threads that are blocked in waits, as workers or with rayon.
    blocked: usize,
    /// The system refused the last thread that was to be started.
    refused: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Spare {
    /// It is a worker, or was activated to be one, or blocks while it is with rayon.
    is_busy: bool,
    /// It was activated, and has not taken that up.
    is_activated: bool,
    /// How many activations lie in its pool that were sent elsewhere meanwhile.
    void: usize,
}

/// How a thread that is with rayon blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) struct Aside {
    /// It is to be counted as free again afterwards.
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

    /// The pool is built, with so many threads that can be started, all of which may be in service, and so
    /// many spare ones.
    pub(crate) fn open(&mut self, most: usize, most_spare: usize) {
        self.is_open = true;
        (self.most, self.max) = (most, most);
        self.most_spare = most_spare;
    }

    /// The pool has stopped.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
        self.spares.clear();
    }

    /// How many may be in service from now on. `reroute` has to follow.
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

    /// The system has started a thread, or has refused to.
    pub(crate) fn system_has(&mut self, started: bool) {
        self.refused = !started;
    }

    /// A thread that is not spare was started.
    pub(crate) fn thread_started(&mut self) {
        self.started += 1;
    }

    /// A spare thread was made, and activated.
    pub(crate) fn spare_made(&mut self) {
        self.spares.push(Spare {
            is_busy: true,
            is_activated: true,
            void: 0,
        });
    }

    /// How many of the threads that are not spare may be started by now.
    fn limit(&self) -> usize {
        self.max.min(self.most)
    }

    /// Makes a worker of a thread that is with rayon, or of a new one: the first order. The next ones come
    /// from `activate_on`.
    pub(crate) fn activate(&mut self, idle: &Idle) -> Order {
        if !self.is_open {
            return Order::Nothing;
        }
        if self.started - self.working > self.activating {
            // Those that are with rayon may be helping a job there, for as long as that likes.
            let maybe_late = self.working > 0 && self.started < self.limit();
            return self.send(maybe_late);
        }
        if self.started < self.limit() {
            return Order::Start;
        }
        self.activate_elsewhere(idle)
    }

    /// What is to be done after this order, which was carried out, or could not be.
    pub(crate) fn activate_on(&mut self, order: Order, done: bool, idle: &Idle) -> Order {
        match order {
            Order::Start if done => self.send(false),
            Order::Start => self.activate_elsewhere(idle),
            Order::MakeSpare if !done => self.activate_without_thread(idle),
            _ => Order::Nothing,
        }
    }

    /// There is no other thread for the activation than a spare one.
    fn activate_elsewhere(&mut self, idle: &Idle) -> Order {
        match self.activate_spare() {
            Order::Nothing => self.activate_without_thread(idle),
            order => order,
        }
    }

    /// There is no thread for the activation: if no worker fills its place, it waits for a thread that comes back to rayon.
    fn activate_without_thread(&mut self, idle: &Idle) -> Order {
        if !mutant!("roster_call_blind") && idle.take_excess() {
            // A worker runs without a place: it came back from a wait after the activation was sent.
            idle.activation_voided();
            return Order::Recheck;
        }
        // If there could be one more, the system has refused it just now, and may give it later.
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

    /// Makes a worker of a spare thread, as long as there are no more of them than blocked workers, and
    /// than the range was widened by after the pool was built.
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

    /// Whether an activation may be late.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// An activation is late: the threads that are with rayon are busy there, or the system had refused one. If it
    /// refuses it again, `stays_late` has to follow.
    pub(crate) fn start_for_late_activation(&mut self) -> Order {
        self.is_watched = false;
        if self.is_open && self.activating > 0 && self.started < self.limit() {
            Order::Start
        } else {
            Order::Nothing
        }
    }

    /// The thread for a late activation could not be started.
    pub(crate) fn stays_late(&mut self) {
        self.is_watched = true;
    }

    /// There may be more activations than threads that can take them up: the first order. The next ones come
    /// from `reroute_on`.
    pub(crate) fn reroute(&mut self) -> Order {
        let missing = self.activating > 0 && self.activating + self.working > self.started;
        if !self.is_open || !missing || mutant!("roster_no_reroute") {
            Order::Nothing
        } else if self.started < self.limit() {
            Order::Start
        } else {
            self.activate_spare()
        }
    }

    /// What is to be done after this order, which was carried out, or could not be.
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

    /// A worker is about to block in a wait. When it has left service, `reroute` has to follow: an activation that
    /// waits for a thread to come back to rayon may have no other to come than this one.
    pub(crate) fn block(&mut self) {
        self.blocked += 1;
    }

    /// A worker is through with its wait.
    pub(crate) fn unblock(&mut self) {
        self.blocked -= 1;
    }

    /// A thread, of this index, that is with rayon is about to block: it takes up no activation meanwhile.
    /// `is_counted` says that it is counted as busy already. `reroute` has to follow.
    pub(crate) fn block_aside(&mut self, index: usize, is_counted: bool) -> Aside {
        self.blocked += 1;
        let mut aside = Aside {
            counts: false,
            is_voided: false,
        };
        if is_counted {
            return aside;
        }
        match index.checked_sub(self.most) {
            None => {
                self.working += 1;
                aside.counts = true;
            }
            // It is not there any more if the pool has stopped.
            Some(spare) => {
                if let Some(spare) = self.spares.get_mut(spare) {
                    // The activation lies behind what blocks here.
                    aside.is_voided =
                        !mutant!("roster_spare_keeps_call") && mem::take(&mut spare.is_activated);
                    spare.void += usize::from(aside.is_voided);
                    aside.counts = !mem::replace(&mut spare.is_busy, true) || aside.is_voided;
                }
            }
        }
        aside
    }

    /// See `block_aside`. `reroute` has to follow, for a spare thread that has come back.
    pub(crate) fn unblock_aside(&mut self, index: usize, counts: bool) {
        self.blocked -= 1;
        if counts {
            self.end_work(index);
        }
    }

    /// Takes back an activation that lies in rayon. False if there is none.
    fn void_activation(&mut self) -> bool {
        let is_activated = self.activating > 0;
        if is_activated {
            self.activating -= 1;
            self.void += 1;
        }
        is_activated
    }

    /// A worker came back from a wait, and all places are taken. If an activation for one of them lies in rayon, it
    /// fills that place, and `recheck` has to follow: that activation kept others from being sent. Otherwise it
    /// is one too many.
    #[must_use]
    pub(crate) fn come_back(&mut self, idle: &Idle) -> bool {
        if !mutant!("roster_come_back_blind") && self.void_activation() {
            idle.activation_voided();
            !mutant!("roster_come_back_deaf")
        } else {
            idle.add_excess();
            false
        }
    }

    /// A worker, of this index, leaves for the excess, which it has taken; unless an activation lies in rayon, whose
    /// place it fills: then `recheck` has to follow. Returns whether it leaves.
    #[must_use]
    pub(crate) fn leave_as_excess(&mut self, idle: &Idle, index: usize) -> bool {
        if !mutant!("roster_leave_blind") && self.void_activation() {
            idle.activation_voided();
            return false;
        }
        self.end_work(index);
        true
    }

    /// A worker, of this index, goes back to rayon, unless a waker is about to notify it.
    #[must_use]
    pub(crate) fn go_to_rayon(&mut self, idle: &Idle, index: usize) -> bool {
        if !idle.go_to_rayon(index) {
            return false;
        }
        self.end_work(index);
        // Now there is a thread to be activated, and activations that found none would keep others from being sent.
        while !mutant!("roster_keep_calls") && self.void_activation() {
            idle.activation_put_back();
        }
        idle.settle_excess();
        true
    }

    /// An activation that a thread of this index was given ends here if it, or another one, was answered already.
    pub(crate) fn take_if_void(&mut self, index: usize) -> bool {
        let void = match index.checked_sub(self.most) {
            None => &mut self.void,
            Some(spare) => match self.spares.get_mut(spare) {
                Some(spare) => &mut spare.void,
                None => return false,
            },
        };
        let is_void = *void > 0;
        *void -= usize::from(is_void);
        is_void
    }

    /// An activation that a thread of this index was given ends, and it becomes no worker: `reroute` has to follow.
    /// False if that was answered already: which of those it is does not matter.
    #[must_use]
    pub(crate) fn take_activation(&mut self, index: usize) -> bool {
        if self.take_if_void(index) {
            return false;
        }
        match index.checked_sub(self.most) {
            None => {
                self.activating -= 1;
                self.is_watched &= self.activating > 0;
            }
            Some(spare) => {
                if let Some(spare) = self.spares.get_mut(spare) {
                    spare.is_activated = false;
                    spare.is_busy = false;
                }
            }
        }
        true
    }

    /// A thread, of this index, becomes a worker, by an activation. False if that was answered already.
    #[must_use]
    pub(crate) fn begin_work(&mut self, index: usize) -> bool {
        if !self.take_activation(index) {
            return false;
        }
        match index.checked_sub(self.most) {
            None => self.working += 1,
            Some(spare) => {
                if let Some(spare) = self.spares.get_mut(spare) {
                    spare.is_busy = true;
                }
            }
        }
        true
    }

    /// A worker, of this index, goes back to rayon.
    pub(crate) fn end_work(&mut self, index: usize) {
        match index.checked_sub(self.most) {
            None => self.working -= 1,
            // It is not there any more if the pool has stopped.
            Some(spare) => {
                if let Some(spare) = self.spares.get_mut(spare) {
                    spare.is_busy = false;
                }
            }
        }
    }

    /// A thread that is with rayon, and is not spare, is busy there with something of ours, and takes up no
    /// activation meanwhile. It may be the one that an activation under way was meant for: `reroute` has to follow.
    pub(crate) fn begin_aside(&mut self) {
        self.working += 1;
    }

    pub(crate) fn end_aside(&mut self) {
        self.working -= 1;
    }

    /// Whether every thread there is, or can be, is blocked. To be asked after each change.
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
