//! The live status line.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use adaptive_pool::Snapshot;

use crate::csv::Sample;

/// How often the line is updated: on a terminal, and elsewhere, where each update is a new line.
const SOON: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(1);

pub struct Live<'a> {
    name: &'a str,
    is_terminal: bool,
    shown: Instant,
    admitted: u64,
}

impl<'a> Live<'a> {
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            is_terminal: io::stderr().is_terminal(),
            shown: Instant::now(),
            admitted: 0,
        }
    }

    pub fn show(&mut self, sample: &Sample, seen: &Snapshot) {
        let since = self.shown.elapsed();
        if since < if self.is_terminal { SOON } else { SELDOM } {
            return;
        }
        let rate = (seen.admitted - self.admitted) as f64 / since.as_secs_f64();
        let wait = match sample.admission_wait_us {
            Some(wait) => format!("{wait:.0} us"),
            None => String::from("-"),
        };
        let line = format!(
            "{:9} {:5.1} s {:5}  queue {:3}/{}  workers {}, {} busy, {} parked  \
             {rate:5.0} admitted/s  wait {wait}",
            self.name,
            sample.time_s,
            sample.phase,
            seen.depth,
            seen.capacity,
            seen.workers_in_service,
            seen.workers_busy,
            seen.workers_parked,
        );
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        } else {
            note(&line);
        }
        self.shown = Instant::now();
        self.admitted = seen.admitted;
    }

    pub fn finish(self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Writes a line to stderr. Ignores errors: the run continues without a reader.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
