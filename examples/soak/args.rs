//! The command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

const AFTER_HELP: &str = "\
Round N of seed S is round 0 of seed S + N. That number alone determines the operations of the threads
of a round, but neither their interleaving nor their outcome.

Exit code: 0 if every check held; 1 if one failed; 3 if there was no progress; 130 after an interrupt.";

/// Use pools in every way at once, round after round. Check that no job is lost, none runs twice,
/// and nothing hangs.
#[derive(Debug, Parser)]
#[command(name = "soak", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    /// How long to run.
    #[arg(long = "secs", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub time: Duration,

    /// The seed of the random choices. Default: from the clock.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The maximum number of rounds.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub rounds: u64,

    /// How long the run may make no progress.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub hang: Duration,

    /// If there is no progress, wait for a debugger instead of ending.
    #[arg(long)]
    pub stay: bool,

    /// Block in the first round, to test the watchdog.
    #[arg(long, hide = true)]
    pub stall: bool,
}

impl Args {
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let time = SystemTime::now().duration_since(UNIX_EPOCH);
            // Short enough to type.
            time.map_or(1, |time| time.as_millis() as u64 % 1_000_000_000)
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|&seconds| (0.01..=1e6).contains(&seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| String::from("expected seconds, from 0.01 to 1000000"))
}
