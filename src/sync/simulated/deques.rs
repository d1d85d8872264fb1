//! crossbeam's injector and deques, as far as the pool uses them: first in, first out.
//!
//! Each operation is one step, except a batch steal: as in the original, its jobs are in neither
//! deque on their way. A steal may lose a race with no visible opponent.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub(crate) use crossbeam_deque::Steal;
use shuttle::rand::{Rng, thread_rng};

struct Line<T>(Mutex<VecDeque<T>>);

impl<T> Line<T> {
    fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Runs one step. The lock is std's: no other thread runs in between.
    fn at<R>(&self, f: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        // No time passes in it: it only lets shuttle choose the next thread.
        shuttle::thread::sleep(Duration::ZERO);
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn steal(&self) -> Steal<T> {
        self.at(|line| match line.len() {
            0 => Steal::Empty,
            _ if thread_rng().gen_ratio(1, 16) => Steal::Retry,
            _ => line.pop_front().map_or(Steal::Empty, Steal::Success),
        })
    }

    fn steal_batch_and_pop(&self, into: &Self) -> Steal<T> {
        let batch = self.at(|line| {
            let most = line.len().div_ceil(2);
            let taken = thread_rng().gen_range(0..=most);
            line.drain(..taken).collect::<Vec<_>>()
        });
        let mut batch = batch.into_iter();
        match batch.next() {
            Some(first) => {
                if batch.len() > 0 {
                    into.at(|line| line.extend(batch));
                }
                Steal::Success(first)
            }
            None if self.at(|line| line.is_empty()) => Steal::Empty,
            None => Steal::Retry,
        }
    }
}

pub(crate) struct Injector<T>(Line<T>);

impl<T> Injector<T> {
    pub(crate) fn new() -> Self {
        Self(Line::new())
    }

    pub(crate) fn push(&self, value: T) {
        self.0.at(|line| line.push_back(value));
    }

    pub(crate) fn steal(&self) -> Steal<T> {
        self.0.steal()
    }

    pub(crate) fn steal_batch_and_pop(&self, into: &Worker<T>) -> Steal<T> {
        self.0.steal_batch_and_pop(&into.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.at(|line| line.len())
    }
}

pub(crate) struct Worker<T>(Arc<Line<T>>);

impl<T> Worker<T> {
    pub(crate) fn new_fifo() -> Self {
        Self(Arc::new(Line::new()))
    }

    pub(crate) fn stealer(&self) -> Stealer<T> {
        Stealer(Arc::clone(&self.0))
    }

    pub(crate) fn push(&self, value: T) {
        self.0.at(|line| line.push_back(value));
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.at(VecDeque::pop_front)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.at(|line| line.is_empty())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.at(|line| line.len())
    }
}

pub(crate) struct Stealer<T>(Arc<Line<T>>);

impl<T> Stealer<T> {
    pub(crate) fn steal(&self) -> Steal<T> {
        self.0.steal()
    }

    pub(crate) fn steal_batch_and_pop(&self, into: &Worker<T>) -> Steal<T> {
        self.0.steal_batch_and_pop(&into.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.at(|line| line.len())
    }
}
