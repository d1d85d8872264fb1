//! The errors. Each names what to do.

use async_nats::{
    ConnectError, ConnectErrorKind,
    jetstream::{
        self, ErrorCode,
        context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
        stream::{ConsumerError, ConsumerErrorKind},
    },
};

use crate::failure::Failure;

/// Why a worker, a producer or a reader of the queue cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has an invalid value.
    #[error("{field} = {value}: {rule}")]
    Invalid {
        /// The method that took the value.
        field: &'static str,
        /// The value.
        value: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// No server answers at the address.
    #[error(
        "no NATS server answers at {url} ({source}): start one with `nats-server -js`, or name another \
         address"
    )]
    Unreachable {
        /// The server's address.
        url: String,
        /// The client's error.
        source: ConnectError,
    },
    /// The server does not accept the credentials.
    #[error(
        "the NATS server at {url} refuses these credentials ({source}): check user, password, token or \
         credentials file"
    )]
    Credentials {
        /// The server's address.
        url: String,
        /// The client's error.
        source: ConnectError,
    },
    /// The address is invalid, or TLS cannot be set up.
    #[error("cannot connect to {url}: {source}")]
    Connect {
        /// The server's address.
        url: String,
        /// The client's error.
        source: ConnectError,
    },
    /// The server does not answer requests.
    #[error(
        "the NATS server does not answer: {what}; check that it runs, and that this user may use JetStream's API"
    )]
    Silent {
        /// The request, and the client's error.
        what: String,
    },
    /// The server runs without JetStream.
    #[error("the NATS server has no JetStream: start it with `nats-server -js`")]
    NoJetStream,
    /// There is no such stream.
    #[error(
        "there is no stream `{stream}`: create it by `batch_worker enqueue --stream {stream} PATH`, by \
         `Queue::create`, or by `nats stream add {stream}`"
    )]
    NoStream {
        /// The stream's name.
        stream: String,
    },
    /// The stream exists, but cannot be used as a queue of jobs.
    #[error("the stream `{stream}` cannot be used: {why}")]
    Stream {
        /// The stream's name.
        stream: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The consumer exists, but cannot be used by workers.
    #[error("the consumer `{consumer}` of the stream `{stream}` cannot be used: {why}")]
    Consumer {
        /// The stream's name.
        stream: String,
        /// The consumer's name.
        consumer: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A message may not have been stored: publish it again, with the same id.
    #[error(
        "the message `{id}` was not confirmed: {why}; publish it again, the server stores an id once"
    )]
    Publish {
        /// The message's id.
        id: String,
        /// The client's or the server's error.
        why: String,
    },
    /// The pool was closed while the worker ran. What it held was given back.
    #[error("the pool was closed: a worker needs a pool that outlives it")]
    PoolClosed,
    /// A handler returned [`Failure::unfit`]. What the worker held was given back.
    #[error("this machine cannot do these jobs: {failure}")]
    Unfit {
        /// The handler's failure.
        failure: Failure,
    },
}

impl Error {
    pub(crate) fn connect(url: &str, source: ConnectError) -> Self {
        let url = url.to_owned();
        match source.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Self::Credentials { url, source }
            }
            ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns => {
                Self::Unreachable { url, source }
            }
            _ => Self::Connect { url, source },
        }
    }

    pub(crate) fn get_stream(stream: &str, error: &GetStreamError) -> Self {
        match error.kind() {
            GetStreamErrorKind::JetStream(error) => Self::jetstream(stream, &error),
            GetStreamErrorKind::Request => Self::request(format!("{error}")),
            _ => Self::Stream {
                stream: stream.to_owned(),
                why: error.to_string(),
            },
        }
    }

    pub(crate) fn create_stream(stream: &str, error: &CreateStreamError) -> Self {
        match error.kind() {
            CreateStreamErrorKind::JetStream(error) => Self::jetstream(stream, &error),
            CreateStreamErrorKind::JetStreamUnavailable => Self::NoJetStream,
            CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => {
                Self::request(format!("{error}"))
            }
            _ => Self::Stream {
                stream: stream.to_owned(),
                why: error.to_string(),
            },
        }
    }

    pub(crate) fn consumer(stream: &str, consumer: &str, error: &ConsumerError) -> Self {
        match error.kind() {
            ConsumerErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Self::jetstream(stream, &error)
            }
            ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request => {
                Self::request(format!("{error}"))
            }
            _ => Self::Consumer {
                stream: stream.to_owned(),
                consumer: consumer.to_owned(),
                why: error.to_string(),
            },
        }
    }

    /// For a request without an answer, or without a JetStream server that takes it.
    fn request(what: String) -> Self {
        if what.contains("no responders") {
            Self::NoJetStream
        } else {
            Self::Silent { what }
        }
    }

    fn jetstream(stream: &str, error: &jetstream::Error) -> Self {
        let stream = stream.to_owned();
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => Self::NoStream { stream },
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Self::NoJetStream
            }
            ErrorCode::STREAM_SUBJECT_OVERLAP => Self::Stream {
                why: format!(
                    "another stream has its subjects already ({error}); choose another name, or see \
                     `nats stream ls --subject '{stream}.>'`"
                ),
                stream,
            },
            _ => Self::Stream {
                why: error.to_string(),
                stream,
            },
        }
    }

    /// Fails if the configuration of a consumer does not suit workers.
    pub(crate) fn check_consumer(
        stream: &str,
        consumer: &str,
        config: &jetstream::consumer::Config,
    ) -> Result<(), Self> {
        let wrong = if config.ack_policy != jetstream::consumer::AckPolicy::Explicit {
            "its ack policy is not `explicit`"
        } else if config.max_deliver > 0 {
            "it has a max_deliver, after which the server stops delivering a message, without a notice"
        } else {
            return Ok(());
        };
        Err(Self::Consumer {
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            why: format!(
                "{wrong}; remove it (`nats consumer rm {stream} {consumer}`), and a worker creates it \
                 anew, or name another one"
            ),
        })
    }
}
