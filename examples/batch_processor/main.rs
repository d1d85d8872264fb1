//! Hashes and compresses every file of a tree, in bounded memory. See `--help`.
//!
//! ```text
//!  producer (own thread)          pool                       collector (main thread)
//!  walk, reserve, read ──permit.spawn──► BLAKE3, zstd ──events──► totals, list, progress
//!  ▲ waits while the queue is full                       ▲ waits while the channel is full
//! ```
//!
//! No memory grows with the number of files: the pool's queue and the channel are bounded, so a
//! slow reader of the output slows down the reading of files.

mod args;
mod collect;
mod histogram;
mod parse;
mod produce;
mod progress;
mod summary;
mod tree;
mod units;
mod work;

use std::{
    io::{self, Write},
    num::NonZero,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use adaptive_pool::{BuildError, Pool};
use clap::Parser;

use crate::{
    args::Args,
    collect::{Collector, List},
    produce::Producer,
    progress::{Progress, note},
    summary::{Run, Summary},
    tree::Tree,
    work::Gauge,
};

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Events that may queue for the collector. They are small, and the collector is fast unless the
/// output is slow; then the workers block too. By feel.
const EVENTS: usize = 64;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn run(mut args: Args) -> Result<(), u8> {
    let tree = Tree::new(std::mem::take(&mut args.paths));
    let mut wrong_path = false;
    for (path, error) in tree.wrong_paths() {
        note(&format!("error: {}: {error}", path.display()));
        wrong_path = true;
    }
    if wrong_path {
        return Err(USAGE);
    }

    let workers = args.workers.clone().unwrap_or_else(|| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        cores..=cores
    });
    let pool = Pool::builder()
        .workers(workers.clone())
        .capacity(args.capacity)
        .name("batch")
        .build();
    let pool = Arc::new(pool.map_err(|error| {
        note(&format!("error: {error}"));
        match error {
            BuildError::Invalid { .. } => USAGE,
            _ => FAILURE,
        }
    })?);
    let interrupted = close_on_interrupt(&pool);

    let gauge = Arc::new(Gauge::default());
    let progress = Progress::new(&pool);
    let list = match (args.list, args.json) {
        (false, _) => List::Forget,
        (true, false) => List::Print,
        (true, true) => List::Keep,
    };
    let producer = Producer {
        tree: &tree,
        pool: &pool,
        gauge: &gauge,
        level: args.level,
        timeout: args.timeout,
        count: progress.wants_count(),
    };
    let (send, events) = mpsc::sync_channel(EVENTS);
    let (totals, output) = thread::scope(|scope| {
        scope.spawn(|| producer.run(send));
        Collector::new(&pool, progress, list).run(events)
    });
    let report = pool.shutdown();

    let interrupted = interrupted.load(Ordering::Relaxed);
    let run = Run {
        interrupted,
        level: args.level,
        workers,
        capacity: args.capacity,
        panicked: report.panicked,
        peak_files: gauge.peak(),
        list: list == List::Keep,
    };
    let summary = Summary::new(run, totals);
    output
        .and_then(|()| print(&summary, &args))
        .map_err(|error| {
            note(&format!("error: the output could not be written: {error}"));
            FAILURE
        })?;
    assert!(
        summary.memory_was_bounded(),
        "more files were in memory than CAPACITY + WORKERS"
    );
    if interrupted {
        Err(INTERRUPTED)
    } else if report.panicked > 0 {
        Err(FAILURE)
    } else {
        Ok(())
    }
}

/// The first Ctrl-C closes the pool, which stops the producer; the second one ends the program.
fn close_on_interrupt(pool: &Arc<Pool>) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let handler = {
        let (interrupted, pool) = (Arc::clone(&interrupted), Arc::clone(pool));
        move || {
            if interrupted.swap(true, Ordering::Relaxed) {
                process::exit(i32::from(INTERRUPTED));
            }
            pool.close();
            note("interrupted: finishing the queued files; interrupt again to end at once");
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        note(&format!("Ctrl-C will not be handled: {error}"));
    }
    interrupted
}

fn print(summary: &Summary, args: &Args) -> io::Result<()> {
    if args.list && !args.json {
        // In the list, the summary would break the format.
        let _ = write!(io::stderr(), "{summary}");
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, summary)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{summary}")?;
    }
    stdout.flush()
}
