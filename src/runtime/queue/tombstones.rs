//! Tombstones: what cancelled jobs leave in the queues, and the sweep that removes them.

use std::iter;

use crossbeam_utils::CachePadded;

use super::{Pushed, Queue, insist};
use crate::{
    runtime::job::{Executor, Job},
    sync::{AtomicBool, AtomicI64, Ordering, crossbeam_deque::Steal},
};

pub(super) struct Tombstones {
    /// The number of tombstones in the queues. One may leave the queue before the thread that left
    /// it has counted it.
    pub(super) count: CachePadded<AtomicI64>,
    /// Not a lock: the drop of a tombstone may run user code.
    is_sweeping: AtomicBool,
}

impl Tombstones {
    pub(super) fn new() -> Self {
        Self {
            count: CachePadded::new(AtomicI64::new(0)),
            is_sweeping: AtomicBool::new(false),
        }
    }
}

impl<E: Executor> Queue<E> {
    /// Counts a tombstone: a job was taken back. Sweeps the queues if there are as many as `bound`.
    pub(crate) fn tombstone_left(&self, bound: i64) -> Option<Pushed> {
        let is_due = self.tombstones.count.fetch_add(1, Ordering::Relaxed) >= bound;
        is_due.then(|| self.sweep()).flatten()
    }

    /// Counts a tombstone that left the queue.
    pub(crate) fn tombstone_gone(&self) {
        self.tombstones.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes all tombstones from the queues, and moves the live jobs to the injector's end, in
    /// their order. Does nothing while another thread sweeps.
    ///
    /// A sweep visits each queued job once, and happens once in as many cancellations as the bound
    /// on tombstones. So its cost for each cancellation is constant.
    #[cold]
    fn sweep(&self) -> Option<Pushed> {
        let is_sweeping = &self.tombstones.is_sweeping;
        if is_sweeping.swap(true, Ordering::Acquire) {
            return None;
        }
        self.sweep_one(self.submitted.len(), || self.submitted.steal());
        for thread in self.stealers() {
            self.sweep_one(thread.submitted.len(), || thread.submitted.steal());
        }
        is_sweeping.store(false, Ordering::Release);
        Some(Pushed(()))
    }

    /// Sweeps the first `len` jobs of a queue.
    fn sweep_one(&self, len: usize, steal: impl Fn() -> Steal<Job<E>>) {
        for job in iter::from_fn(|| insist(&steal)).take(len) {
            if job.is_tombstone() {
                self.tombstone_gone();
            } else {
                self.submitted.push(job);
            }
        }
    }
}
