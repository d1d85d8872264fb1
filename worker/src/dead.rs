//! The dead messages: read them, and put them back.

use async_nats::{
    HeaderMap,
    jetstream::{message::StreamMessage, stream::LastRawMessageErrorKind},
};

use crate::{error::Error, names, queue::Queue};

/// A message that is not delivered any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadMessage {
    /// Its number in the stream of dead messages.
    pub number: u64,
    /// Its number in the stream of jobs.
    pub sequence: u64,
    /// `failed`, `crashed` or `poison`.
    pub reason: String,
    /// Its handler's last error.
    pub error: String,
    /// The number of its deliveries.
    pub deliveries: u64,
    /// The number of its failures.
    pub failures: u64,
    /// The number of deliveries that never ended.
    pub crashes: u64,
    /// The subject that it was published to.
    pub subject: String,
    /// The id that it was published with, if any.
    pub id: Option<String>,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl DeadMessage {
    fn new(message: &StreamMessage) -> Self {
        let header = |name: &str| {
            let value = message.headers.get(name);
            value.map(|value| value.as_str().to_owned())
        };
        let number = |name: &str| header(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            number: message.sequence,
            sequence: number(names::SEQUENCE),
            reason: header(names::REASON).unwrap_or_default(),
            error: header(names::ERROR).unwrap_or_default(),
            deliveries: number(names::DELIVERIES),
            failures: number(names::FAILURES),
            crashes: number(names::CRASHES),
            subject: header(names::SUBJECT).unwrap_or_default(),
            id: header(names::ID),
            payload: message.payload.to_vec(),
        }
    }
}

impl Queue {
    /// Returns the first dead message whose number is at least `from`; `None` if there is none.
    ///
    /// # Errors
    /// A server that does not answer.
    pub async fn next_dead(&self, from: u64) -> Result<Option<DeadMessage>, Error> {
        Ok(self.raw_dead(from).await?.map(|raw| DeadMessage::new(&raw)))
    }

    async fn raw_dead(&self, from: u64) -> Result<Option<StreamMessage>, Error> {
        let stream = names::dead_stream(&self.stream);
        let dead = self
            .jetstream
            .get_stream_no_info(&stream)
            .await
            .map_err(|error| Error::get_stream(&stream, &error))?;
        let subject = format!("{}.dead", self.stream);
        match dead
            .get_first_raw_message_by_subject(subject.as_str(), from.max(1))
            .await
        {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::Silent {
                what: error.to_string(),
            }),
        }
    }

    /// Puts a dead message back among the jobs, as a new one without failures and crashes. Returns
    /// `false` if there is no dead message `number`.
    ///
    /// # Errors
    /// [`Error::Publish`]: it is still dead.
    pub async fn revive(&self, number: u64) -> Result<bool, Error> {
        let Some(raw) = self.raw_dead(number).await? else {
            return Ok(false);
        };
        if raw.sequence != number {
            return Ok(false);
        }
        let message = DeadMessage::new(&raw);
        let mut headers = HeaderMap::new();
        for (name, values) in raw.headers.iter() {
            let text: &str = name.as_ref();
            if text.starts_with("Nats-") || text.starts_with("Adaptive-Pool-") {
                continue;
            }
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        // The server may remember its first id.
        let id = format!("revived:{}:{number}", self.stream);
        self.publish_to(message.subject, &id, &message.payload, headers)
            .await?;
        let stream = names::dead_stream(&self.stream);
        let silent = |what: String| Error::Silent { what };
        let dead = self.jetstream.get_stream_no_info(&stream).await;
        let dead = dead.map_err(|error| Error::get_stream(&stream, &error))?;
        dead.delete_message(number)
            .await
            .map_err(|error| silent(error.to_string()))?;
        Ok(true)
    }
}
