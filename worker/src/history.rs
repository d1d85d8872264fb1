//! The records of deliveries that ended without an ack.
//!
//! JetStream counts deliveries, but not how they ended. So each end without an ack leaves a small
//! message in the stream `<stream>-ended`, with the subject `<stream>.ended.<stream's
//! creation>.<sequence>.<how>`. Its id is the delivery's, so it is stored once however often it is
//! sent. The server counts messages by subject, and any worker can read the counts. Records expire
//! after a week.
//!
//! A record is one publish where something went wrong. A message that is done at its first delivery
//! has none.

use std::{collections::HashMap, time::Duration};

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    lease::Lease,
    names::ended_stream,
    shared::{NoAnswer, Shared},
};

/// The handler failed.
pub(crate) const FAILED: &str = "failed";
/// The job did not start: a drain, a worker that is unfit.
pub(crate) const BACK: &str = "back";
/// The job did not start, because its lease had expired.
pub(crate) const LATE: &str = "late";

/// How the deliveries of one message ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) failures: u64,
    /// All deliveries that ended, failures included.
    pub(crate) ended: u64,
}

impl History {
    /// Deliveries before this one that never ended.
    pub(crate) fn crashes(&self, delivered: u64) -> u64 {
        delivered.saturating_sub(1).saturating_sub(self.ended)
    }
}

/// Stores the end of a delivery.
pub(crate) async fn record(
    shared: &Shared,
    lease: &Lease,
    how: &'static str,
    patience: Duration,
) -> Result<(), NoAnswer> {
    let names = &shared.names;
    let id = format!(
        "ended:{}:{}:{}",
        names.created, lease.sequence, lease.delivered
    );
    let subject = names.ended_subject(lease.sequence, how);
    let message = PublishMessage::build();
    let mut headers = HeaderMap::new();
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
    shared.store(subject, headers, message, patience).await
}

/// Returns how the deliveries of the message ended so far.
pub(crate) async fn read(
    shared: &Shared,
    lease: &Lease,
    patience: Duration,
) -> Result<History, NoAnswer> {
    #[derive(Deserialize)]
    struct Reply {
        state: Option<State>,
        error: Option<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        subjects: Option<HashMap<String, u64>>,
    }

    let names = &shared.names;
    let filter = json!({ "subjects_filter": names.ended_subject(lease.sequence, "*") });
    let stream = ended_stream(&names.stream);
    let request = shared
        .jetstream
        .request(format!("STREAM.INFO.{stream}"), &filter);
    let reply: Reply = match timeout(patience, request).await {
        Ok(reply) => reply.map_err(|error| NoAnswer(error.to_string()))?,
        Err(_) => return Err(NoAnswer(format!("no answer in {patience:?}"))),
    };
    if let Some(error) = reply.error {
        return Err(NoAnswer(error.to_string()));
    }
    let mut history = History::default();
    for (subject, count) in reply
        .state
        .and_then(|state| state.subjects)
        .unwrap_or_default()
    {
        history.ended += count;
        if subject.ends_with(FAILED) {
            history.failures += count;
        }
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_a_delivery_that_left_no_record() {
        let history = History {
            failures: 1,
            ended: 2,
        };
        assert_eq!(history.crashes(1), 0);
        assert_eq!(history.crashes(3), 0);
        assert_eq!(history.crashes(6), 3);
    }
}
