//! A test in namespaces of its own: it may mount file systems and make networks, which end with it.
//!
//! The test starts this program anew, for that test alone, under `unshare`. In there it has all
//! rights over its namespaces, whichever user runs it.

use std::process::Command;

use crate::support::dies_with_us;

const VARIABLE: &str = "NATS_TEST_ISOLATED";

/// Runs `test` in a new user namespace, and in those that `namespaces` names for `unshare`. `name`
/// is the test's own path. Where the system refuses, it prints SKIPPED and the reason, and `test`
/// does not run.
pub fn isolated(name: &str, namespaces: &[&str], test: impl FnOnce()) {
    if std::env::var_os(VARIABLE).is_some() {
        return test();
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").args(namespaces);
        dies_with_us(&mut command);
        command
    };
    match unshare().arg("true").output() {
        Ok(ended) if ended.status.success() => {}
        Ok(ended) => return skip(&String::from_utf8_lossy(&ended.stderr)),
        Err(error) => return skip(&format!("unshare: {error}")),
    }
    let ended = unshare()
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout);
    println!("{printed}");
    eprintln!("{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{name}: {}", ended.status);
    assert!(printed.contains("1 passed"), "there is no test {name}");
}

pub fn skip(why: &str) {
    eprintln!("SKIPPED: {}", why.trim());
}

/// Runs a line of shell, which stops at its first command that fails.
pub fn shell(line: &str) -> Result<(), String> {
    let ended = Command::new("sh").args(["-ec", line]).output();
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!("{line}: {said}"))
}
