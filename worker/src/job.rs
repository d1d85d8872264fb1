//! The handler's view of its message.

use async_nats::HeaderMap;

use crate::lease::Lease;

/// A message while its handler runs.
#[derive(Debug)]
pub struct Job<'a> {
    lease: &'a Lease,
}

impl<'a> Job<'a> {
    pub(crate) fn new(lease: &'a Lease) -> Self {
        Self { lease }
    }

    /// The message's payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.lease.message.payload
    }

    /// The subject of its publish.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        &self.lease.message.subject
    }

    /// The message's headers, if it has any.
    #[must_use]
    pub fn headers(&self) -> Option<&'a HeaderMap> {
        self.lease.message.headers.as_ref()
    }

    /// The message's number in the stream: the same in each delivery.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.lease.sequence
    }

    /// The number of its deliveries, this one included. Kills and drains count too.
    #[must_use]
    pub fn delivery(&self) -> u64 {
        self.lease.delivered
    }
}
