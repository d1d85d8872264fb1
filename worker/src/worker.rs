//! The worker: its tasks, and the order in which it stops.
//!
//! Its tasks: the fetcher, the settler, the beat, the answers to status requests, the read of the
//! depth.
//!
//! The stop, in this order:
//!
//! 1. The fetcher ends its subscription, and the server sends nothing more. In another order the
//!    worker would fetch again what the next step gives back.
//! 2. What has not started is cancelled. The guards' drops give the messages back, and other
//!    workers receive them at once.
//! 3. Running jobs end and are acked, within the grace.
//! 4. The beat stops.
//!
//! After the grace, or if the process is killed, the leases expire and the messages come again.

use std::{future::Future, sync::Arc, time::Duration};

use adaptive_pool::Pool;
use async_nats::{Client, jetstream::consumer::PullConsumer};
use prometheus::core::Collector;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::info;

use crate::{
    beat,
    builder::Builder,
    error::Error,
    fetch,
    guard::Ended,
    metrics::{WorkerCollector, is_up},
    presence::{self, WorkerStatus},
    settle,
    shared::Shared,
};

/// Pulls jobs from a stream into a pool. See the [crate's docs](crate).
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    consumer: PullConsumer,
    ends: UnboundedReceiver<Ended>,
    grace: Duration,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The counts at the end.
    pub status: WorkerStatus,
    /// Messages still held at the end of the grace. They come again when their leases expire.
    pub left: u64,
}

/// A health check of a worker.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

impl Health {
    /// Checks that the server is connected and has answered recently.
    ///
    /// # Errors
    /// A sentence for people, with what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if is_up(&self.shared) {
            return Ok(());
        }
        let silent = self.shared.answers.silence().as_secs();
        Err(if self.shared.is_connected() {
            format!("the NATS server is connected, but has not answered for {silent} s")
        } else {
            format!("the NATS server is not connected; its last answer came {silent} s ago")
        })
    }
}

impl Worker {
    /// Builds a worker that takes jobs from the server of `client` and runs them on `pool`, which
    /// others may use too.
    ///
    /// The pool's capacity is the prefetch: other processes cannot have what this one holds. As
    /// many places as workers suit most jobs; 16 to 64 suit jobs shorter than 5 ms.
    pub fn builder(pool: Arc<Pool>, client: Client) -> Builder {
        Builder::new(pool, client)
    }

    pub(crate) fn new(
        shared: Shared,
        ends: UnboundedReceiver<Ended>,
        consumer: PullConsumer,
        grace: Duration,
    ) -> Self {
        Self {
            shared: Arc::new(shared),
            consumer,
            ends,
            grace,
        }
    }

    /// The worker's metrics, with the pool's name as the label `pool`. Register it beside
    /// [`Pool::collector`]. A registry takes one worker of a pool.
    ///
    /// # Errors
    /// If the pool's name cannot be a label's value.
    pub fn collector(&self) -> prometheus::Result<impl Collector + Clone + use<>> {
        WorkerCollector::new(&self.shared)
    }

    /// Returns a health check, which may outlive the worker.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        presence::status(&self.shared)
    }

    /// Works until `stop` is ready, then drains: it ends the fetches, gives back what has not
    /// started, waits for running jobs up to the grace, and acks them. The pool stays open.
    ///
    /// While the server is away it waits, and continues when the server is back.
    ///
    /// If the future is dropped, the worker stops like a killed process: running jobs end, and
    /// their messages come again.
    ///
    /// # Errors
    /// [`Error::Unfit`] if a handler returned [`Failure::unfit`](crate::Failure::unfit),
    /// [`Error::PoolClosed`], and [`Error::NoStream`] or [`Error::Consumer`] if they were removed.
    /// It drains first in each case.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Report, Error> {
        let shared = self.shared;
        // Its drop aborts them.
        let mut tasks = JoinSet::new();
        tasks.spawn(settle::run(Arc::clone(&shared), self.ends));
        tasks.spawn(beat::run(Arc::clone(&shared)));
        tasks.spawn(presence::answer(Arc::clone(&shared)));
        tasks.spawn(presence::watch_depth(
            Arc::clone(&shared),
            self.consumer.clone(),
        ));
        let fetch = tokio::spawn(fetch::run(Arc::clone(&shared), self.consumer));
        let mut fetch = AbortOnDrop(fetch);

        let mut outcome = tokio::select! {
            () = stop => Ok(()),
            () = shared.stop.unfit() => Ok(()),
            ended = &mut fetch.0 => flatten(ended),
            Some(ended) = tasks.join_next() => flatten(ended.map(Ok)),
        };

        shared.stop.begin();
        if !fetch.0.is_finished()
            && let Err(error) = flatten((&mut fetch.0).await)
        {
            outcome = Err(error);
        }
        shared.stop.drain();
        for lease in shared.ledger.all() {
            lease.cancel();
        }
        let empty = shared.ledger.wait_for(|held| held == 0);
        let _ = timeout(self.grace, empty).await;
        drop(tasks);

        let left = shared.ledger.held() as u64;
        let report = Report {
            status: presence::status(&shared),
            left,
        };
        info!(?report, "the worker has ended");
        if let Some(failure) = shared.stop.take_unfit() {
            return Err(Error::Unfit { failure });
        }
        outcome.map(|()| report)
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A panic of a task is a bug of this crate, and continues.
fn flatten(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}

/// Returns the pool's name as its metrics have it.
pub(crate) fn pool_name(pool: &Pool) -> String {
    let collector = pool.collector();
    let label = collector
        .desc()
        .into_iter()
        .flat_map(|desc| &desc.const_label_pairs)
        .find(|label| label.name() == "pool")
        .map(|label| label.value().to_owned());
    label.unwrap_or_else(|| String::from("adaptive-pool"))
}
