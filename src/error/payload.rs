//! A panic's payload that may be shared between threads.

use std::any::Any;

/// A panic's payload. It is `Send`, and need not be `Sync`; so by reference only what is `Sync` can be had of it, and the
/// whole of it only by its owner.
pub(super) struct Payload(Box<dyn Any + Send + 'static>);

// SAFETY: `message` is all that a `&Payload` gives away. It compares the payload's type, which reads nothing of the payload,
// and reads it only as a `&'static str` or a `String`, which are `Sync`.
unsafe impl Sync for Payload {}

impl Payload {
    pub(super) fn new(payload: Box<dyn Any + Send + 'static>) -> Self {
        Self(payload)
    }

    pub(super) fn into_inner(self) -> Box<dyn Any + Send + 'static> {
        self.0
    }

    /// The panic's message, if it is a string, as that of `panic!` is.
    pub(super) fn message(&self) -> &str {
        if let Some(text) = self.0.downcast_ref::<&'static str>() {
            text
        } else if let Some(text) = self.0.downcast_ref::<String>() {
            text
        } else {
            "a payload that is not a string"
        }
    }
}
