//! The end of a run: one table, or one JSON document.

use std::{fmt, fs, ops::RangeInclusive, time::Duration};

use serde::Serialize;

use crate::{
    collect::{Listed, Totals, Wrong},
    histogram::Histogram,
    units::{Bytes, Time},
};

/// The settings of a run, and its results beside the totals.
pub struct Run {
    pub interrupted: bool,
    pub level: i32,
    pub workers: RangeInclusive<usize>,
    pub capacity: usize,
    pub panicked: u64,
    pub peak_files: usize,
    /// Whether the document names every file.
    pub list: bool,
}

#[derive(Serialize)]
pub struct Summary {
    interrupted: bool,
    files: u64,
    bytes: u64,
    compressed_bytes: u64,
    /// Bytes per compressed byte; `None` if there was nothing to compress.
    ratio: Option<f64>,
    seconds: f64,
    bytes_per_second: f64,
    files_per_second: f64,
    largest_file_bytes: u64,
    not_regular: u64,
    unreadable: Wrong,
    rejected: Wrong,
    panicked: u64,
    level: i32,
    workers_min: usize,
    workers_max: usize,
    capacity: usize,
    /// Sampled at most ten times per second.
    peak_depth: u64,
    /// Exact: from before a file is read until its job has freed it.
    peak_files_in_memory: usize,
    max_files_in_memory: usize,
    peak_resident_bytes: Option<u64>,
    admission_wait: Latency,
    queue_wait: Latency,
    run_time: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<Vec<Listed>>,
}

/// Quantiles, too large by at most 1/32.
#[derive(Serialize)]
struct Latency {
    count: u64,
    p50_seconds: f64,
    p90_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
}

impl Latency {
    fn of(histogram: &Histogram) -> Self {
        let quantile = |part| histogram.quantile(part).as_secs_f64();
        Self {
            count: histogram.count(),
            p50_seconds: quantile(0.5),
            p90_seconds: quantile(0.9),
            p99_seconds: quantile(0.99),
            max_seconds: histogram.max().as_secs_f64(),
        }
    }
}

impl Summary {
    pub fn new(run: Run, totals: Totals) -> Self {
        let seconds = totals.elapsed.as_secs_f64();
        let per_second = |amount: u64| amount as f64 / seconds.max(1e-9);
        let workers_max = *run.workers.end();
        Self {
            interrupted: run.interrupted,
            files: totals.files,
            bytes: totals.bytes,
            compressed_bytes: totals.compressed,
            ratio: (totals.compressed > 0).then(|| totals.bytes as f64 / totals.compressed as f64),
            seconds,
            bytes_per_second: per_second(totals.bytes),
            files_per_second: per_second(totals.files),
            largest_file_bytes: totals.largest,
            not_regular: totals.not_regular,
            unreadable: totals.unreadable,
            rejected: totals.rejected,
            panicked: run.panicked,
            level: run.level,
            workers_min: *run.workers.start(),
            workers_max,
            capacity: run.capacity,
            peak_depth: totals.peak_depth,
            peak_files_in_memory: run.peak_files,
            max_files_in_memory: run.capacity.saturating_add(workers_max),
            peak_resident_bytes: peak_resident(),
            admission_wait: Latency::of(&totals.admission_wait),
            queue_wait: Latency::of(&totals.queue_wait),
            run_time: Latency::of(&totals.run_time),
            list: run.list.then_some(totals.listed),
        }
    }

    /// Whether the number of files in memory stayed within its limit.
    pub fn memory_was_bounded(&self) -> bool {
        self.peak_files_in_memory <= self.max_files_in_memory
    }
}

/// The peak memory of the process, where the system reports it.
fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &dyn fmt::Display, note: String| {
            let line = format!("{name:<16} {value:>10}   {note}");
            writeln!(f, "{}", line.trim_end())
        };
        let bytes = |bytes: u64| Bytes(bytes as f64);
        if self.interrupted {
            let note = String::from("what was in the queue is done, the rest was not read");
            row("interrupted", &"yes", note)?;
        }
        let rate = format!("{:.0} files/s", self.files_per_second);
        row("files", &self.files, rate)?;
        let largest = format!("largest file {}", bytes(self.largest_file_bytes));
        row("bytes", &bytes(self.bytes), largest)?;
        let ratio = self
            .ratio
            .map_or_else(String::new, |ratio| format!("ratio {ratio:.2}, "));
        let note = format!("{ratio}zstd level {}", self.level);
        row("compressed", &bytes(self.compressed_bytes), note)?;
        let throughput = format!("{}/s", Bytes(self.bytes_per_second));
        let note = format!("in {:.2} s", self.seconds);
        row("throughput", &throughput, note)?;
        row("unreadable", &self.unreadable.count, String::new())?;
        row("rejected", &self.rejected.count, String::new())?;
        if self.not_regular > 0 {
            let note = String::from("not regular files, skipped");
            row("other", &self.not_regular, note)?;
        }
        if self.panicked > 0 {
            row("panicked", &self.panicked, String::new())?;
        }
        let workers = if self.workers_min == self.workers_max {
            self.workers_max.to_string()
        } else {
            format!("{} to {}", self.workers_min, self.workers_max)
        };
        row("workers", &workers, String::new())?;
        let note = format!("of {} places, as sampled", self.capacity);
        row("peak depth", &self.peak_depth, note)?;
        let note = format!(
            "files at once, at most {} (capacity + workers)",
            self.max_files_in_memory
        );
        row("in memory", &self.peak_files_in_memory, note)?;
        if let Some(resident) = self.peak_resident_bytes {
            row("peak memory", &bytes(resident), String::new())?;
        }
        writeln!(
            f,
            "\n{:<16} {:>10} {:>10} {:>10} {:>10}",
            "latency", "p50", "p90", "p99", "max"
        )?;
        let latencies = [
            ("admission wait", &self.admission_wait),
            ("queue wait", &self.queue_wait),
            ("run time", &self.run_time),
        ];
        for (name, latency) in latencies {
            let [p50, p90, p99, max] = [
                latency.p50_seconds,
                latency.p90_seconds,
                latency.p99_seconds,
                latency.max_seconds,
            ]
            .map(|seconds| Time(Duration::from_secs_f64(seconds)));
            writeln!(f, "{name:<16} {p50:>10} {p90:>10} {p99:>10} {max:>10}")?;
        }
        Ok(())
    }
}
