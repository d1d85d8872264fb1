//! What is read of the admission: how many places are taken, by whom, and how many jobs are left.

use super::{Admission, Desk, PLACE};
use crate::sync::{Ordering, lock};

impl Admission {
    /// The jobs that were let in and have not ended, held places not counted, if `unplaced` came in
    /// without a place and `ended` have ended.
    pub(crate) fn outstanding(&self, unplaced: u64, ended: u64) -> u64 {
        self.outstanding_at(&lock(&self.desk), unplaced, ended)
    }

    pub(super) fn outstanding_at(&self, desk: &Desk, unplaced: u64, ended: u64) -> u64 {
        let outstanding = self
            .taken_at_desk()
            .wrapping_add(unplaced)
            .wrapping_sub(desk.unused)
            .wrapping_sub(desk.held)
            .wrapping_sub(ended);
        // The taken are counted with a bit less than the others: that bit is as the one below. It may be the
        // sign, for who has read the ended before.
        (outstanding.wrapping_mul(PLACE) as i64 / PLACE as i64) as u64
    }

    /// The places that are taken by jobs, or by threads that are about to bring one.
    pub(crate) fn queued(&self) -> u64 {
        let desk = lock(&self.desk);
        self.depth_at_desk().saturating_sub(desk.held)
    }

    /// All places that were ever taken, for jobs or for stocks.
    pub(crate) fn drawn(&self) -> u64 {
        self.gate.word.load(Ordering::Acquire) / PLACE
    }

    /// All places that were ever taken for jobs, or fewer.
    pub(crate) fn taken(&self) -> u64 {
        // An owner that a recall beats to a place has announced it, and takes that back.
        let _desk = cfg!(not(mutant = "stock_count_aloud")).then(|| lock(&self.desk));
        self.taken_at_desk()
    }

    /// The same, under the lock.
    fn taken_at_desk(&self) -> u64 {
        // In this order: see `stock.rs`.
        let drawn = self.drawn();
        let stocked = self.stocked();
        let recalled = self.recalled.load(Ordering::Acquire);
        drawn.wrapping_sub(stocked).wrapping_sub(recalled)
    }

    /// All places that were ever given back.
    pub(crate) fn given_back(&self) -> u64 {
        // Acquire pairs with the Release of `bump` and of `release`.
        self.seats
            .iter()
            .map(|seat| seat.freed.load(Ordering::Acquire))
            .fold(self.elsewhere.load(Ordering::Acquire), u64::wrapping_add)
    }

    /// The places that one thread of the pool gave back, which is the jobs that it started.
    pub(crate) fn given_back_by(&self, seat: usize) -> u64 {
        self.seats[seat].freed.load(Ordering::Acquire)
    }

    /// The places that are taken now. Never more than the capacity, unless that was lowered.
    pub(crate) fn depth(&self) -> u64 {
        let _desk = lock(&self.desk);
        self.depth_at_desk()
    }

    /// The same, under the lock.
    fn depth_at_desk(&self) -> u64 {
        // In this order: what is given back in between makes it less, never more.
        let taken = self.taken_at_desk();
        difference(taken, self.given_back())
    }

    /// The places that are taken now, and those in stocks. Never less than there are.
    pub(crate) fn depth_with_stocks(&self) -> u64 {
        // In the other order.
        let given_back = self.given_back();
        let recalled = self.recalled.load(Ordering::Acquire);
        difference(self.drawn(), given_back.wrapping_add(recalled))
    }

    /// How many stand in the line.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.desk).line.len()
    }
}

/// How many of those that were taken are not given back, where the taken are counted with a bit less.
fn difference(taken: u64, given_back: u64) -> u64 {
    let difference = taken.wrapping_sub(given_back) & (u64::MAX / PLACE);
    if difference > u64::MAX / PLACE / 2 {
        0
    } else {
        difference
    }
}
