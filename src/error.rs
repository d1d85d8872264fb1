//! Every error that the crate returns.

use std::{any::Any, fmt, io};

/// Why a pool could not be built or resized.
///
/// The message names the field, the value it was given and the rule that the value breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option has a value that it cannot have.
    #[error("{field} = {value}: {rule}")]
    Invalid {
        /// The builder's method that took the value.
        field: &'static str,
        /// The value, as it would be written in Rust.
        value: String,
        /// What the value must satisfy.
        rule: &'static str,
    },
    /// The system gave no thread for a worker that has to exist from the beginning.
    #[error("threads: worker {index} could not be started: {source}")]
    Thread {
        /// The worker's index, from zero.
        index: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a place in the queue was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AdmissionError {
    /// The queue is full, and the call was one that does not wait.
    #[error("the queue is full")]
    Full,
    /// The queue stayed full until the timeout or the deadline.
    #[error("the queue stayed full until the admission timeout")]
    TimedOut,
    /// The pool takes no more work.
    #[error("the pool is closed")]
    Closed,
}

/// A job that was not admitted, handed back un-run and un-dropped.
///
/// It holds the job, so it is `Sync` only if what the job has captured is. Where an error has to be, as for `?` into
/// `Box<dyn Error + Send + Sync>`, [`reason`](Self::reason) is.
///
/// # Examples
/// ```
/// use adaptive_pool::{AdmissionError, Pool, SubmitError};
///
/// let pool = Pool::new().unwrap();
/// pool.close();
/// let error = pool.submit(|| 6 * 7).unwrap_err();
/// assert_eq!(error.reason(), AdmissionError::Closed);
/// let job = error.into_job();
/// assert_eq!(job(), 42); // nothing was lost
/// ```
#[derive(thiserror::Error)]
pub enum SubmitError<F> {
    /// The queue is full, and the call was one that does not wait.
    #[error("the queue is full")]
    Full(F),
    /// The queue stayed full until the timeout or the deadline.
    #[error("the queue stayed full until the admission timeout")]
    TimedOut(F),
    /// The pool takes no more work.
    #[error("the pool is closed")]
    Closed(F),
}

impl<F> SubmitError<F> {
    pub(crate) fn new(reason: AdmissionError, job: F) -> Self {
        match reason {
            AdmissionError::Full => Self::Full(job),
            AdmissionError::TimedOut => Self::TimedOut(job),
            AdmissionError::Closed => Self::Closed(job),
        }
    }

    /// The job, for another try or for running it here.
    pub fn into_job(self) -> F {
        match self {
            Self::Full(job) | Self::TimedOut(job) | Self::Closed(job) => job,
        }
    }

    /// Why it was refused, without the job.
    #[must_use]
    pub fn reason(&self) -> AdmissionError {
        match self {
            Self::Full(_) => AdmissionError::Full,
            Self::TimedOut(_) => AdmissionError::TimedOut,
            Self::Closed(_) => AdmissionError::Closed,
        }
    }

    /// Whether the queue was full and the call did not wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the queue stayed full until the timeout or the deadline.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// Whether the pool takes no more work.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full(_) => "Full",
            Self::TimedOut(_) => "TimedOut",
            Self::Closed(_) => "Closed",
        };
        f.debug_tuple(name).finish_non_exhaustive()
    }
}

/// Why a job has no result.
///
/// Not `Sync`, since a panic's payload need not be. What wants an error that is `Send + Sync` can have its text.
///
/// # Examples
/// ```
/// use std::error::Error;
/// use adaptive_pool::Pool;
///
/// fn answer(pool: &Pool) -> Result<u32, Box<dyn Error + Send + Sync>> {
///     let handle = pool.submit(|| 6 * 7)?;
///     Ok(handle.join().map_err(|error| error.to_string())?)
/// }
/// assert_eq!(answer(&Pool::new().unwrap()).unwrap(), 42);
/// ```
#[derive(thiserror::Error)]
pub enum JobError {
    /// The job panicked, with this payload. [`std::panic::resume_unwind`] passes it on.
    #[error("the job panicked: {}", message(.0.as_ref()))]
    Panicked(Box<dyn Any + Send + 'static>),
    /// The job was cancelled, or dropped by a shutdown, before it started.
    #[error("the job was cancelled before it started")]
    Cancelled,
}

impl JobError {
    /// Whether the job panicked.
    #[must_use]
    pub fn is_panicked(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }

    /// Whether the job was cancelled or dropped before it started.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => f
                .debug_tuple("Panicked")
                .field(&message(payload.as_ref()))
                .finish(),
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

/// What a panic payload says, if it says it in a string.
fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a payload that is not a string"
    }
}

/// What became of the jobs of a pool that was shut down.
///
/// Every job that was admitted is in exactly one of the four counts. What runs on its caller's thread after the pool's
/// end is only in [`Pool::metrics`](crate::Pool::metrics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ShutdownReport {
    /// Jobs that returned.
    pub completed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that their handle cancelled before they started.
    pub cancelled: u64,
    /// Jobs that the shutdown dropped before they started.
    pub dropped: u64,
}

impl ShutdownReport {
    /// All jobs of the report together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.completed + self.panicked + self.cancelled + self.dropped
    }
}

/// Why a shutdown did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    /// The time ran out. What had not started was dropped, and nothing that was queued will start
    /// from now on; what runs is left to end by itself, and its thread after it.
    #[error(
        "the shutdown timed out: {running} jobs still run, {dropped} were dropped",
        dropped = report.dropped
    )]
    TimedOut {
        /// What became of the jobs that have ended.
        report: ShutdownReport,
        /// How many jobs still ran when the call returned.
        running: u64,
    },
    /// The call came from inside one of the pool's own jobs, which it would have to wait for.
    /// Nothing was changed.
    #[error("a pool cannot be shut down from inside one of its own jobs")]
    InsideJob,
}
