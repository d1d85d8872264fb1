//! The question: with many jobs of 200 ns, how much of the workers' time goes into the jobs?
//!
//! At this length the overhead per job is a large part, and the form of submission matters: one by
//! one from outside, from an iterator, or from a worker.

use std::time::Duration;

use crate::{
    report::{Entrant, Metric, Question},
    rivals::Contender,
    work,
};

const JOB: Duration = Duration::from_nanos(200);

/// For [`compare`](crate::report). Here a ratio above 1 is good.
pub fn question(name: &'static str, jobs: u64) -> Question {
    let jobs = 2 * jobs;
    let contenders = [
        Contender::ours(),
        Contender::ours_for_each(),
        Contender::ours_map_unordered(),
        Contender::ours_scope(),
        Contender::static_split(),
        Contender::rayon_par_iter(),
        Contender::rayon(),
        Contender::channel(),
    ];
    let entrants = contenders.into_iter().map(|Contender { name, build }| {
        Entrant::new(name, move || vec![work::useful(&*build(), JOB, jobs)])
    });
    Question {
        name,
        title: format!("{jobs} jobs of 200 ns (higher is better)"),
        metrics: &[Metric {
            name: "% useful",
            decimals: 1,
        }],
        entrants: entrants.collect(),
    }
}
