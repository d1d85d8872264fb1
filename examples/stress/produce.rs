//! The producers: they bring jobs as fast as they are let.

use std::{
    io,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, Pool};
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    job::{Books, Job},
};

/// Why the producers of a contender ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Time,
    MemoryLimit,
    Interrupted,
    /// The system gave no thread.
    NoThread(String),
}

/// Set once, by who is first.
#[derive(Default)]
pub struct Stop(OnceLock<End>);

impl Stop {
    pub fn set(&self, end: End) {
        let _ = self.0.set(end);
    }

    pub fn get(&self) -> Option<&End> {
        self.0.get()
    }
}

/// Who takes the jobs.
pub enum Target {
    Naive,
    Rayon(rayon_core::ThreadPool),
    Pool(Pool),
}

impl Target {
    /// Brings one job. `make` allocates its data: for the pool, when it has a place.
    fn bring(&self, timeout: Duration, make: impl FnOnce() -> Job) -> Brought {
        match self {
            Self::Naive => {
                let job = make();
                match thread::Builder::new().spawn(|| job.run()) {
                    Ok(_detached) => Brought::In,
                    Err(error) => Brought::NoThread(error),
                }
            }
            Self::Rayon(pool) => {
                let job = make();
                pool.spawn(|| job.run());
                Brought::In
            }
            Self::Pool(pool) => match pool.reserve_timeout(timeout) {
                Ok(permit) => {
                    let job = make();
                    permit.spawn(|| job.run());
                    Brought::In
                }
                Err(AdmissionError::Closed) => Brought::Closed,
                Err(_) => Brought::Rejected,
            },
        }
    }
}

enum Brought {
    In,
    Rejected,
    Closed,
    NoThread(io::Error),
}

/// Returns when it is told to stop, or the time is up.
pub fn produce(target: &Target, args: &Args, books: &Arc<Books>, stop: &Stop) {
    let start = Instant::now();
    let gap = Duration::from_secs(1) * args.producers / args.rate;
    let mut due = start;
    while stop.get().is_none() {
        let asked = Instant::now();
        if asked - start >= args.time {
            stop.set(End::Time);
            return;
        }
        // A sleep of less would be one of more.
        if due > asked + Duration::from_millis(1) {
            thread::sleep(due - asked);
            continue;
        }
        due += gap;
        // The look at the process's memory may come too late, when thousands of threads want the cores.
        if books.in_flight() * args.job_bytes() >= args.limit_bytes() {
            return stop.set(End::MemoryLimit);
        }
        let make = || Job::new(args.job_bytes(), args.rounds, asked, books);
        match target.bring(args.timeout(), make) {
            Brought::In => {}
            Brought::Rejected => books.reject(),
            Brought::Closed => return,
            Brought::NoThread(error) => return stop.set(End::NoThread(error.to_string())),
        }
    }
}
