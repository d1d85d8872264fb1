//! The example `batch_worker`, as processes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::{
    server::Server,
    support::{dies_with_us, signal, until},
};

/// `None`, and a line with the reason, if it was not built: `cargo test --test nats` builds no
/// examples.
pub fn program() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/batch_worker");
    if program.is_file() {
        return Some(program);
    }
    eprintln!("SKIPPED: {} was not built", program.display());
    None
}

pub fn command(program: &Path, server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--server", &server.url()])
        .args(arguments)
        .stdin(Stdio::null());
    dies_with_us(&mut command);
    command
}

pub fn run(program: &Path, server: &Server, arguments: &[&str]) -> Output {
    command(program, server, arguments).output().unwrap()
}

/// Puts all files below `folder` into the queue `batch`, and returns what the program printed.
pub fn enqueue(program: &Path, server: &Server, folder: &Path) -> String {
    let done = run(program, server, &["enqueue", folder.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stdout)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `work` on the queue `batch`; killed when dropped.
pub struct Working {
    process: Child,
    /// Where it serves HTTP.
    pub address: String,
    errors: File,
}

impl Working {
    pub fn start(program: &Path, server: &Server, out: &Path) -> Self {
        Self::start_on("batch", program, server, out)
    }

    pub fn start_on(stream: &str, program: &Path, server: &Server, out: &Path) -> Self {
        let mut errors = tempfile::tempfile().unwrap();
        let mut process = command(program, server, &["--stream", stream, "work", "--out"])
            .arg(out)
            .args(["--lease", "2"])
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let Some(line) = lines.find(|line| line.contains("http://")) else {
            panic!("{}", written(&mut errors));
        };
        let address = line.split("http://").nth(1).unwrap();
        let address = address.split('/').next().unwrap().to_owned();
        Self {
            process,
            address,
            errors,
        }
    }

    pub fn terminate(&self) {
        signal(&self.process, libc::SIGTERM);
    }

    /// Waits for its end, and returns its exit code and what it wrote to stderr.
    pub fn ended(mut self) -> (Option<i32>, String) {
        until("it ends", || self.process.try_wait().unwrap().is_some());
        let code = self.process.wait().unwrap().code();
        (code, written(&mut self.errors))
    }
}

fn written(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The outputs in `folder`, by name.
pub fn outputs(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect()
}
