//! The queue of a pool: injectors for all threads, and deques for each thread.
//!
//! Submitted and structured jobs are kept apart. Structured jobs are those of a scope and of its
//! batches, halves of a join, split tasks of chunks, and installed closures. A thread that waits
//! for structured jobs pops them from the near end of its own structured deque, down to a *mark*.
//! It must not find any other job there: see `deque.rs`. Submitted jobs are first in, first out:
//! all go into the injector. While jobs are short, a worker moves a batch of them into its own
//! deque. Behind its batch are the jobs that the worker keeps over the bound (see `inline.rs`).
//! `turn.rs` decides which queue is next.
//!
//! The queue itself is unbounded. Admission in front of it bounds the jobs, and a *sweep* bounds
//! the tombstones of cancelled jobs.

mod local;
mod side_list;
mod steal;
#[cfg(test)]
mod tests;
mod tombstones;

use std::{iter, sync::OnceLock};

use crossbeam_utils::CachePadded;

pub(crate) use self::local::Local;
use self::{side_list::SideList, tombstones::Tombstones};
use crate::{
    protocol::deque::{self, Theft, Thief},
    runtime::job::{Executor, Job},
    sync::{
        AtomicI64, Ordering,
        asymmetric::Fences,
        crossbeam_deque::{Injector, Steal, Stealer, Worker},
        slots::Slots,
    },
};

/// The shared part of the queue.
pub(crate) struct Queue<E: Executor> {
    submitted: Injector<Job<E>>,
    structured: Injector<Job<E>>,
    side_list: SideList<E>,
    /// The far ends of the deques, set for each thread that has entered.
    stealers: Slots<OnceLock<Stealers<E>>>,
    tombstones: Tombstones,
    /// Queued jobs that work on batches and hold no place: the items hold the places.
    placeless: CachePadded<AtomicI64>,
    /// Queued structured jobs that are over the bound.
    overdrawn: CachePadded<AtomicI64>,
    fences: Fences,
}

/// The far ends of one thread's deques.
struct Stealers<E: Executor> {
    submitted: Stealer<Job<E>>,
    structured: Thief<Job<E>>,
}

/// Jobs that were pushed or moved to where any worker may take them: an idle one may have to be
/// woken. `Inner::pushed` and `Inner::wake_for` do that.
#[must_use = "an idle worker may have to be woken for the job"]
pub(crate) struct Pushed(());

/// As `Pushed`, for a job on the own deque of a thread that is counted as offering, which runs the
/// job itself if no worker takes it. `Inner::offered` and `Inner::wake_for_offer` use it up.
#[must_use = "an idle worker may have to be woken for the job"]
pub(crate) struct Offered(());

/// Makes what crossbeam's deques share in a process, or waits until another thread has made it.
pub(crate) fn settle_deques() {
    let _ = Worker::<()>::new_fifo().stealer().steal();
}

impl<E: Executor> Queue<E> {
    /// Makes the queue of a pool. Threads below the index `first_spare` are not spare.
    pub(crate) fn new(first_spare: usize, fences: Fences) -> Self {
        Self {
            submitted: Injector::new(),
            structured: Injector::new(),
            stealers: Slots::new(first_spare),
            side_list: SideList::new(),
            tombstones: Tombstones::new(),
            placeless: CachePadded::new(AtomicI64::new(0)),
            overdrawn: CachePadded::new(AtomicI64::new(0)),
            fences,
        }
    }

    /// Makes the deques of the thread `index`, which has none yet.
    pub(crate) fn enroll(&self, index: usize) -> Local<E> {
        let submitted = Worker::new_fifo();
        let (structured, thief) = deque::new(self.fences);
        let stealers = Stealers {
            submitted: submitted.stealer(),
            structured: thief,
        };
        let is_new = self.stealers[index].set(stealers).is_ok();
        debug_assert!(is_new, "an index is one thread's for its life");
        self.stealers.enter(index);
        Local::new(index, submitted, structured)
    }

    /// Returns the far ends of the deques of each thread that has entered.
    fn stealers(&self) -> impl Iterator<Item = &Stealers<E>> {
        self.stealers.iter().filter_map(OnceLock::get)
    }

    /// Pushes a submitted job for all threads.
    #[inline]
    pub(crate) fn push(&self, job: Job<E>) -> Pushed {
        self.submitted.push(job);
        Pushed(())
    }

