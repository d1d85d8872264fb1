//! The queue from outside: create it, publish to it, read its state.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap, StatusCode, Subject,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        consumer::{AckPolicy, PullConsumer, pull},
        message::PublishMessage,
        stream::{Config, RetentionPolicy, StorageType},
    },
};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::{
    error::Error,
    names::{self, Names},
    presence::WorkerStatus,
};

/// How long records of deliveries are kept.
const RECORDS: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the first worker has to report its state: a busy machine may need most of it.
const FIRST: Duration = Duration::from_secs(1);
/// How long the others have after the first.
const OTHERS: Duration = Duration::from_millis(250);

/// A JetStream stream as a queue of jobs.
///
/// # Examples
/// ```no_run
/// use adaptive_pool_worker::Queue;
///
/// # async fn example(client: async_nats::Client) -> Result<(), adaptive_pool_worker::Error> {
/// let queue = Queue::create(&client, "thumbnails", 1).await?;
/// // The id keeps a repeated publish from being stored twice.
/// queue.publish("image-17", "s3://bucket/image-17").await?;
/// let status = queue.status("workers").await?;
/// println!("{} wait, {} workers", status.waiting, status.workers.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) stream: String,
    subject: String,
    created: i128,
    replicas: usize,
    storage: StorageType,
}

/// The state of a queue.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Messages that no worker holds.
    pub waiting: u64,
    /// Messages that workers hold, or that wait for their backoff.
    pub in_flight: u64,
    /// Messages that are done: all that were ever published, except those that wait, are in flight,
    /// are dead, or were dead once. Purged ones count too.
    pub done: u64,
    /// Dead messages.
    pub dead: u64,
    /// The worker processes that answered in time.
    pub workers: Vec<WorkerStatus>,
}

impl QueueStatus {
    /// Messages that are not done: waiting or in flight.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.waiting + self.in_flight
    }
}

/// Whether a published message is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It was stored.
    New,
    /// A message with this id was stored within the last two minutes, or the stream's own window.
    Known,
}

impl Queue {
    /// Opens the queue `name`, and creates it if there is none: a stream on disk with the subject
    /// `<name>.jobs`, which removes messages that are done. `replicas`: the number of servers of a
    /// cluster that keep each message.
    ///
    /// # Errors
    /// A name that cannot be one, a server without JetStream, other streams with its subjects.
    pub async fn create(client: &Client, name: &str, replicas: usize) -> Result<Self, Error> {
        names::check("stream", name)?;
        let jetstream = jetstream::new(client.clone());
        let config = Config {
            name: name.to_owned(),
            subjects: vec![names::jobs_subject(name)],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: replicas,
            ..Config::default()
        };
        jetstream
            .get_or_create_stream(config)
            .await
            .map_err(|error| Error::create_stream(name, &error))?;
        Self::open(client, name).await
    }

    /// Opens a queue that exists. Any stream serves; [`publish`](Self::publish) uses its first
    /// subject.
    ///
    /// # Errors
    /// [`Error::NoStream`] if there is none.
    pub async fn open(client: &Client, name: &str) -> Result<Self, Error> {
        names::check("stream", name)?;
        let jetstream = jetstream::new(client.clone());
        let stream = jetstream
            .get_stream(name)
            .await
            .map_err(|error| Error::get_stream(name, &error))?;
        let info = stream.cached_info();
        let subject = info.config.subjects.first();
        let subject = subject.cloned().unwrap_or_else(|| name.to_owned());
        let queue = Self {
            client: client.clone(),
            stream: name.to_owned(),
            subject: subject.replace(['*', '>'], "job"),
            created: info.created.unix_timestamp_nanos(),
            replicas: info.config.num_replicas,
            storage: info.config.storage,
            jetstream,
        };
        queue.create_companions().await?;
        Ok(queue)
    }

    /// Creates the streams of dead messages and of records, as durable as the stream of jobs.
    async fn create_companions(&self) -> Result<(), Error> {
        let name = &self.stream;
        let companion = |stream: String, subject: String, max_age| Config {
            name: stream,
            subjects: vec![subject],
            storage: self.storage,
            num_replicas: self.replicas,
            max_age,
            ..Config::default()
        };
        let dead = companion(
            names::dead_stream(name),
            format!("{name}.dead"),
            Duration::ZERO,
        );
        let ended = companion(
            names::ended_stream(name),
            format!("{name}.ended.>"),
            RECORDS,
        );
        for config in [dead, ended] {
            let stream = config.name.clone();
            self.jetstream
                .get_or_create_stream(config)
                .await
                .map_err(|error| Error::create_stream(&stream, &error))?;
        }
        Ok(())
    }

