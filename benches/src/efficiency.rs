//! The question: with jobs of 20 us from one blocking producer, how much of the workers' time goes
//! into the jobs?
//!
//! Two threads that share a core, or a machine with other work, do not reach 100 % with any rival:
//! the static split shows the maximum.

use std::time::Duration;

use crate::{
    report::{Entrant, Metric, Question},
    rivals::Contender,
    share, work,
};

const JOB: Duration = Duration::from_micros(20);

/// For [`compare`](crate::report). Here a ratio above 1 is good.
pub fn question(name: &'static str, jobs: u64) -> Question {
    let jobs = share(jobs, 50);
    let contenders = [
        Contender::ours(),
        Contender::static_split(),
        Contender::rayon(),
        Contender::rayon_semaphore(),
        Contender::channel(),
        Contender::monitor(),
        Contender::tokio(),
        Contender::threadpool(),
        Contender::rusty_pool(),
    ];
    let entrants = contenders.into_iter().map(|Contender { name, build }| {
        Entrant::new(name, move || vec![work::useful(&*build(), JOB, jobs)])
    });
    Question {
        name,
        title: format!("{jobs} jobs of 20 us, blocking producer (higher is better)"),
        metrics: &[Metric {
            name: "% useful",
            decimals: 1,
        }],
        entrants: entrants.collect(),
    }
}
