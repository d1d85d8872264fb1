//! The observer: the samples, the memory limit, and a line each second.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    args::{Args, Contender},
    csv::Sample,
    job::Ledger,
    process::Status,
    produce::{End, Stop},
};

/// At the speed of memory, about ten MB are written in between.
const EVERY: Duration = Duration::from_millis(5);

/// As many as a picture can show.
const SAMPLES: u32 = 1000;

pub struct Seen {
    pub samples: Vec<Sample>,
    pub peak_threads: u64,
}

/// Samples until the run is over.
pub fn watch(
    contender: Contender,
    args: &Args,
    ledger: &Ledger,
    stop: &Stop,
    over: &AtomicBool,
) -> io::Result<Seen> {
    let limit = match contender {
        Contender::Pool => args.bound_bytes(),
        _ => args.limit_bytes(),
    };
    let gap = (args.time / SAMPLES).max(EVERY);
    let start = Instant::now();
    let (mut next, mut told) = (start, start);
    let mut told_of = 0;
    let mut seen = Seen {
        samples: Vec::new(),
        peak_threads: 0,
    };
    loop {
        let is_last = over.load(Ordering::Acquire);
        let status = Status::own()?;
        if status.resident >= args.limit_bytes() {
            stop.set(End::MemoryLimit);
        }
        seen.peak_threads = seen.peak_threads.max(status.threads);
        let now = Instant::now();
        let completed = ledger.lock().completed;
        if now >= next || is_last {
            next = now + gap;
            seen.samples.push(Sample {
                time_s: (now - start).as_secs_f64(),
                resident_mb: status.resident as f64 / 1e6,
                threads: status.threads,
                in_flight: ledger.in_flight(),
                completed,
                limit_mb: limit as f64 / 1e6,
            });
        }
        let since = now - told;
        if since >= Duration::from_secs(1) {
            note(&format!(
                "{contender:5} {:5.1} s  {:5.0} MB  {} threads  {} jobs in flight  {:.0} jobs/s",
                (now - start).as_secs_f64(),
                status.resident as f64 / 1e6,
                status.threads,
                ledger.in_flight(),
                (completed - told_of) as f64 / since.as_secs_f64(),
            ));
            (told, told_of) = (now, completed);
        }
        if is_last {
            return Ok(seen);
        }
        thread::sleep(EVERY);
    }
}

/// Writes a line to stderr. Ignores errors: the run continues without a reader.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
