//! Yields that a test counts, or declares lost.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

/// What the threads of one test share: their yields, and a ban of their own, which the test ends.
#[derive(Debug)]
pub(crate) struct Simulation {
    is_banned: AtomicBool,
    yields: AtomicU32,
    loses_next: AtomicBool,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Simulation>>> = const { RefCell::new(None) };
}

fn with_current<R>(f: impl FnOnce(&Simulation) -> R) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_deref().map(f))
}

impl Simulation {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_banned: AtomicBool::new(false),
            yields: AtomicU32::new(0),
            loses_next: AtomicBool::new(false),
        })
    }

    /// Runs `f`, and counts the yields of the calling thread meanwhile.
    pub(crate) fn run<R>(self: &Arc<Self>, f: impl FnOnce() -> R) -> R {
        let outer = CURRENT.replace(Some(Arc::clone(self)));
        let result = f();
        CURRENT.set(outer);
        result
    }

    /// Counts the yields of the calling thread for the rest of its life.
    pub(crate) fn enter(self: &Arc<Self>) {
        CURRENT.set(Some(Arc::clone(self)));
    }

    /// How often its threads yielded.
    pub(crate) fn yields(&self) -> u32 {
        self.yields.load(Ordering::SeqCst)
    }

    /// Makes the next yield a lost one.
    pub(crate) fn lose_next(&self) {
        self.loses_next.store(true, Ordering::SeqCst);
    }

    /// Ends the ban, if there is one.
    pub(crate) fn end_ban(&self) {
        self.is_banned.store(false, Ordering::SeqCst);
    }

    /// Whether there is a ban.
    pub(crate) fn is_banned(&self) -> bool {
        self.is_banned.load(Ordering::SeqCst)
    }
}

/// Counts a yield. False if none is simulated.
pub(super) fn yields() -> bool {
    with_current(|simulation| {
        simulation.yields.fetch_add(1, Ordering::SeqCst);
        std::thread::yield_now();
    })
    .is_some()
}

pub(super) fn may_yield() -> Option<bool> {
    with_current(|simulation| !simulation.is_banned())
}

/// Judges a yield. False if none is simulated.
pub(super) fn judges() -> bool {
    with_current(|simulation| {
        if simulation.loses_next.swap(false, Ordering::SeqCst) {
            simulation.is_banned.store(true, Ordering::SeqCst);
        }
    })
    .is_some()
}
