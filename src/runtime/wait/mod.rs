//! Waits of the pool's threads and of its callers.

pub(crate) mod frames;
pub(crate) mod spin;
pub(crate) mod starvation;
