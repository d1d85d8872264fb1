//! Stealing from the deques of other threads: by a search, and by the two waits that take jobs back
//! or leapfrog (`frames.rs`).

use std::ptr;

use super::{Local, Pushed, Queue, Stealers, insist};
use crate::{
    protocol::deque::Theft,
    runtime::job::{Executor, Job},
};

impl<E: Executor> Queue<E> {
    /// Takes a job that was pushed for all threads, and maybe moves a batch of others into the own
    /// deque. The caller is counted as searching: when it stops, it checks all queues, those that
    /// it has moved jobs to included.
    pub(crate) fn take_injected(&self, local: &Local<E>) -> Option<Job<E>> {
        self.take_structured()
            .or_else(|| self.take_from_side())
            .or_else(|| self.take_submitted_for(local, true).map(|(job, _)| job))
            .inspect(|_| local.clear_steal_origin())
    }

    /// Steals from each other thread in turn, for the thread `own`, whose deques are empty. It is
    /// counted as searching, as in `take_injected`.
    pub(crate) fn steal(&self, local: &Local<E>, own: usize) -> Option<Job<E>> {
        let start = random_below(local, self.stealers.len());
        let victims = self.stealers.indexed_from(start);
        let mut victims = victims
            .filter(|&(victim, _)| victim != own)
            .filter_map(|(_, stealers)| stealers.get());
        victims.find_map(|victim| {
            // If another thief is busy at this deque, the search continues elsewhere. A worker that
            // stops searching observes the jobs that the thief leaves.
            let structured = &victim.structured;
            match structured.steal_batch(&local.structured, Job::is_of_frame_of) {
                Theft::Success(job) => {
                    local.structured.set_purpose(job.frame());
                    Some(job)
                }
                Theft::Empty | Theft::Unwanted | Theft::Busy => {
                    let job = insist(|| victim.submitted.steal_batch_and_pop(&local.submitted));
                    job.inspect(|_| local.clear_steal_origin())
                }
            }
        })
    }

    /// Takes the oldest job from the deque of a thread that serves this scope, for the thread that
    /// waits in the scope. The job must be the scope's own, or a frame on that thread must wait for
    /// it. Moves other jobs of the scope into the own deque.
    pub(crate) fn take_back(
        &self,
        local: &Local<E>,
        scope: *const (),
    ) -> Theft<(Job<E>, Option<Pushed>)> {
        let before = local.mark();
        for (index, thread) in self.stealers.indexed() {
            let Some(Stealers {
                structured: victim, ..
            }) = thread.get()
            else {
                continue;
            };
            if !victim.serves(scope) {
                continue;
            }
            let is_of_scope = |job: &Job<E>| ptr::eq(job.frame(), scope);
            // The victim may serve another scope by now, and have pushed this job for that.
            let is_wanted = |job: &Job<E>| {
                victim.serves(scope) && (is_of_scope(job) || job.is_of_worker(index))
            };
            let alike = |one: &Job<E>, other: &Job<E>| is_of_scope(one) && is_of_scope(other);
            match victim.steal_batch_if(&local.structured, is_wanted, alike) {
                Theft::Empty | Theft::Busy => {}
                Theft::Unwanted => return Theft::Unwanted,
                Theft::Success(job) => {
                    let moved = (local.mark() > before).then_some(Pushed(()));
                    return Theft::Success((job, moved));
                }
            }
        }
        Theft::Empty
    }

    /// Takes the oldest structured job of a thread, if it is above this mark, and a frame on that
    /// thread waits for it. `is_due` must hold when the job is claimed.
    pub(crate) fn leapfrog(
        &self,
        thread: usize,
        mark: usize,
        is_due: impl Fn() -> bool,
    ) -> Theft<Job<E>> {
        let is_wanted = |job: &Job<E>| job.is_of_worker(thread) && is_due();
        match self.stealers[thread].get() {
            Some(stealers) => stealers.structured.steal_above(mark, is_wanted),
            None => Theft::Empty,
        }
    }
}

/// Returns a random number below `bound`, by xorshift: good enough to choose a victim.
fn random_below<E: Executor>(local: &Local<E>, bound: usize) -> usize {
    let mut x = local.random.get();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    local.random.set(x);
    // The calling thread itself has entered.
    x as usize % bound.max(1)
}
