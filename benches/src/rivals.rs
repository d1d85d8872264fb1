//! The alternatives, each as a user would write it today, behind one trait.

use ::rayon::ThreadPool;
use adaptive_pool::Pool;

use self::batches::{Batch, Way};
use crate::Job;

mod batches;
mod crates;
mod rayon;
mod threads;

/// The threads of every rival.
pub const WORKERS: usize = 2;

/// The capacity of every bounded rival.
pub const CAPACITY: usize = 1024;

/// Runs jobs of one type elsewhere. Dropping it ends its threads.
pub trait Rival<J: Job>: Send + Sync {
    /// Submits one job; blocks while a bounded queue is full.
    fn submit(&self, job: J);

    /// Submits many. A default method, so that a dynamic call is paid once and not for each job.
    fn burst(&self, job: J, count: u64)
    where
        J: Copy,
    {
        for _ in 0..count {
            self.submit(job);
        }
    }
}

/// A rival that can be built any number of times.
pub struct Contender<J> {
    /// The name in the tables.
    pub name: &'static str,
    /// Starts its threads.
    pub build: fn() -> Box<dyn Rival<J>>,
}

impl<J: Job> Contender<J> {
    /// The pool under test, with default options.
    pub fn ours() -> Self {
        Self {
            name: "adaptive-pool",
            build: || Box::new(ours(WORKERS, true)),
        }
    }

    /// The pool under test, without latency tracking.
    pub fn ours_untracked() -> Self {
        Self {
            name: "adaptive-pool, no latencies",
            build: || Box::new(ours(WORKERS, false)),
        }
    }

    /// The pool under test, with the jobs from an iterator.
    pub fn ours_for_each() -> Self {
        Self {
            name: "adaptive-pool, for_each",
            build: || Box::new(batch(Way::ForEach)),
        }
    }

    /// The same, and each job returns a result.
    pub fn ours_map_unordered() -> Self {
        Self {
            name: "adaptive-pool, map_unordered",
            build: || Box::new(batch(Way::MapUnordered)),
        }
    }

    /// The pool under test, where one of its workers spawns the jobs.
    pub fn ours_scope() -> Self {
        Self {
            name: "adaptive-pool, scope",
            build: || Box::new(batch(Way::Scope)),
        }
    }

    /// Plain rayon, with an unbounded queue.
    pub fn rayon() -> Self {
        Self {
            name: "rayon::spawn",
            build: || Box::new(rayon::pool(WORKERS)),
        }
    }

    /// rayon's parallel iterator, which splits the work into a few pieces.
    pub fn rayon_par_iter() -> Self {
        Self {
            name: "rayon par_iter",
            build: || Box::new(rayon::ParIter(rayon::pool(WORKERS))),
        }
    }

    /// rayon behind a semaphore of a mutex and a condition variable.
    pub fn rayon_semaphore() -> Self {
        Self {
            name: "rayon::spawn + semaphore",
            build: || Box::new(rayon::Bounded::new()),
        }
    }

    /// A bounded channel of boxed closures, with receiving threads.
    pub fn channel() -> Self {
        Self {
            name: "crossbeam bounded",
            build: || Box::new(threads::Boxed::new()),
        }
    }

    /// The same for a user with a single job type, and therefore no box.
    pub fn channel_unboxed() -> Self {
        Self {
            name: "crossbeam bounded, unboxed",
            build: || Box::new(threads::Unboxed::new()),
        }
    }

    /// The textbook queue.
    pub fn monitor() -> Self {
        Self {
            name: "Mutex + Condvar queue",
            build: || Box::new(threads::MonitorPool::new()),
        }
    }

    /// tokio's workers behind its semaphore.
    pub fn tokio() -> Self {
        Self {
            name: "tokio + Semaphore",
            build: || Box::new(crates::Tokio::new()),
        }
    }

    /// Threads that receive from an unbounded std channel.
    pub fn threadpool() -> Self {
        Self {
            name: "threadpool",
            build: || Box::new(threadpool::ThreadPool::new(WORKERS)),
        }
    }

    /// Threads that receive from an unbounded crossbeam channel.
    pub fn rusty_pool() -> Self {
        Self {
            name: "rusty_pool",
            build: || Box::new(crates::rusty_pool()),
        }
    }

    /// No queue: one thread, one slot.
    pub fn hand_off() -> Self {
        Self {
            name: "one thread, park/unpark",
            build: || Box::new(threads::HandOff::new()),
        }
    }

    /// No queue: the work is split beforehand.
    pub fn static_split() -> Self {
        Self {
            name: "static split",
            build: || Box::new(threads::StaticSplit),
        }
    }
}

/// The pool under test, with this number of workers.
pub(crate) fn our_pool(workers: usize) -> Pool {
    ours(workers, true)
}

/// rayon's pool, with this number of workers.
pub(crate) fn rayon_pool(workers: usize) -> ThreadPool {
    rayon::pool(workers)
}

fn batch(way: Way) -> Batch {
    Batch {
        pool: our_pool(WORKERS),
        way,
    }
}

fn ours(workers: usize, latency_tracking: bool) -> Pool {
    Pool::builder()
        .workers(workers)
        .capacity(CAPACITY)
        .latency_tracking(latency_tracking)
        .build()
        .expect("the threads start")
}

impl<J: Job> Rival<J> for Pool {
    fn submit(&self, job: J) {
        if self.spawn(move || job.run()).is_err() {
            unreachable!("the pool is open");
        }
    }
}
