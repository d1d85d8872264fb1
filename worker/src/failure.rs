//! The error of a handler, which decides what happens to its message.

use std::{error::Error, fmt};

/// Why a job was not done.
///
/// Any error becomes a [`Failure::again`] by `?`.
///
/// # Examples
/// ```
/// use adaptive_pool_worker::Failure;
///
/// fn handle(payload: &[u8]) -> Result<(), Failure> {
///     let text = std::str::from_utf8(payload).map_err(Failure::poison)?; // no retry helps
///     let bytes = std::fs::read(text)?; // a retry may help
///     assert!(bytes.len() < 1 << 30);
///     Ok(())
/// }
/// # assert!(handle(b"\xff").is_err());
/// ```
pub struct Failure {
    pub(crate) kind: FailureKind,
    error: Box<dyn Error + Send + Sync>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Again,
    Poison,
    Unfit,
}

impl Failure {
    /// The job failed, and may succeed later. The message comes again after a back-off, and is dead
    /// after [`max_failures`](crate::Builder::max_failures) of these.
    pub fn again(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(FailureKind::Again, error)
    }

    /// No retry can help: the message does not parse, for example. It is dead at once.
    pub fn poison(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(FailureKind::Poison, error)
    }

    /// This process cannot do such jobs: its disk is full, for example. The message is given back
    /// for another process, and does not count as failed. The worker drains, and its
    /// [`run`](crate::Worker::run) returns the error.
    pub fn unfit(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(FailureKind::Unfit, error)
    }

    fn new(kind: FailureKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            error: error.into(),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::again(error)
    }
}

/// The error and its sources, in one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut source = self.error.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.kind)
            .field("error", &self.error)
            .finish()
    }
}