    /// Opens the workers' consumer, and creates it with `lease` if there is none.
    pub(crate) async fn consumer(
        &self,
        consumer: &str,
        lease: Duration,
    ) -> Result<PullConsumer, Error> {
        let wrong = |error| Error::consumer(&self.stream, consumer, &error);
        let existing = self
            .jetstream
            .get_stream_no_info(&self.stream)
            .await
            .map_err(|error| Error::get_stream(&self.stream, &error))?;
        let found = existing
            .get_or_create_consumer(
                consumer,
                pull::Config {
                    durable_name: Some(consumer.to_owned()),
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: lease,
                    max_deliver: -1,
                    // Each worker bounds what it holds; a bound over all workers would starve some.
                    max_ack_pending: -1,
                    // Each idle worker has one long poll.
                    max_waiting: 10_000,
                    ..pull::Config::default()
                },
            )
            .await
            .map_err(wrong)?;
        Error::check_consumer(&self.stream, consumer, &found.cached_info().config)?;
        Ok(found)
    }

    pub(crate) fn names(&self, consumer: &str) -> Names {
        Names {
            stream: self.stream.clone(),
            consumer: consumer.to_owned(),
            created: self.created,
        }
    }

    /// Publishes a job, and waits until the server has stored it. The server drops a second one
    /// with the same `id` within two minutes, so a publish that failed may be repeated.
    ///
    /// Keep several under way at once for throughput.
    ///
    /// # Errors
    /// [`Error::Publish`]: the message may or may not have been stored.
    pub async fn publish(&self, id: &str, payload: impl AsRef<[u8]>) -> Result<Published, Error> {
        self.publish_with(id, payload, HeaderMap::new()).await
    }

    /// The same with headers. The job's span has their `traceparent`.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_with(
        &self,
        id: &str,
        payload: impl AsRef<[u8]>,
        headers: HeaderMap,
    ) -> Result<Published, Error> {
        self.publish_to(self.subject.clone(), id, payload.as_ref(), headers)
            .await
    }

    pub(crate) async fn publish_to(
        &self,
        subject: String,
        id: &str,
        payload: &[u8],
        mut headers: HeaderMap,
    ) -> Result<Published, Error> {
        let wrong = |why: String| Error::Publish {
            id: id.to_owned(),
            why,
        };
        headers.insert(NATS_MESSAGE_ID, names::header_text(id).as_str());
        let message = PublishMessage::build()
            .payload(payload.to_vec().into())
            .headers(headers);
        let stored = self.jetstream.send_publish(subject, message).await;
        let stored = stored.map_err(|error| wrong(error.to_string()))?;
        let stored = stored.await.map_err(|error| wrong(error.to_string()))?;
        Ok(if stored.duplicate {
            Published::Known
        } else {
            Published::New
        })
    }

    /// Reads the queue's state. Asks all workers of the consumer, and waits for their answers: a
    /// second at most for the first one, and then a quarter of a second for the others.
    ///
    /// # Errors
    /// [`Error::NoStream`], or a server that does not answer.
    pub async fn status(&self, consumer: &str) -> Result<QueueStatus, Error> {
        names::check("consumer", consumer)?;
        let workers = self.roll_call(consumer);
        let (workers, counts) = tokio::join!(workers, self.counts(consumer));
        let (waiting, in_flight, done, dead) = counts?;
        Ok(QueueStatus {
            waiting,
            in_flight,
            done,
            dead,
            workers: workers?,
        })
    }

    async fn counts(&self, consumer: &str) -> Result<(u64, u64, u64, u64), Error> {
        let state = |stream: String| async move {
            let found = self.jetstream.get_stream(&stream).await;
            let found = found.map_err(|error| Error::get_stream(&stream, &error))?;
            Ok::<_, Error>(found.cached_info().state.clone())
        };
        let jobs = state(self.stream.clone()).await?;
        let dead = state(names::dead_stream(&self.stream)).await?;
        let found: Result<PullConsumer, _> = self
            .jetstream
            .get_consumer_from_stream(consumer, &self.stream)
            .await;
        let (waiting, in_flight) = match found {
            Ok(found) => {
                let info = found.cached_info();
                (info.num_pending, info.num_ack_pending as u64)
            }
            // No worker has created it yet.
            Err(_) => (jobs.messages, 0),
        };
        let open = waiting + in_flight + dead.last_sequence;
        let done = jobs.last_sequence.saturating_sub(open);
        Ok((waiting, in_flight, done, dead.messages))
    }

    async fn roll_call(&self, consumer: &str) -> Result<Vec<WorkerStatus>, Error> {
        let silent = |what: String| Error::Silent { what };
        let inbox = Subject::from(self.client.new_inbox());
        let mut answers = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| silent(error.to_string()))?;
        let subject = Names::status_subject(&self.stream, consumer);
        self.client
            .publish_with_reply(subject, inbox, Default::default())
            .await
            .map_err(|error| silent(error.to_string()))?;
        let mut until = Instant::now() + FIRST;
        let mut workers: Vec<WorkerStatus> = Vec::new();
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            if answer.status == Some(StatusCode::NO_RESPONDERS) {
                break;
            }
            until = until.min(Instant::now() + OTHERS);
            workers.extend(serde_json::from_slice::<WorkerStatus>(&answer.payload));
        }
        workers.sort_by(|a, b| (&a.host, a.pid).cmp(&(&b.host, b.pid)));
        Ok(workers)
    }
}
