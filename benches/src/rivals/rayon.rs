//! rayon: plain, behind a semaphore, and as a parallel iterator.

use std::sync::{Arc, Condvar, Mutex};

use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::{ParallelIterator, repeat_n},
};

use super::{CAPACITY, Rival, WORKERS};
use crate::Job;

pub(super) fn pool(workers: usize) -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .build()
        .expect("the threads start")
}

impl<J: Job> Rival<J> for ThreadPool {
    fn submit(&self, job: J) {
        self.spawn(move || job.run());
    }
}

struct Semaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Semaphore {
    fn new(places: usize) -> Self {
        Self {
            free: Mutex::new(places),
            freed: Condvar::new(),
        }
    }

    fn acquire(&self) {
        let free = self.free.lock().expect("no panic under the lock");
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .expect("no panic under the lock");
        *free -= 1;
    }

    fn release(&self) {
        *self.free.lock().expect("no panic under the lock") += 1;
        self.freed.notify_one();
    }
}

pub(super) struct Bounded {
    pool: ThreadPool,
    places: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new() -> Self {
        Self {
            pool: pool(WORKERS),
            places: Arc::new(Semaphore::new(CAPACITY)),
        }
    }
}

impl<J: Job> Rival<J> for Bounded {
    fn submit(&self, job: J) {
        self.places.acquire();
        let places = Arc::clone(&self.places);
        self.pool.spawn(move || {
            // At the start, so that the capacity bounds the waiting jobs, as in the pool under
            // test.
            places.release();
            job.run();
        });
    }
}

pub(super) struct ParIter(pub(super) ThreadPool);

impl<J: Job> Rival<J> for ParIter {
    fn submit(&self, job: J) {
        job.run();
    }

    fn burst(&self, job: J, count: u64)
    where
        J: Copy,
    {
        let jobs = repeat_n(job, count as usize);
        self.0.install(|| jobs.for_each(J::run));
    }
}
