//! Progress output: a bar on a terminal, an occasional plain line elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use indicatif::{ProgressBar, ProgressStyle};

use crate::units::Bytes;

/// The maximum rate of samples of the pool: enough to look smooth.
const LOOK: Duration = Duration::from_millis(100);

/// The maximum rate of plain lines.
const LINE: Duration = Duration::from_secs(2);

/// The progress of the work.
pub struct Status {
    /// Finished files: done, unreadable or rejected.
    pub files: u64,
    pub bytes: u64,
    pub elapsed: Duration,
}

impl Status {
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

pub struct Progress<'a> {
    pool: &'a Pool,
    /// `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    looked: Option<Instant>,
    wrote: Instant,
    peak_depth: u64,
}

impl<'a> Progress<'a> {
    pub fn new(pool: &'a Pool) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} files, {msg}") {
                bar.set_style(style);
            }
            bar.set_message("counting");
            bar
        });
        Self {
            pool,
            bar,
            looked: None,
            wrote: Instant::now(),
            peak_depth: 0,
        }
    }

    /// Whether it uses the number of files.
    pub fn wants_count(&self) -> bool {
        self.bar.is_some()
    }

    pub fn counted(&self, files: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(files);
        }
    }

    /// Shows the progress, unless it did so a moment ago.
    pub fn update(&mut self, status: impl FnOnce() -> Status) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        let seen = self.pool.metrics();
        self.peak_depth = self.peak_depth.max(seen.depth);
        if self.bar.is_none() && self.wrote.elapsed() < LINE {
            return;
        }
        let status = status();
        let text = format!(
            "{}, {}/s, queue {}/{}, workers {}/{}",
            Bytes(status.bytes as f64),
            Bytes(status.bytes_per_second()),
            seen.depth,
            seen.capacity,
            seen.workers_busy,
            seen.workers_in_service,
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(status.files);
                bar.set_message(text);
            }
            None => {
                self.wrote = Instant::now();
                note(&format!("{} files, {text}", status.files));
            }
        }
    }

    /// The highest observed number of taken places.
    pub fn peak_depth(&self) -> u64 {
        self.peak_depth
    }

    /// Runs a closure that writes to the terminal, with the bar hidden.
    pub fn around<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Writes a line to stderr.
    pub fn say(&self, line: &str) {
        self.around(|| note(line));
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to stderr. Ignores errors: the run continues without a reader.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
