//! One of the pool's threads, in rayon's hands and out of them.
//!
//! **Where is rayon?** rayon runs what it finds from the main loop of a thread, the *base*, or within a nested wait of some
//! rayon job further down the stack, and does not tell which. The depth of the stack does. The first activation of a pool
//! comes before any job that could use rayon, so it is at the base. There two *probes* calibrate the depth: this activation
//! itself, and one that it spawns and runs in a nested wait of the shallowest kind, `yield_local`. What is not deeper than
//! half way between the two is at the base.

use std::{cell::Cell, sync::Arc};

use crate::{
    runtime::{
        rayon_host::{
            Host, Threads,
            activation::{Activation, activation},
        },
        stack::stack_pointer,
    },
    sync::{
        Instant, Ordering,
        rayon_core::{self, Yield},
    },
};
/// How often the nested probe is tried: another thread may steal it.
const CALIBRATIONS: u32 = 16;

/// What rayon does with one of the pool's threads.
pub(crate) struct RayonThread {
    pub(super) index: usize,
    /// An address in the stack's first frames.
    base: usize,
    /// Whether it is a worker now, further down the stack.
    pub(super) in_loop: Cell<bool>,
    /// Whether what it runs now comes from the worker's loop, so that it comes back to its deques after it.
    has_deques: Cell<bool>,
    /// Whether it runs something of ours while it is with rayon.
    runs_aside: Cell<bool>,
    /// How many places in service it fills with jobs on top of waits inside rayon.
    pub(super) hops: Cell<usize>,
    /// Odd while it runs, as a worker and outside of any job, what rayon gave it.
    turn: Cell<usize>,
    /// Whether it does that in the turn of rayon's work, and so fills its place in service meanwhile.
    serves: Cell<bool>,
    /// Until when it leaves rayon's work to other threads.
    rests_until: Cell<Option<Instant>>,
    /// How deep the nested probe was.
    pub(super) nested_depth: Cell<Option<usize>>,
}

