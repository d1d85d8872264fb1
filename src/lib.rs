//! A work-stealing scheduler with bounded admission, for CPU-heavy batch processing.
//!
//! [`Pool`] runs jobs on threads of its own, as rayon does, but its queue is **bounded**: a producer
//! that is faster than the workers waits, times out or is refused, as it chooses, and memory stays
//! flat. A refused job comes back to its submitter; an admitted one runs, or is in the shutdown's report.
//!
//! ```
//! use std::time::Duration;
//! use adaptive_pool::Pool;
//!
//! let pool = Pool::builder().workers(2).capacity(64).build()?;
//!
//! let handle = pool.submit(|| (1..=20u64).product::<u64>())?; // waits while the queue is full
//! pool.spawn_timeout(Duration::from_millis(50), || println!("no handle, no allocation"))?;
//! if let Err(refused) = pool.try_submit(|| 6 * 7) {
//!     refused.into_job()(); // nothing is lost
//! }
//! assert_eq!(handle.join()?, 2_432_902_008_176_640_000);
//!
//! let report = pool.shutdown(); // closes, drains, joins every thread
//! assert_eq!(report.panicked, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Jobs may borrow ([`Pool::scope`], [`Pool::join`], [`Pool::install`], [`Pool::for_each`]), and an
//! iterator's items may stream through the pool ([`Pool::map`], [`Pool::map_unordered`]), pulled only
//! as fast as there is room. [`IteratorExt`] has them as methods of every iterator, [`Scope::map`] with
//! borrows.
//!
//! Its threads are a rayon-core pool: `rayon::join`, `rayon::scope` and parallel iterators, used
//! inside a job, run on the pool's own workers.
//!
//! [`Pool::metrics`] reports what a pool has done, and how long jobs waited and ran.
//!
//! # Features
//!
//! - `prometheus`, on by default: [`Pool::collector`], and the crate [`prometheus`] that it is for.
//! - `serde`: [`Snapshot`] and what is in it implement `Serialize` and `Deserialize`.
//! - `tracing`: a job runs in the `tracing` span that it was submitted in; so do the half of a join that
//!   another thread takes, and an installed closure. The span does not fit beside the closure into a place of
//!   the queue, so that with this feature a detached job, or one of a scope, costs an allocation too. The job has the
//!   submitter's span, and not the subscriber of the submitter's thread: under `tracing::subscriber::with_default`, as in
//!   many tests, its events go to the process's default subscriber, or nowhere.
//!
//! # Guides
//! [`guide`] has the pages of `docs/`: moving from rayon, scaling, metrics, how the pool works inside, and what its
//! promises rest on.

// The models do not use all of what they check; loom's cells are not Sync; YIELDS is zero.
#![cfg_attr(
    loom,
    allow(
        dead_code,
        unused_imports,
        clippy::arc_with_non_send_sync,
        clippy::reversed_empty_ranges
    )
)]

#[cfg(all(loom, not(test)))]
compile_error!("cfg(loom) is for the models: see .ci/loom.sh");
#[cfg(all(shuttle, not(feature = "_shuttle")))]
compile_error!("cfg(shuttle) wants the feature _shuttle: see .ci/shuttle.sh");

mod api;
#[cfg(doctest)]
mod compile_fail;
mod error;
pub mod guide;
mod metrics;
mod protocol;
mod runtime;
mod scaling;
mod sync;

pub use self::error::{
    AdmissionError, BuildError, JobError, ShutdownError, ShutdownReport, SubmitError,
};
#[cfg(shuttle)]
#[doc(hidden)]
pub use self::sync::simulated;
#[cfg(not(loom))]
pub use self::{
    api::{
        Admit, BroadcastContext, IteratorExt, JobHandle, Map, MapUnordered, Permit, Pool,
        PoolBuilder, Scope, ScopedMap, ScopedMapUnordered, Workers,
    },
    metrics::{LatencySummary, Snapshot, WorkerSnapshot},
};
#[cfg(feature = "prometheus")]
pub use prometheus;

/// The README's example is compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
