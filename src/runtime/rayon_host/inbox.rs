//! Where a thread reads its inbox, and how one that is with rayon is made to: see `protocol/inbox` for what a message is, and
//! `api/broadcast.rs` for what it is for.
//!
//! A thread with rayon is *probed*: `spawn_broadcast` puts a tiny closure into each rayon thread's own queue, and wakes
//! it. A probe may be taken wherever rayon waits. To find out whether this is the base, it spawns a [`WaitProbe`] onto its own
//! rayon queue, which takes the way of an activation: for that way the depth of the base is known. If
//! another thread steals that, it probes once more.

use std::sync::Arc;

use crate::{
    protocol::inbox::Inbox,
    runtime::rayon_host::{
        Host, RayonThread, Threads,
        activation::{Activation, activation},
        thread::yield_local,
    },
    sync::rayon_core,
};

/// How many probes may lie in the queue of a thread that does not come to take them. Each is some words
/// there, and an allocation that all threads share. By feel.
const MAX_PROBES: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// With how many of them a thread that reads in its loop takes them out.
const PROBES_TO_SWEEP: usize = if cfg!(shuttle) { 1 } else { 16 };

impl Threads {
    /// Has every thread that is not spare check its inbox when it is next in rayon's hands. Starts those that were not
    /// started: one that never is would keep the probe, and the others from ending. False if that cannot be.
    pub(crate) fn probe<H: Host>(&self, host: &Arc<H>) -> bool {
        let room = |threads| {
            let inboxes = || self.inboxes_below(threads);
            let has_room = inboxes().all(|inbox| inbox.probes() < MAX_PROBES);
            if has_room {
                inboxes().for_each(Inbox::count_probe);
            }
            has_room
        };
        let host = Arc::clone(host);
        self.broadcast(&Arc::clone(&host), room, move || take_probe(&host))
    }

    /// Where a probe cannot be: has as many threads check as rayon has awake or wakes for this, one of which may
    /// check several times and another not at all.
    pub(crate) fn probe_some<H: Host>(&self, host: &Arc<H>) {
        self.spawn_for_each(|| {
            let host = Arc::clone(host);
            move || probe_here(&host)
        });
    }
}

/// Whether a thread that has just read its inbox in the worker's loop is through with it. `give_way` runs `f`, which
/// runs what rayon has, out of service.
pub(crate) fn has_read_all(inbox: &Inbox, give_way: impl FnOnce(fn() -> bool) -> bool) -> bool {
    // One turn each, so that none of the probes looks as if the thread waited.
    inbox.probes() < PROBES_TO_SWEEP || !give_way(yield_local)
}

/// Runs the parts that wait for the calling thread, which is with rayon, at the base there.
pub(super) fn read_beside_loop<H: Host>(host: &Arc<H>, thread: &RayonThread) {
    let inbox = host.threads().inbox(thread.index);
    if !inbox.has_messages() {
        return;
    }
    thread.run_aside(host, || {
        while let Some(message) = inbox.take() {
            message.open(thread.index);
        }
    });
}

/// What a probe does on its thread.
fn take_probe<H: Host>(host: &Arc<H>) {
    // Only threads of the pool run what is spawned into its rayon pool.
    if let Some(thread) = host.here() {
        if host.threads().inbox(thread.index).take_probe() {
            probe_wait(host, thread);
        }
    }
}

/// What is asked by [`Threads::probe_some`].
fn probe_here<H: Host>(host: &Arc<H>) {
    if let Some(thread) = host.here() {
        if host.threads().inbox(thread.index).has_messages() {
            probe_wait(host, thread);
        }
    }
}

/// A thread with messages was found awake in rayon, and does not know at which of its waits.
fn probe_wait<H: Host>(host: &Arc<H>, thread: &RayonThread) {
    if thread.has_deques() {
        // A job waits.
        return host.threads().inbox(thread.index).decline_inside();
    }
    let probe = WaitProbe {
        index: thread.index,
        turn: thread.turn(),
    };
    rayon_core::spawn(activation(Arc::clone(host), Activation::Probe(probe)));
}

/// Sent by a thread to itself: it is run by the same wait of rayon as what sent it.
#[derive(Clone, Copy)]
pub(super) struct WaitProbe {
    index: usize,
    /// Which piece of rayon's work the thread was running, if it was.
    turn: usize,
}

impl WaitProbe {
    /// `at_base` says that the calling thread has this from rayon's main loop.
    pub(super) fn answer<H: Host>(self, host: &Arc<H>, thread: &RayonThread, at_base: bool) {
        let threads = host.threads();
        let inbox = threads.inbox(self.index);
        if self.index != thread.index {
            // Stolen.
            if inbox.has_messages() && !threads.probe(host) {
                inbox.miss();
            }
        } else if at_base {
            read_beside_loop(host, thread);
        } else if thread.is_with_rayon() {
            inbox.miss();
        } else if thread.turn() == self.turn {
            // That turn itself waits, or it would have ended.
            inbox.decline_inside();
        } else if inbox.has_messages() {
            probe_wait(host, thread);
        }
    }
}
