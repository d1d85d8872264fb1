//! The names that are derived from a stream's: subjects, streams, headers.

use crate::error::Error;

/// Why a message is dead: `failed`, `crashed` or `poison`.
pub const REASON: &str = "Adaptive-Pool-Reason";
/// What its handler said last.
pub const ERROR: &str = "Adaptive-Pool-Error";
/// How often it was delivered.
pub const DELIVERIES: &str = "Adaptive-Pool-Deliveries";
/// How often its handler failed.
pub const FAILURES: &str = "Adaptive-Pool-Failures";
/// How many deliveries never ended.
pub const CRASHES: &str = "Adaptive-Pool-Crashes";
/// The subject that it was published to.
pub const SUBJECT: &str = "Adaptive-Pool-Subject";
/// Its number in the stream.
pub const SEQUENCE: &str = "Adaptive-Pool-Sequence";
/// The id that it was published with, if any.
pub const ID: &str = "Adaptive-Pool-Id";

/// The names of a stream and of what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// When the stream was created, so that the records of a stream that was removed are not taken for
    /// those of the next one of its name.
    pub(crate) created: i128,
}

impl Names {
    /// Where dead messages are published.
    pub(crate) fn dead_subject(&self) -> String {
        format!("{}.dead", self.stream)
    }

    /// Where the records of a message's deliveries are published, by how they ended.
    pub(crate) fn ended_subject(&self, sequence: u64, how: &str) -> String {
        format!("{}.ended.{}.{sequence}.{how}", self.stream, self.created)
    }

    /// Where workers answer to a question for their state.
    pub(crate) fn status_subject(stream: &str, consumer: &str) -> String {
        format!("_adaptive_pool.status.{stream}.{consumer}")
    }
}

/// The stream of dead messages.
pub(crate) fn dead_stream(stream: &str) -> String {
    format!("{stream}-dead")
}

/// The stream of the deliveries' records.
pub(crate) fn ended_stream(stream: &str) -> String {
    format!("{stream}-ended")
}

/// The subject of the jobs, in a stream that this crate creates.
pub(crate) fn jobs_subject(stream: &str) -> String {
    format!("{stream}.jobs")
}

pub(crate) fn check(field: &'static str, name: &str) -> Result<(), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 128 && name.chars().all(fine) {
        return Ok(());
    }
    Err(Error::Invalid {
        field,
        value: format!("{name:?}"),
        rule: "a name has 1 to 128 letters, digits, `-` and `_`",
    })
}

/// Text as a header's value: one line, not too long.
pub(crate) fn header_text(text: &str) -> String {
    const LONGEST: usize = 1000;
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect()
}
