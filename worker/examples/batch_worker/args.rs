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

Exit code: 0; 1 for a failure, for example a full disk; 2 for a wrong option, a server that does not
answer, or a missing stream.";

/// Hash (BLAKE3) and compress (zstd) files on many machines; the jobs are in NATS JetStream.
#[derive(Debug, Parser)]
#[command(name = "batch_worker", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    pub server: Server,
    #[command(subcommand)]
    pub command: Command,
}

/// The server's address, and the credentials.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The server, or several, separated by commas.
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

    /// A file with credentials, in the format of `nsc`.
    #[arg(long, global = true, value_name = "FILE")]
    creds: Option<PathBuf>,

    /// A file with the certificates of the server's authority.
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
/// An unchanged file that was put in within the last two minutes is not put in again. A file whose
/// output exists costs its worker a hash.
#[derive(Debug, clap::Args)]
pub struct Enqueue {
    /// Files and directories. Symbolic links below them are not followed.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// The number of servers of a cluster that keep each message, if the stream is created now.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: usize,
}

/// Take jobs and run them, until Ctrl-C or SIGTERM.
///
/// The first signal drains: jobs that have not started go back, running jobs end. The second signal
/// ends the program at once; its running jobs come again elsewhere when their leases expire.
#[derive(Debug, clap::Args)]
pub struct Work {
    /// The folder of the outputs, `<hash of the input>.zst` each. Created if missing.
    #[arg(long, value_name = "FOLDER", default_value = "out")]
    pub out: PathBuf,

    /// Workers. Default: the number of cores.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Jobs that this process holds beyond those that run. Default: the number of workers. 16 to 64
    /// suit jobs shorter than 5 ms.
    #[arg(long, value_name = "N")]
    pub capacity: Option<usize>,

    /// zstd's compression level.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(i32).range(1..=22))]
    pub level: i32,

    /// The address of /metrics and /healthz. Port 0: any free port, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub http: SocketAddr,

    /// How long running jobs may take after the first signal, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub grace: Duration,

    /// How long the server waits for a silent worker, in seconds. The first worker of a stream sets
    /// it; for the others it has no effect.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub lease: Duration,

    /// The number of failures after which a job is dead.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub max_failures: u64,

    /// The log level: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log: tracing::Level,
}

/// Show the queue and its workers, as a live table.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Print one table, and end.
    #[arg(long)]
    pub once: bool,

    /// The time between two tables, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub every: Duration,
}

/// List the dead jobs, or put them back.
#[derive(Debug, clap::Args)]
pub struct Dead {
    /// Put the job with this number of the list back into the queue.
    #[arg(long, value_name = "NUMBER", conflicts_with = "revive_all")]
    pub revive: Option<u64>,

    /// Put all dead jobs back into the queue.
    #[arg(long)]
    pub revive_all: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| String::from("not a number"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
