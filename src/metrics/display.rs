//! A snapshot as a table for a terminal, at most 100 columns wide.

use std::{fmt, time::Duration};

use super::Snapshot;

const LATENCY_HEAD: &str =
    "latency               count       mean        p50        p90        p99      p99.9        max";
const WORKER_HEAD: &str =
    "worker            completed   panicked     steals   wait p50   wait p99    run p50    run p99";

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "queue     {} of {} places taken, {} submitters waiting",
            self.depth, self.capacity, self.waiting_submitters
        )?;
        writeln!(
            f,
            "workers   {} in service, {} busy, {} idle, {} parked; {} threads",
            self.workers_in_service,
            self.workers_busy,
            self.workers_idle,
            self.workers_parked,
            self.threads
        )?;
        writeln!(
            f,
            "scaling   {} scale-ups, {} parks, {} threads refused",
            self.scale_ups, self.parks, self.thread_start_failures
        )?;
        writeln!(
            f,
            "jobs      {} submitted, {} admitted, {} started, {} inlined, {} steals",
            self.submitted, self.admitted, self.started, self.inlined, self.steals
        )?;
        writeln!(
            f,
            "overdrawn {} in all, {} waiting",
            self.overdrawn, self.overdrawn_now
        )?;
        writeln!(
            f,
            "ended     {} completed, {} panicked, {} cancelled, {} dropped",
            self.completed, self.panicked, self.cancelled, self.dropped
        )?;
        writeln!(
            f,
            "rejected  {} full, {} timed out, {} closed",
            self.rejected_full, self.rejected_timed_out, self.rejected_closed
        )?;
        self.write_latencies(f)?;
        self.write_workers(f)
    }
}

impl Snapshot {
    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("admission wait", self.admission_wait),
            ("queue wait", self.queue_wait),
            ("run time", self.run_time),
        ];
        if rows.iter().all(|(_, latency)| latency.count == 0) {
            return Ok(());
        }
        writeln!(f, "\n{LATENCY_HEAD}")?;
        for (name, of) in rows {
            let times = [of.mean, of.p50, of.p90, of.p99, of.p999, of.max];
            write_row(f, name, &[of.count], &times)?;
        }
        Ok(())
    }

    /// Those that have started a job.
    fn write_workers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbered = self.per_worker.iter().enumerate();
        let workers: Vec<_> = numbered.filter(|(_, worker)| worker.started > 0).collect();
        if workers.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{WORKER_HEAD}")?;
        for (index, of) in workers {
            let name = format!("{index}{}", if of.busy { " (busy)" } else { "" });
            let (wait, run) = (of.queue_wait, of.run_time);
            let counts = [of.completed, of.panicked, of.steals];
            write_row(f, &name, &counts, &[wait.p50, wait.p99, run.p50, run.p99])?;
        }
        Ok(())
    }
}

/// Writes a row under one of the heads.
fn write_row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    counts: &[u64],
    times: &[Duration],
) -> fmt::Result {
    write!(f, "{name:14} {:>12}", counts[0])?;
    for count in &counts[1..] {
        write!(f, " {count:>10}")?;
    }
    for &time in times {
        write!(f, " {:>10}", Short(time))?;
    }
    writeln!(f)
}

/// A time of three digits or so, in a unit that fits.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            0..1_000 => return f.pad(&format!("{nanos} ns")),
            1_000..1_000_000 => (1e3, "µs"),
            1_000_000..1_000_000_000 => (1e6, "ms"),
            _ => (1e9, "s"),
        };
        let value = nanos as f64 / unit;
        let digits = match value {
            ..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LatencySummary, WorkerSnapshot};

    fn short(nanos: u64) -> String {
        Short(Duration::from_nanos(nanos)).to_string()
    }

    #[test]
    fn times_have_three_digits() {
        let told = [0, 999, 1_000, 12_345, 999_400, 1_234_567, 61_000_000_000].map(short);
        let wanted = [
            "0 ns", "999 ns", "1.00 µs", "12.3 µs", "999 µs", "1.23 ms", "61.0 s",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn m1_the_table_fits_a_terminal() {
        let long = LatencySummary {
            count: 999_999_999_999,
            mean: Duration::from_secs(9999),
            max: Duration::from_secs(9999),
            ..LatencySummary::default()
        };
        let seen = Snapshot {
            run_time: long,
            per_worker: vec![
                WorkerSnapshot::default(),
                WorkerSnapshot {
                    busy: true,
                    started: 1,
                    completed: 999_999_999_999,
                    run_time: long,
                    ..WorkerSnapshot::default()
                },
            ],
            ..Snapshot::default()
        };
        let table = seen.to_string();
        assert!(
            table.lines().all(|line| line.chars().count() <= 100),
            "{table}"
        );
        // A thread that has done nothing has no line.
        assert!(!table.contains("\n0 "), "{table}");
        assert!(table.contains("\n1 (busy)"), "{table}");
        assert!(!Snapshot::default().to_string().contains("latency"));
    }

    /// As many bytes fit, and no more.
    struct Room(usize);

    impl fmt::Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    #[test]
    fn a_table_that_finds_no_room_says_so() {
        use std::fmt::Write;

        let worker = WorkerSnapshot {
            started: 1,
            ..WorkerSnapshot::default()
        };
        let seen = Snapshot {
            run_time: LatencySummary {
                count: 1,
                ..LatencySummary::default()
            },
            per_worker: vec![worker],
            ..Snapshot::default()
        };
        let length = seen.to_string().len();
        for room in 0..length {
            assert!(write!(Room(room), "{seen}").is_err(), "{room} of {length}");
        }
        assert!(write!(Room(length), "{seen}").is_ok());
    }
}
