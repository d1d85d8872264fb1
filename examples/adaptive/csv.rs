//! The samples of a pool, as a CSV file.

use std::{fmt::Write, fs, io, path::Path};

use crate::lines;

const COLUMNS: &str = "time_s,phase,depth,capacity,workers_in_service,workers_busy,\
    admission_wait_us,completed";

#[derive(Debug, Clone)]
pub struct Sample {
    pub time_s: f64,
    pub phase: String,
    pub depth: u64,
    pub capacity: u64,
    pub workers_in_service: u64,
    pub workers_busy: u64,
    /// The mean of the submits that ended since the last sample, as observed by their producers.
    /// `None`, an empty field, if none did: 0 would hide that one is blocked.
    pub admission_wait_us: Option<f64>,
    pub completed: u64,
}

pub fn write(path: &Path, samples: &[Sample]) -> io::Result<()> {
    let mut text = format!("{COLUMNS}\n");
    for sample in samples {
        let wait = sample.admission_wait_us;
        let wait = wait.map_or(String::new(), |wait| format!("{wait:.2}"));
        // Writing to memory cannot fail.
        let _ = writeln!(
            text,
            "{:.4},{},{},{},{},{},{wait},{}",
            sample.time_s,
            sample.phase,
            sample.depth,
            sample.capacity,
            sample.workers_in_service,
            sample.workers_busy,
            sample.completed,
        );
    }
    fs::write(path, text)
}

pub fn read(path: &Path) -> io::Result<Vec<Sample>> {
    lines::read(path, COLUMNS, parse)
}

fn parse(line: &str) -> Option<Sample> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[
        time,
        phase,
        depth,
        capacity,
        in_service,
        busy,
        wait,
        completed,
    ] = fields.as_slice()
    else {
        return None;
    };
    let is_word = phase.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(Sample {
        time_s: time.parse().ok().filter(|time: &f64| time.is_finite())?,
        phase: phase.into(),
        depth: depth.parse().ok()?,
        capacity: capacity.parse().ok()?,
        workers_in_service: in_service.parse().ok()?,
        workers_busy: busy.parse().ok()?,
        admission_wait_us: match wait {
            "" => None,
            wait => Some(wait.parse().ok().filter(|wait: &f64| wait.is_finite())?),
        },
        completed: completed.parse().ok()?,
    })
}
