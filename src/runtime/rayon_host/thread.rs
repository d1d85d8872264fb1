//! A thread of the pool as rayon sees it: base or nested wait, in service or not.
//!
//! **Base depth.** rayon runs a job from a thread's main loop, the *base*, or from a nested wait of
//! a job further down the stack. It does not expose which, but the stack depth does. The first
//! activation of a pool precedes any job that could use rayon, so it is at the base. Two *probes*
//! then calibrate the depth. One is this activation itself; it spawns the other, which runs in the
//! shallowest nested wait, `yield_local`. A depth up to half way between the two is at the base.

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

/// A bound on the tries of the nested probe: another thread may steal it.
const CALIBRATIONS: u32 = 16;

/// The state of one of the pool's threads with respect to rayon.
pub(crate) struct RayonThread {
    pub(super) index: usize,
    /// An address in the first frames of the stack.
    base: usize,
    /// Whether it is a worker: its loop is further down the stack.
    pub(super) in_loop: Cell<bool>,
    /// Whether the worker's loop runs its present job, so that it returns to its deques afterwards.
    has_deques: Cell<bool>,
    /// Whether it runs work of the pool while it is in rayon.
    runs_aside: Cell<bool>,
    /// The number of places in service that it fills with jobs on top of waits inside rayon.
    pub(super) hops: Cell<usize>,
    /// Odd while the worker runs rayon's work outside any job.
    turn: Cell<usize>,
    /// Whether that work is served in a turn, so that the worker keeps its place in service.
    pub(super) serves: Cell<bool>,
    /// Until when it leaves rayon's work to other threads.
    rests_until: Cell<Option<Instant>>,
    /// The stack depth of the nested probe, once it has run.
    pub(super) nested_depth: Cell<Option<usize>>,
}

impl RayonThread {
    /// Makes the state of the calling thread, in one of its first frames.
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

    /// Whether the present activation is run by rayon's main loop, and not by a wait further down
    /// the stack.
    pub(super) fn is_at_base<H: Host>(&self, host: &Arc<H>) -> bool {
        if self.in_loop.get() {
            return false;
        }
        let depth = self.depth();
        let base_depth = &host.threads().base_depth;
        let mut base = base_depth.load(Ordering::Relaxed);
        if base == 0 {
            // Another thread may do the same concurrently: no job has run yet.
            base = self.calibrate(host, depth);
            base_depth.store(base, Ordering::Relaxed);
        }
        depth <= base
    }

    /// Returns the depth up to which an activation is at the base; `depth` is that of one that is.
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
        // The probes did not run here. A nested wait taken for the base would start a worker on top
        // of a waiting frame, and could deadlock. The base taken for a nested wait costs only time.
        // So only a depth up to this one is at the base.
        depth
    }

    /// Returns a number that differs for each piece of rayon's work, and for each time between two
    /// of them.
    pub(super) fn turn(&self) -> usize {
        self.turn.get()
    }

    /// Whether it serves a piece of rayon's work, and has met no activation in it yet. A second
    /// activation comes from a wait of rayon within it.
    pub(super) fn is_first_of_rayon(&self) -> bool {
        self.serves.get() && self.rests_until.get().is_none()
    }

    /// Serves no rayon work until `moment`.
    pub(super) fn rest_until(&self, moment: Instant) {
        self.rests_until.set(Some(moment));
    }

    /// Whether it may serve a piece of rayon's work.
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

    /// Runs one piece of rayon's work at the base of the worker's loop, in service. Returns false
    /// if there is none.
    pub(crate) fn serve(&self) -> bool {
        self.serves.set(true);
        let ran = self.in_turn(yield_now);
        self.serves.set(false);
        ran
    }

    /// Runs `f`, which runs rayon's work, as one turn at the base of the worker's loop.
    pub(crate) fn in_turn<R>(&self, f: impl FnOnce() -> R) -> R {
        self.turn.set(self.turn.get() + 1);
        let result = f();
        self.turn.set(self.turn.get() + 1);
        result
    }

    /// Runs `f`. The table counts the thread as busy meanwhile; it is in rayon.
    pub(crate) fn run_aside<H: Host, R>(&self, host: &Arc<H>, f: impl FnOnce() -> R) -> R {
        host.threads().begin_aside(host);
        self.runs_aside.set(true);
        let result = f();
        self.runs_aside.set(false);
        host.threads().end_aside();
        result
    }

    /// Runs `f`, which blocks, with this worker out of service: another thread, maybe a spare one,
    /// may take its place.
    pub(crate) fn blocking<H: Host, R>(&self, host: &Arc<H>, f: impl FnOnce() -> R) -> R {
        let threads = host.threads();
        let inbox = threads.inbox(self.index);
        inbox.begin_to_block();
        let in_loop = self.in_loop.get();
        let counts = if in_loop {
            threads.block();
            false
        } else {
            // The thread does not return to rayon meanwhile, where an activation may count on it.
            threads.block_aside(host, self.index, self.runs_aside.get())
        };
        // Work of rayon that an idle worker runs is out of service already; a job on top of it is
        // not.
        let is_in_service = self.has_deques.get() || self.serves.get();
        let places = usize::from(is_in_service) + self.hops.get();
        for _ in 0..places {
            host.leave_service_to_block();
        }
        threads.reroute(host);
        let result = f();
        for _ in 0..places {
            host.return_to_service();
        }
        if in_loop {
            threads.unblock();
        } else {
            threads.unblock_aside(host, self.index, counts);
        }
        inbox.end_blocking();
        result
    }
}

/// Runs one job that any thread of the calling thread's rayon pool has queued. Returns false if
/// there is none.
pub(crate) fn yield_now() -> bool {
    rayon_core::yield_now() == Some(Yield::Executed)
}

/// Runs one rayon job from the calling thread's own queue, or one that was broadcast to it. Returns
/// false if there is none.
pub(crate) fn yield_local() -> bool {
    rayon_core::yield_local() == Some(Yield::Executed)
}

impl Threads {
    /// Whether any thread that waits inside rayon fills a place in service.
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
