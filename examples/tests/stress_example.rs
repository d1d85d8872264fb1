//! The example `stress`, run as a user runs it: the counts of each contender agree, and the pool's
//! memory stays within its bound. Failure 38.
#![cfg(target_os = "linux")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::watched;

const COLUMNS: &str = "time_s,resident_mb,threads,in_flight,completed,limit_mb";

/// The example, beside this test in target/<profile>. `cargo test` builds it; a build of single
/// targets (`--test stress_example`, `--all-targets`) does not, and leaves an older one there.
fn example(arguments: &str, out: &Path) -> Command {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push("stress");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --example stress` first",
        path.display()
    );
    let mut command = Command::new(path);
    command.args(arguments.split(' '));
    command.arg("--out").arg(out).stdin(Stdio::null());
    command
}

fn run(arguments: &str, out: &Path) -> Output {
    example(arguments, out).output().unwrap()
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("stress-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The runs of a report, after the checks that hold for each of them.
fn runs(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap().clone();
    for run in &runs {
        let number = |key: &str| run[key].as_u64().unwrap();
        let ended = number("completed") + number("rejected") + number("dropped");
        assert_eq!(number("submitted"), ended, "{run}");
        assert!(number("peak_threads") > 4, "{run}");
        let latency = |key: &str| run[key].as_f64().unwrap();
        assert!(latency("mean_latency_ms") <= latency("max_latency_ms"));
        assert!(latency("p99_latency_ms") <= latency("max_latency_ms"));
    }
    runs
}

struct Row {
    in_flight: u64,
    completed: u64,
}

fn rows(dir: &Dir, name: &str) -> Vec<Row> {
    let text = fs::read_to_string(dir.0.join(name)).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(COLUMNS));
    let rows = lines.map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 6, "{line}");
        Row {
            in_flight: fields[3].parse().unwrap(),
            completed: fields[4].parse().unwrap(),
        }
    });
    rows.collect()
}

#[test]
fn a1_each_contender_accounts_for_its_jobs_and_the_pool_keeps_its_bound() {
    watched(|| {
        let dir = Dir::new("all");
        let options = "all --secs 1 --size 200 --workers 2 --capacity 32 --timeout 1 --json";
        let output = run(&format!("{options} --memory-limit 200"), &dir.0);
        let runs = runs(&output);
        let names: Vec<_> = runs
            .iter()
            .map(|run| run["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["naive", "rayon", "pool"]);
        let pool = &runs[2];
        assert_eq!(pool["end"], "time");
        assert!(pool["completed"].as_u64().unwrap() > 0);
        assert_eq!(pool["dropped"], 0);
        assert_eq!(pool["bound_bytes"], 34 * 200_000);
        let peak = pool["peak_memory_bytes"].as_f64().unwrap();
        assert!(peak < 1.05 * 34.0 * 200_000.0 + 20e6, "{peak}");
        for name in ["naive.csv", "rayon.csv"] {
            assert!(!rows(&dir, name).is_empty());
        }
        // This would detect a producer that allocates before it has a place.
        let most = rows(&dir, "pool.csv").iter().map(|row| row.in_flight).max();
        assert!(most.unwrap() <= 34, "{most:?} jobs existed");
        let svg = fs::read_to_string(dir.0.join("memory.svg")).unwrap();
        for text in ["naive", "rayon", "pool", "memory limit"] {
            assert!(svg.contains(&format!(">{text}</text>")), "{text}");
        }
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    });
}

#[test]
fn a2_submissions_that_do_not_wait_are_rejected_and_none_is_lost() {
    watched(|| {
        let dir = Dir::new("reject");
        let options = "pool --secs 0.5 --size 100 --capacity 4 --timeout 0 --json";
        let run = runs(&run(options, &dir.0)).remove(0);
        assert!(run["rejected"].as_u64().unwrap() > 0, "{run}");
        assert_eq!(run["dropped"], 0);
        let rows = rows(&dir, "pool.csv");
        let last = rows.last().unwrap();
        assert_eq!(last.in_flight, 0);
        assert_eq!(run["completed"], last.completed);
    });
}

#[test]
fn an_unbounded_queue_is_stopped_at_the_memory_limit() {
    watched(|| {
        let dir = Dir::new("limit");
        // Each job takes far longer than its creation.
        let options = "rayon --secs 30 --size 500 --rounds 100 --memory-limit 60";
        let run = runs(&run(&format!("{options} --json"), &dir.0)).remove(0);
        assert_eq!(run["end"], "memory_limit", "{run}");
        assert!(run["dropped"].as_u64().unwrap() > 0);
        // By the live jobs or by the resident memory, whichever was sampled first.
        let peak = run["peak_memory_bytes"].as_f64().unwrap();
        assert!(peak < 1.5 * 60e6, "{peak}");

        let output = example(options, &dir.0).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.contains("stopped at the memory limit"), "{table}");
    });
}

#[test]
fn an_interrupt_ends_the_contender_and_its_results_are_reported() {
    watched(|| {
        let dir = Dir::new("interrupt");
        let mut command = example("all --secs 600 --size 20 --capacity 8 --json", &dir.0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It prints a line each second.
        let mut notes = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        notes.read_line(&mut line).unwrap();
        assert!(line.starts_with("naive"), "{line}");
        // Only to the first process, which forwards it.
        let id = libc::pid_t::try_from(child.id()).unwrap();
        // SAFETY: it takes no pointer, and the process is a child that was not waited for yet.
        assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["runs"].as_array().unwrap().len(), 1);
        assert_eq!(report["runs"][0]["end"], "interrupted");
    });
}

#[test]
fn a_directory_without_runs_is_an_error() {
    watched(|| {
        let dir = Dir::new("empty");
        let output = run("plot", &dir.0);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no runs"));
        let output = run("pool --capacity 0", &dir.0);
        assert_eq!(output.status.code(), Some(2));
    });
}
