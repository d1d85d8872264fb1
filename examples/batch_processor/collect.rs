//! The collector: receives the events of jobs and producer, keeps totals, and shows them.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use serde::Serialize;

use crate::{
    histogram::Histogram,
    produce::Event,
    progress::{Progress, Status},
    work::Done,
};

/// How many failed files are named.
const NAMED: usize = 20;

/// Where the hashes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum List {
    Forget,
    Print,
    Keep,
}

/// The entry of a file in the JSON document.
#[derive(Serialize)]
pub struct Listed {
    hash: String,
    path: String,
    bytes: u64,
    compressed_bytes: u64,
}

/// Failed files: all are counted, the first ones named.
#[derive(Default, Serialize)]
pub struct Wrong {
    pub count: u64,
    pub first: Vec<WrongFile>,
}

#[derive(Serialize)]
pub struct WrongFile {
    path: String,
    reason: String,
}

impl Wrong {
    /// Counts the file, and returns whether to name it.
    fn add(&mut self, path: &Path, reason: &str) -> bool {
        self.count += 1;
        let named = self.first.len() < NAMED;
        if named {
            self.first.push(WrongFile {
                path: path.display().to_string(),
                reason: reason.to_owned(),
            });
        }
        named
    }

    fn unnamed(&self) -> u64 {
        self.count - self.first.len() as u64
    }
}

/// The final totals.
#[derive(Default)]
pub struct Totals {
    pub files: u64,
    pub bytes: u64,
    pub compressed: u64,
    pub largest: u64,
    pub not_regular: u64,
    pub unreadable: Wrong,
    pub rejected: Wrong,
    pub listed: Vec<Listed>,
    pub admission_wait: Histogram,
    pub queue_wait: Histogram,
    pub run_time: Histogram,
    pub elapsed: Duration,
    pub peak_depth: u64,
}

pub struct Collector<'a> {
    pool: &'a Pool,
    progress: Progress<'a>,
    list: List,
    /// Whether stdout and the progress bar share a terminal.
    shares_terminal: bool,
    started: Instant,
    totals: Totals,
    output: io::Result<()>,
}

impl<'a> Collector<'a> {
    pub fn new(pool: &'a Pool, progress: Progress<'a>, list: List) -> Self {
        Self {
            pool,
            progress,
            list,
            shares_terminal: io::stdout().is_terminal(),
            started: Instant::now(),
            totals: Totals::default(),
            output: Ok(()),
        }
    }

    /// Collects until the producer and every job have ended.
    ///
    /// If the list could not be written. The pool is then closed, so that the work ends early.
    pub fn run(mut self, events: Receiver<Event>) -> (Totals, io::Result<()>) {
        for event in events {
            self.take(event);
            let totals = &self.totals;
            let elapsed = self.started.elapsed();
            self.progress.update(|| Status {
                files: totals.files + totals.unreadable.count + totals.rejected.count,
                bytes: totals.bytes,
                elapsed,
            });
        }
        self.totals.elapsed = self.started.elapsed();
        self.totals.peak_depth = self.progress.peak_depth();
        self.progress.finish();
        let wrong = [
            (&self.totals.unreadable, "unreadable"),
            (&self.totals.rejected, "rejected"),
        ];
        for (wrong, what) in wrong {
            if wrong.unnamed() > 0 {
                self.progress
                    .say(&format!("{what}: and {} more", wrong.unnamed()));
            }
        }
        (self.totals, self.output)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Counted(files) => {
                self.progress.counted(files);
                // Counting is not part of the work.
                self.started = Instant::now();
            }
            Event::Done(done) => self.done(done),
            Event::NotRegular => self.totals.not_regular += 1,
            Event::Unreadable(path, reason) => {
                if self.totals.unreadable.add(&path, &reason) {
                    self.name("unreadable", &path, &reason);
                }
            }
            Event::Rejected(path) => {
                let reason = "no place in the queue within the timeout";
                if self.totals.rejected.add(&path, reason) {
                    self.name("rejected", &path, reason);
                }
            }
        }
    }

    fn name(&self, what: &str, path: &Path, reason: &str) {
        self.progress
            .say(&format!("{what}: {}: {reason}", path.display()));
    }

    fn done(&mut self, done: Done) {
        let totals = &mut self.totals;
        totals.files += 1;
        totals.bytes += done.bytes;
        totals.compressed += done.compressed;
        totals.largest = totals.largest.max(done.bytes);
        totals.admission_wait.record(done.admission_wait);
        totals.queue_wait.record(done.queue_wait);
        totals.run_time.record(done.run_time);
        match self.list {
            List::Forget => {}
            List::Keep => totals.listed.push(Listed {
                hash: done.hash.to_string(),
                path: done.path.display().to_string(),
                bytes: done.bytes,
                compressed_bytes: done.compressed,
            }),
            List::Print => self.print(&list_line(done)),
        }
    }

    fn print(&mut self, line: &str) {
        if self.output.is_err() {
            return;
        }
        let write = || writeln!(io::stdout(), "{line}");
        self.output = if self.shares_terminal {
            self.progress.around(write)
        } else {
            write()
        };
        if self.output.is_err() {
            self.pool.close();
        }
    }
}

/// `hash  path`, escaped as by b3sum, so that `b3sum --check` reads it.
fn list_line(done: Done) -> String {
    let path = done.path.to_string_lossy();
    if path.contains(['\\', '\n', '\r']) && !cfg!(windows) {
        let escaped = path
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        format!("\\{}  {escaped}", done.hash)
    } else {
        format!("{}  {path}", done.hash)
    }
}
