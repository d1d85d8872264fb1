//! `adaptive-pool` beside what a user would pick instead: the rivals, and the questions put to them.
//!
//! Every rival runs the same [`Job`] through the same body, built with the same
//! [`WORKERS`](rivals::WORKERS) and [`CAPACITY`](rivals::CAPACITY), outside of the timed part. Two
//! programs ask:
//!
//! ```text
//! cargo bench   -p adaptive-pool-benches                          # criterion, one rival after another
//! cargo run --release -p adaptive-pool-benches --bin compare      # all rivals in turns: trust this one
//! ```
//!
//! On a machine that is not quiet, only what was measured in turns can be compared: `compare` runs
//! every rival once a round, and its ratios are medians of the rounds' own ratios.
//!
//! **When is the work done?** Some rivals can say it and others cannot, so none is asked. Each job
//! counts itself in a cell of its thread (see [`tally`]), and the producer looks at the sum now and
//! then. The questions about joins and scopes need no tally: these end when their work has.

pub mod chart;
mod distance;
pub mod efficiency;
mod fib;
pub mod fib_join;
pub mod fib_scope;
pub mod flood;
pub mod idle;
pub mod max_threads;
pub mod million;
pub mod neighbours;
pub mod once;
mod paths;
pub mod poisson;
pub mod report;
pub mod rivals;
pub mod round_trip;
pub mod scale_up;
pub mod sections;
pub mod small_jobs;
pub mod sort;
pub mod tally;
pub mod tiny;
pub mod waits;
mod work;

/// What is submitted. A type and not a closure, so that a queue can also hold it unboxed.
pub trait Job: Send + 'static {
    /// Does the work; called once, on a worker.
    fn run(self);
}

/// How many jobs a question asks for, as a part of `--jobs`, so that each takes about as long.
pub(crate) fn share(jobs: u64, part: u64) -> u64 {
    (jobs / part).max(1)
}
