//! The outcomes of the contenders: a table, and the same as JSON.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    produce::End,
    units::{Bytes, Time},
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    pub end: End,
    pub seconds: f64,
    /// `completed + rejected + dropped`.
    pub submitted: u64,
    pub completed: u64,
    pub rejected: u64,
    /// Jobs abandoned when the process was stopped.
    pub dropped: u64,
    pub jobs_per_second: f64,
    pub mean_latency_ms: f64,
    pub p99_latency_ms: f64,
    pub max_latency_ms: f64,
    pub peak_memory_bytes: u64,
    /// Of all kinds: producers, observers, workers.
    pub peak_threads: u64,
    /// The most that the jobs could own, if there is such a bound.
    pub bound_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    producers: u32,
    rate: u32,
    job_bytes: u64,
    rounds: u32,
    workers: usize,
    capacity: u32,
    timeout_ms: f64,
    memory_limit_bytes: u64,
    runs: Vec<Outcome>,
}

impl Report {
    pub fn new(args: &Args, runs: Vec<Outcome>) -> Self {
        Self {
            producers: args.producers,
            rate: args.rate,
            job_bytes: args.job_bytes(),
            rounds: args.rounds,
            workers: args.workers(),
            capacity: args.capacity,
            timeout_ms: args.timeout().as_secs_f64() * 1e3,
            memory_limit_bytes: args.limit_bytes(),
            runs,
        }
    }
}

fn end_of(run: &Outcome) -> String {
    match &run.end {
        End::Time => "the time was up".into(),
        End::MemoryLimit => format!("stopped at the memory limit, after {:.1} s", run.seconds),
        End::Interrupted => format!("interrupted, after {:.1} s", run.seconds),
        End::NoThread(why) => format!("no more threads, after {:.1} s: {why}", run.seconds),
    }
}

fn millis(millis: f64) -> Time {
    Time(Duration::from_secs_f64(millis / 1e3))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:6} {:>9} {:>11} {:>11} {:>7} {:>10} {:>10} {:>10} {:>8}  end",
            "",
            "peak RAM",
            "avg latency",
            "p99 latency",
            "threads",
            "completed",
            "rejected",
            "dropped",
            "jobs/s"
        )?;
        for run in &self.runs {
            writeln!(
                f,
                "{:6} {:>9} {:>11} {:>11} {:>7} {:>10} {:>10} {:>10} {:>8.0}  {}",
                run.name,
                Bytes(run.peak_memory_bytes as f64),
                millis(run.mean_latency_ms),
                millis(run.p99_latency_ms),
                run.peak_threads,
                run.completed,
                run.rejected,
                run.dropped,
                run.jobs_per_second,
                end_of(run)
            )?;
        }
        for run in &self.runs {
            if let Some(bound) = run.bound_bytes {
                writeln!(
                    f,
                    "{}: its jobs own at most {}: {} places and {} workers, {} each",
                    run.name,
                    Bytes(bound as f64),
                    self.capacity,
                    self.workers,
                    Bytes(self.job_bytes as f64)
                )?;
            }
        }
        Ok(())
    }
}
