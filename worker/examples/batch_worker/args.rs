//! The command line.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use adaptive_pool_worker::{
    async_nats::{Client, ConnectOptions},
    connect,
};
use clap::{Parser, Subcommand, value_parser};

use crate::{Stop, usage};

const AFTER_HELP: &str = "\
A server on this machine: `nats-server -js -sd /var/tmp/nats`. Debian has it as `nats-server`.

Exit code: 0; 1 if something failed, as a disk that is full; 2 for a wrong option, a server that does
not answer, or a stream that is not there.";

/// Hash (BLAKE3) and compress (zstd) files on many machines; the jobs are in NATS JetStream.
#[derive(Debug, Parser)]
#[command(name = "batch_worker", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    pub server: Server,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the server is, and who we are.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The server, or several with commas between.
    #[arg(
        long,
        global = true,
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222"
    )]
    pub server: String,

    /// The stream with the jobs.
    #[arg(long, global = true, value_name = "NAME", default_value = "batch")]
    pub stream: String,

    /// A user, with --password.
    #[arg(long, global = true, env = "NATS_USER", requires = "password")]
    user: Option<String>,

    /// The user's password.
    #[arg(long, global = true, env = "NATS_PASSWORD", hide_env_values = true)]
    password: Option<String>,

    /// A token.
    #[arg(long, global = true, env = "NATS_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// A file with credentials, as `nsc` writes them.
    #[arg(long, global = true, value_name = "FILE")]
    creds: Option<PathBuf>,

    /// A file with the certificates of the authority that vouches for the server.
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl Server {
    pub async fn connect(&self) -> Result<Client, Stop> {
        let mut options = ConnectOptions::new().name("batch_worker");
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(file) = &self.creds {
            let wrong = |error| usage(format!("--creds {}: {error}", file.display()));
            let text = fs::read_to_string(file).map_err(wrong)?;
            options = options.credentials(&text).map_err(wrong)?;
        }
        if let Some(file) = &self.tls_ca {
            options = options
                .add_root_certificates(file.clone())
                .require_tls(true);
        }
        Ok(connect(&self.server, options).await?)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Enqueue(Enqueue),
    Work(Work),
    Status(Status),
    Dead(Dead),
}

/// Put every file under the paths into the queue.
///
/// A file that was put in less than two minutes ago, and has not changed, is not put in again; one whose
/// output is there already costs its worker a hash.
#[derive(Debug, clap::Args)]
pub struct Enqueue {
    /// Files and directories. Symbolic links below them are not followed.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// On how many servers of a cluster each message is kept, if the stream is created now.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: usize,
}

/// Take jobs and do them, until Ctrl-C or SIGTERM.
///
/// The first signal drains: what has not started goes back, what runs is finished. The second one ends
/// the program at once; what ran comes again elsewhere when its lease is over.
#[derive(Debug, clap::Args)]
pub struct Work {
    /// Where the outputs go: `<hash of the input>.zst` each. Created if it is not there.
    #[arg(long, value_name = "FOLDER", default_value = "out")]
    pub out: PathBuf,

    /// Workers. Default: as many as there are cores.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Jobs that this process holds beyond those that run. Default: as many as workers; 16 to 64 are
    /// better if jobs take less than 5 ms.
    #[arg(long, value_name = "N")]
    pub capacity: Option<usize>,

    /// zstd's compression level.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(i32).range(1..=22))]
    pub level: i32,

    /// Where /metrics and /healthz are served. Port 0: any that is free; it is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub http: SocketAddr,

    /// How long running jobs may go on after the first signal, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub grace: Duration,

    /// How long the server waits for a worker that it does not hear of, in seconds. Only for the first
    /// worker of a stream; the others find it set.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub lease: Duration,

    /// How often a job may fail before it is dead.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub max_failures: u64,

    /// What is logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log: tracing::Level,
}

/// Show the queue and its workers, again and again.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Once, and no more.
    #[arg(long)]
    pub once: bool,

    /// How often, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub every: Duration,
}

/// List what failed for good.
#[derive(Debug, clap::Args)]
pub struct Dead {
    /// Put this one back into the queue, by its number in the list.
    #[arg(long, value_name = "NUMBER", conflicts_with = "revive_all")]
    pub revive: Option<u64>,

    /// Put all of them back into the queue.
    #[arg(long)]
    pub revive_all: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| String::from("not a number"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
