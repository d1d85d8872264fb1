//! The order of the library's locks. Debug builds and programs under shuttle check it.
//!
//! **A thread acquires a lock only if its rank is above the ranks of all locks that the thread
//! holds.** So no threads wait for each other's locks in a circle. A `try_lock` never waits, and
//! may acquire any lock; the lock counts as held afterwards. Locks of one rank never nest.
//!
//! **No user code runs under a lock.** It may call the pool again, block or panic. So closures,
//! wakers, hooks and drops of the user's values begin with [`assert_none_held`].
//!
//! Elsewhere the check takes neither time nor memory.

#[cfg(all(test, not(loom)))]
mod tests;

/// The ranks of all locks: a lock is acquired before those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// One change of the range of workers at a time. Starts threads, and scales.
    Resize,
    /// The progress of a shutdown, which reads the thread table and the counters.
    Life,
    /// The chunks of a batch. A place is held under it.
    Batch,
    /// The thread table. A thread that enters or leaves it may change the idle workers and the
    /// list of starved pools, and starts threads.
    ThreadTable,
    /// The state of the scaling controller, which wakes idle workers and reads the queues.
    Scaler,
    /// The slow path of admission.
    Admission,
    /// The list of idle workers.
    IdleWorkers,

    // Under the following, no other lock is acquired.
    /// The list of starved pools of the process.
    Starvation,
    /// A thread that is about to start.
    UnstartedThread,
    /// The inbox of one thread.
    Inbox,
    /// The side list of structured jobs.
    SideList,
    /// The ring of one deque. A thief may hold one, and never waits for another.
    Ring,
    /// The counts of items put into batches.
    BatchAccounts,
    /// The thread that waits for results of a batch.
    BatchEvent,
    /// The first panic of a scope.
    ScopePanic,
    /// The outcomes of a broadcast.
    Outcomes,
    /// The CPU clocks of the workers of the process.
    Clocks,
}

#[cfg(not(all(any(debug_assertions, shuttle), not(loom))))]
mod check {
    use super::Rank;

    #[derive(Debug)]
    pub(crate) struct Order;

    #[derive(Debug)]
    pub(crate) struct Held;

    impl Order {
        pub(crate) const fn new(_: Rank) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn check(&self) {}

        #[inline(always)]
        pub(crate) fn held(&self) -> Held {
            Held
        }
    }

    #[inline(always)]
    pub(crate) fn assert_none_held() {}
}

#[cfg(all(any(debug_assertions, shuttle), not(loom)))]
mod check {
    use std::cell::Cell;

    use super::Rank;
    use crate::sync::thread_local;

    thread_local! {
        /// The ranks of the locks that this thread holds, in any order.
        static HELD: Cell<[Option<Rank>; 8]> = const { Cell::new([None; 8]) };
    }

    /// The rank of one lock.
    #[derive(Debug)]
    pub(crate) struct Order(Rank);

    /// Counts a lock as held by the calling thread. A guard stays on its thread.
    #[derive(Debug)]
    pub(crate) struct Held(Rank);

    impl Order {
        pub(crate) const fn new(rank: Rank) -> Self {
            Self(rank)
        }

        /// Panics if the calling thread may not wait for this lock.
        #[track_caller]
        pub(crate) fn check(&self) {
            let highest = HELD.get().into_iter().flatten().max();
            if let Some(held) = highest.filter(|&held| held >= self.0) {
                panic!("lock order: {:?} is acquired under {held:?}", self.0);
            }
        }

        pub(crate) fn held(&self) -> Held {
            replace(None, Some(self.0));
            Held(self.0)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            replace(Some(self.0), None);
        }
    }

    fn replace(from: Option<Rank>, to: Option<Rank>) {
        let mut held = HELD.get();
        if let Some(slot) = held.iter_mut().find(|slot| **slot == from) {
            *slot = to;
            HELD.set(held);
        }
    }

    /// Panics if the calling thread holds a lock of the library: user code is about to run.
    #[track_caller]
    pub(crate) fn assert_none_held() {
        if let Some(held) = HELD.get().into_iter().flatten().max() {
            panic!("lock order: user code runs under {held:?}");
        }
    }
}

pub(crate) use self::check::assert_none_held;
pub(super) use self::check::{Held, Order};
