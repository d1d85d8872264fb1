//! The wake-ups that are collected under the lock and performed after it.

use crate::protocol::completion::Wake;

/// The number of wake-ups that are collected without an allocation.
const WAKES: usize = 8;

/// The wake-ups that one critical section has collected.
pub(super) struct Wakes {
    first: [Option<Wake>; WAKES],
    len: usize,
    rest: Vec<Wake>,
}

impl Wakes {
    pub(super) fn new() -> Self {
        Self {
            first: [const { None }; WAKES],
            len: 0,
            rest: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, wake: Wake) {
        match self.first.get_mut(self.len) {
            Some(slot) => *slot = Some(wake),
            None => self.rest.push(wake),
        }
        self.len += 1;
    }

    #[inline]
    pub(super) fn wake_all(self) {
        if self.len > 0 {
            self.wake_some();
        }
    }

    #[cold]
    fn wake_some(self) {
        self.first
            .into_iter()
            .flatten()
            .chain(self.rest)
            .for_each(Wake::wake);
    }
}
