//! A worker's options.

use std::{sync::Arc, time::Duration};

use adaptive_pool::Pool;
use async_nats::Client;
use tokio::sync::mpsc;

use crate::{
    error::Error,
    failure::Failure,
    job::Job,
    lease::Ledger,
    metrics::Metrics,
    names,
    poison::Policy,
    queue::Queue,
    shared::{Answers, Handler, Shared},
    stop::Stop,
    worker::Worker,
};

/// The shortest useful lease: a beat needs its answer within a third of it.
const SHORTEST_LEASE: Duration = Duration::from_millis(300);

/// The options of a [`Worker`].
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    pool: Arc<Pool>,
    client: Client,
    stream: String,
    consumer: String,
    handler: Option<Box<Handler>>,
    lease: Duration,
    batch: usize,
    grace: Duration,
    policy: Policy,
}

impl Builder {
    pub(crate) fn new(pool: Arc<Pool>, client: Client) -> Self {
        Self {
            pool,
            client,
            stream: String::from("jobs"),
            consumer: String::from("workers"),
            handler: None,
            lease: Duration::from_secs(30),
            batch: 64,
            grace: Duration::from_secs(30),
            policy: Policy {
                max_failures: 5,
                max_crashes: 25,
                backoff: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
            },
        }
    }

    /// Sets the stream of the jobs. Default `jobs`.
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        self.stream = name.into();
        self
    }

    /// Sets the durable consumer that all workers of this stream share. Default `workers`. If there
    /// is none, [`build`](Self::build) creates it.
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = name.into();
        self
    }

    /// Sets the handler of a message. It runs on the pool's workers. It may run twice for one
    /// message, also at the same time, so its effects must be idempotent.
    pub fn handler<F>(mut self, handler: F) -> Self
    where
        F: Fn(&Job<'_>) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.handler = Some(Box::new(handler));
        self
    }

    /// Sets how long the server leaves a message to a silent worker: the time that the messages of
    /// a killed process wait. Default 30 s, at least 0.3 s. A consumer that exists keeps its own.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the most messages of one fetch. Default 64, and never more than the pool's places.
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages;
        self
    }

    /// Sets how long [`run`](Worker::run) waits for running jobs after the stop. Default 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the number of failures (panics and errors) after which a message is dead. Default 5.
    pub fn max_failures(mut self, times: u64) -> Self {
        self.policy.max_failures = times;
        self
    }

    /// Sets the number of deliveries without an end after which a message is dead. Default 25.
    /// After three of them it runs alone.
    pub fn max_crashes(mut self, times: u64) -> Self {
        self.policy.max_crashes = times;
        self
    }

    /// Sets how long a message waits after a failure: `first`, doubled each time up to `longest`,
    /// less a random part of up to a half. Default 1 s and 60 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.policy.backoff = first;
        self.policy.backoff_max = longest;
        self
    }

    /// Opens the stream. Creates the consumer and the streams of dead messages and of records if
    /// there are none.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NoStream`], [`Error::NoJetStream`], [`Error::Consumer`],
    /// [`Error::Silent`].
    pub async fn build(self) -> Result<Worker, Error> {
        self.check()?;
        let queue = Queue::open(&self.client, &self.stream).await?;
        let consumer = queue.consumer(&self.consumer, self.lease).await?;
        let lease = consumer.cached_info().config.ack_wait;
        if lease != self.lease {
            tracing::warn!(
                ?lease,
                wanted = ?self.lease,
                "the consumer exists, and keeps its own lease"
            );
        }
        let seen = self.pool.metrics();
        let capacity = usize::try_from(seen.capacity).unwrap_or(usize::MAX);
        let handler = self.handler.ok_or_else(|| Error::Invalid {
            field: "handler",
            value: String::from("none"),
            rule: "a worker needs one",
        })?;
        let name = crate::worker::pool_name(&self.pool);
        let metrics = Metrics::new(&name).map_err(|error| Error::Invalid {
            field: "pool",
            value: format!("{name}: {error}"),
            rule: "its name must be a valid label value",
        })?;
        let (ended, ends) = mpsc::unbounded_channel();
        let shared = Shared {
            pool: self.pool,
            jetstream: queue.jetstream.clone(),
            names: queue.names(&self.consumer),
            client: self.client,
            handler,
            lease,
            policy: self.policy,
            batch: self.batch.min(capacity.max(1)),
            capacity,
            metrics,
            ledger: Ledger::new(),
            ended,
            stop: Stop::new(),
            answers: Answers::new(),
        };
        Ok(Worker::new(shared, ends, consumer, self.grace))
    }

    fn check(&self) -> Result<(), Error> {
        names::check("stream", &self.stream)?;
        names::check("consumer", &self.consumer)?;
        let wrong = |field, value: String, rule| Err(Error::Invalid { field, value, rule });
        if self.lease < SHORTEST_LEASE {
            return wrong("lease", format!("{:?}", self.lease), "at least 300 ms");
        }
        if self.batch == 0 {
            return wrong("batch", String::from("0"), "at least 1");
        }
        if self.policy.max_failures == 0 {
            return wrong("max_failures", String::from("0"), "at least 1");
        }
        if self.policy.max_crashes == 0 {
            return wrong("max_crashes", String::from("0"), "at least 1");
        }
        if self.handler.is_none() {
            let none = String::from("none");
            return wrong("handler", none, "a worker needs one");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("stream", &self.stream)
            .field("consumer", &self.consumer)
            .field("lease", &self.lease)
            .field("batch", &self.batch)
            .field("grace", &self.grace)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