    /// Pushes a structured job for all threads. While the pool is emptied, also a submitted job
    /// that has to run nevertheless.
    pub(crate) fn push_structured(&self, job: Job<E>) -> Pushed {
        self.structured.push(job);
        Pushed(())
    }

    /// Takes a structured job that was pushed for all threads.
    pub(crate) fn take_structured(&self) -> Option<Job<E>> {
        // A steal from an empty injector costs a full fence.
        if self.structured.is_empty() {
            return None;
        }
        insist(|| self.structured.steal())
    }

    /// Takes a submitted job from the injector. With `takes_batch`, moves others into the own
    /// deque. The last batch must be used up.
    pub(crate) fn take_submitted_for(
        &self,
        local: &Local<E>,
        takes_batch: bool,
    ) -> Option<(Job<E>, Option<Pushed>)> {
        if self.submitted.is_empty() {
            return None;
        }
        if !takes_batch {
            return Some((insist(|| self.submitted.steal())?, None));
        }
        let job = insist(|| self.submitted.steal_batch_and_pop(&local.submitted))?;
        Some((job, local.begin_batch().then_some(Pushed(()))))
    }

    /// Returns the number of submitted jobs and tombstones in the injector.
    #[cfg(test)]
    pub(crate) fn injected(&self) -> usize {
        self.submitted.len()
    }

    /// Whether no job is queued anywhere. Exact between two fences of the idle protocol.
    pub(crate) fn is_empty(&self) -> bool {
        self.submitted.is_empty()
            && self.structured.is_empty()
            && self.side_list.len() == 0
            && self
                .stealers()
                .all(|thread| thread.submitted.is_empty() && thread.structured.is_empty())
    }

    /// Takes one job of either kind from anywhere, on any thread.
    pub(crate) fn take_any(&self) -> Option<Job<E>> {
        self.take_structured()
            .or_else(|| {
                let thefts = self.stealers().map(|thread| thread.structured.steal());
                thefts.filter_map(Theft::success).next()
            })
            .or_else(|| self.take_from_side())
            .or_else(|| self.take_submitted())
    }

    /// Returns the number of queued structured jobs with places. It includes the submitted jobs
    /// that have to run even when the pool is emptied. All tombstones are subtracted, since some of
    /// these jobs may be tombstones. Once the submitted jobs are gone there are no others.
    pub(crate) fn structured(&self) -> u64 {
        let deques = self.stealers().map(|thread| thread.structured.len());
        let waiting = deques.sum::<usize>() + self.structured.len() + self.side_list.len();
        let left_out = [&self.tombstones.count, &self.placeless, &self.overdrawn]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum::<i64>();
        (waiting as u64).saturating_sub(left_out.try_into().unwrap_or(0))
    }

    /// Returns the number of queued jobs without a place.
    pub(crate) fn placeless(&self) -> u64 {
        let placeless = self.placeless.load(Ordering::Acquire);
        placeless.try_into().unwrap_or(0)
    }

    /// Counts jobs without a place that enter the queues or, if `more` is negative, leave them.
    pub(crate) fn count_placeless(&self, more: i64) {
        // Release pairs with Acquire in `placeless`: what the job brings is seen.
        self.placeless.fetch_add(more, Ordering::Release);
    }

    /// Counts structured jobs over the bound that enter the queues or, if `more` is negative, leave
    /// them.
    pub(crate) fn count_overdrawn(&self, more: i64) {
        self.overdrawn.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the number of queued structured jobs over the bound.
    pub(crate) fn overdrawn(&self) -> u64 {
        let overdrawn = self.overdrawn.load(Ordering::Relaxed);
        overdrawn.try_into().unwrap_or(0)
    }

    /// Takes one submitted job from anywhere, on any thread.
    pub(crate) fn take_submitted(&self) -> Option<Job<E>> {
        insist(|| {
            iter::once(self.submitted.steal())
                .chain(self.stealers().map(|thread| thread.submitted.steal()))
                .collect()
        })
    }

    /// Moves all jobs of the thread to the injectors.
    pub(crate) fn hand_over(&self, local: &Local<E>) -> Pushed {
        while let Some(job) = local.structured.pop(0) {
            self.structured.push(job);
        }
        while let Some(job) = local.pop_submitted() {
            self.submitted.push(job);
        }
        Pushed(())
    }
}

/// Repeats a steal that lost a race, until it succeeds or the queue is empty.
fn insist<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(found) => return Some(found),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}
