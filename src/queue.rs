//! Where admitted jobs wait: one injector for all, and one deque for each thread of the pool.
//!
//! The queue is unbounded by itself. What bounds it is the admission in front of it, and for the
//! shells of cancelled jobs, [`Queue::sweep`].

use std::{
    cell::Cell,
    iter,
    sync::Mutex,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use crossbeam_utils::CachePadded;

use crate::job::Job;

/// How many jobs a thread takes from its own deque before it looks at the injector first: what its
/// own jobs submit must not starve the others'. tokio's number; any prime of that size does.
const FAIRNESS: u32 = 61;

/// What all threads share of the queue.
pub(crate) struct Queue {
    injector: Injector<Job>,
    stealers: Box<[Stealer<Job>]>,
    /// Jobs in the queues that were taken back: only their shells are left.
    shells: CachePadded<AtomicU64>,
    sweeping: Mutex<()>,
}

/// What one thread owns of it.
pub(crate) struct Local {
    deque: Worker<Job>,
    tick: Cell<u32>,
    random: Cell<u32>,
}

/// A job, and whether it was stolen from another thread.
pub(crate) struct Found {
    pub(crate) job: Job,
    pub(crate) stolen: bool,
}

impl Queue {
    /// For this number of threads, and the part of each.
    pub(crate) fn new(threads: usize) -> (Self, Vec<Local>) {
        let locals: Vec<Local> = (0..threads)
            .map(|index| Local {
                deque: Worker::new_fifo(),
                tick: Cell::new(0),
                random: Cell::new(0x9e37_79b9 ^ (index as u32 + 1)),
            })
            .collect();
        let queue = Self {
            injector: Injector::new(),
            stealers: locals.iter().map(|local| local.deque.stealer()).collect(),
            shells: CachePadded::new(AtomicU64::new(0)),
            sweeping: Mutex::new(()),
        };
        (queue, locals)
    }

    /// For all threads to take.
    #[inline]
    pub(crate) fn push(&self, job: Job) {
        self.injector.push(job);
    }

    /// For the calling thread, and those who steal from it.
    #[inline]
    pub(crate) fn push_local(&self, local: &Local, job: Job) {
        local.deque.push(job);
    }

    /// The next job from the thread's own deque, or, taking a batch along, from the injector.
    #[inline]
    pub(crate) fn next(&self, local: &Local) -> Option<Job> {
        let tick = local.tick.get().wrapping_add(1);
        local.tick.set(tick);
        if tick % FAIRNESS == 0 {
            if let Some(job) = insist(|| self.injector.steal()) {
                return Some(job);
            }
        }
        local.deque.pop().or_else(|| self.take_injected(local))
    }

    fn take_injected(&self, local: &Local) -> Option<Job> {
        if self.injector.is_empty() {
            return None;
        }
        insist(|| self.injector.steal_batch_and_pop(&local.deque))
    }

    /// Looks everywhere, for a thread whose own deque is empty.
    pub(crate) fn search(&self, local: &Local, own: usize) -> Option<Found> {
        if let Some(job) = self.take_injected(local) {
            return Some(Found { job, stolen: false });
        }
        let threads = self.stealers.len();
        let start = random_below(local, threads);
        let victims = (start..threads)
            .chain(0..start)
            .filter(|&victim| victim != own);
        let job = insist(|| {
            victims
                .clone()
                .map(|victim| self.stealers[victim].steal_batch_and_pop(&local.deque))
                .collect()
        })?;
        Some(Found { job, stolen: true })
    }

    /// Whether no job waits anywhere. Between two fences of the sleep protocol, it is exact.
    pub(crate) fn is_empty(&self) -> bool {
        self.injector.is_empty() && self.stealers.iter().all(Stealer::is_empty)
    }

    /// Takes one job from anywhere, as any thread may.
    pub(crate) fn take_any(&self) -> Option<Job> {
        insist(|| {
            iter::once(self.injector.steal())
                .chain(self.stealers.iter().map(Stealer::steal))
                .collect()
        })
    }

    /// A job was taken back from the queue. Returns whether it is time to sweep.
    pub(crate) fn shell_left(&self, bound: u64) -> bool {
        self.shells.fetch_add(1, Ordering::Relaxed) + 1 > bound
    }

    /// A shell came out of the queue.
    pub(crate) fn shell_gone(&self) {
        self.shells.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes all shells out of the queues, and puts what is alive at the injector's end, in its
    /// order. Who sweeps has to wake a worker afterwards, as after any push. One sweep at a time.
    ///
    /// A sweep looks at no more than what waits, and happens once in as many cancellations as the
    /// bound on shells: a constant cost for each.
    pub(crate) fn sweep(&self) {
        let Ok(_one) = self.sweeping.try_lock() else {
            return;
        };
        for _ in 0..self.injector.len() {
            let Some(job) = insist(|| self.injector.steal()) else {
                break;
            };
            self.keep_if_alive(job);
        }
        for stealer in &self.stealers {
            for _ in 0..stealer.len() {
                let Some(job) = insist(|| stealer.steal()) else {
                    break;
                };
                self.keep_if_alive(job);
            }
        }
    }

    fn keep_if_alive(&self, job: Job) {
        if job.is_shell() {
            self.shell_gone();
        } else {
            self.injector.push(job);
        }
    }
}

/// Repeats a steal that lost a race: only empty means empty.
fn insist<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(found) => return Some(found),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// xorshift; good enough to choose a victim.
fn random_below(local: &Local, bound: usize) -> usize {
    let mut x = local.random.get();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    local.random.set(x);
    x as usize % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RELIABILITY 3.
    #[test]
    fn a_lost_race_is_not_taken_for_an_empty_queue() {
        let mut script = [Steal::Retry, Steal::Retry, Steal::Success(7)].into_iter();
        assert_eq!(insist(|| script.next().unwrap_or(Steal::Empty)), Some(7));
        let mut script = [Steal::<u8>::Retry, Steal::Empty].into_iter();
        assert_eq!(insist(|| script.next().unwrap_or(Steal::Empty)), None);
    }
}
