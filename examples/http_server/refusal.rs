//! Why a request has no result, and the response to it.

use std::time::Duration;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// When to retry. By feel: a full queue of short jobs has drained by then.
const RETRY_AFTER_SECONDS: &str = "1";

pub enum Refusal {
    /// The request is invalid, for this reason.
    Bad(String),
    TooLarge {
        max_bytes: usize,
    },
    /// The body did not arrive in time.
    Slow,
    /// The maximum number of bodies is in memory.
    TooMany,
    /// The queue stayed full.
    Overload {
        waited: Duration,
    },
    Draining,
    /// The job failed, for this reason.
    Failed(String),
}

impl Refusal {
    /// For the metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Bad(_) => "bad_request",
            Self::TooLarge { .. } => "too_large",
            Self::Slow => "slow",
            Self::TooMany => "too_many",
            Self::Overload { .. } => "overload",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany | Self::Overload { .. } | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Bad(what) => what,
            Self::TooLarge { max_bytes } => {
                format!("the body is too large: at most {max_bytes} bytes")
            }
            Self::Slow => String::from("the body did not come in time"),
            Self::TooMany => String::from("overloaded: too many requests are in memory"),
            Self::Overload { waited } => {
                format!("overloaded: no place in the queue within {waited:?}")
            }
            Self::Draining => String::from("the server is shutting down"),
            Self::Failed(how) => how,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let text = format!("{}\n", self.text());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let retry = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)];
            (status, retry, text).into_response()
        } else {
            (status, text).into_response()
        }
    }
}
