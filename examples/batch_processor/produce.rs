//! The producer: acquires a permit, reads a file, submits it, until the end of the tree.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, Pool};

use crate::{
    tree::{Found, Tree},
    work::{Done, Gauge, Loaded, Task},
};

/// An event for the collector.
pub enum Event {
    /// The number of files, if it is known before the work begins.
    Counted(u64),
    Done(Done),
    Unreadable(PathBuf, String),
    Rejected(PathBuf),
    NotRegular,
}

pub struct Producer<'a> {
    pub tree: &'a Tree,
    pub pool: &'a Pool,
    pub gauge: &'a Arc<Gauge>,
    pub level: i32,
    pub timeout: Option<Duration>,
    /// Whether to count the files first, for a progress bar with a known end.
    pub count: bool,
}

/// The events have no receiver any more: the pool was closed, or the collector is gone.
struct Stop;

impl Producer<'_> {
    /// Walks the tree to its end, or until the pool is closed.
    pub fn run(self, events: SyncSender<Event>) {
        // The pool's state says which of the two ended it.
        let (Ok(()) | Err(Stop)) = self.try_run(&events);
    }

    fn try_run(&self, events: &SyncSender<Event>) -> Result<(), Stop> {
        let tell = |event| events.send(event).map_err(|_| Stop);
        if self.count {
            tell(Event::Counted(self.count_files()))?;
        }
        for found in self.tree.walk() {
            match found {
                Found::File(path) => match self.process(path, events)? {
                    None => {}
                    Some(event) => tell(event)?,
                },
                Found::Other => tell(Event::NotRegular)?,
                Found::Unreadable(path, reason) => tell(Event::Unreadable(path, reason))?,
            }
        }
        Ok(())
    }

    /// Submits one file to the pool, or reports why not.
    fn process(&self, path: PathBuf, events: &SyncSender<Event>) -> Result<Option<Event>, Stop> {
        let asked = Instant::now();
        let permit = match self.timeout {
            None => self.pool.reserve(),
            Some(timeout) => self.pool.reserve_timeout(timeout),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(AdmissionError::TimedOut | AdmissionError::Full) => {
                return Ok(Some(Event::Rejected(path)));
            }
            Err(_closed) => return Err(Stop),
        };
        let admission_wait = asked.elapsed();

        // After the permit: only files with a place, and running ones, are in memory.
        let file = match Loaded::read(&path, self.gauge) {
            Ok(file) => file,
            Err(error) => return Ok(Some(unreadable(path, &error))),
        };
        let task = Task {
            path,
            file,
            level: self.level,
            admission_wait,
            submitted: Instant::now(),
        };
        let events = events.clone();
        permit.spawn(move || {
            let event = match task.run() {
                Ok(done) => Event::Done(done),
                Err((path, error)) => unreadable(path, &error),
            };
            // The collector stays until the last job has ended.
            let _ = events.send(event);
        });
        Ok(None)
    }

    fn count_files(&self) -> u64 {
        self.tree
            .walk()
            .take_while(|_| !self.pool.is_closed())
            .filter(|found| !matches!(found, Found::Other))
            .count() as u64
    }
}

fn unreadable(path: PathBuf, error: &io::Error) -> Event {
    Event::Unreadable(path, error.to_string())
}
