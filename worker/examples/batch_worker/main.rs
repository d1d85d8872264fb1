//! Hashes and compresses files on many machines; `--help` describes it.
//!
//! ```text
//! batch_worker enqueue PATH...   one message a file            ──► NATS JetStream
//! batch_worker work              on each machine                    ◄──┘   ──► outputs, named by hash
//! batch_worker status            a live table of the queue and its workers
//! batch_worker dead              lists the dead jobs, and puts them back
//! ```
//!
//! It is `batch_processor` for many machines. All of them see the files and the folder of outputs
//! under the same paths. docs/machines.md is its tutorial.

mod args;
mod dead;
mod enqueue;
mod http;
mod output;
mod status;
mod task;
mod work;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use adaptive_pool_worker::Error;
use clap::Parser;

use crate::args::{Args, Command};

const FAILURE: u8 = 1;
const USAGE: u8 = 2;

/// The reason of the program's end, and its exit code.
struct Stop {
    code: u8,
    why: String,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Unfit { .. } | Error::Publish { .. } | Error::PoolClosed => FAILURE,
            _ => USAGE,
        };
        Self {
            code,
            why: error.to_string(),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        failure(error.to_string())
    }
}

fn usage(why: impl Into<String>) -> Stop {
    Stop {
        code: USAGE,
        why: why.into(),
    }
}

fn failure(why: impl Into<String>) -> Stop {
    Stop {
        code: FAILURE,
        why: why.into(),
    }
}

// The cores are the pool's. One thread is enough for the client.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Args { server, command } = Args::parse();
    let ended = match command {
        Command::Enqueue(args) => enqueue::run(&server, args).await,
        Command::Work(args) => work::run(&server, args).await,
        Command::Status(args) => status::run(&server, args).await,
        Command::Dead(args) => dead::run(&server, args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop { code, why }) => {
            note(&format!("error: {why}"));
            ExitCode::from(code)
        }
    }
}

/// Writes a line to stderr. A closed stderr is no reason to stop.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a line to stdout. If its reader has closed it, the program ends without an error.
fn print(line: &str) -> Result<(), Stop> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}
