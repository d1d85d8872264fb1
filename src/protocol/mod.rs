//! State machines without a pool, without rayon and without policy. loom builds these and what they
//! import. Each has its model beside it.

pub(crate) mod admission;
pub(crate) mod chunk;
pub(crate) mod completion;
pub(crate) mod deque;
pub(crate) mod drain;
pub(crate) mod idle;
pub(crate) mod inbox;
#[cfg(all(test, loom))]
pub(crate) mod model;
pub(crate) mod placement;
pub(crate) mod starvation;
pub(crate) mod wait;
