//! The state that the worker's tasks and its jobs share, and their requests to the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use async_nats::{
    Client, HeaderMap, Request, Subject,
    connection::State,
    jetstream::{self, AckKind},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    failure::Failure, guard::Ended, job::Job, lease::Ledger, metrics::Metrics, names::Names,
    poison::Policy, stop::Stop,
};

pub(crate) type Handler = dyn Fn(&Job<'_>) -> Result<(), Failure> + Send + Sync;

pub(crate) struct Shared {
    pub(crate) pool: Arc<Pool>,
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) names: Names,
    pub(crate) handler: Box<Handler>,
    /// The consumer's `ack_wait`: how long the server waits for an ack or a beat.
    pub(crate) lease: Duration,
    pub(crate) policy: Policy,
    /// The most messages that one fetch asks for.
    pub(crate) batch: usize,
    pub(crate) capacity: usize,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Ledger,
    /// To the settler. Bounded by the number of messages held.
    pub(crate) ended: mpsc::UnboundedSender<Ended>,
    pub(crate) stop: Stop,
    pub(crate) answers: Answers,
}

/// When the server answered last.
pub(crate) struct Answers {
    began: Instant,
    /// In milliseconds since `began`.
    last: AtomicU64,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Records an answer.
    pub(crate) fn record(&self) {
        let now = self.uptime().as_millis();
        self.last
            .store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago the last answer came.
    pub(crate) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.uptime().saturating_sub(last)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

/// No answer, or a refusal.
#[derive(Debug)]
pub(crate) struct NoAnswer(pub(crate) String);

impl Shared {
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends `kind` for a delivery, and waits for the server's answer.
    ///
    /// Without a connection it fails: the client would keep the message until the lease has long
    /// expired, and a late `Nak` repeats a job that another process has.
    pub(crate) async fn acknowledge(
        &self,
        reply: &Subject,
        kind: AckKind,
        patience: Duration,
    ) -> Result<(), NoAnswer> {
        if !self.is_connected() {
            return Err(NoAnswer(String::from("there is no connection")));
        }
        let request = Request::new().payload(kind.into()).timeout(None);
        match timeout(patience, self.client.send_request(reply.clone(), request)).await {
            Ok(Ok(_)) => {
                self.answers.record();
                Ok(())
            }
            Ok(Err(error)) => Err(NoAnswer(error.to_string())),
            Err(_) => Err(NoAnswer(format!("no answer in {patience:?}"))),
        }
    }

    /// Publishes a message, and waits until the server has stored it.
    pub(crate) async fn store(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: async_nats::jetstream::message::PublishMessage,
        patience: Duration,
    ) -> Result<(), NoAnswer> {
        let payload = payload.headers(headers);
        let publish = async {
            let stored = self
                .jetstream
                .send_publish(subject, payload)
                .await
                .map_err(|error| NoAnswer(error.to_string()))?;
            stored.await.map_err(|error| NoAnswer(error.to_string()))
        };
        match timeout(patience, publish).await {
            Ok(stored) => stored.map(|_| self.answers.record()),
            Err(_) => Err(NoAnswer(format!("no answer in {patience:?}"))),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
