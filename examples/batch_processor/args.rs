//! The command line.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Parser, value_parser};

use crate::parse;

const AFTER_HELP: &str = "\
Memory: a file is read only after its place in the queue is reserved, and is held whole until its job
ends. So at most CAPACITY + WORKERS files are in memory, whatever their number and size. The summary
states the size of the largest one.

A file that cannot be read is named, counted and skipped. Anything but a regular file is counted and
skipped. Symbolic links below a PATH are not followed.

Ctrl-C stops reading, finishes the queued files, and reports the result; a second one ends the program
at once.

Exit code: 0, even if files were unreadable or rejected; 1 if the output could not be written or a job
failed; 2 for a wrong PATH or option; 130 after Ctrl-C.";

/// Hash (BLAKE3) and compress (zstd) every file under the paths, on a pool with a bounded queue.
#[derive(Debug, Parser)]
#[command(name = "batch_processor", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    /// Files and directories to read. Default: this repository, without the directories `.git` and
    /// `target`. A given PATH is read entirely.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Workers in service: a number or a range, as 1..4 or 1..=4 (both mean 1 to 4). Default: one
    /// per core.
    #[arg(long, value_name = "N|MIN..MAX", value_parser = parse::workers)]
    pub workers: Option<RangeInclusive<usize>>,

    /// How many files may be queued.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub capacity: usize,

    /// How long a file may wait for its place in the queue, as 50ms, 2s or 1m. After that the file
    /// is skipped, named, and counted as rejected. Default: no limit.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// The compression level of zstd.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(i32).range(1..=22))]
    pub level: i32,

    /// Print `hash  path` for each finished file, as b3sum does; the summary then goes to stderr.
    /// With --json, the document contains the hashes, and memory grows with their number.
    #[arg(long)]
    pub list: bool,

    /// Print only the summary to stdout, as one JSON document.
    #[arg(long)]
    pub json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse::seconds(text, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)])
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| String::from("expected a number and a unit (us, ms, s, m), as 50ms or 1.5s"))
}
