//! The names that are derived from a stream's: subjects, streams, headers.

use crate::error::Error;

/// Why a message is dead: `failed`, `crashed` or `poison`.
pub const REASON: &str = "Adaptive-Pool-Reason";
/// The handler's last error.
pub const ERROR: &str = "Adaptive-Pool-Error";
/// The number of deliveries.
pub const DELIVERIES: &str = "Adaptive-Pool-Deliveries";
/// The number of failures.
pub const FAILURES: &str = "Adaptive-Pool-Failures";
/// The number of deliveries that never ended.
pub const CRASHES: &str = "Adaptive-Pool-Crashes";
/// The subject of the message's first publish.
pub const SUBJECT: &str = "Adaptive-Pool-Subject";
/// The message's number in the stream of jobs.
pub const SEQUENCE: &str = "Adaptive-Pool-Sequence";
/// The id of the message's first publish, if any.
pub const ID: &str = "Adaptive-Pool-Id";

/// The names of a stream and of what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// When the stream was created: keeps the records of a removed stream apart from those of the
    /// next one with its name.
    pub(crate) created: i128,
}

impl Names {
    /// The subject of dead messages.
    pub(crate) fn dead_subject(&self) -> String {
        format!("{}.dead", self.stream)
    }

    /// The subject of the records of a message's deliveries that ended by `how`.
    pub(crate) fn ended_subject(&self, sequence: u64, how: &str) -> String {
        format!("{}.ended.{}.{sequence}.{how}", self.stream, self.created)
    }

    /// The subject on which workers report their state.
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

/// Makes a header's value of `text`: one line, of limited length.
pub(crate) fn header_text(text: &str) -> String {
    const LONGEST: usize = 1000;
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect()
}
