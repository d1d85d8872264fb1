//! Activations: rayon jobs that turn the thread that takes them up into a worker.
//!
//! **In a nested wait.** A thread that waits inside `rayon::join` (or a scope, or a parallel
//! iterator) within one of our jobs runs any job that rayon finds. That may be an activation meant
//! for a sleeping thread. The activation must not be lost, and must not start a worker on top of
//! the waiting frame. So the thread spawns it into rayon again, which wakes a sleeper, and checks
//! its own wait. If no thread has taken the activation for [`HOPPING`], all other threads are busy.
//! Then the waiting thread runs **one** job itself, as rayon would, and checks its wait again. So
//! neither the job nor the wait is stranded.
//!
//! **In a worker that serves rayon.** A worker that serves rayon between two jobs of its loop may
//! take up an activation too. It spawns the activation into rayon again, and pauses serving for
//! [`HOPPING`], so that a sleeper finds it.
//!
//! **Help.** A worker that waits inside another rayon pool counts as running, and no activation is
//! sent for what comes back from there. When jobs wait and none starts (the scaling controller
//! watches for that), *help* is sent into each of rayon's pools. Help makes no worker, and holds no
//! place. A thread that takes it up within a job is in a wait of rayon. It runs one job, and spawns
//! the help for itself again while there are more.

use std::sync::Arc;

use crate::{
    runtime::rayon_host::{
        Host, RayonThread,
        inbox::{WaitProbe, read_beside_loop},
    },
    sync::{Instant, backoff, rayon_core},
    tuning::HOPPING,
};

/// The purpose of an activation.
#[derive(Clone, Copy)]
pub(super) enum Activation {
    /// To become a worker. Holds the moment since which it has been sent on, if any.
    Work(Option<Instant>),
    /// To run stalled jobs on a thread that waits inside rayon.
    Help {
        sent: Help,
        /// The moment until which it is sent on.
        hops_until: Option<Instant>,
    },
    /// To find where the thread waits. It is an activation because the base depth is calibrated for
    /// activations.
    Probe(WaitProbe),
    /// To measure the depth of a nested wait: see `thread.rs`.
    Calibrate,
}

/// The state in which help was sent.
#[derive(Clone, Copy)]
pub(crate) struct Help {
    /// The moment until which it is valid in any case.
    pub(crate) until: Instant,
    /// The number of jobs that had started when it was sent.
    pub(crate) started: u64,
}

impl Activation {
    pub(super) fn help(sent: Help) -> Self {
        Self::Help {
            sent,
            hops_until: None,
        }
    }
}

/// Makes the rayon job of an activation.
pub(super) fn activation<H: Host>(
    host: Arc<H>,
    activation: Activation,
) -> impl FnOnce() + Send + 'static {
    move || answer(&host, activation)
}

#[inline(never)]
fn answer<H: Host>(host: &Arc<H>, activation: Activation) {
    let Some(thread) = host.here() else {
        // Only the pool's own threads run its rayon jobs.
        debug_assert!(false, "a thread outside the pool took up an activation");
        return;
    };
    match activation {
        Activation::Work(since) => work(host, thread, since),
        Activation::Help { sent, hops_until } => {
            let at_base = thread.is_at_base(host);
            help(host, thread, sent, hops_until, at_base);
        }
        Activation::Probe(probe) => {
            let at_base = thread.is_at_base(host);
            probe.answer(host, thread, at_base);
        }
        Activation::Calibrate => thread.nested_depth.set(Some(thread.depth())),
    }
}

/// Spawns an activation into the calling thread's rayon pool.
fn send_on<H: Host>(host: &Arc<H>, on: Activation) {
    rayon_core::spawn(activation(Arc::clone(host), on));
}

fn work<H: Host>(host: &Arc<H>, thread: &RayonThread, since: Option<Instant>) {
    let threads = host.threads();
    let index = thread.index;
    if thread.is_at_base(host) {
        if !threads.begin_work(index) {
            return;
        }
        host.idle().activation_taken();
        let inbox = threads.inbox(index);
        thread.in_loop.set(true);
        inbox.enter_loop();
        host.run_loop();
        let has_messages = inbox.leave_loop();
        thread.in_loop.set(false);
        if has_messages {
            read_beside_loop(host, thread);
        }
        return;
    }
    if threads.take_if_void(index) {
        return;
    }
    let since = since.unwrap_or_else(Instant::now);
    let in_turn = thread.is_first_of_rayon();
    if in_turn || since.elapsed() < HOPPING {
        if in_turn {
            // The worker reaches all jobs through its loop, and takes an activation when it becomes
            // idle.
            thread.rest_until(Instant::now() + HOPPING);
        } else {
            backoff::yield_now();
        }
        return send_on(host, Activation::Work(Some(since)));
    }
    if threads.take_activation(host, index) {
        host.idle().activation_taken();
        threads.hop(thread, || host.run_one());
    }
}

/// Runs a job within a job, on top of a wait inside rayon. All workers may be in such waits, so no
/// other thread may come. Old help is void if jobs have started since it was sent.
///
/// A worker that serves rayon spawns the help again. A thread in rayon that does not wait sends it
/// on for [`HOPPING`], since rayon has woken it in place of a waiting one. If some thread fills two
/// places because it performed an activation, an idle thread at the base may run a job in its
/// place.
fn help<H: Host>(
    host: &Arc<H>,
    thread: &RayonThread,
    sent: Help,
    hops_until: Option<Instant>,
    at_base: bool,
) {
    let threads = host.threads();
    let index = thread.index;
    if thread.is_first_of_rayon() {
        thread.rest_until(Instant::now() + HOPPING);
        return send_on(host, Activation::Help { sent, hops_until });
    }
    let in_loop = thread.in_loop.get();
    let waits = in_loop && (thread.has_deques() || thread.serves.get());
    let is_idle = !in_loop && index < threads.settings.main;
    let stands_in = is_idle && at_base && threads.is_any_hopping();
    if is_idle && !stands_in {
        let until = hops_until.unwrap_or_else(|| Instant::now() + HOPPING);
        if Instant::now() < until {
            backoff::yield_now();
            let hops_until = Some(until);
            return send_on(host, Activation::Help { sent, hops_until });
        }
    }
    threads.take_help(index);
    if !waits && !stands_in {
        return;
    }
    if let Some(next) = host.help(sent, !waits) {
        if threads.begin_help(index) {
            // The wait is checked before this runs.
            send_on(host, Activation::help(next));
        }
    }
}
