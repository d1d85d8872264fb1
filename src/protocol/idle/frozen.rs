//! Who is awake, at one moment: for tests that go on from it in every way.

use super::*;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Frozen {
    counts: u64,
    surplus: usize,
    dozers: Vec<usize>,
    rung: Vec<bool>,
    in_service: usize,
}

impl Frozen {
    pub(crate) fn thaw(&self) -> Sleep {
        let sleep = Sleep::for_threads(self.in_service, self.rung.len());
        sleep.counts.store(self.counts, Ordering::Relaxed);
        sleep.surplus.store(self.surplus, Ordering::Relaxed);
        lock(&sleep.dozers).clone_from(&self.dozers);
        for (bell, &rung) in sleep.bells.iter().zip(&self.rung) {
            bell.rung.store(rung, Ordering::Relaxed);
        }
        sleep
    }

    /// How many search, doze, are asleep and are called.
    pub(crate) fn census(&self) -> [usize; 4] {
        [SEARCHING, DOZING, ASLEEP, CALLED].map(|field| Counts(self.counts).of(field) as usize)
    }

    pub(crate) fn surplus(&self) -> usize {
        self.surplus
    }

    pub(crate) fn in_service(&self) -> usize {
        self.in_service
    }

    pub(crate) fn dozers(&self) -> usize {
        self.dozers.len()
    }

    pub(crate) fn has_rung(&self, index: usize) -> bool {
        self.rung[index]
    }
}

impl Sleep {
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen {
            counts: self.load().0,
            surplus: self.surplus.load(Ordering::Relaxed),
            dozers: lock(&self.dozers).clone(),
            rung: self
                .bells
                .iter()
                .map(|bell| bell.rung.load(Ordering::Relaxed))
                .collect(),
            in_service: self.in_service(),
        }
    }

    /// As [`Sleep::doze_for`], at a moment when the bell has rung.
    pub(crate) fn wake(&self, index: usize) {
        assert!(self.take_ring(index));
    }
}
