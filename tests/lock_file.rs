//! The lock file of a fresh project that depends on the crate: everything that is built for it, and
//! nothing that only checks the crate. Fault 19.
#![cfg(not(miri))]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use serde_json::Value;

/// Everything that may be locked with the default features, on any system.
const ALLOWED: &[&str] = &[
    // Direct dependencies, and their own.
    "adaptive-pool",
    "cfg-if",
    "crossbeam-deque",
    "crossbeam-epoch",
    "crossbeam-utils",
    "libc",
    "rayon-core",
    "thiserror",
    "thiserror-impl",
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
    // The feature `prometheus`.
    "prometheus",
    "fnv",
    "lazy_static",
    "lock_api",
    "memchr",
    "parking_lot",
    "parking_lot_core",
    "redox_syscall",
    "bitflags",
    "scopeguard",
    "smallvec",
    "windows-link",
    // quanta, which reads the clock; mostly for other systems.
    "quanta",
    "once_cell",
    "raw-cpuid",
    "wasi",
    "winapi",
    "winapi-i686-pc-windows-gnu",
    "winapi-x86_64-pc-windows-gnu",
    "web-sys",
    "js-sys",
    "wasm-bindgen",
    "wasm-bindgen-macro",
    "wasm-bindgen-macro-support",
    "wasm-bindgen-shared",
    "bumpalo",
    "rustversion",
    "futures-core",
    "futures-task",
    "futures-util",
    "pin-project-lite",
    "slab",
];

/// A project in its own directory, which is removed at the end.
struct Fresh(PathBuf);

impl Fresh {
    /// Depends on the crate by `dependency`, and starts with the crate's own lock file, so that the
    /// versions are the local ones.
    fn new(name: &str, dependency: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = env::temp_dir().join(format!("lock-file-{name}-{}", process::id()));
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::write(directory.join("src/main.rs"), "fn main() {}\n").unwrap();
        let manifest = format!(
            "[package]\nname = \"fresh\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\nadaptive-pool = {{ path = {root:?}{dependency} }}\n"
        );
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
        if let Ok(lock) = fs::read(root.join("Cargo.lock")) {
            fs::write(directory.join("Cargo.lock"), lock).unwrap();
        }
        Self(directory)
    }

    /// The output of cargo, from local sources only; or why those do not suffice.
    fn cargo(&self, arguments: &[&str]) -> Result<String, String> {
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let output = Command::new(cargo)
            .args(arguments)
            .arg("--offline")
            .current_dir(&self.0)
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("cargo {arguments:?}: {error}"))
    }

    /// The names in the lock file, except the project's own.
    fn locked(&self) -> Result<BTreeSet<String>, String> {
        self.cargo(&["update", "--workspace"])?;
        let lock = fs::read_to_string(self.0.join("Cargo.lock")).unwrap();
        let names = lock.lines().filter_map(|line| {
            let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
            (name != "fresh").then(|| name.to_owned())
        });
        Ok(names.collect())
    }
}

/// The result, or `None` with a message if it is unavailable here.
fn or_skip<T>(found: Result<T, String>) -> Option<T> {
    found.inspect_err(|error| println!("SKIPPED: {error}")).ok()
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_fresh_project_locks_only_what_is_built() {
    let Some(locked) = or_skip(Fresh::new("default", "").locked()) else {
        return;
    };
    let foreign: Vec<_> = locked
        .iter()
        .filter(|name| !ALLOWED.contains(&name.as_str()))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    // The list is the expected kind of list, and contains what it must.
    assert!(locked.contains("adaptive-pool") && locked.contains("rayon-core"));
    assert!(locked.contains("prometheus"));
}

#[test]
fn without_default_features_nothing_of_prometheus_is_locked() {
    let Some(locked) = or_skip(Fresh::new("bare", ", default-features = false").locked()) else {
        return;
    };
    for name in ["prometheus", "parking_lot", "lazy_static", "fnv"] {
        assert!(!locked.contains(name), "{name}");
    }
    assert!(locked.iter().all(|name| ALLOWED.contains(&name.as_str())));
}

/// `1.85` or `1.71.1`.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn locked_crates_build_with_the_declared_msrv() {
    let fresh = Fresh::new("oldest", "");
    // Dependencies of other systems are not on every machine.
    let all = ["metadata", "--format-version", "1"];
    let here = [&all[..], &["--filter-platform", "x86_64-unknown-linux-gnu"]].concat();
    let Some(text) = or_skip(fresh.cargo(&all).or_else(|_| fresh.cargo(&here))) else {
        return;
    };
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let newer: Vec<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| {
            // A crate without the field is older than the field.
            package["rust_version"]
                .as_str()
                .is_some_and(|wanted| version(wanted) > ours)
        })
        .map(|package| (&package["name"], &package["rust_version"]))
        .collect();
    assert!(newer.is_empty(), "{newer:?}");
}