impl RayonThread {
    /// The calling thread, in one of its first frames.
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            base: stack_pointer(),
            in_loop: Cell::new(false),
            has_deques: Cell::new(false),
            runs_aside: Cell::new(false),
            hops: Cell::new(0),
            turn: Cell::new(0),
            serves: Cell::new(false),
            rests_until: Cell::new(None),
            nested_depth: Cell::new(None),
        }
    }

    #[inline]
    pub(crate) fn has_deques(&self) -> bool {
        self.has_deques.get()
    }

    pub(crate) fn set_has_deques(&self, has: bool) {
        self.has_deques.set(has);
    }

    #[inline(never)]
    pub(super) fn depth(&self) -> usize {
        self.base.abs_diff(stack_pointer())
    }

    /// Whether the activation that runs now was taken from rayon's main loop, and not in a wait further down the stack.
    pub(super) fn is_at_base<H: Host>(&self, host: &Arc<H>) -> bool {
        if self.in_loop.get() {
            return false;
        }
        let depth = self.depth();
        let base_depth = &host.threads().base_depth;
        let mut base = base_depth.load(Ordering::Relaxed);
        if base == 0 {
            // Another thread may do the same at the same time: no job has run yet.
            base = self.calibrate(host, depth);
            base_depth.store(base, Ordering::Relaxed);
        }
        depth <= base
    }

    /// The depth up to which an activation is at the base; `depth` is that of one that is.
    #[cold]
    fn calibrate<H: Host>(&self, host: &Arc<H>, depth: usize) -> usize {
        self.nested_depth.set(None);
        for _ in 0..CALIBRATIONS {
            rayon_core::spawn(activation(Arc::clone(host), Activation::Calibrate));
            rayon_core::yield_local();
            if let Some(nested) = self.nested_depth.get() {
                return depth + nested.saturating_sub(depth) / 2;
            }
        }
        // Not told apart. To take a nested wait for the base would start a worker on top of a frame that waits, and could
        // deadlock; to take the base for a nested wait costs time. So only what is no deeper than this is at the base.
        depth
    }

    /// Whether it is no worker now.
    pub(super) fn is_with_rayon(&self) -> bool {
        !self.in_loop.get()
    }

    /// A number for each piece of work that rayon gave it, and for each time between two of them.
    pub(super) fn turn(&self) -> usize {
        self.turn.get()
    }

    /// Whether it runs a piece of rayon's work in the turn of that.
    pub(super) fn serves(&self) -> bool {
        self.serves.get()
    }

    /// The same, and has come across no activation in that before: a second one comes within a wait of rayon's.
    pub(super) fn is_first_of_rayon(&self) -> bool {
        self.serves.get() && self.rests_until.get().is_none()
    }

    /// From now on it takes no piece of rayon's work in a turn.
    pub(super) fn rest_until(&self, moment: Instant) {
        self.rests_until.set(Some(moment));
    }

    /// Whether it takes a piece of rayon's work in its turn.
    #[inline]
    pub(crate) fn may_serve(&self) -> bool {
        if let Some(until) = self.rests_until.get() {
            if Instant::now() < until {
                return false;
            }
            self.rests_until.set(None);
        }
        true
    }

    /// Runs a piece of rayon's work, if there is one, at the base of the worker's loop, in service. False if there is none.
    pub(crate) fn serve(&self) -> bool {
        self.serves.set(true);
        let ran = self.in_turn(yield_now);
        self.serves.set(false);
        ran
    }

    /// Runs `f`, which runs what rayon has, at the base of the worker's loop.
    pub(crate) fn in_turn<R>(&self, f: impl FnOnce() -> R) -> R {
        self.turn.set(self.turn.get() + 1);
        let result = f();
        self.turn.set(self.turn.get() + 1);
        result
    }

    /// Runs `f`, which the table counts as busy while the thread is with rayon.
    pub(crate) fn run_aside<H: Host>(&self, host: &Arc<H>, f: impl FnOnce()) {
        host.threads().begin_aside(host);
        self.runs_aside.set(true);
        f();
        self.runs_aside.set(false);
        host.threads().end_aside();
    }

    /// Runs `f`, which blocks, with this worker out of service: another thread, maybe a spare one, may take its place.
    pub(crate) fn blocking<H: Host, R>(&self, host: &Arc<H>, f: impl FnOnce() -> R) -> R {
        let threads = host.threads();
        let inbox = threads.inbox(self.index);
        inbox.begin_to_block();
        let in_loop = self.in_loop.get();
        let counts = if in_loop {
            threads.block();
            false
        } else {
            // It does not come back to rayon, where an activation may count on it.
            threads.block_aside(host, self.index, self.runs_aside.get())
        };
        // What rayon gave an idle worker runs out of service already; a job on top of that does not.
        let is_in_service = self.has_deques.get() || self.serves.get();
        let places = usize::from(is_in_service) + self.hops.get();
        for _ in 0..places {
            let wake_up = host.idle().block(|| host.has_jobs());
            host.perform(wake_up);
        }
        threads.reroute(host);
        let result = f();
        for _ in 0..places {
            self.come_back(host);
        }
        if in_loop {
            threads.unblock();
        } else {
            threads.unblock_aside(host, self.index, counts);
        }
        inbox.end_blocking();
        result
    }

    /// Back in service, after the place was given to others.
    pub(crate) fn come_back<H: Host>(&self, host: &Arc<H>) {
        let idle = host.idle();
        if !idle.return_to_service() && host.threads().come_back(idle) {
            host.recheck();
        }
        host.check_left_behind();
    }
}

/// Runs a piece of rayon's work, of any thread of the calling thread's rayon pool. False if there is none.
pub(crate) fn yield_now() -> bool {
    rayon_core::yield_now() == Some(Yield::Executed)
}

/// The same, of those that only the calling thread has or that were broadcast to it.
pub(crate) fn yield_local() -> bool {
    rayon_core::yield_local() == Some(Yield::Executed)
}

impl Threads {
    /// Whether a place in service is filled by a thread that waits inside rayon.
    pub(super) fn is_any_hopping(&self) -> bool {
        self.hopping.load(Ordering::Relaxed) > 0
    }

    /// Runs `f`, which fills a place in service on the thread, on top of a wait inside rayon.
    pub(super) fn hop(&self, thread: &RayonThread, f: impl FnOnce()) {
        thread.hops.set(thread.hops.get() + 1);
        self.hopping.fetch_add(1, Ordering::Relaxed);
        f();
        self.hopping.fetch_sub(1, Ordering::Relaxed);
        thread.hops.set(thread.hops.get() - 1);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_worker_serves_rayon_again_when_the_moment_has_come() {
        let thread = RayonThread::new(0);
        assert!(thread.may_serve());
        thread.rest_until(Instant::now() + Duration::from_secs(3_600));
        assert!(!thread.may_serve());
        thread.rest_until(Instant::now());
        assert!(thread.may_serve());
    }
}
