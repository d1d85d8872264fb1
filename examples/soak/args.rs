//! The command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

const AFTER_HELP: &str = "\
Round N of seed S is round 0 of seed S + N: what the threads of a round set out to do is chosen by that number
alone. Which of them comes first is not, and so not what comes of it.

Exit codes: 0 if everything held, 1 if something did not, 3 if nothing moved any more, 130 on an interrupt.";

/// Use pools in every way at once, round after round, and see to it that no job is lost, none runs twice, and
/// nothing hangs.
#[derive(Debug, Parser)]
#[command(name = "soak", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    /// How long it goes on.
    #[arg(long = "secs", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub time: Duration,

    /// Where the random choices come from. Default: the clock.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// At most so many rounds.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub rounds: u64,

    /// For how long nothing may move.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub hang: Duration,

    /// When nothing moves any more, wait for a debugger instead of ending.
    #[arg(long)]
    pub stay: bool,

    /// Has the first round stand still, to try the watchdog.
    #[arg(long, hide = true)]
    pub stall: bool,
}

impl Args {
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let time = SystemTime::now().duration_since(UNIX_EPOCH);
            // Short enough to be typed.
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
