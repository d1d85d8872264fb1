//! Activations: rayon jobs that make a worker of the thread that takes them up.
//!
//! **An activation that a waiting thread takes up.** A thread that waits inside `rayon::join` (or scope, or a parallel
//! iterator), within one of our jobs, runs whatever rayon finds, and that may be the activation meant for a sleeper. It must
//! neither be lost nor start a worker on top of the waiting frame. It is sent on: put back into rayon, which wakes
//! a sleeper for it, while the waiting thread checks whether its own wait is over. If no thread has taken it for
//! [`HOPPING`], all other threads are busy: then the waiting thread runs **one** job itself, as rayon itself would do in
//! its place, and checks its wait again. So the job is not stranded, and the wait is not either.
//!
//! **An activation that a worker takes up in its turn.** A worker that serves rayon between two jobs of its loop may come
//! across one, too. It puts it back into rayon, and leaves rayon's work alone for a while, so that a sleeper finds it.
//!
//! **Help.** A worker that waits inside another rayon pool counts as running, and no activation is sent for what comes
//! back from there. When jobs wait and none starts (the scaling controller watches that), *help* is sent into each of rayon's
//! pools: it makes no worker, and has no place. A thread that takes it up within a job, and so in a wait of
//! rayon's, runs one job, and sends it on to itself while there are more.

use std::{sync::Arc, time::Duration};

use crate::{
    runtime::rayon_host::{
        Host, RayonThread,
        inbox::{WaitProbe, read_beside_loop},
    },
    sync::{Instant, backoff, rayon_core},
};

/// How long an activation is sent on before the thread that keeps getting it answers it. A sleeper that rayon wakes comes
/// in a tenth of that.
const HOPPING: Duration = Duration::from_micros(500);

/// What an activation is for.
#[derive(Clone, Copy)]
pub(super) enum Activation {
    /// To become a worker. It was sent on since the given moment.
    Work(Option<Instant>),
    /// To run jobs that wait in vain, on a thread that waits inside rayon.
    Help {
        sent: Help,
        /// Until when it is sent on.
        hops_until: Option<Instant>,
    },
    /// To find out where the thread is. It is an activation because the depth of the base is that of activations.
    Probe(WaitProbe),
    /// To measure the depth of a nested wait: see `thread.rs`.
    Calibrate,
}

/// What help was sent for.
#[derive(Clone, Copy)]
pub(crate) struct Help {
    /// Until when it is good in any case.
    pub(crate) until: Instant,
    /// How many jobs had started when it was sent.
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

/// What an activation does on the thread that takes it up.
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
        debug_assert!(false, "a stranger took up an activation");
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

/// Puts an activation into the calling thread's rayon pool.
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
    if host.is_stopped() {
        threads.take_activation(host, index);
        return;
    }
    let since = since.unwrap_or_else(Instant::now);
    let in_turn = thread.is_first_of_rayon();
    if in_turn || since.elapsed() < HOPPING {
        if in_turn {
            // It comes to all jobs by its loop, and takes an activation when it becomes idle.
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

/// Runs a job on top of a wait inside rayon, within a job: all workers may be in such waits, and no other thread may come.
/// What was sent long ago is void, if jobs have started since.
///
/// A worker that comes across it in its turn puts it back, as an activation. A thread that does not wait sends it on for a
/// moment: rayon has woken it in place of one that does. But if a thread fills two places, because it has
/// answered an activation, then this one may run a job in its place.
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
    let waits = thread.in_loop.get() && (thread.has_deques() || thread.serves());
    let is_idle = thread.is_with_rayon() && index < threads.settings.main;
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
            // The wait checks first whether it is over.
            send_on(host, Activation::help(next));
        }
    }
}
