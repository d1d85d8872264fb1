//! The producers: they submit as fast as admission permits.

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
    job::{Job, Ledger},
};

/// Why the producers of a contender ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Time,
    MemoryLimit,
    Interrupted,
    /// A thread failed to start.
    NoThread(String),
}

/// Set once, by the first producer to end.
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

/// The receiver of the jobs.
pub enum Target {
    Naive,
    Rayon(rayon_core::ThreadPool),
    Pool(Pool),
}

impl Target {
    /// Submits one job. `make` allocates its data: for the pool, once it has a place.
    fn submit(&self, timeout: Duration, make: impl FnOnce() -> Job) -> Submission {
        match self {
            Self::Naive => {
                let job = make();
                match thread::Builder::new().spawn(|| job.run()) {
                    Ok(_detached) => Submission::Accepted,
                    Err(error) => Submission::NoThread(error),
                }
            }
            Self::Rayon(pool) => {
                let job = make();
                pool.spawn(|| job.run());
                Submission::Accepted
            }
            Self::Pool(pool) => match pool.reserve_timeout(timeout) {
                Ok(permit) => {
                    let job = make();
                    permit.spawn(|| job.run());
                    Submission::Accepted
                }
                Err(AdmissionError::Closed) => Submission::Closed,
                Err(_) => Submission::Rejected,
            },
        }
    }
}

enum Submission {
    Accepted,
    Rejected,
    Closed,
    NoThread(io::Error),
}

/// Returns on a stop, or when the time is up.
pub fn produce(target: &Target, args: &Args, ledger: &Arc<Ledger>, stop: &Stop) {
    let start = Instant::now();
    let gap = Duration::from_secs(1) * args.producers / args.rate;
    let mut due = start;
    while stop.get().is_none() {
        let asked = Instant::now();
        if asked - start >= args.time {
            stop.set(End::Time);
            return;
        }
        // A shorter sleep would take that long anyway.
        if due > asked + Duration::from_millis(1) {
            thread::sleep(due - asked);
            continue;
        }
        due += gap;
        // The memory check may come too late when thousands of threads compete for the cores.
        if ledger.in_flight() * args.job_bytes() >= args.limit_bytes() {
            return stop.set(End::MemoryLimit);
        }
        let make = || Job::new(args.job_bytes(), args.rounds, asked, ledger);
        match target.submit(args.timeout(), make) {
            Submission::Accepted => {}
            Submission::Rejected => ledger.reject(),
            Submission::Closed => return,
            Submission::NoThread(error) => return stop.set(End::NoThread(error.to_string())),
        }
    }
}
