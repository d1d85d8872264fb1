//! The line of blocked submitters: a doubly linked list in a slab, in order of arrival.
//!
//! A plain data structure under the admission lock, without knowledge of places. A slot is reused,
//! so blocking allocates nothing once the line has been as long before.

use crate::protocol::completion::Wake;

/// Names one waiter while it is in the slab. Only the waiter's owner has it, and gives it back
/// once.
#[derive(Debug)]
pub(crate) struct WaiterId(usize);

/// The standing of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the line, and batched: woken together with a batch of places.
    Batched,
    /// In the line, and prompt: owed the first free place.
    Prompt,
    /// Out of the line, with a place of its own.
    Granted,
    /// Out of the line: the pool was closed.
    Closed,
}

/// A waiter that joins the line.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) wake: Wake,
    pub(crate) prompt: bool,
    /// Whether the place that it is granted is counted as held.
    pub(crate) held: bool,
}

/// What granting needs of the first waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Front {
    /// The word of `acquired` when the waiter joined, which bounds overtaking.
    pub(crate) since: u64,
    pub(crate) held: bool,
}

#[derive(Debug)]
struct Slot {
    standing: Standing,
    front: Front,
    wake: Option<Wake>,
    prev: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

/// The line.
#[derive(Debug)]
pub(crate) struct Waiters {
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    head: usize,
    tail: usize,
    /// The number of waiters in the line, and of the prompt ones among them.
    len: usize,
    prompt: usize,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            head: NONE,
            tail: NONE,
            len: 0,
            prompt: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn prompt(&self) -> usize {
        self.prompt
    }

    /// Puts a waiter at the end of the line.
    pub(crate) fn push(&mut self, joining: Joining, since: u64) -> WaiterId {
        let Joining { wake, prompt, held } = joining;
        let slot = Slot {
            standing: if prompt {
                Standing::Prompt
            } else {
                Standing::Batched
            },
            front: Front { since, held },
            wake: Some(wake),
            prev: self.tail,
            next: NONE,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        match self.tail {
            NONE => self.head = index,
            tail => self.slots[tail].next = index,
        }
        self.tail = index;
        self.len += 1;
        self.prompt += usize::from(prompt);
        WaiterId(index)
    }

    pub(crate) fn front(&self) -> Option<Front> {
        self.slots.get(self.head).map(|slot| slot.front)
    }

    /// Takes the first waiter out of the line, with this outcome. Its owner keeps its slot.
    pub(crate) fn pop(&mut self, outcome: Standing) -> Option<Wake> {
        if self.head == NONE {
            return None;
        }
        let index = self.head;
        self.unlink(index);
        self.slots[index].standing = outcome;
        self.slots[index].wake.take()
    }

    pub(crate) fn standing(&self, id: &WaiterId) -> Standing {
        self.slots[id.0].standing
    }

    /// Turns the waiter prompt, if it is batched.
    pub(crate) fn make_prompt(&mut self, id: &WaiterId) {
        if self.slots[id.0].standing == Standing::Batched {
            self.slots[id.0].standing = Standing::Prompt;
            self.prompt += 1;
        }
    }

    /// Replaces the waiter's wake. Returns the old one, for the caller to drop outside of the lock.
    pub(crate) fn rewake(&mut self, id: &WaiterId, wake: Wake) -> Option<Wake> {
        self.slots[id.0].wake.replace(wake)
    }

    /// Frees the slot, whatever the standing of its waiter. Returns the wake, for the caller to
    /// drop outside of the lock.
    pub(crate) fn remove(&mut self, id: WaiterId) -> (Standing, Option<Wake>) {
        let standing = self.slots[id.0].standing;
        if matches!(standing, Standing::Batched | Standing::Prompt) {
            self.unlink(id.0);
        }
        self.vacant.push(id.0);
        (standing, self.slots[id.0].wake.take())
    }

    fn unlink(&mut self, index: usize) {
        let Slot {
            prev,
            next,
            standing,
            ..
        } = self.slots[index];
        match prev {
            NONE => self.head = next,
            prev => self.slots[prev].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.slots[next].prev = prev,
        }
        self.len -= 1;
        self.prompt -= usize::from(standing == Standing::Prompt);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn joining(prompt: bool) -> Joining {
        Joining {
            wake: Wake::Thread(std::thread::current()),
            prompt,
            held: false,
        }
    }

    proptest! {
        /// Compares the line with a naive one of (key, prompt).
        #[test]
        fn the_line_keeps_order_of_arrival(ops in prop::collection::vec((0u8..4, 0usize..8, any::<bool>()), 0..200)) {
            let mut line = Waiters::new();
            let mut model: VecDeque<(u64, bool)> = VecDeque::new();
            let mut owned: Vec<(u64, WaiterId)> = Vec::new();
            let mut next = 0u64;
            for (op, pick, prompt) in ops {
                match op {
                    0 => {
                        owned.push((next, line.push(joining(prompt), next)));
                        model.push_back((next, prompt));
                        next += 1;
                    }
                    1 => {
                        let front = model.pop_front();
                        prop_assert_eq!(line.front().map(|front| front.since), front.map(|one| one.0));
                        prop_assert_eq!(line.pop(Standing::Granted).is_some(), front.is_some());
                    }
                    2 if !owned.is_empty() => {
                        let (key, id) = owned.swap_remove(pick % owned.len());
                        let (standing, _) = line.remove(id);
                        let waited = model.iter().position(|&(other, _)| other == key);
                        prop_assert_eq!(standing != Standing::Granted, waited.is_some());
                        if let Some(at) = waited {
                            model.remove(at);
                        }
                    }
                    3 if !owned.is_empty() => {
                        let (key, id) = &owned[pick % owned.len()];
                        line.make_prompt(id);
                        if let Some(one) = model.iter_mut().find(|(other, _)| other == key) {
                            one.1 = true;
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(line.len(), model.len());
                prop_assert_eq!(line.prompt(), model.iter().filter(|one| one.1).count());
            }
        }
    }
}
