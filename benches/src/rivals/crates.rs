//! Pools from crates.io, each as its documentation shows it.

use std::sync::Arc;

use tokio::{runtime::Runtime, sync::Semaphore};

use super::{CAPACITY, Rival, WORKERS};
use crate::Job;

/// The queue grows.
impl<J: Job> Rival<J> for threadpool::ThreadPool {
    fn submit(&self, job: J) {
        self.execute(move || job.run());
    }
}

/// The queue grows. The core and the maximum number of threads are the same.
impl<J: Job> Rival<J> for rusty_pool::ThreadPool {
    fn submit(&self, job: J) {
        self.execute(move || job.run());
    }
}

pub(super) fn rusty_pool() -> rusty_pool::ThreadPool {
    let builder = rusty_pool::Builder::new().core_size(WORKERS);
    builder.max_size(WORKERS).build()
}

/// tokio's workers run the jobs, and its semaphore bounds them. The producers block on it.
pub(super) struct Tokio {
    places: Arc<Semaphore>,
    runtime: Runtime,
}

impl Tokio {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .build()
            .expect("the threads start");
        Self {
            places: Arc::new(Semaphore::new(CAPACITY)),
            runtime,
        }
    }
}

impl<J: Job> Rival<J> for Tokio {
    fn submit(&self, job: J) {
        let acquired = Arc::clone(&self.places).try_acquire_owned();
        let place = acquired.unwrap_or_else(|_| {
            let acquired = Arc::clone(&self.places).acquire_owned();
            let place = self.runtime.block_on(acquired);
            place.expect("the semaphore is open")
        });
        self.runtime.spawn(async move {
            // At the start, as in the pool under test.
            drop(place);
            job.run();
        });
    }
}
