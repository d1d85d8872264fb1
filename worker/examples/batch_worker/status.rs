//! `status`: a live table.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use adaptive_pool_worker::{Queue, QueueStatus};
use tokio::time::sleep;

use crate::{
    Stop,
    args::{Server, Status},
    print,
};

/// Moves to the first line, and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// The rate is that of the last five periods, since one alone jumps.
const PERIODS: usize = 5;

pub async fn run(server: &Server, args: Status) -> Result<(), Stop> {
    let client = server.connect().await?;
    let queue = Queue::open(&client, &server.stream).await?;
    let clears = io::stdout().is_terminal() && !args.once;
    let mut samples: Vec<(Instant, u64)> = Vec::new();
    loop {
        let turn = Instant::now();
        let text = match queue.status("workers").await {
            Ok(seen) => {
                samples.push((turn, seen.done));
                if samples.len() > PERIODS + 1 {
                    samples.remove(0);
                }
                table(&server.stream, &seen, rate(&samples))
            }
            // A live table outlives a server that is restarted.
            Err(error) if !args.once => format!("{error}\n"),
            Err(error) => return Err(error.into()),
        };
        let clear = if clears { CLEAR } else { "" };
        print(&format!("{clear}{text}"))?;
        if args.once {
            return Ok(());
        }
        sleep(args.every.saturating_sub(turn.elapsed())).await;
    }
}

/// `None` before there are two samples.
fn rate(samples: &[(Instant, u64)]) -> Option<f64> {
    let [(from, before), .., (to, after)] = samples else {
        return None;
    };
    let seconds = to.duration_since(*from).max(Duration::from_millis(1));
    Some(after.saturating_sub(*before) as f64 / seconds.as_secs_f64())
}

fn table(stream: &str, seen: &QueueStatus, rate: Option<f64>) -> String {
    let rate = rate.map_or_else(|| String::from("-"), |rate| format!("{rate:.0}"));
    let mut text = format!(
        "{:<12} {:>9} {:>9} {:>9} {:>6} {:>8} {:>7}\n{:<12} {:>9} {:>9} {:>9} {:>6} {:>8} {:>7}\n",
        "stream",
        "depth",
        "in flight",
        "done",
        "dead",
        "workers",
        "jobs/s",
        stream,
        seen.depth(),
        seen.in_flight,
        seen.done,
        seen.dead,
        seen.workers.len(),
        rate
    );
    if seen.workers.is_empty() {
        text.push_str("\nno worker answers: start one with `batch_worker work`\n");
        return text;
    }
    let _ = writeln!(
        text,
        "\n{:<20} {:>8} {:>6} {:>9} {:>9} {:>7} {:>6} {:>8}",
        "worker", "up", "busy", "in flight", "done", "retried", "dead", "lost"
    );
    for worker in &seen.workers {
        let _ = writeln!(
            text,
            "{:<20} {:>7.0}s {:>6} {:>9} {:>9} {:>7} {:>6} {:>8}{}",
            format!("{}:{}", worker.host, worker.pid),
            worker.uptime_seconds,
            format!("{}/{}", worker.busy, worker.workers),
            worker.in_flight,
            worker.acked,
            worker.retried,
            worker.dead,
            worker.lease_lost,
            if worker.draining { "  draining" } else { "" }
        );
    }
    text
}
