//! Activations: the orders of the placement, carried out under the lock of the thread table.

use std::{io, sync::Arc, time::Duration};

use crate::{
    protocol::placement::Order,
    runtime::rayon_host::{
        Host, Threads,
        activation::{Activation, activation},
        start::{UnstartedThread, make_unstarted},
        table::TableGuard,
    },
    sync::Instant,
    tuning::{RECHECK, RECHECK_MAX},
};

impl Threads {
    /// Makes a worker of a thread in rayon, or of a new one.
    pub(crate) fn activate<H: Host>(&self, host: &Arc<H>) {
        let after = self.enter().activate(host);
        host.after_activation(after);
    }

    /// Starts a thread for an activation that no thread has taken up in time. Either the threads in
    /// rayon are busy there, or the system has refused a thread. If the activation is younger, or
    /// the system refuses again, returns the time until the next try.
    pub(crate) fn start_for_late_activation<H: Host>(&self, host: &Arc<H>) -> Option<Duration> {
        let mut table = self.enter();
        if !table.placement.is_watched() {
            return None;
        }
        let left = table.patience.saturating_sub(table.activated_at?.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        let order = table.placement.start_for_late_activation();
        if table.carry_out(host, order) {
            return None;
        }
        table.placement.stays_late();
        table.activated_at = Some(Instant::now());
        table.patience = RECHECK_MAX.min(table.patience * 2);
        Some(table.patience)
    }
}

/// The action that is left after an activation, to be taken without the table's lock.
#[must_use]
pub(crate) enum AfterActivation {
    Nothing,
    /// Start a thread after this time if the activation is late: it was sent to threads that may be
    /// busy, although some threads are unstarted.
    Watch(Duration),
    /// Check the queues again: the activation was taken back, and kept others from being sent.
    Recheck,
}

impl TableGuard<'_> {
    pub(super) fn activate<H: Host>(&mut self, host: &Arc<H>) -> AfterActivation {
        let was_watched = self.placement.is_watched();
        let mut after = AfterActivation::Nothing;
        let mut order = self.placement.activate(host.idle());
        while order != Order::Nothing {
            after = match order {
                Order::SendAndWatch => AfterActivation::Watch(RECHECK),
                Order::Recheck => AfterActivation::Recheck,
                _ => after,
            };
            let done = self.carry_out(host, order);
            order = self.placement.activate_on(order, done, host.idle());
        }
        if self.placement.is_watched() && !was_watched {
            self.activated_at = Some(Instant::now());
            self.patience = RECHECK;
        }
        after
    }

    /// Finds threads for activations that none of the intended threads can take up.
    pub(super) fn reroute<H: Host>(&mut self, host: &Arc<H>) {
        let mut order = self.placement.reroute();
        while order != Order::Nothing {
            let done = self.carry_out(host, order);
            order = self.placement.reroute_on(order, done);
        }
    }

    /// Carries out an order of the placement. Returns false if it failed.
    fn carry_out<H: Host>(&mut self, host: &Arc<H>, order: Order) -> bool {
        let work = || activation(Arc::clone(host), Activation::Work(None));
        match order {
            Order::Nothing | Order::Recheck => {}
            Order::Start => return self.start_next(host).is_ok(),
            Order::Send | Order::SendAndWatch => {
                if let Some(rayon) = &self.rayon {
                    rayon.spawn(work());
                }
            }
            Order::ActivateSpare(spare) => self.spares[spare].spawn(work()),
            Order::MakeSpare => return self.make_spare(host),
        }
        true
    }

    /// Starts the next thread that is not spare.
    pub(super) fn start_next<H: Host>(&mut self, host: &Arc<H>) -> io::Result<()> {
        let Some(builder) = self.unstarted.pop() else {
            return Err(io::Error::other("every thread was started"));
        };
        let index = builder.index();
        match self.start(host, UnstartedThread { builder, index }) {
            Ok(()) => {
                self.placement.thread_started();
                Ok(())
            }
            Err((error, refused)) => {
                let builder = refused.map(|refused| refused.builder);
                self.unstarted.extend(builder);
                Err(error)
            }
        }
    }

    /// Makes a spare thread, and activates it as a worker.
    fn make_spare<H: Host>(&mut self, host: &Arc<H>) -> bool {
        // The index of a spare thread follows from its position in `spares`.
        let index = self.threads.settings.main + self.spares.len();
        let made = make_unstarted(host, 1);
        let Ok((rayon, Some(builder))) = made.map(|(rayon, mut made)| (rayon, made.pop())) else {
            self.placement.system_has(false);
            host.thread_refused();
            return false;
        };
        if self
            .start(host, UnstartedThread { builder, index })
            .is_err()
        {
            return false;
        }
        rayon.spawn(activation(Arc::clone(host), Activation::Work(None)));
        self.spares.push(rayon);
        self.placement.spare_made();
        true
    }
}
