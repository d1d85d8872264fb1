//! The ledger of jobs: a token travels with each job and records that it ran, and that it is gone.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::totals;

/// More jobs than a round can have.
const SLOTS: usize = 1 << 18;

const RAN: u8 = 1;
const GONE: u8 = 2;

/// How a job that did not run is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Its pool counts it as cancelled or dropped.
    Plain,
    /// An item of a batch: as `Plain`, unless it was pulled and not admitted before the end.
    Item,
    /// Not counted: for example, the other half of a `join` that panicked, or a job that was
    /// returned to its caller.
    Loose,
}

pub struct Ledger {
    slots: Box<[AtomicU8]>,
    next: AtomicUsize,
    /// The kind of each job, and its pool.
    origins: Mutex<Vec<(&'static str, usize)>>,
    unrun: [AtomicU64; 3],
    /// Batches, each of which may have pulled one item more than it had jobs.
    pub batches: AtomicU64,
    /// Panics of detached jobs: the actual ones, and those that the pools' handlers received.
    pub raised: AtomicU64,
    pub handled: AtomicU64,
    /// Panics of items that may have run when their batch was dropped. The handler may have
    /// received each.
    pub late: AtomicU64,
    /// Threads that have called the start handler, and the exit handler.
    pub begun_threads: AtomicU64,
    pub ended_threads: AtomicU64,
    wrongs: Mutex<Vec<String>>,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicUsize::new(0),
            origins: Mutex::default(),
            unrun: Default::default(),
            batches: AtomicU64::new(0),
            raised: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            late: AtomicU64::new(0),
            begun_threads: AtomicU64::new(0),
            ended_threads: AtomicU64::new(0),
            wrongs: Mutex::default(),
        }
    }

    pub fn wrong(&self, text: String) {
        let mut wrongs = self.wrongs.lock().unwrap_or_else(PoisonError::into_inner);
        // The first ones suffice.
        if wrongs.len() < 20 {
            wrongs.push(text);
        }
    }

    pub fn check(&self, so: bool, text: impl FnOnce() -> String) {
        if !so {
            self.wrong(text());
        }
    }

    pub fn take_wrongs(&self) -> Vec<String> {
        std::mem::take(&mut self.wrongs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of a new job.
    pub fn open(&self) -> usize {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.push(totals::now());
        let id = self.next.fetch_add(1, Relaxed);
        assert!(id < SLOTS, "a round has too many jobs");
        id
    }

    pub fn jobs(&self) -> usize {
        self.next.load(Relaxed)
    }

    // Relaxed: the pool has to make the run visible to the waiting thread.
    pub fn run(&self, id: usize) {
        let before = self.slots[id].fetch_or(RAN, Relaxed);
        self.check(before == 0, || {
            format!("job {id} runs, and was {before} before")
        });
    }

    pub fn close(&self, id: usize, class: Class) {
        let before = self.slots[id].fetch_or(GONE, Relaxed);
        self.check(before & GONE == 0, || format!("job {id} is dropped twice"));
        if before & RAN == 0 {
            self.unrun[class as usize].fetch_add(1, Relaxed);
        }
    }

    pub fn has_run(&self, id: usize) -> bool {
        self.slots[id].load(Relaxed) & RAN != 0
    }

    /// At the end of a wait: the job has run, and nothing of it is left.
    pub fn must_have_run(&self, id: usize) {
        let state = self.slots[id].load(Relaxed);
        self.check(state == RAN | GONE, || {
            format!("job {id} is {state} at its wait's end")
        });
    }

    /// At the end of the round, with the numbers of jobs that the pools count as cancelled and
    /// dropped.
    pub fn balance(&self, lost: u64) {
        for id in 0..self.jobs() {
            let state = self.slots[id].load(Relaxed);
            self.check(state & GONE != 0, || {
                let origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
                format!(
                    "job {id} of {:?} is {state} at the end: leaked",
                    origins[id]
                )
            });
        }
        let unrun = |class: Class| self.unrun[class as usize].load(Relaxed);
        let (plain, items) = (unrun(Class::Plain), unrun(Class::Item));
        let batches = self.batches.load(Relaxed);
        self.check(plain + items <= lost + batches && lost <= plain + items, || {
            format!("{lost} counted as lost; did not run: {plain}, and {items} items of {batches} batches")
        });
        let (raised, handled) = (self.raised.load(Relaxed), self.handled.load(Relaxed));
        let late = self.late.load(Relaxed);
        self.check((raised..=raised + late).contains(&handled), || {
            format!("{raised} detached panics and at most {late} late ones, {handled} handled")
        });
        let (begun, ended) = (
            self.begun_threads.load(Relaxed),
            self.ended_threads.load(Relaxed),
        );
        self.check(begun == ended, || {
            format!("{begun} threads began, {ended} ended")
        });
    }
}
