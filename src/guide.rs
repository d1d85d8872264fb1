//! The pages of the repository's folder `docs/`. Their pictures are there.
//!
//! A page's links to others are by reference, and the definitions below come before the page's own; so they lead to a
//! file when it is read in the repository, and to a module here.

/// For code that moves from rayon: call by call, and what stays different.
///
/// [scaling.md]: scaling
#[doc = include_str!("../docs/rayon.md")]
pub mod rayon {}

/// How many workers are in service, and when that changes.
///
/// [benchmarks.md#flood]: benchmarks#flood
#[doc = include_str!("../docs/scaling.md")]
pub mod scaling {}

/// What can be seen of a pool, and which questions it answers.
///
/// [scaling.md]: scaling
#[cfg_attr(feature = "prometheus", doc = include_str!("../docs/metrics.md"))]
pub mod metrics {}

/// How the pool works inside, and its rules by number.
///
/// [scaling.md]: scaling
/// [benchmarks.md]: benchmarks
#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}

/// What the promises rest on: failures of other pools, and the test that holds each.
#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}

/// The pool beside what could be used instead.
///
/// [architecture.md#what-a-job-writes]: architecture#what-a-job-writes
#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}

/// What memory does while producers outrun the workers.
#[doc = include_str!("../docs/stress.md")]
pub mod stress {}
