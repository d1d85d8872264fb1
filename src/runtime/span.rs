//! The `tracing` span that a job is submitted in goes with it, under the feature of that name. Without the
//! feature all of this is nothing.

/// The span of the calling thread.
pub(crate) struct Origin {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Origin {
    /// To be called before anything is taken that is to be given back: what a span calls is the user's, and may
    /// panic.
    #[inline]
    pub(crate) fn here() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: tracing::Span::current(),
        }
    }

    /// The closure, to be run in the span.
    #[inline]
    pub(crate) fn carry<R>(self, f: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.enter(f)
    }

    /// Runs `f` in the span, which ends here if nobody else has it. To be called where a panic is caught: what
    /// a span calls is the user's.
    #[inline]
    pub(crate) fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(feature = "tracing")]
        let _entered = self.span.entered();
        f()
    }
}

/// The closure, to be run in the span of the thread that calls this.
#[inline]
pub(crate) fn carried<R>(f: impl FnOnce() -> R) -> impl FnOnce() -> R {
    Origin::here().carry(f)
}
