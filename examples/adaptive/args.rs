//! The command line.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
The phases: quiet (1 SCALE), burst (1), flood (1), quiet again (2, and until all jobs are done and the
workers are parked). Quiet is a fifth of the capacity of MIN workers. The burst lies between MIN and
MAX workers. The flood is 1.5 times the capacity of MAX workers, or of all cores if they are fewer.

The cooldown is 0.15 SCALE, the idle timeout 0.75 SCALE.";

/// Drive an adaptive pool, a fixed one of MIN and a fixed one of MAX workers with the same load,
/// and write a CSV file for each.
#[derive(Debug, Parser)]
#[command(
    name = "adaptive",
    after_help = AFTER_HELP,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The directory of the CSV files: adaptive.csv, fixed-MIN.csv, fixed-MAX.csv.
    #[arg(long, value_name = "DIR", default_value = "target/adaptive")]
    pub out: PathBuf,

    /// The length of a phase. The whole run takes about 15 times as long.
    #[arg(long, value_name = "SECONDS", default_value = "1.3", value_parser = seconds)]
    pub scale: Duration,

    /// Workers in service, from minimum to maximum, as 1..4 or 1..=4 (both mean 1 to 4).
    #[arg(long, value_name = "MIN..MAX", default_value = "1..4", value_parser = workers)]
    pub workers: RangeInclusive<usize>,

    /// How many jobs may be queued.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub capacity: usize,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw the CSV files of a directory.
    Plot {
        /// The directory of the CSV files.
        dir: PathBuf,
        /// The output file.
        svg: PathBuf,
    },
}

fn workers(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| text.parse::<usize>().ok();
    text.split_once("..")
        .and_then(|(min, max)| {
            let max = max.strip_prefix('=').unwrap_or(max);
            Some(number(min)?..=number(max)?)
        })
        .filter(|range| 1 <= *range.start() && range.start() < range.end())
        .ok_or_else(|| String::from("expected a range of two numbers from 1 on, as 1..4"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|&seconds| (0.01..=3600.0).contains(&seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| String::from("expected seconds, from 0.01 to 3600"))
}
