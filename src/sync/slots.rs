//! Per-thread slots: one value for each thread of a pool, allocated when a thread needs it.
//!
//! A pool may have tens of thousands of threads, and usually has a few. So a loop over its threads
//! visits the slots of those that have *entered*, which each thread does once, when it starts. A
//! slot costs nothing before it is first accessed.
//!
//! Slots never move: each of the two rows consists of blocks that double in size, and a block is
//! allocated as a whole, with the first of its slots. Main threads and spare threads have a row
//! each. Both are started in the order of their indices, so a row soon has no gaps.
//!
//! A thread enters before it publishes anything in its slot. Entering happens before the thread's
//! fence, so a reader whose fence comes later finds the slot too.

use std::{
    fmt,
    ops::Index,
    // Not from `crate::sync`: nothing waits for these, and no model explores them.
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// With this many blocks a row has 65535 slots.
const BLOCKS: usize = 16;

struct Row<T> {
    /// One more than the largest index that has entered.
    len: AtomicUsize,
    /// Block number `n` has `1 << n` slots.
    blocks: [OnceLock<Box<[T]>>; BLOCKS],
}

impl<T: Default> Row<T> {
    fn new() -> Self {
        Self {
            len: AtomicUsize::new(0),
            blocks: [const { OnceLock::new() }; BLOCKS],
        }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    #[inline]
    fn at(&self, index: usize) -> &T {
        let number = index + 1;
        let block = number.ilog2();
        let first = 1 << block;
        let slots =
            self.blocks[block as usize].get_or_init(|| (0..first).map(|_| T::default()).collect());
        &slots[number - first]
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).map(|index| self.at(index))
    }
}

/// The slots of a pool's threads.
pub(crate) struct Slots<T> {
    main: Row<T>,
    spare: Row<T>,
    /// Threads of this index and above are spare.
    first_spare: usize,
}

impl<T: Default> Slots<T> {
    /// Makes the slots of a pool whose threads below this index are not spare.
    pub(crate) fn new(first_spare: usize) -> Self {
        Self {
            main: Row::new(),
            spare: Row::new(),
            first_spare,
        }
    }

    fn place(&self, index: usize) -> (&Row<T>, usize) {
        match index.checked_sub(self.first_spare) {
            None => (&self.main, index),
            Some(index) => (&self.spare, index),
        }
    }

    /// Enters the thread of this index, so that loops visit its slot. Returns the slot.
    pub(crate) fn enter(&self, index: usize) -> &T {
        let (row, index) = self.place(index);
        let slot = row.at(index);
        row.len.fetch_max(index + 1, Ordering::AcqRel);
        slot
    }

    /// Returns how many threads have entered.
    pub(crate) fn len(&self) -> usize {
        self.main.len() + self.spare.len()
    }

    /// Returns the slots of the threads that have entered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.main.iter().chain(self.spare.iter())
    }

    /// The same, each with its thread's index.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = (usize, &T)> {
        let spare = self.spare.iter().enumerate();
        let spare = spare.map(|(index, slot)| (index + self.first_spare, slot));
        self.main.iter().enumerate().chain(spare)
    }

    /// The same, in a circle that begins at number `start`.
    pub(crate) fn indexed_from(&self, start: usize) -> impl Iterator<Item = (usize, &T)> {
        let (main, all) = (self.main.len(), self.len());
        (start..all)
            .chain(0..start.min(all))
            .map(move |number| match number.checked_sub(main) {
                None => (number, self.main.at(number)),
                Some(spare) => (spare + self.first_spare, self.spare.at(spare)),
            })
    }
}

/// The slot of a thread, whether it has entered or not.
impl<T: Default> Index<usize> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        let (row, index) = self.place(index);
        row.at(index)
    }
}

impl<T: Default> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("entered", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_loop_visits_the_threads_that_have_entered_and_no_other() {
        let slots = Slots::<AtomicUsize>::new(32_767);
        let entered = [0, 1, 2, 32_767, 32_768];
        for index in entered {
            slots.enter(index).store(index, Ordering::Relaxed);
        }
        let _ = slots[30_000].load(Ordering::Relaxed);
        assert_eq!(slots.len(), entered.len());
        let value = |slot: &AtomicUsize| slot.load(Ordering::Relaxed);
        assert_eq!(slots.iter().map(value).collect::<Vec<_>>(), entered);
        assert!(slots.indexed().all(|(index, slot)| index == value(slot)));
        for start in 0..entered.len() {
            let mut expected = entered;
            expected.rotate_left(start);
            let visited = slots.indexed_from(start);
            let visited = visited.map(|(index, slot)| (index, value(slot)));
            let expected = expected.map(|index| (index, index));
            assert_eq!(visited.collect::<Vec<_>>(), expected, "from {start}");
        }
    }

    #[test]
    fn each_index_has_a_slot_of_its_own_which_does_not_move() {
        const LAST: usize = 32_767 + 16;

        let slots = Slots::<AtomicUsize>::new(100);
        let first = &raw const slots[0];
        (0..=LAST).for_each(|index| slots[index].store(index, Ordering::Relaxed));
        assert!((0..=LAST).all(|index| slots[index].load(Ordering::Relaxed) == index));
        assert_eq!(first, &raw const slots[0]);
        assert_eq!(slots.len(), 0, "none has entered");
    }
}
