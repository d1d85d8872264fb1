//! How the end of something is published, and awaited: of one job, of all jobs of a frame, of the next item of a batch.

pub(crate) mod countdown;
pub(crate) mod event;
pub(crate) mod latch;
pub(crate) mod twin;
