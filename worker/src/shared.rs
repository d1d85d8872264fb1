//! What the worker's tasks and its jobs share, and how they ask the server.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use async_nats::{
    Client, HeaderMap, Request, Subject,
    connection::State,
    jetstream::{self, AckKind},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    failure::Failure, guard::Ended, job::Job, lease::Ledger, metrics::Metrics, names::Names,
    poison::Policy,
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
    /// How many messages one fetch asks for at most.
    pub(crate) batch: usize,
    pub(crate) capacity: usize,
    pub(crate) ledger: Ledger,
    pub(crate) metrics: Metrics,
    pub(crate) ended: mpsc::UnboundedSender<Ended>,
    /// No more fetches. Set before `draining`.
    pub(crate) stopping: watch::Sender<bool>,
    /// What has not started does not start.
    pub(crate) draining: AtomicBool,
    /// The first failure of the kind that no other job here will escape.
    pub(crate) unfit: Mutex<Option<Failure>>,
    pub(crate) is_unfit: watch::Sender<bool>,
    began: Instant,
    /// When the server answered last: in milliseconds since `began`.
    answered: AtomicU64,
}

/// What a worker is made of, beyond what starts empty.
pub(crate) struct Parts {
    pub(crate) pool: Arc<Pool>,
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) names: Names,
    pub(crate) handler: Box<Handler>,
    pub(crate) lease: Duration,
    pub(crate) policy: Policy,
    pub(crate) batch: usize,
    pub(crate) capacity: usize,
    pub(crate) metrics: Metrics,
}

/// No answer, or one that says no.
#[derive(Debug)]
pub(crate) struct NoAnswer(pub(crate) String);

impl Shared {
    pub(crate) fn new(parts: Parts) -> (Arc<Self>, mpsc::UnboundedReceiver<Ended>) {
        // As many as messages are held, which are bounded.
        let (ended, receiver) = mpsc::unbounded_channel();
        let shared = Self {
            pool: parts.pool,
            client: parts.client,
            jetstream: parts.jetstream,
            names: parts.names,
            handler: parts.handler,
            lease: parts.lease,
            policy: parts.policy,
            batch: parts.batch,
            capacity: parts.capacity,
            ledger: Ledger::new(),
            metrics: parts.metrics,
            ended,
            stopping: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            unfit: Mutex::new(None),
            is_unfit: watch::Sender::new(false),
            began: Instant::now(),
            answered: AtomicU64::new(0),
        };
        (Arc::new(shared), receiver)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Notes that the server has just answered.
    pub(crate) fn heard(&self) {
        let now = self.began.elapsed().as_millis();
        self.answered
            .store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For how long the server has said nothing.
    pub(crate) fn silent_for(&self) -> Duration {
        let answered = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(answered)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) async fn stopped(&self) {
        let _ = self.stopping.subscribe().wait_for(|stop| *stop).await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Sends a word about a delivery and waits for the server's answer to it.
    ///
    /// Not while there is no connection: the client would keep the word and say it when the lease is
    /// long over, and a late NAK has a job run that another process has.
    pub(crate) async fn say(
        &self,
        reply: &Subject,
        word: AckKind,
        patience: Duration,
    ) -> Result<(), NoAnswer> {
        if !self.is_connected() {
            return Err(NoAnswer(String::from("there is no connection")));
        }
        let request = Request::new().payload(word.into()).timeout(None);
        match timeout(patience, self.client.send_request(reply.clone(), request)).await {
            Ok(Ok(_)) => {
                self.heard();
                Ok(())
            }
            Ok(Err(error)) => Err(NoAnswer(error.to_string())),
            Err(_) => Err(NoAnswer(format!("no answer in {patience:?}"))),
        }
    }

    /// Stores a message and waits until the server has said so.
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
            Ok(stored) => stored.map(|_| self.heard()),
            Err(_) => Err(NoAnswer(format!("no answer in {patience:?}"))),
        }
    }

    /// A handler says that no job will succeed here.
    pub(crate) fn set_unfit(&self, failure: Failure) {
        crate::lease::lock(&self.unfit).get_or_insert(failure);
        self.is_unfit.send_replace(true);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
