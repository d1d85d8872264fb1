//! A panic payload that is `Sync`.

use std::any::Any;

/// A panic payload, which is `Send` but need not be `Sync`. A shared reference therefore exposes
/// only `Sync` parts; the whole payload is available only to the owner.
pub(super) struct Payload(Box<dyn Any + Send + 'static>);

// SAFETY: `message` is the only access through `&Payload`. It compares the payload's type, which
// reads nothing of the payload, and reads the payload only as `&'static str` or `String`, which are
// `Sync`.
unsafe impl Sync for Payload {}

impl Payload {
    pub(super) fn new(payload: Box<dyn Any + Send + 'static>) -> Self {
        Self(payload)
    }

    pub(super) fn into_inner(self) -> Box<dyn Any + Send + 'static> {
        self.0
    }

    /// Returns the payload of `panic!` as a string, or a placeholder for any other payload.
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
