//! A snapshot of the idle protocol's state, from which tests explore every continuation.

use super::{counts::ACTIVATING, *};
use crate::sync::lock;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Frozen {
    counts: u64,
    excess: usize,
    idle_workers: Vec<usize>,
    notified: Vec<bool>,
    in_service: usize,
}

impl Frozen {
    pub(crate) fn thaw(&self) -> Idle {
        let idle = Idle::for_threads(self.in_service, self.notified.len());
        idle.counts.store(self.counts, Ordering::Relaxed);
        idle.excess.store(self.excess, Ordering::Relaxed);
        lock(&idle.idle_workers).clone_from(&self.idle_workers);
        for (parker, &notified) in idle.parkers.iter().zip(&self.notified) {
            parker.notified.store(notified, Ordering::Relaxed);
        }
        idle
    }

    /// Returns the numbers of workers that search, are idle, are in rayon, and are being activated.
    pub(crate) fn census(&self) -> [usize; 4] {
        [SEARCHING, IDLE, IN_RAYON, ACTIVATING].map(|field| Counts(self.counts).of(field) as usize)
    }

    pub(crate) fn excess(&self) -> usize {
        self.excess
    }

    pub(crate) fn in_service(&self) -> usize {
        self.in_service
    }

    pub(crate) fn idle_workers(&self) -> usize {
        self.idle_workers.len()
    }

    pub(crate) fn is_notified(&self, index: usize) -> bool {
        self.notified[index]
    }
}

impl Idle {
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen {
            counts: self.load().0,
            excess: self.excess.load(Ordering::Relaxed),
            idle_workers: lock(&self.idle_workers).clone(),
            notified: self
                .parkers
                .iter()
                .map(|parker| parker.notified.load(Ordering::Relaxed))
                .collect(),
            in_service: self.in_service(),
        }
    }

    /// As [`Idle::park_for`], when the worker has been notified.
    pub(crate) fn wake(&self, index: usize) {
        assert!(self.take_notification(index));
    }
}
