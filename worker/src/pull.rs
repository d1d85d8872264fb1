//! Pull requests, and the messages that answer them.
//!
//! One subscription serves all requests of a worker, one request at a time. A request without an
//! answer in its time ends the subscription too: what the server sends to it later has no receiver,
//! and comes again when its lease expires. So there are never more messages than places.
//!
//! Two kinds of requests:
//!
//! - no-wait: the server sends the messages that it has, up to n, then an end, and keeps no
//!   request. It has no time limit of the server's, with which an empty stream would hold n places
//!   for all of it. The limit is here.
//! - long poll: one message, whenever there is one. The server sends a heartbeat every second. Its
//!   silence reveals a server that was restarted and has forgotten the request.

use std::time::Duration;

use async_nats::{
    Client, Message, StatusCode, Subject, Subscriber,
    jetstream::consumer::{PullConsumer, pull::BatchConfig},
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use crate::{shared::NoAnswer, stamp::Stamp};

/// How long a no-wait request may take.
const NO_WAIT: Duration = Duration::from_secs(2);
/// How long the server keeps a long poll.
const LONG_POLL: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest silence in a long poll: more than two heartbeats, for a busy machine.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the subscription's end may take.
const CLOSING: Duration = Duration::from_millis(300);

/// What a request brought next.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A message, and a time before its arrival.
    Message(Box<Message>, Stamp),
    /// The request has ended: all its messages have come, or there are no more.
    End,
    /// No responders: the server is starting, or the consumer or the stream are gone.
    NoResponders,
    /// No answer in time, or a refusal.
    Broken(String),
}

pub(crate) struct Pull {
    client: Client,
    consumer: PullConsumer,
    inbox: Subject,
    messages: Subscriber,
    /// Messages that the request under way may still bring.
    left: usize,
    patience: Duration,
    /// A time when every message that had arrived was returned.
    none_since: Stamp,
}

impl Pull {
    pub(crate) async fn new(client: &Client, consumer: &PullConsumer) -> Result<Self, NoAnswer> {
        let inbox = Subject::from(client.new_inbox());
        // Without a connection the client's queue fills up at some point.
        let messages = match timeout(NO_WAIT, client.subscribe(inbox.clone())).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => return Err(NoAnswer(error.to_string())),
            Err(_) => return Err(NoAnswer(format!("no subscription in {NO_WAIT:?}"))),
        };
        Ok(Self {
            client: client.clone(),
            consumer: consumer.clone(),
            inbox,
            messages,
            left: 0,
            patience: NO_WAIT,
            none_since: Stamp::now(),
        })
    }

    /// Requests the messages that the server has, up to `n`.
    pub(crate) async fn no_wait(&mut self, n: usize) -> Result<(), String> {
        self.patience = NO_WAIT;
        self.request(BatchConfig {
            batch: n,
            no_wait: true,
            ..BatchConfig::default()
        })
        .await
    }

    /// Requests the next message, whenever it comes.
    pub(crate) async fn long_poll(&mut self) -> Result<(), String> {
        self.patience = SILENCE;
        self.request(BatchConfig {
            batch: 1,
            expires: Some(LONG_POLL),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        })
        .await
    }

    async fn request(&mut self, config: BatchConfig) -> Result<(), String> {
        let batch = config.batch;
        self.none_since = Stamp::now();
        let request = self.consumer.request_batch(config, self.inbox.clone());
        match timeout(NO_WAIT, request).await {
            Ok(Ok(())) => {
                self.left = batch;
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the client took no request in {NO_WAIT:?}")),
        }
    }

    /// Returns what the request brings next. Anything but a message ends the request. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Answer {
        while self.left > 0 {
            let message = match self.messages.next().now_or_never() {
                // It may have arrived long ago.
                Some(message) => message,
                None => {
                    self.none_since = Stamp::now();
                    match timeout(self.patience, self.messages.next()).await {
                        Ok(message) => message,
                        Err(_) => {
                            self.left = 0;
                            let why = format!("no answer to a fetch in {:?}", self.patience);
                            return Answer::Broken(why);
                        }
                    }
                }
            };
            let Some(message) = message else {
                self.left = 0;
                return Answer::Broken(String::from("the client was closed"));
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
                    return Answer::NoResponders;
                }
                Some(status) => {
                    self.left = 0;
                    let why = message.description.unwrap_or_default();
                    return Answer::Broken(format!("the server refuses a fetch: {status} {why}"));
                }
            }
        }
        Answer::End
    }

    /// Ends the subscription, and returns the messages that it still brought.
    pub(crate) async fn close(mut self) -> Vec<(Message, Stamp)> {
        let mut late = Vec::new();
        let began = self.none_since;
        let drain = async {
            // Until the server confirms that it sends no more.
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

    /// Replaces this subscription by a new one. Returns the messages that this one still brought,
    /// too.
    pub(crate) async fn renew(self) -> (Result<Self, NoAnswer>, Vec<(Message, Stamp)>) {
        let (client, consumer) = (self.client.clone(), self.consumer.clone());
        let late = self.close().await;
        (Self::new(&client, &consumer).await, late)
    }
}
