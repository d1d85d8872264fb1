//! Reading a thread's inbox, and probing a thread that is in rayon. `protocol/inbox` defines a
//! message; `api/broadcast.rs` uses them.
//!
//! A thread in rayon is *probed*: `spawn_broadcast` puts a small closure into each rayon thread's
//! own queue, and wakes the thread. It may run the probe in any of rayon's waits. To find whether
//! this is the base, the probe spawns a [`WaitProbe`] onto the thread's own rayon queue. That runs
//! as an activation does, and the base depth is calibrated for activations. If another thread
//! steals it, that thread probes again.

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

/// The most probes in the queue of a thread that does not come to take them. Each is some words
/// there, and shares one allocation with the others. A bound on memory.
const MAX_PROBES: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// The number of probes from which a thread that reads in its loop takes them out.
const PROBES_TO_SWEEP: usize = MAX_PROBES.div_ceil(64);

impl Threads {
    /// Makes every thread that is not spare check its inbox when rayon runs it next. Starts the
    /// unstarted ones: a thread that never starts would keep the probe, and the other threads from
    /// ending. Returns false if it cannot probe.
    pub(crate) fn probe<H: Host>(&self, host: &Arc<H>) -> bool {
        let room = |threads| {
            let inboxes = || self.inboxes_below(threads);
            let has_room = inboxes().all(|inbox| inbox.probes() < MAX_PROBES);
            if has_room {
                inboxes().for_each(Inbox::count_probe);
            }
            has_room
        };
        let own = Arc::clone(host);
        self.broadcast(host, room, move || probe_if(&own, Inbox::take_probe))
    }

    /// The fallback where `probe` fails: makes as many threads check as rayon has awake or wakes
    /// for this. One thread may check several times, and another not at all.
    pub(crate) fn probe_some<H: Host>(&self, host: &Arc<H>) {
        self.spawn_for_each(|| {
            let host = Arc::clone(host);
            move || probe_if(&host, Inbox::has_messages)
        });
    }
}

/// Whether a thread that has just read its inbox in the worker's loop has finished. `give_way` runs
/// its argument, which runs rayon's jobs, out of service.
pub(crate) fn has_read_all(inbox: &Inbox, give_way: impl FnOnce(fn() -> bool) -> bool) -> bool {
    // One turn for each probe: with several in one turn, the thread would seem to wait.
    inbox.probes() < PROBES_TO_SWEEP || !give_way(yield_local)
}

/// Runs the messages of the calling thread, which is at the base in rayon.
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

/// Runs a probe, if the calling thread `has_messages`.
fn probe_if<H: Host>(host: &Arc<H>, has_messages: fn(&Inbox) -> bool) {
    // Only threads of the pool run what is spawned into its rayon pool.
    if let Some(thread) = host.here() {
        if has_messages(host.threads().inbox(thread.index)) {
            probe_wait(host, thread);
        }
    }
}

/// Finds at which wait of rayon the calling thread is. It has messages.
fn probe_wait<H: Host>(host: &Arc<H>, thread: &RayonThread) {
    if thread.has_deques() {
        // A job of this thread waits in rayon.
        return host.threads().inbox(thread.index).decline_inside();
    }
    let probe = WaitProbe {
        index: thread.index,
        turn: thread.turn(),
    };
    rayon_core::spawn(activation(Arc::clone(host), Activation::Probe(probe)));
}

/// A probe that a thread sends to itself. The wait of rayon that ran its sender runs it too.
#[derive(Clone, Copy)]
pub(super) struct WaitProbe {
    index: usize,
    /// The turn of the thread: the piece of rayon's work that it ran, if it did.
    turn: usize,
}

impl WaitProbe {
    /// Runs the probe. `at_base`: rayon's main loop runs it.
    pub(super) fn answer<H: Host>(self, host: &Arc<H>, thread: &RayonThread, at_base: bool) {
        let threads = host.threads();
        let inbox = threads.inbox(self.index);
        if self.index != thread.index {
            // Another thread has stolen the probe.
            if inbox.has_messages() && !threads.probe(host) {
                inbox.miss();
            }
        } else if at_base {
            read_beside_loop(host, thread);
        } else if !thread.in_loop.get() {
            inbox.miss();
        } else if thread.turn() == self.turn {
            // That turn itself waits, or it would have ended.
            inbox.decline_inside();
        } else if inbox.has_messages() {
            probe_wait(host, thread);
        }
    }
}
