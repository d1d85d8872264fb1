//! The example `batch_processor`, run as a user runs it.

#[path = "../../tests/support/mod.rs"]
mod support;

// It is pure, so it is tested without a process.
#[allow(dead_code)]
#[path = "../batch_processor/histogram.rs"]
mod histogram;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

#[cfg(unix)]
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStderr, ChildStdout},
};

use serde_json::Value;
use support::{Random, watched};

const BLAKE3_OF_NOTHING: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
const BLAKE3_OF_ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

/// The example, beside this test in target/<profile>. `cargo test` builds it; a build of single
/// targets (`--test batch_processor`, `--all-targets`) does not, and leaves an older one there.
fn example() -> Command {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("batch_processor{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --example batch_processor` first",
        path.display()
    );
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], paths: &[&Path]) -> Output {
    example().args(arguments).args(paths).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json_of(arguments: &[&str], paths: &[&Path]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    let output = run(&all, paths);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("batch_processor-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }

    fn files(&self, count: usize) {
        for i in 0..count {
            self.file(&format!("{i:04}"), format!("file {i}").as_bytes());
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_tree_is_hashed_and_counted() {
    watched(|| {
        let dir = Dir::new();
        let abc = dir.file("a/b/abc", b"abc");
        let empty = dir.file("empty", b"");
        dir.file("zeros", &[0; 100_000]);

        let output = run(&["--list"], &[&dir.0]);
        assert!(output.status.success(), "{output:?}");
        let mut lines: Vec<&str> = text(&output.stdout).lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], format!("{BLAKE3_OF_ABC}  {}", abc.display()));
        assert!(lines.contains(&&*format!("{BLAKE3_OF_NOTHING}  {}", empty.display())));
        assert!(text(&output.stderr).contains("throughput"));

        let summary = json_of(&[], &[&dir.0]);
        assert_eq!(summary["files"], 3);
        assert_eq!(summary["bytes"], 100_003);
        assert_eq!(summary["largest_file_bytes"], 100_000);
        assert_eq!(summary["unreadable"]["count"], 0);
        assert_eq!(summary["interrupted"], false);
        assert!(summary["compressed_bytes"].as_u64().unwrap() < 1000);
        assert_eq!(summary["run_time"]["count"], 3);
        assert!(summary["list"].is_null());
    });
}

#[test]
fn the_summary_is_a_table_on_stdout() {
    watched(|| {
        let dir = Dir::new();
        dir.files(5);
        let output = run(&["--workers", "1..=2"], &[&dir.0]);
        assert!(output.status.success(), "{output:?}");
        let table = text(&output.stdout);
        for (name, value) in [("files", "5"), ("unreadable", "0"), ("workers", "1 to 2")] {
            let row = table.lines().find_map(|line| line.strip_prefix(name));
            assert!(row.unwrap().trim().starts_with(value), "{name}: {table}");
        }
        assert!(!table.contains("interrupted"));
    });
}

#[test]
fn json_contains_the_list() {
    watched(|| {
        let dir = Dir::new();
        let path = dir.file("abc", b"abc");
        let summary = json_of(&["--list"], &[&path]);
        let listed = &summary["list"][0];
        assert_eq!(listed["hash"], BLAKE3_OF_ABC);
        assert_eq!(listed["path"], path.to_str().unwrap());
        assert_eq!(listed["bytes"], 3);
    });
}

#[test]
fn files_in_memory_are_bounded() {
    watched(|| {
        let dir = Dir::new();
        dir.files(500);
        let summary = json_of(&["--workers", "1..2", "--capacity", "3"], &[&dir.0]);
        assert_eq!(summary["files"], 500);
        assert_eq!(
            (&summary["workers_min"], &summary["workers_max"]),
            (&1.into(), &2.into())
        );
        assert_eq!(summary["max_files_in_memory"], 5);
        assert!(summary["peak_files_in_memory"].as_u64().unwrap() <= 5);
        assert!(summary["peak_depth"].as_u64().unwrap() <= 3);
    });
}

#[test]
fn without_a_path_it_reads_the_repository_but_not_target() {
    watched(|| {
        let summary = json_of(&["--list"], &[]);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let paths: Vec<&Path> = summary["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|listed| Path::new(listed["path"].as_str().unwrap()))
            .collect();
        assert!(paths.contains(&&*root.join("Cargo.toml")));
        assert!(
            !paths
                .iter()
                .any(|path| path.starts_with(root.join("target")))
        );
        assert!(!paths.iter().any(|path| path.starts_with(root.join(".git"))));
    });
}

#[test]
fn a_wrong_path_is_named_and_nothing_is_read() {
    watched(|| {
        let dir = Dir::new();
        dir.files(1);
        let missing = dir.0.join("missing");
        let output = run(&["--list"], &[&dir.0, &missing]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(missing.to_str().unwrap()));
        assert!(output.stdout.is_empty());
    });
}

#[test]
fn a_wrong_option_is_named_with_its_value() {
    watched(|| {
        let wrong: [(&[&str], &str); 9] = [
            (&["--capacity", "0"], "capacity = 0"),
            (&["--capacity", "many"], "'many'"),
            (&["--workers", "0"], "workers = 0"),
            (&["--workers", "3..2"], "workers = 3..=2"),
            (&["--workers", "1..x"], "'1..x'"),
            (&["--timeout", "50"], "'50'"),
            (&["--timeout", "1.2.3s"], "'1.2.3s'"),
            (&["--level", "99"], "'99'"),
            (&["--nonsense"], "'--nonsense'"),
        ];
        for (arguments, named) in wrong {
            let output = run(arguments, &[]);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(text(&output.stderr).contains(named), "{output:?}");
            assert!(output.stdout.is_empty());
        }
    });
}

#[test]
fn help_names_every_option() {
    watched(|| {
        let output = run(&["--help"], &[]);
        assert!(output.status.success());
        for option in ["--workers", "--capacity", "--timeout", "--level", "--json"] {
            assert!(text(&output.stdout).contains(option), "{option}");
        }
    });
}

#[test]
fn a_file_that_gets_no_place_in_time_is_rejected_and_named() {
    watched(|| {
        let dir = Dir::new();
        let mut random = Random(1);
        let slow: Vec<u8> = (0..1 << 17).map(|_| random.below(16) as u8).collect();
        // The first one runs for long, the second one waits for it, and the others find no place.
        for i in 0..6 {
            dir.file(&i.to_string(), &slow);
        }
        let options = ["--workers", "1", "--capacity", "1", "--level", "19"];
        let output = example()
            .args(options)
            .args(["--json", "--timeout", "1ms"])
            .arg(&dir.0)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rejected = summary["rejected"]["count"].as_u64().unwrap();
        assert!(rejected >= 1);
        assert_eq!(summary["files"].as_u64().unwrap() + rejected, 6);
        let named = summary["rejected"]["first"][0]["path"].as_str().unwrap();
        assert!(text(&output.stderr).contains(&format!("rejected: {named}: ")));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_file_is_counted_and_named_and_stops_nothing() {
    watched(|| {
        let dir = Dir::new();
        let good = dir.file("good", b"abc");
        // A regular file that no user can read from its beginning.
        let bad = Path::new("/proc/self/mem");
        let output = run(&["--json"], &[bad, &good]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains("unreadable: /proc/self/mem: "));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["files"], 1);
        assert_eq!(summary["unreadable"]["count"], 1);
        assert_eq!(summary["unreadable"]["first"][0]["path"], "/proc/self/mem");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn of_many_unreadable_files_twenty_are_named() {
    watched(|| {
        let bad = [Path::new("/proc/self/mem"); 25];
        let output = run(&[], &bad);
        assert_eq!(output.status.code(), Some(0));
        let errors = text(&output.stderr);
        assert_eq!(errors.matches("unreadable: /proc/self/mem").count(), 20);
        assert!(errors.contains("unreadable: and 5 more"), "{errors}");
    });
}

#[cfg(unix)]
#[test]
fn links_are_not_followed_and_a_fifo_does_not_hang_it() {
    watched(|| {
        let dir = Dir::new();
        let file = dir.file("sub/file", b"abc");
        std::os::unix::fs::symlink(dir.0.join("sub"), dir.0.join("sub/loop")).unwrap();
        std::os::unix::fs::symlink(&file, dir.0.join("link")).unwrap();
        let fifo = dir.0.join("fifo");
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let summary = json_of(&[], &[&dir.0]);
        assert_eq!(summary["files"], 1);
        assert_eq!(summary["not_regular"], 3);
        // A given path may be a link.
        assert_eq!(json_of(&[], &[&dir.0.join("link")])["files"], 1);
    });
}

#[cfg(unix)]
#[test]
fn a_list_without_a_reader_ends_the_work() {
    watched(|| {
        let dir = Dir::new();
        dir.files(2000);
        let mut child = example()
            .args(["--list", "--capacity", "2"])
            .arg(&dir.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("could not be written"));
    });
}

/// A stalled run: its output has no reader, so the pipe fills up, and everything behind it.
#[cfg(unix)]
struct Stalled {
    child: Child,
    list: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

#[cfg(unix)]
impl Stalled {
    /// Returns after the first line of the list was read.
    fn new(dir: &Dir) -> Self {
        let mut child = example()
            .args(["--list", "--workers", "2", "--capacity", "4"])
            .arg(&dir.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut list = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        list.read_line(&mut String::new()).unwrap();
        Self {
            child,
            list,
            errors,
        }
    }

    fn interrupt(&self) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &id]).status();
        assert!(kill.unwrap().success());
    }

    /// Returns after the program has said that it reads no more files.
    fn interrupt_and_wait(&mut self) {
        self.interrupt();
        let mut said = String::new();
        while !said.contains("interrupted: ") {
            assert_ne!(self.errors.read_line(&mut said).unwrap(), 0, "{said}");
        }
    }
}

/// More files than their lines fit into a pipe.
#[cfg(unix)]
const MANY: usize = 3000;

#[cfg(unix)]
#[test]
fn an_interrupt_drains_and_reports() {
    watched(|| {
        let dir = Dir::new();
        dir.files(MANY);
        let mut run = Stalled::new(&dir);
        run.interrupt_and_wait();

        let mut rest = String::new();
        run.list.read_to_string(&mut rest).unwrap();
        let listed = 1 + rest.lines().count();
        let mut summary = String::new();
        run.errors.read_to_string(&mut summary).unwrap();
        assert_eq!(run.child.wait().unwrap().code(), Some(130), "{summary}");
        assert!(listed < MANY, "all were read");
        let row = |name: &str| {
            let line = summary.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|row| row.split_whitespace().next()).unwrap()
        };
        assert_eq!(row("interrupted"), "yes");
        assert_eq!(row("files"), listed.to_string());
    });
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_it_at_once() {
    watched(|| {
        let dir = Dir::new();
        dir.files(MANY);
        let mut run = Stalled::new(&dir);
        run.interrupt_and_wait();
        // The list has no reader, so the run would never end by itself.
        run.interrupt();
        assert_eq!(run.child.wait().unwrap().code(), Some(130));
    });
}

#[test]
fn a_quantile_is_too_large_by_at_most_a_32nd() {
    let mut random = Random(7);
    for shift in 0..50 {
        let mut times: Vec<u64> = (0..200)
            .map(|_| random.below(1 << 10) << shift >> 5)
            .collect();
        let mut histogram = histogram::Histogram::default();
        for &nanos in &times {
            histogram.record(Duration::from_nanos(nanos));
        }
        times.sort_unstable();
        for (part, index) in [(0.0, 0), (0.5, 99), (0.99, 197), (1.0, 199)] {
            let (told, exact) = (histogram.quantile(part).as_nanos() as u64, times[index]);
            assert!(
                told >= exact && told - exact <= exact / 32,
                "{told} {exact}"
            );
        }
        assert_eq!(histogram.max().as_nanos() as u64, times[199]);
    }
    let mut histogram = histogram::Histogram::default();
    assert_eq!(histogram.quantile(0.5), Duration::ZERO);
    histogram.record(Duration::MAX);
    assert_eq!(histogram.quantile(0.5), Duration::from_nanos(u64::MAX));
}
