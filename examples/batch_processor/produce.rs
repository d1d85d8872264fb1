//! The producer: wins a permit, reads a file, submits it, and so on to the end of the tree.

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

/// What the collector is told.
pub enum Event {
    /// How many files there are, if somebody wants to know before the work begins.
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
    /// Whether the files are counted first, for a progress bar that knows its end.
    pub count: bool,
}

/// Nobody wants to hear more of it: the pool was closed, or the collector is gone.
struct Stop;

impl Producer<'_> {
    /// Goes through the tree until its end, or until the pool is closed.
    pub fn run(self, events: SyncSender<Event>) {
        // Both ways to its end are told by the pool: closed, or not.
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

    /// Brings one file to the pool, or says why not.
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

        // Not before the permit: the files in memory are those that have a place, and those that run.
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
