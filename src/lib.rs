//! A work-stealing thread pool with bounded admission, for CPU-bound batch processing.
//!
//! A [`Pool`] runs jobs on its own threads, as rayon does, but its queue is **bounded**. When the
//! queue is full, the submitter chooses: block, block with a timeout, await, or take the job back.
//! Memory stays flat. A refused job is returned to its submitter. An admitted job runs, or the
//! shutdown report counts it.
//!
//! ```
//! use std::time::Duration;
//! use adaptive_pool::Pool;
//!
//! let pool = Pool::builder().workers(2).capacity(64).build()?;
//!
//! let handle = pool.submit(|| (1..=20u64).product::<u64>())?; // blocks while the queue is full
//! pool.spawn_timeout(Duration::from_millis(50), || println!("no handle, no allocation"))?;
//! if let Err(refused) = pool.try_submit(|| 6 * 7) {
//!     refused.into_job()(); // the refused job runs here
//! }
//! assert_eq!(handle.join()?, 2_432_902_008_176_640_000);
//!
//! let report = pool.shutdown(); // closes the pool, drains the queue, joins every thread
//! assert_eq!(report.panicked, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Jobs may borrow ([`Pool::scope`], [`Pool::join`], [`Pool::install`], [`Pool::for_each`]).
//! [`Pool::map`] and [`Pool::map_unordered`] stream an iterator through the pool and pull items
//! only while the queue has room. [`IteratorExt`] provides them as methods of every iterator;
//! [`Scope::map`] allows borrows.
//!
//! The threads form a rayon-core pool. Inside a job, `rayon::join`, `rayon::scope` and parallel
//! iterators run on the pool's workers.
//!
//! [`Pool::metrics`] returns counters, gauges and latencies.
//!
//! # Features
//!
//! - `prometheus` (default): [`Pool::collector`], and a re-export of the crate [`prometheus`].
//! - `serde`: [`Snapshot`] and its parts implement `Serialize` and `Deserialize`.
//! - `tracing`: a job runs in the `tracing` span in which it was submitted. So do an installed
//!   closure and the half of a join that another thread runs.
//!
//! With `tracing`, closure and span do not fit together into a slot of the queue, so each detached
//! or scoped job costs an allocation. The job inherits the submitter's span, but not the subscriber
//! of the submitter's thread. Under `tracing::subscriber::with_default`, common in tests, the job's
//! events go to the global default subscriber, if there is one.
//!
//! # Guides
//!
//! [`guide`] contains the pages of `docs/`: moving from rayon, scaling, metrics, internals, and
//! what the guarantees rest on.

// The models use only a part of the code; loom's cells are not Sync; under loom YIELDS is zero.
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
compile_error!("cfg(loom) builds only the models: see .ci/loom.sh");
#[cfg(all(shuttle, not(feature = "_shuttle")))]
compile_error!("cfg(shuttle) requires the feature _shuttle: see .ci/shuttle.sh");

#[macro_use]
mod sync;

mod api;
#[cfg(doctest)]
mod compile_fail;
mod error;
pub mod guide;
mod metrics;
mod protocol;
mod runtime;
mod scaling;
mod tuning;

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

/// Compiles and runs the examples of the README as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
