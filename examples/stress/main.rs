//! Shows the purpose of bounded admission: jobs that own 500 KB each, submitted faster than they
//! can run, to a thread each, to rayon, and to the pool. See `--help`.
//!
//! ```text
//!  this process        a child for each contender
//!  starts, waits ────► producers ──► jobs: 500 KB, BLAKE3 over it
//!  table, picture ◄─── memory over time (CSV), outcome (JSON)
//! ```
//!
//! A job owns its data from its submission on. The pool's producers acquire a permit before they
//! allocate.

mod args;
mod child;
mod csv;
mod job;
mod plot;
mod process;
mod produce;
mod report;
mod watch;

// The same as in the other example.
#[allow(dead_code)]
#[path = "../batch_processor/histogram.rs"]
mod histogram;
#[path = "../adaptive/lines.rs"]
mod lines;
#[path = "../batch_processor/units.rs"]
mod units;

use std::{
    env, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Parser;

use crate::{
    args::{Args, Contender, Mode},
    process::Status,
    produce::End,
    report::{Outcome, Report},
    watch::note,
};

const FAILURE: u8 = 1;
const INTERRUPTED: u8 = 130;

/// The number of arenas of glibc's allocator. See the help.
const ARENAS: &str = "MALLOC_ARENA_MAX";

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.mode {
        Mode::Plot => plot(&args).map(|()| 0),
        _ if args.child => child::run(args.contenders()[0], &args).map(|()| 0),
        _ => compare(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            note(&format!("error: {error}"));
            ExitCode::from(FAILURE)
        }
    }
}

/// Runs the contenders, one after another. Returns the exit code.
fn compare(args: &Args) -> Result<u8, String> {
    Status::own().map_err(|error| format!("the memory of a process cannot be read: {error}"))?;
    fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, &error))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&interrupted);
    if let Err(error) = ctrlc::set_handler(move || told.store(true, Ordering::Relaxed)) {
        note(&format!("Ctrl-C will not be handled: {error}"));
    }
    let mut outcomes = Vec::new();
    for &contender in args.contenders() {
        let outcome = run(contender, args, &interrupted)?;
        interrupted.fetch_or(outcome.end == End::Interrupted, Ordering::Relaxed);
        outcomes.push(outcome);
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    let names: Vec<Contender> = args.contenders()[..outcomes.len()].into();
    draw(args, &names)?;
    let report = Report::new(args, outcomes);
    print(&report, args).map_err(|error| format!("the output could not be written: {error}"))?;
    let interrupted = interrupted.load(Ordering::Relaxed);
    Ok(if interrupted { INTERRUPTED } else { 0 })
}

/// Runs one contender in a child process, and waits for it.
fn run(contender: Contender, args: &Args, interrupted: &AtomicBool) -> Result<Outcome, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .arg(contender.name())
        .args(args.for_child())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if env::var_os(ARENAS).is_none() {
        command.env(ARENAS, "1");
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("{contender}: could not be started: {error}"))?;
    let mut stdout = child.stdout.take().ok_or("a child without an output")?;
    // On a thread of its own, since the output might fill the pipe.
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    guard(contender, args, &mut child, interrupted)?;
    let text = reader.join().map_err(|_| "a reader has panicked")?;
    let text = text.map_err(|error| format!("{contender}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{contender}: no outcome: {error}"))
}

/// Waits for the child to end. Forwards an interrupt, and kills a child that exceeds its limit.
fn guard(
    contender: Contender,
    args: &Args,
    child: &mut Child,
    interrupted: &AtomicBool,
) -> Result<(), String> {
    let most = args.limit_bytes() + args.limit_bytes() / 4 + 100_000_000;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{contender}: {status}")),
            None => {}
        }
        if interrupted.load(Ordering::Relaxed) {
            // The child takes that as a signal.
            drop(child.stdin.take());
        }
        let resident = Status::of(child.id()).map_or(0, |status| status.resident);
        if resident > most {
            let _ = child.kill();
            let _ = child.wait();
            let held = units::Bytes(resident as f64);
            return Err(format!("{contender}: killed at {held}, far over its limit"));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn plot(args: &Args) -> Result<(), String> {
    let is_there = |contender: &Contender| csv_of(args, *contender).is_some();
    let there: Vec<Contender> = Contender::ALL.into_iter().filter(is_there).collect();
    if there.is_empty() {
        return Err(format!("{}: no runs in it", args.out.display()));
    }
    draw(args, &there)
}

fn csv_of(args: &Args, contender: Contender) -> Option<PathBuf> {
    let path = args.out.join(format!("{contender}.csv"));
    path.exists().then_some(path)
}

fn draw(args: &Args, contenders: &[Contender]) -> Result<(), String> {
    let mut runs = Vec::new();
    for &contender in contenders {
        let path = args.out.join(format!("{contender}.csv"));
        runs.push((
            contender,
            csv::read(&path).map_err(|error| failed(&path, &error))?,
        ));
    }
    let path = args.out.join("memory.svg");
    let text = plot::draw(&runs).ok_or_else(|| format!("{}: nothing to draw", path.display()))?;
    fs::write(&path, text).map_err(|error| failed(&path, &error))
}

fn print(report: &Report, args: &Args) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    stdout.flush()
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
