//! `adaptive-pool` beside the alternatives: the rivals, and the questions.
//!
//! Every rival runs the same [`Job`] through the same body, with the same
//! [`WORKERS`](rivals::WORKERS) and [`CAPACITY`](rivals::CAPACITY). It is built outside the timed
//! part. There are two programs:
//!
//! ```text
//! cargo bench   -p adaptive-pool-benches                          # criterion, one rival after another
//! cargo run --release -p adaptive-pool-benches --bin compare      # all rivals in turns: trust this one
//! ```
//!
//! On a machine that is not quiet, only alternating measurements are comparable. `compare` runs
//! every rival once per round, and its ratios are medians of the per-round ratios.
//!
//! **The end of the work.** Some rivals report it and others do not, so none is asked. Each job
//! counts itself in a cell of its thread (see [`tally`]), and the producer polls the sum. The
//! questions about joins and scopes need no tally: they end with their work.

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

/// A submitted job. A type and not a closure, so that a queue can also hold it unboxed.
pub trait Job: Send + 'static {
    /// Does the work; called once, on a worker.
    fn run(self);
}

/// The number of jobs of a question, as a fraction of `--jobs`, so that all questions take about as
/// long.
pub(crate) fn share(jobs: u64, part: u64) -> u64 {
    (jobs / part).max(1)
}
