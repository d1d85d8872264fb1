//! The pages of the repository's folder `docs/`, which also has their pictures.
//!
//! The pages link to each other by reference. The definitions below precede those of a page and
//! override them: in the repository a link leads to a file, and here to a module.

/// Moving from rayon, call by call, and the differences that remain.
///
/// [scaling.md]: scaling
#[doc = include_str!("../docs/rayon.md")]
pub mod rayon {}

/// How many workers are in service, and when that number changes.
///
/// [benchmarks.md#flood]: benchmarks#flood
#[doc = include_str!("../docs/scaling.md")]
pub mod scaling {}

/// The metrics of a pool, and the questions they answer.
///
/// [scaling.md]: scaling
#[cfg_attr(feature = "prometheus", doc = include_str!("../docs/metrics.md"))]
pub mod metrics {}

/// The folders, the words and the life of a job; the rules by number.
///
/// [verification.md]: verification
#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}

/// The models, their mutants, and what each check cannot show.
///
/// [architecture.md]: architecture
/// [reliability.md]: reliability
#[doc = include_str!("../docs/verification.md")]
pub mod verification {}

/// Known failure modes of thread pools, and the tests that cover each.
#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}

/// Benchmarks beside the alternatives.
///
/// [architecture.md#what-a-job-writes]: architecture#what-a-job-writes
#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}

/// Memory use while producers outrun the workers.
#[doc = include_str!("../docs/stress.md")]
pub mod stress {}
