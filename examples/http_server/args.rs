//! The command line.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use clap::{Parser, value_parser};

use crate::parse;

const AFTER_HELP: &str = "\
POST /jobs?level=N   hashes (BLAKE3) and compresses (zstd, level 1 to 19, default 3) the bytes of the
                     body. Responds with the compressed bytes, and with the hash, the wait and
                     the run time of the job in the headers.
GET  /               a page with the state of the pool
GET  /metrics        the same for Prometheus
GET  /stats          the same for the page, as JSON
GET  /healthz        200, or 503 while the server drains

A POST fails with 400 if it is invalid, 408 if its body does not arrive within 10 seconds, 413 if the
body is too large, 500 if its job fails, and 503 with Retry-After if the server is overloaded or
drains.

Memory: a body is read only while fewer than MAX-REQUESTS others are held, and only up to MAX-BYTES.
It counts until its response was sent, however long the client takes to read it. So at most
MAX-REQUESTS times MAX-BYTES are in memory, and during compression as much again for the responses.
Connections are not counted: the system limits their number.

SIGTERM or Ctrl-C: admitted requests are answered, all others are refused, then the program ends. A
second signal ends it at once.

Exit code: 0 if every admitted request was answered; 1 if not within DRAIN-TIMEOUT, or if the server
could not start; 2 for a wrong option; 130 after a second signal.";

/// Serve CPU work over HTTP, on a pool with a bounded queue, and show the pool's state.
#[derive(Debug, Parser)]
#[command(name = "http_server", after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    /// The address to listen on. With port 0 the system chooses one; the address is printed.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,

    /// Workers in service: a number or a range, as 1..4 or 1..=4 (both mean 1 to 4). Default: from
    /// 1 to the number of cores.
    #[arg(long, value_name = "N|MIN..MAX", value_parser = parse::workers)]
    pub workers: Option<RangeInclusive<usize>>,

    /// How many jobs may be queued.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub capacity: usize,

    /// How long a request may wait for a place in the queue, as 50ms or 2s.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = duration)]
    pub admission_timeout: Duration,

    /// The largest body, as 4096, 64K or 4M.
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = bytes)]
    pub max_bytes: usize,

    /// How many requests may have their bodies in memory.
    #[arg(long, value_name = "N", default_value = "256", value_parser = value_parser!(u32).range(1..))]
    pub max_requests: u32,

    /// How long the admitted jobs may take after a SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse::seconds(text, &[("ms", 1e-3), ("s", 1.0), ("m", 60.0)])
        // A day: the runtime's timers end some time after it.
        .filter(|seconds| *seconds <= 86_400.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| {
            String::from("expected a number and a unit (ms, s, m), at most a day, as 50ms or 1.5s")
        })
}

fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.strip_suffix(['K', 'M']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) => (number, 1 << 20),
        None => (text, 1),
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        // As much as zstd takes in one piece on every system.
        .filter(|bytes| (1..=1 << 30).contains(bytes))
        .ok_or_else(|| String::from("expected bytes, from 1 to 1024M, as 4096, 64K or 4M"))
}
