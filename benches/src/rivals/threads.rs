//! std threads that receive from a queue, or use none.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam_channel::Sender;

use super::{CAPACITY, Rival, WORKERS};
use crate::Job;

/// Threads that are joined at the end. Whatever makes them stop must be dropped before.
struct Crew(Vec<JoinHandle<()>>);

impl Crew {
    fn start(threads: usize, body: impl Fn() + Clone + Send + 'static) -> Self {
        Self((0..threads).map(|_| thread::spawn(body.clone())).collect())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            thread.join().expect("no job panics");
        }
    }
}

type BoxedJob = Box<dyn FnOnce() + Send>;

pub(super) struct Boxed {
    sender: Sender<BoxedJob>,
    _crew: Crew,
}

impl Boxed {
    pub(super) fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded::<BoxedJob>(CAPACITY);
        let crew = Crew::start(WORKERS, move || receiver.iter().for_each(|job| job()));
        Self {
            sender,
            _crew: crew,
        }
    }
}

impl<J: Job> Rival<J> for Boxed {
    fn submit(&self, job: J) {
        let sent = self.sender.send(Box::new(move || job.run()));
        sent.expect("the threads receive until the sender is dropped");
    }
}

pub(super) struct Unboxed<J> {
    sender: Sender<J>,
    _crew: Crew,
}

impl<J: Job> Unboxed<J> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded::<J>(CAPACITY);
        let crew = Crew::start(WORKERS, move || receiver.iter().for_each(J::run));
        Self {
            sender,
            _crew: crew,
        }
    }
}

impl<J: Job> Rival<J> for Unboxed<J> {
    fn submit(&self, job: J) {
        if self.sender.send(job).is_err() {
            unreachable!("the threads receive until the sender is dropped");
        }
    }
}

#[derive(Default)]
struct Monitor {
    queue: Mutex<Queue>,
    filled: Condvar,
    freed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<BoxedJob>,
    closed: bool,
}

impl Monitor {
    fn push(&self, job: BoxedJob) {
        let queue = self.queue.lock().expect("no panic under the lock");
        let mut queue = self
            .freed
            .wait_while(queue, |queue| queue.jobs.len() == CAPACITY)
            .expect("no panic under the lock");
        queue.jobs.push_back(job);
        drop(queue);
        self.filled.notify_one();
    }

    fn pop(&self) -> Option<BoxedJob> {
        let queue = self.queue.lock().expect("no panic under the lock");
        let mut queue = self
            .filled
            .wait_while(queue, |queue| queue.jobs.is_empty() && !queue.closed)
            .expect("no panic under the lock");
        let job = queue.jobs.pop_front();
        drop(queue);
        self.freed.notify_one();
        job
    }
}

pub(super) struct MonitorPool {
    monitor: Arc<Monitor>,
    _crew: Crew,
}

impl MonitorPool {
    pub(super) fn new() -> Self {
        let monitor = Arc::new(Monitor::default());
        let theirs = Arc::clone(&monitor);
        let crew = Crew::start(WORKERS, move || {
            while let Some(job) = theirs.pop() {
                job();
            }
        });
        Self {
            monitor,
            _crew: crew,
        }
    }
}

impl<J: Job> Rival<J> for MonitorPool {
    fn submit(&self, job: J) {
        self.monitor.push(Box::new(move || job.run()));
    }
}

impl Drop for MonitorPool {
    fn drop(&mut self) {
        let mut queue = self.monitor.queue.lock().expect("no panic under the lock");
        queue.closed = true;
        drop(queue);
        self.monitor.filled.notify_all();
    }
}

struct Shared<J> {
    slot: Mutex<Option<J>>,
    closed: AtomicBool,
}

pub(super) struct HandOff<J> {
    shared: Arc<Shared<J>>,
    crew: Crew,
}

impl<J: Job> HandOff<J> {
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared {
            slot: Mutex::new(None::<J>),
            closed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let crew = Crew::start(1, move || {
            loop {
                let job = theirs.slot.lock().expect("no panic under the lock").take();
                match job {
                    Some(job) => job.run(),
                    None if theirs.closed.load(Ordering::Acquire) => return,
                    None => thread::park(),
                }
            }
        });
        Self { shared, crew }
    }
}

impl<J> HandOff<J> {
    fn unpark(&self) {
        for thread in &self.crew.0 {
            thread.thread().unpark();
        }
    }
}

impl<J: Job> Rival<J> for HandOff<J> {
    fn submit(&self, job: J) {
        let mut job = Some(job);
        loop {
            let mut slot = self.shared.slot.lock().expect("no panic under the lock");
            if slot.is_none() {
                *slot = job.take();
                break;
            }
            drop(slot);
            thread::yield_now();
        }
        self.unpark();
    }
}

impl<J> Drop for HandOff<J> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.unpark();
    }
}

pub(super) struct StaticSplit;

impl<J: Job> Rival<J> for StaticSplit {
    fn submit(&self, job: J) {
        job.run();
    }

    fn burst(&self, job: J, count: u64)
    where
        J: Copy,
    {
        thread::scope(|scope| {
            for index in 0..WORKERS as u64 {
                let part = (count + index) / WORKERS as u64;
                scope.spawn(move || (0..part).for_each(|_| job.run()));
            }
        });
    }
}
