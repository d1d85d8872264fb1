//! The worker: its tasks, and the order in which it stops.
//!
//! While it runs: the fetcher, the settler, the beat, the answers to questions, the look at the depth.
//!
//! The stop, in this order:
//!
//! 1. The fetcher ends its subscription. From now on the server sends nothing here; else the next step
//!    would fetch its own give-backs again.
//! 2. What has not started is cancelled. The guards' drops give the messages back, and other workers
//!    have them at once.
//! 3. What runs may end, and what ended is acked, for the grace at most.
//! 4. The beat stops.
//!
//! After the grace, or if the process is killed, the leases do the rest.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

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
    lease::lock,
    metrics::{WorkerCollector, is_up},
    presence::{self, WorkerStatus},
    settle,
    shared::{Parts, Shared},
};

/// Pulls jobs from a stream into a pool. See the [crate's docs](crate).
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    consumer: PullConsumer,
    ends: UnboundedReceiver<Ended>,
    grace: Duration,
}

/// What a worker has done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The counts at the end.
    pub status: WorkerStatus,
    /// Messages that were still held when the grace was over. They come again when their leases are.
    pub left: u64,
}

/// Whether a worker can do its work.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

impl Health {
    /// Whether the server is connected and has answered lately; else why not.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        if is_up(&self.shared) {
            return Ok(());
        }
        let silent = self.shared.silent_for().as_secs();
        Err(if self.shared.is_connected() {
            format!("the NATS server is connected, and has not answered for {silent} s")
        } else {
            format!("the NATS server is not connected; it answered {silent} s ago last")
        })
    }
}

impl Worker {
    /// A worker that runs its jobs on `pool`, which others may use too, and takes them from the server
    /// of `client`.
    ///
    /// The pool's capacity is the prefetch: what this process holds, others cannot have. As many places
    /// as workers are right for most; 16 to 64 if jobs take less than 5 ms.
    pub fn builder(pool: Arc<Pool>, client: Client) -> Builder {
        Builder::new(pool, client)
    }

    pub(crate) fn new(parts: Parts, consumer: PullConsumer, grace: Duration) -> Self {
        let (shared, ends) = Shared::new(parts);
        Self {
            shared,
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

    /// For a health check; outlives the worker.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        presence::status(&self.shared)
    }

    /// Works until `stop` is ready, and then drains: it fetches no more, gives back what has not started,
    /// waits for what runs up to the grace, and acks it. The pool stays open.
    ///
    /// A server that goes away does not end it: it goes on when the server is back.
    ///
    /// Dropped, it stops all at once, as a killed process: running jobs end, and their messages come again.
    ///
    /// # Errors
    /// [`Error::Unfit`] if a handler said so, [`Error::PoolClosed`], and [`Error::NoStream`] or
    /// [`Error::Consumer`] if they were removed. It has drained then too.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Report, Error> {
        let shared = self.shared;
        // Dropped, it aborts them.
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

        let mut unfit = shared.is_unfit.subscribe();
        let mut outcome = tokio::select! {
            () = stop => Ok(()),
            _ = unfit.wait_for(|unfit| *unfit) => Ok(()),
            ended = &mut fetch.0 => flatten(ended),
            Some(ended) = tasks.join_next() => flatten(ended.map(Ok)),
        };

        shared.stopping.send_replace(true);
        if !fetch.0.is_finished()
            && let Err(error) = flatten((&mut fetch.0).await)
        {
            outcome = Err(error);
        }
        shared.draining.store(true, Ordering::Release);
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
        if let Some(failure) = lock(&shared.unfit).take() {
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

/// A panic of a task is a bug of this crate, and goes on.
fn flatten(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}

/// The name that the pool's series bear.
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
