//! Uses pools in every way at once, round after round, and checks that nothing is lost. See
//! `--help`.
//!
//! ```text
//!  a round:  1 to 3 pools of random form
//!            1 to 4 drivers, with random operations on random pools; their jobs nest the same
//!            a reader of the metrics, in half of the rounds
//!            shutdown of all pools, then the ledger: each job ran once, or is accounted for
//! ```

mod admit;
mod args;
mod batch;
mod ledger;
mod life;
mod nest;
mod random;
mod round;
mod totals;
mod watchdog;
mod world;

use std::{
    process::{self, ExitCode},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{args::Args, totals::TOTALS, watchdog::note};

const FAILURE: u8 = 1;
const INTERRUPTED: u8 = 130;

static INTERRUPT: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed();
    println!("soak: seed {seed}, {:?}", args.time);
    let handler = || {
        if INTERRUPT.swap(true, Relaxed) {
            process::exit(i32::from(INTERRUPTED));
        }
        note("interrupted: finishing the round; interrupt again to end at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        note(&format!("Ctrl-C will not be handled: {error}"));
    }
    if let Err(error) = watchdog::start(args.hang, args.stay) {
        note(&format!("error: no watchdog: {error}"));
        return ExitCode::from(FAILURE);
    }
    let (rounds, wrong) = soak(&args, seed);
    let verdict = if wrong { "FAILED" } else { "ok" };
    println!("soak: {verdict}: seed {seed}, {}", tell(rounds, wrong));
    match (wrong, INTERRUPT.load(Relaxed)) {
        (true, _) => ExitCode::from(FAILURE),
        (false, true) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Plays rounds until the time is up or a check fails. Returns their number, and whether one
/// failed.
fn soak(args: &Args, seed: u64) -> (u64, bool) {
    let start = Instant::now();
    let mut told = start;
    let mut rounds = 0;
    while rounds < args.rounds && start.elapsed() < args.time && !INTERRUPT.load(Relaxed) {
        let seed = seed.wrapping_add(rounds);
        let wrongs = round::play(seed, args.stall);
        rounds += 1;
        if !wrongs.is_empty() {
            note(&format!("WRONG, in the round of --rounds 1 --seed {seed}:"));
            for wrong in wrongs {
                note(&format!("  {wrong}"));
            }
            return (rounds, true);
        }
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            note(&format!(
                "{:4} s  {}",
                start.elapsed().as_secs(),
                tell(rounds, false)
            ));
        }
    }
    (rounds, false)
}

fn tell(rounds: u64, wrong: bool) -> String {
    let totals = &TOTALS;
    let counts = [
        (&totals.operations, "operations"),
        (&totals.jobs, "jobs"),
        (&totals.completed, "completed"),
        (&totals.panicked, "panicked"),
        (&totals.cancelled, "cancelled"),
        (&totals.dropped, "dropped by shutdowns"),
        (&totals.inlined, "inlined"),
        (&totals.rejected, "rejected"),
        (&totals.permits_dropped, "permits dropped"),
        (&totals.batches_cut, "batches cut short"),
        (&totals.broadcasts, "broadcasts"),
        (&totals.resizes, "resizes"),
        (&totals.capacities, "changes of capacity"),
        (&totals.scale_ups, "scale-ups"),
        (&totals.parks, "parks"),
        (&totals.steals, "steals"),
        (&totals.snapshots, "snapshots"),
        (&totals.pools, "pools"),
        (&totals.shutdowns, "shutdowns survived"),
        (&totals.inside_shutdowns, "from inside"),
    ];
    let counts = counts.map(|(count, what)| format!("{} {what}", count.load(Relaxed)));
    let lost = if wrong { "see above" } else { "0" };
    format!("{rounds} rounds, {}, lost: {lost}", counts.join(", "))
}
