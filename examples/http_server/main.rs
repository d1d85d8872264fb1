//! Serves CPU work over HTTP from a pool with a bounded queue, and shows the pool's state. See
//! `--help`.
//!
//! ```text
//!  main thread (axum)                            pool
//!  request ─► read the body ─► submit_async ──► BLAKE3, zstd ──► the handle is awaited ─► answer
//!             413, 400         ▲ waits while the queue is full, at most the timeout: then 503
//! ```
//!
//! One thread does all I/O, and never blocks; the pool does all CPU work. A busy pool leaves the
//! server quick to refuse, to report its metrics, and to serve the page.

mod app;
mod args;
mod history;
mod jobs;
#[path = "../batch_processor/parse.rs"]
mod parse;
mod refusal;
mod serve;
mod stats;
mod work;

use std::{
    io::{self, Write},
    num::NonZero,
    process::ExitCode,
    thread,
    time::Duration,
};

use adaptive_pool::{BuildError, Pool};
use clap::Parser;

use crate::{app::App, args::Args};

/// The pool's name: of its threads, and as the label of its metrics.
const POOL: &str = "jobs";

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Short, so that the page has something to show: a load of some seconds adds workers, which park
/// soon after. The defaults suit longer loads.
const COOLDOWN: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            note(&format!("error: {error}"));
            ExitCode::from(code)
        }
    }
}

fn run(args: &Args) -> Result<(), (u8, String)> {
    let failed = |error: &dyn std::error::Error| (FAILURE, error.to_string());
    let pool = build(args).map_err(|error| match error {
        BuildError::Invalid { .. } => (USAGE, error.to_string()),
        _ => failed(&error),
    })?;
    let app = App::new(pool, args).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime
        .block_on(serve::serve(app, args))
        .map_err(|error| (FAILURE, error))
}

fn build(args: &Args) -> Result<Pool, BuildError> {
    let workers = args.workers.clone().unwrap_or_else(|| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        1..=cores
    });
    Pool::builder()
        .workers(workers)
        .capacity(args.capacity)
        .scale_cooldown(COOLDOWN)
        .idle_timeout(IDLE_TIMEOUT)
        .name(POOL)
        .build()
}

/// Writes a line to stderr. Ignores errors: the server continues without a reader.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
