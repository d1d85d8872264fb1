//! The state of a worker, for tables and health checks, and the queue's depth.
//!
//! There is no list of workers. Each one answers requests on a subject of its consumer. Those that
//! answer in time are present; one that is stopped or dead is not.

use std::{process, sync::Arc, time::Duration};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use async_nats::jetstream::consumer::PullConsumer;

use crate::{lease::lock, names::Names, shared::Shared};

/// Between two reads of the queue's depth.
const PERIOD: Duration = Duration::from_secs(5);

/// The state of one worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The host's name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// The pool's name.
    pub pool: String,
    /// Its uptime, in seconds.
    pub uptime_seconds: f64,
    /// Workers of its pool in service.
    pub workers: u64,
    /// Workers of its pool that run jobs.
    pub busy: u64,
    /// Messages that it holds.
    pub in_flight: u64,
    /// Messages that it has done.
    pub acked: u64,
    /// Messages that failed here, and come again.
    pub retried: u64,
    /// Messages that it moved to the dead ones.
    pub dead: u64,
    /// Messages that it gave back.
    pub given_back: u64,
    /// Leases that it lost.
    pub lease_lost: u64,
    /// Whether it has ended its fetches.
    pub draining: bool,
}

pub(crate) fn status(shared: &Shared) -> WorkerStatus {
    let seen = shared.pool.metrics();
    let metrics = &shared.metrics;
    WorkerStatus {
        host: host(),
        pid: process::id(),
        pool: metrics.pool.clone(),
        uptime_seconds: shared.answers.uptime().as_secs_f64(),
        workers: seen.workers_in_service,
        busy: seen.workers_busy,
        in_flight: shared.ledger.held() as u64,
        acked: metrics.acked.get(),
        retried: metrics.retried.get(),
        dead: metrics.dead.get(),
        given_back: metrics.given_back.get(),
        lease_lost: metrics.lease_lost.get(),
        draining: shared.stop.is_stopping(),
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| String::from("?"))
}

/// Answers requests for the worker's state.
pub(crate) async fn answer(shared: Arc<Shared>) {
    let names = &shared.names;
    let subject = Names::status_subject(&names.stream, &names.consumer);
    loop {
        if let Ok(mut requests) = shared.client.subscribe(subject.clone()).await {
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    let text = serde_json::to_vec(&status(&shared)).unwrap_or_default();
                    let _ = shared.client.publish(reply, text.into()).await;
                }
            }
        }
        sleep(PERIOD).await;
    }
}

/// Reads the depth periodically, for the metrics. The stream's number of messages is another one: a
/// server that was killed may keep acked messages.
pub(crate) async fn watch_depth(shared: Arc<Shared>, consumer: PullConsumer) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Ok(Ok(info)) = timeout(PERIOD, consumer.get_info()).await {
            shared.answers.record();
            let depth = info.num_pending + info.num_ack_pending as u64;
            *lock(&shared.metrics.depth) = Some(depth);
        }
    }
}
