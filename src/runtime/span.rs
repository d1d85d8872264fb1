//! The `tracing` span of a job: the span in which it was submitted, under the feature of that name.
//! Without the feature all of this is empty.

/// The span of the calling thread.
pub(crate) struct Origin {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Origin {
    /// Captures the current span. Must be called before anything is acquired that has to be
    /// released: the subscriber is user code, and may panic.
    #[inline]
    pub(crate) fn here() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: tracing::Span::current(),
        }
    }

    /// Returns the closure, to be run in the span.
    #[inline]
    pub(crate) fn carry<R>(self, f: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.enter(f)
    }

    /// Runs `f` in the span, which ends here if this is its last reference. Must be called where a
    /// panic is caught: the subscriber is user code.
    #[inline]
    pub(crate) fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(feature = "tracing")]
        let _entered = self.span.entered();
        f()
    }
}

/// Returns the closure, to be run in the span of the calling thread.
#[inline]
pub(crate) fn carried<R>(f: impl FnOnce() -> R) -> impl FnOnce() -> R {
    Origin::here().carry(f)
}
