//! Runs one rival once, and reports its peak memory: for a process of its own, or under a profiler.

use std::{env, fs, process::Command, time::Duration};

use crate::{fib_join, fib_scope, million, paths, sections, sort};

/// Makes a process of the `compare` program call [`once`].
pub const FLAG: &str = "--once";

/// A rival in a question of its own kind: builds its pool of `workers`, does work of this size, and
/// returns the duration.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) run: fn(usize, u64) -> Duration,
}

/// The questions that support it.
const QUESTIONS: [(&str, &[Way]); 6] = [
    ("fib-join", fib_join::WAYS),
    ("fib-scope", fib_scope::WAYS),
    ("million", million::WAYS),
    ("paths", paths::WAYS),
    ("sections", sections::WAYS),
    ("sort", sort::WAYS),
];

/// The peak resident memory of the process, in KiB. Only Linux reports it.
fn peak() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs the arguments after [`FLAG`]: question, rival, size, workers. Returns a line of nanoseconds
/// and KiB.
///
/// # Errors
/// What is wrong with the arguments.
pub fn once(args: &[String]) -> Result<String, String> {
    let [question, rival, size, workers] = args else {
        return Err(format!("{FLAG} takes question, rival, size, workers"));
    };
    let number = |text: &String| text.parse().map_err(|_| format!("{text} is not a number"));
    let ways = QUESTIONS.iter().find(|(name, _)| name == question);
    let way = ways.and_then(|(_, ways)| ways.iter().find(|way| way.name == rival));
    let way = way.ok_or(format!("{question} does not support {rival} with {FLAG}"))?;
    let time = (way.run)(number(workers)? as usize, number(size)?);
    Ok(format!(
        "{} {}",
        time.as_nanos(),
        peak().unwrap_or(f64::NAN)
    ))
}

/// The peak of a process that only does this, in KiB; NaN where the system does not report it.
pub(crate) fn peak_of_a_child(question: &str, rival: &str, size: u64, workers: usize) -> f64 {
    let program = env::current_exe().expect("the executable has a path");
    let (size, workers) = (size.to_string(), workers.to_string());
    let child = Command::new(program)
        .args([FLAG, question, rival, &size, &workers])
        .output()
        .expect("the executable starts again");
    let said = String::from_utf8_lossy(&child.stdout);
    let peak = said.split_whitespace().nth(1).map(str::parse);
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    peak.and_then(Result::ok)
        .expect("the child prints its peak")
}
