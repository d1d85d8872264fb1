//! The samples of a process, as a CSV file.

use std::{fmt::Write, fs, io, path::Path};

use crate::lines;

const COLUMNS: &str = "time_s,resident_mb,threads,in_flight,completed,limit_mb";

#[derive(Debug, Clone)]
pub struct Sample {
    pub time_s: f64,
    pub resident_mb: f64,
    pub threads: u64,
    /// Live jobs.
    pub in_flight: u64,
    pub completed: u64,
    /// The limit at which the process is stopped, or for the pool, the most that its jobs can own.
    pub limit_mb: f64,
}

pub fn write(path: &Path, samples: &[Sample]) -> io::Result<()> {
    let mut text = format!("{COLUMNS}\n");
    for sample in samples {
        // Writing to memory cannot fail.
        let _ = writeln!(
            text,
            "{:.4},{:.1},{},{},{},{:.1}",
            sample.time_s,
            sample.resident_mb,
            sample.threads,
            sample.in_flight,
            sample.completed,
            sample.limit_mb,
        );
    }
    fs::write(path, text)
}

pub fn read(path: &Path) -> io::Result<Vec<Sample>> {
    lines::read(path, COLUMNS, parse)
}

fn parse(line: &str) -> Option<Sample> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[time, resident, threads, in_flight, completed, limit] = fields.as_slice() else {
        return None;
    };
    let number = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite());
    Some(Sample {
        time_s: number(time)?,
        resident_mb: number(resident)?,
        threads: threads.parse().ok()?,
        in_flight: in_flight.parse().ok()?,
        completed: completed.parse().ok()?,
        limit_mb: number(limit)?,
    })
}
