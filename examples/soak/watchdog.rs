//! Detects a lack of progress, and reports the state.

use std::{
    io::{self, Write},
    process,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use crate::{
    round::NOW,
    totals::{TOTALS, describe_current},
};

const HUNG: i32 = 3;

/// Ends the process when there was no progress for this long; or lets it wait for a debugger.
pub fn start(limit: Duration, stay: bool) -> io::Result<()> {
    let watch = move || {
        let (mut steps, mut since) = (0, Instant::now());
        loop {
            thread::sleep((limit / 10).min(Duration::from_secs(1)));
            let now = TOTALS.steps.load(Relaxed);
            if now != steps {
                (steps, since) = (now, Instant::now());
            } else if since.elapsed() >= limit {
                break;
            }
        }
        dump(limit);
        if stay {
            note(&format!("waiting for a debugger: gdb -p {}", process::id()));
            loop {
                thread::park();
            }
        }
        process::exit(HUNG);
    };
    thread::Builder::new()
        .name("watchdog".into())
        .spawn(watch)?;
    Ok(())
}

fn dump(limit: Duration) {
    note(&format!("HANG: no progress for {limit:?}"));
    // Must not hang here as well.
    let round = NOW.try_lock();
    let Ok(Some((seed, world))) = round.as_deref() else {
        note("  between two rounds");
        return;
    };
    note(&format!("  round: --rounds 1 --seed {seed}"));
    note(&describe_current());
    for wrong in world.ledger.take_wrongs() {
        note(&format!("  wrong: {wrong}"));
    }
    for (i, pool) in world.pools.iter().enumerate() {
        // A pool that hangs may hold the lock that this takes; the lines above are out by then.
        note(&format!("  pool {i}: {pool:?}"));
        note(&format!("  {:?}", pool.metrics()));
    }
}

/// Writes a line to stderr. Ignores errors: the run continues without a reader.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
