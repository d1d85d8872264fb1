//! Pull requests, and the messages that answer them.
//!
//! One subscription serves all requests of a worker, one request at a time. When a request gets no
//! answer in its time, the subscription is given up with it: what the server sends to it later goes to
//! nobody, and comes again when its lease is over. So there are never more messages than places.
//!
//! Two kinds of requests:
//!
//! - at once: the server sends what there is, up to n, and says so when that was all. It keeps
//!   nothing. The request has no time limit on the server (with one, an empty stream would hold the
//!   n places for all of it); the limit is here.
//! - patient: one message, whenever there is one. The server sends a heartbeat each second, so that a
//!   server that was restarted, and knows nothing of the request any more, is noticed by its silence.

use std::time::Duration;

use async_nats::{
    Client, Message, StatusCode, Subject, Subscriber,
    jetstream::consumer::{PullConsumer, pull::BatchConfig},
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use crate::{shared::NoAnswer, stamp::Stamp};

/// How long a request at once may take.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long the server keeps a patient request.
const PATIENT: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without a heartbeat for as long the request is given up. Some more than two, for a busy machine.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the end of the subscription may take.
const CLOSING: Duration = Duration::from_millis(300);

/// What a request brought next.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A message, and a moment when it had not been here yet.
    Message(Box<Message>, Stamp),
    /// The request has ended: all messages are there, or there are no more.
    End,
    /// No server listens: it is starting, or the consumer or the stream are gone.
    Nobody,
    /// The server said nothing in time, or something that is no answer.
    Silence(String),
}

pub(crate) struct Pull {
    client: Client,
    consumer: PullConsumer,
    inbox: Subject,
    messages: Subscriber,
    /// Messages that the request under way may still bring.
    left: usize,
    patience: Duration,
    /// When there was no message here that has not been returned yet.
    none_since: Stamp,
}

impl Pull {
    pub(crate) async fn new(client: &Client, consumer: &PullConsumer) -> Result<Self, NoAnswer> {
        let inbox = Subject::from(client.new_inbox());
        // A client without a connection takes no more at some point.
        let messages = match timeout(AT_ONCE, client.subscribe(inbox.clone())).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => return Err(NoAnswer(error.to_string())),
            Err(_) => return Err(NoAnswer(format!("no subscription in {AT_ONCE:?}"))),
        };
        Ok(Self {
            client: client.clone(),
            consumer: consumer.clone(),
            inbox,
            messages,
            left: 0,
            patience: AT_ONCE,
            none_since: Stamp::now(),
        })
    }

    /// Asks for what there is, up to `n` messages.
    pub(crate) async fn at_once(&mut self, n: usize) -> Result<(), String> {
        self.patience = AT_ONCE;
        self.request(BatchConfig {
            batch: n,
            no_wait: true,
            ..BatchConfig::default()
        })
        .await
    }

    /// Asks for the next message, whenever it comes.
    pub(crate) async fn patiently(&mut self) -> Result<(), String> {
        self.patience = SILENCE;
        self.request(BatchConfig {
            batch: 1,
            expires: Some(PATIENT),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        })
        .await
    }

    async fn request(&mut self, config: BatchConfig) -> Result<(), String> {
        let batch = config.batch;
        self.none_since = Stamp::now();
        let request = self.consumer.request_batch(config, self.inbox.clone());
        match timeout(AT_ONCE, request).await {
            Ok(Ok(())) => {
                self.left = batch;
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the client took no request in {AT_ONCE:?}")),
        }
    }

    /// What the request brings next. After anything but a message it has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Answer {
        while self.left > 0 {
            let message = match self.messages.next().now_or_never() {
                // It may have been here for long.
                Some(message) => message,
                None => {
                    self.none_since = Stamp::now();
                    match timeout(self.patience, self.messages.next()).await {
                        Ok(message) => message,
                        Err(_) => {
                            self.left = 0;
                            let why = format!("no answer to a fetch in {:?}", self.patience);
                            return Answer::Silence(why);
                        }
                    }
                }
            };
            let Some(message) = message else {
                self.left = 0;
                return Answer::Silence(String::from("the client was closed"));
            };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.left -= 1;
                    return Answer::Message(Box::new(message), self.none_since);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => self.left = 0,
                Some(StatusCode::NO_RESPONDERS) => {
                    self.left = 0;
                    return Answer::Nobody;
                }
                Some(status) => {
                    self.left = 0;
                    let why = message.description.unwrap_or_default();
                    return Answer::Silence(format!("the server refuses a fetch: {status} {why}"));
                }
            }
        }
        Answer::End
    }

    /// Gives the subscription up, and returns what it still brought.
    pub(crate) async fn close(mut self) -> Vec<(Message, Stamp)> {
        let mut late = Vec::new();
        let began = self.none_since;
        let drain = async {
            // Until the server has confirmed that it sends no more.
            if self.messages.drain().await.is_ok() {
                while let Some(message) = self.messages.next().await {
                    if matches!(message.status, None | Some(StatusCode::OK)) {
                        late.push((message, began));
                    }
                }
            }
        };
        let _ = timeout(CLOSING, drain).await;
        late
    }

    /// A new subscription in place of this one, and what this one still brought.
    pub(crate) async fn renew(self) -> (Result<Self, NoAnswer>, Vec<(Message, Stamp)>) {
        let (client, consumer) = (self.client.clone(), self.consumer.clone());
        let late = self.close().await;
        (Self::new(&client, &consumer).await, late)
    }
}
