//! The example `soak`, run as a user runs it: its verdict, and its watchdog. Failure 39.
#![cfg(target_os = "linux")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    env,
    process::{Command, Output, Stdio},
};

use support::{seed, watched};

/// The example, beside this test in target/<profile>. `cargo test` builds it; a build of single
/// targets (`--test soak_example`, `--all-targets`) does not, and leaves an older one there.
fn run(arguments: &str) -> Output {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push("soak");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --example soak` first",
        path.display()
    );
    let mut command = Command::new(path);
    command.args(arguments.split(' ')).stdin(Stdio::null());
    command.output().unwrap()
}

/// The number before this word in the verdict.
fn count(verdict: &str, what: &str) -> u64 {
    let (before, _) = verdict.split_once(&format!(" {what},")).expect(what);
    let number = before.rsplit(' ').next().unwrap();
    number.parse().unwrap()
}

#[test]
fn r1_d2_everything_at_once_loses_nothing() {
    watched(|| {
        let seed = seed() % 1_000_000;
        let output = run(&format!("--secs 2 --hang 8 --seed {seed}"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let verdict = text.lines().last().unwrap();
        assert!(
            verdict.starts_with(&format!("soak: ok: seed {seed}, ")),
            "{verdict}"
        );
        assert!(verdict.ends_with("lost: 0"), "{verdict}");
        for what in [
            "operations",
            "jobs",
            "completed",
            "resizes",
            "shutdowns survived",
        ] {
            assert!(count(verdict, what) > 0, "{verdict}");
        }
    });
}

#[test]
fn the_rounds_can_be_limited() {
    watched(|| {
        let output = run("--secs 60 --hang 8 --seed 7 --rounds 2");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("seed 7, 2 rounds"), "{text}");
    });
}

#[test]
fn a_stalled_round_is_reported_with_its_seed() {
    watched(|| {
        let output = run("--secs 60 --seed 41 --stall --hang 0.5");
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        for part in [
            "HANG",
            "--rounds 1 --seed 41",
            "driver-0: > stall(0)",
            "pool 0: Pool",
            "admitted: ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    });
}
