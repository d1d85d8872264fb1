//! Every error of the crate, and the shutdown report.

mod payload;

use std::{any::Any, error::Error, fmt, io};

use self::payload::Payload;

/// Why a pool could not be built or resized.
///
/// The message names the option, its value and the violated rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option has an invalid value.
    #[error("{field} = {value}: {rule}")]
    Invalid {
        /// The builder method that set the value.
        field: &'static str,
        /// The value, in Rust syntax.
        value: String,
        /// The rule that the value must satisfy.
        rule: &'static str,
    },
    /// The operating system failed to start the thread of a worker that `build` requires.
    #[error("threads: worker {index} could not be started: {source}")]
    Thread {
        /// The worker's index, from zero.
        index: usize,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Why a submission was refused a place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// The queue is full, and the call does not block.
    #[error("the queue is full")]
    Full,
    /// The queue stayed full until the timeout or the deadline.
    #[error("the queue stayed full until the admission timeout")]
    TimedOut,
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

/// A refused job, returned un-run and un-dropped.
///
/// The error holds the job, so it is `Sync` only if the job's captures are. To use `?` with
/// `Box<dyn Error + Send + Sync>` and a job that is not `Sync`, map the error to its
/// [`reason`](Self::reason).
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
/// assert_eq!(job(), 42); // the job was not lost
/// ```
#[non_exhaustive]
pub enum SubmitError<F> {
    /// The queue is full, and the call does not block.
    Full(F),
    /// The queue stayed full until the timeout or the deadline.
    TimedOut(F),
    /// The pool is closed.
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

    /// Returns the job, to submit it again or to run it here.
    pub fn into_job(self) -> F {
        match self {
            Self::Full(job) | Self::TimedOut(job) | Self::Closed(job) => job,
        }
    }

    /// Returns the reason of the refusal, without the job.
    #[must_use]
    pub fn reason(&self) -> AdmissionError {
        match self {
            Self::Full(_) => AdmissionError::Full,
            Self::TimedOut(_) => AdmissionError::TimedOut,
            Self::Closed(_) => AdmissionError::Closed,
        }
    }

    /// Whether the queue was full and the call did not block.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the queue stayed full until the timeout or the deadline.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// Whether the pool was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(..)", self.reason())
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}

impl<F> Error for SubmitError<F> {}

/// Why a job has no result: it panicked, or it never ran.
///
/// The error is `Send` and `Sync`, so `handle.join()?` converts into `Box<dyn Error + Send +
/// Sync>`, anyhow and eyre. A panic payload need not be `Sync`: only the owner of the error can
/// take it, with [`into_panic`](Self::into_panic) or [`try_into_panic`](Self::try_into_panic).
/// `Display` and `Debug` show the payload if it is a string.
///
/// # Examples
/// ```
/// use std::error::Error;
/// use adaptive_pool::Pool;
///
/// fn answer(pool: &Pool) -> Result<u32, Box<dyn Error + Send + Sync>> {
///     let handle = pool.submit(|| 6 * 7)?;
///     Ok(handle.join()?)
/// }
/// assert_eq!(answer(&Pool::new().unwrap()).unwrap(), 42);
/// ```
pub struct JobError(Reason);

enum Reason {
    Panic(Payload),
    Cancelled,
}

impl JobError {
    pub(crate) fn panic(payload: Box<dyn Any + Send + 'static>) -> Self {
        Self(Reason::Panic(Payload::new(payload)))
    }

    pub(crate) fn cancelled() -> Self {
        Self(Reason::Cancelled)
    }

    /// Whether the job panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Reason::Panic(_))
    }

    /// Whether the job was cancelled by its handle or dropped by a shutdown before it started.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Reason::Cancelled)
    }

    /// Whether the job expired before it started. This version has no form of submission with an
    /// expiry, so the result is always `false`.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        match self.0 {
            Reason::Panic(_) | Reason::Cancelled => false,
        }
    }

    /// Returns the panic payload. [`std::panic::resume_unwind`] re-raises it.
    ///
    /// # Panics
    /// If the job did not panic: see [`is_panic`](Self::is_panic).
    /// [`try_into_panic`](Self::try_into_panic) does not panic.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let error = pool.submit(|| panic!("no")).unwrap().join().unwrap_err();
    /// assert_eq!(error.to_string(), "the job panicked: no");
    /// assert_eq!(error.into_panic().downcast_ref(), Some(&"no"));
    /// ```
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => {
                panic!("`JobError::into_panic` called on a job that did not panic: {error}")
            }
        }
    }

    /// Returns the panic payload.
    ///
    /// # Errors
    /// Returns the error itself if the job did not panic.
    ///
    /// # Examples
    /// ```
    /// use std::panic::resume_unwind;
    /// use adaptive_pool::{JobHandle, Pool};
    ///
    /// /// The job's result, or `None` if it was cancelled. Re-raises the job's panic.
    /// fn result(handle: JobHandle<u32>) -> Option<u32> {
    ///     match handle.join().map_err(|error| error.try_into_panic()) {
    ///         Ok(result) => Some(result),
    ///         Err(Ok(payload)) => resume_unwind(payload),
    ///         Err(Err(_never_run)) => None,
    ///     }
    /// }
    /// let pool = Pool::new().unwrap();
    /// assert_eq!(result(pool.submit(|| 42).unwrap()), Some(42));
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, Self> {
        match self.0 {
            Reason::Panic(payload) => Ok(payload.into_inner()),
            Reason::Cancelled => Err(self),
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Panic(payload) => write!(f, "the job panicked: {}", payload.message()),
            Reason::Cancelled => f.write_str("the job was cancelled before it started"),
        }
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Panic(payload) => f.debug_tuple("Panicked").field(&payload.message()).finish(),
            Reason::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl Error for JobError {}

/// The fate of every job of a pool that was shut down.
///
/// Every admitted job is in exactly one of the four counts. Jobs that run on the caller's thread
/// after the shutdown appear only in [`Pool::metrics`](crate::Pool::metrics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Jobs that returned.
    pub completed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs cancelled by their handle before they started.
    pub cancelled: u64,
    /// Jobs dropped by the shutdown before they started.
    pub dropped: u64,
}

impl ShutdownReport {
    /// Returns the sum of the four counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.completed + self.panicked + self.cancelled + self.dropped
    }
}

/// Why a shutdown did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The timeout expired. Jobs that had not started were dropped, and no queued job starts any
    /// more. Running jobs finish, and then their threads end.
    #[error(
        "the shutdown timed out: {running} jobs are still running, {dropped} were dropped",
        dropped = report.dropped
    )]
    TimedOut {
        /// The jobs that had ended when the call returned.
        report: ShutdownReport,
        /// The number of jobs that were still running when the call returned.
        running: u64,
    },
    /// The call came from inside one of the pool's own jobs and would have waited for itself.
    /// The pool is unchanged.
    #[error("a pool cannot be shut down from inside one of its own jobs")]
    InsideJob,
}
