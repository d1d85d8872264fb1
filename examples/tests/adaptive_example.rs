//! The example `adaptive`, run as a user runs it: its output, and the scaling visible in it.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use support::watched;

const COLUMNS: &str = "time_s,phase,depth,capacity,workers_in_service,workers_busy,\
    admission_wait_us,completed";

/// The example, beside this test in target/<profile>. `cargo test` builds it; a build of single
/// targets (`--test adaptive_example`, `--all-targets`) does not, and leaves an older one there.
fn run(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("adaptive{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --example adaptive` first",
        path.display()
    );
    let mut command = Command::new(path);
    command.args(arguments).args(paths).stdin(Stdio::null());
    command.output().unwrap()
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("adaptive-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Row {
    phase: String,
    depth: u64,
    in_service: u64,
    completed: u64,
}

fn rows(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(COLUMNS));
    let mut last_time = -1.0;
    let rows: Vec<Row> = lines
        .map(|line| {
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
                panic!("{line}");
            };
            let time: f64 = time.parse().unwrap();
            assert!(time >= last_time, "{line}");
            last_time = time;
            assert_eq!(capacity, "64", "{line}");
            busy.parse::<u64>().unwrap();
            assert!(wait.is_empty() || wait.parse::<f64>().unwrap() >= 0.0);
            Row {
                phase: phase.into(),
                depth: depth.parse().unwrap(),
                in_service: in_service.parse().unwrap(),
                completed: completed.parse().unwrap(),
            }
        })
        .collect();
    assert!(rows.iter().all(|row| row.depth <= 64));
    // On a busy machine a phase may pass between two samples.
    let mut phases = ["quiet", "burst", "flood", "quiet"].into_iter();
    for part in rows.chunk_by(|a, b| a.phase == b.phase) {
        assert!(phases.any(|phase| phase == part[0].phase));
    }
    assert_eq!(phases.next(), None);
    rows
}

/// Every opened tag is closed, in order, and no text looks like a tag.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some((text, tail)) = rest.split_once('<') {
        assert!(!text.contains(['>', '&']), "{text}");
        let (tag, tail) = tail.split_once('>').expect("a tag that does not end");
        rest = tail;
        assert!(!tag.contains(['<', '&']), "{tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(rest.trim(), "");
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn s1_s2_s3_the_example_stays_in_its_range_and_rises_and_falls() {
    watched(|| {
        let dir = Dir::new("run");
        let arguments = ["--scale", "0.2", "--workers", "1..3", "--out"];
        let output = run(&arguments, &[&dir.0]);
        assert!(output.status.success(), "{output:?}");

        let adaptive = rows(&dir.0.join("adaptive.csv"));
        assert!(adaptive.iter().all(|row| (1..=3).contains(&row.in_service)));
        assert_eq!(adaptive[0].in_service, 1);
        // The flood's last jobs may be admitted after it.
        let flood = adaptive.iter().position(|row| row.phase == "flood");
        let loaded = &adaptive[flood.unwrap_or(1)..];
        let most = loaded.iter().map(|row| row.in_service).max().unwrap();
        assert!(most > 1);
        assert!(adaptive.last().unwrap().in_service < most);

        let all = adaptive.last().unwrap().completed;
        for workers in [1, 3] {
            let fixed = rows(&dir.0.join(format!("fixed-{workers}.csv")));
            assert!(fixed.iter().all(|row| row.in_service == workers));
            assert_eq!(fixed.last().unwrap().completed, all);
        }

        let svg = dir.0.join("plot.svg");
        let output = run(&["plot"], &[&dir.0, &svg]);
        assert!(output.status.success(), "{output:?}");
        let svg = fs::read_to_string(svg).unwrap();
        assert_well_formed(&svg);
        for text in ["adaptive", "fixed, 1", "fixed, 3", "capacity", "flood"] {
            assert!(svg.contains(&format!(">{text}</text>")), "{text}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    });
}

#[test]
fn a_directory_without_runs_is_an_error_and_writes_no_plot() {
    watched(|| {
        let dir = Dir::new("empty");
        let svg = dir.0.join("plot.svg");
        let output = run(&["plot"], &[&dir.0, &svg]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no runs"));
        assert!(!svg.exists());

        fs::write(
            dir.0.join("adaptive.csv"),
            format!("{COLUMNS}\n1,quiet,0\n"),
        )
        .unwrap();
        let output = run(&["plot"], &[&dir.0, &svg]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("line 2"));
    });
}

#[test]
fn a_range_of_one_number_is_refused() {
    watched(|| {
        let output = run(&["--workers", "2..2"], &[]);
        assert_eq!(output.status.code(), Some(2));
    });
}
