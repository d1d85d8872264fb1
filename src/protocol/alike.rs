//! A run of like records: one thread counts them, and writes them down in one go when the next is another.
//!
//! # The protocol
//!
//! **The writer** is one thread. A new value is written down at once, in the writer's own account of all values. Each
//! record like it that leapfrogs adds one to `count`, and nothing else: these are the run. Before another
//! value is written down the run is, in one go: `count - from` records. Meanwhile `turn` is odd.
//!
//! **A reader** reads the run, and the account of its value, between two looks at `turn` and at the value. If both find the same,
//! and `turn` is even, what he has read is of one moment: nothing of the run was written down, and nothing was counted
//! that belongs to the next. If not, he reads again: the writer is quick, and counts many records for one change.
//!
//! The accounts of other values are read after that. None of them lacks anything of a run that was over by
//! then. So no record is read twice, and who reads later finds no fewer, in any account.

#[cfg(all(test, loom))]
mod model;

use crate::sync::{AtomicU64, Ordering, bump, fence, thread};

#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Odd while a run is written down.
    turn: AtomicU64,
    /// Of each record of the run, and of the one before it.
    value: AtomicU64,
    /// All records that were ever in a run; and those before this one.
    count: AtomicU64,
    from: AtomicU64,
}

/// What a reader finds: a run, and what he has read in its account.
pub(crate) struct Seen<R> {
    pub(crate) value: u64,
    pub(crate) times: u64,
    pub(crate) account: R,
}

impl Run {
    /// One more record, like the last one. For the writer.
    #[inline(always)]
    pub(crate) fn again(&self) {
        // Its Release: who counts it sees the turn, and what was written down before.
        bump(&self.count);
    }

    /// A record of this value. For the writer; `write_down` gets a value, and how often.
    #[inline]
    pub(crate) fn record(&self, value: u64, write_down: impl Fn(u64, u64)) {
        let count = self.count.load(Ordering::Relaxed);
        if count != self.from.load(Ordering::Relaxed) {
            self.end(count, &write_down);
        }
        write_down(value, 1);
        // Release: who reads it sees the turn.
        self.value.store(value, Ordering::Release);
    }

    fn end(&self, count: u64, write_down: &impl Fn(u64, u64)) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the fence in `read`: who has read anything of what leapfrogs sees the odd turn, or a later one.
        if cfg!(not(mutant = "alike_no_fence_change")) {
            fence(Ordering::Release);
        }
        let times = count.wrapping_sub(self.from.load(Ordering::Relaxed));
        write_down(self.value.load(Ordering::Relaxed), times);
        self.from.store(count, Ordering::Relaxed);
        let order = if cfg!(mutant = "alike_relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.turn.store(turn.wrapping_add(2), order);
    }

    /// The present run; `look` reads the account of its value, with Acquire. For anybody.
    pub(crate) fn read<R>(&self, look: impl Fn(u64) -> R) -> Seen<R> {
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            let value = self.value.load(Ordering::Relaxed);
            let account = look(value);
            let from = self.from.load(Ordering::Relaxed);
            let count = self.count.load(Ordering::Relaxed);
            // Pairs with the fence in `end`, and for the count with the Release of `again`.
            if cfg!(not(mutant = "alike_no_fence_read")) {
                fence(Ordering::Acquire);
            }
            let is_same =
                self.value.load(Ordering::Acquire) == value || cfg!(mutant = "alike_keep_value");
            let is_one_moment =
                is_same && turn % 2 == 0 && self.turn.load(Ordering::Relaxed) == turn;
            if is_one_moment || cfg!(mutant = "alike_read_once") {
                return Seen {
                    value,
                    times: count.wrapping_sub(from),
                    account,
                };
            }
            thread::yield_now();
        }
    }
}
