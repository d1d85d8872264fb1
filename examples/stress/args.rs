//! The command line.

use std::{fmt, num::NonZero, path::PathBuf, thread, time::Duration};

use clap::{Parser, ValueEnum};

const AFTER_HELP: &str = "\
Each contender runs in a process of its own. A contender above the memory limit is stopped, and its
unfinished jobs count as dropped. Unless MALLOC_ARENA_MAX is set, the system's allocator has one arena
in each process: with several, one producer cannot reuse the memory freed by another's jobs. Sizes are
decimal: a KB is 1000 bytes, a MB 1000 KB.

Writes DIR/NAME.csv for each contender, and draws DIR/memory.svg from them.";

/// Submit jobs that own much memory faster than they can run: to a thread each, to rayon, and to
/// the pool. Report the memory.
#[derive(Debug, Clone, Parser)]
#[command(name = "stress", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    /// The contender, or `plot` to draw the CSV files of an earlier run again.
    #[arg(value_enum, default_value = "all")]
    pub mode: Mode,

    /// How long the producers run, for each contender.
    #[arg(long = "secs", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub time: Duration,

    /// The number of producer threads.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number())]
    pub producers: u32,

    /// The target rate of submissions per second, of all producers together.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = number())]
    pub rate: u32,

    /// The data that each job owns from its submission on, in KB.
    #[arg(long = "size", value_name = "KB", default_value_t = 500, value_parser = number())]
    size_kb: u32,

    /// How often each job hashes its data.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number())]
    pub rounds: u32,

    /// Workers of the pool, and threads of rayon. Default: all cores.
    #[arg(long, value_name = "N", value_parser = number())]
    workers: Option<u32>,

    /// How many jobs may be queued in the pool.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = number())]
    pub capacity: u32,

    /// How long a producer of the pool waits for a place, in milliseconds, before it counts the
    /// submission as rejected.
    #[arg(long = "timeout", value_name = "MS", default_value_t = 100)]
    timeout_ms: u64,

    /// The memory at which a contender is stopped, in MB.
    #[arg(long = "memory-limit", value_name = "MB", default_value_t = 4096, value_parser = number())]
    limit_mb: u32,

    /// The directory of the CSV files and the picture.
    #[arg(long, value_name = "DIR", default_value = "target/stress")]
    pub out: PathBuf,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,

    /// The program starts itself with this option, once for each contender.
    #[arg(long, hide = true)]
    pub child: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Naive,
    Rayon,
    Pool,
    All,
    Plot,
}

/// The contender that runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// One thread per job.
    Naive,
    /// `rayon::spawn`, with an unbounded queue.
    Rayon,
    Pool,
}

impl Contender {
    pub const ALL: [Self; 3] = [Self::Naive, Self::Rayon, Self::Pool];

    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Rayon => "rayon",
            Self::Pool => "pool",
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Args {
    pub fn contenders(&self) -> &'static [Contender] {
        match self.mode {
            Mode::Naive => &[Contender::Naive],
            Mode::Rayon => &[Contender::Rayon],
            Mode::Pool => &[Contender::Pool],
            Mode::All | Mode::Plot => &Contender::ALL,
        }
    }

    pub fn workers(&self) -> usize {
        match self.workers {
            Some(workers) => workers as usize,
            None => thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    pub fn job_bytes(&self) -> u64 {
        u64::from(self.size_kb) * 1000
    }

    pub fn limit_bytes(&self) -> u64 {
        u64::from(self.limit_mb) * 1_000_000
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The most data that jobs can own in the pool at one time: the queued and the running ones.
    pub fn bound_bytes(&self) -> u64 {
        (u64::from(self.capacity) + self.workers() as u64) * self.job_bytes()
    }

    /// The options of a child, except the contender.
    pub fn for_child(&self) -> Vec<String> {
        let options = [
            ("--secs", self.time.as_secs_f64().to_string()),
            ("--producers", self.producers.to_string()),
            ("--rate", self.rate.to_string()),
            ("--size", self.size_kb.to_string()),
            ("--rounds", self.rounds.to_string()),
            ("--workers", self.workers().to_string()),
            ("--capacity", self.capacity.to_string()),
            ("--timeout", self.timeout_ms.to_string()),
            ("--memory-limit", self.limit_mb.to_string()),
            ("--out", self.out.display().to_string()),
        ];
        let options = options.into_iter();
        let mut all: Vec<String> = options
            .flat_map(|(option, value)| [option.into(), value])
            .collect();
        all.push("--child".into());
        all
    }
}

fn number() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|&seconds| (0.01..=86_400.0).contains(&seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| String::from("expected seconds, from 0.01 to 86400"))
}
