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

#[cfg(not(loom))]
mod away;
mod backoff;
#[cfg(not(loom))]
mod batch;
#[cfg(not(loom))]
mod broadcast;
#[cfg(not(loom))]
mod builder;
#[cfg(all(doctest, not(loom)))]
mod compile_fail;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
pub mod guide;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod inline;
#[cfg(not(loom))]
mod inner;
#[cfg(not(loom))]
mod job;
mod last_look;
#[cfg(not(loom))]
mod linger;
#[cfg(not(loom))]
mod looks;
#[cfg(not(loom))]
mod mail;
#[cfg(not(loom))]
mod metrics;
#[cfg(not(loom))]
mod pace;
#[cfg(not(loom))]
mod permit;
#[cfg(not(loom))]
mod pool;
#[cfg(not(loom))]
mod process;
#[cfg(not(loom))]
mod queue;
#[cfg(not(loom))]
mod resident;
#[cfg(not(loom))]
mod scaler;
#[cfg(not(loom))]
mod scaling;
#[cfg(not(loom))]
mod scope;
#[cfg(not(loom))]
mod shutdown;
#[cfg(not(loom))]
mod site;
#[cfg(not(loom))]
mod span;
#[cfg(not(loom))]
mod stack;
#[cfg(shuttle)]
#[doc(hidden)]
pub mod stand_in;
#[cfg(not(loom))]
mod stuck;
#[cfg(not(loom))]
mod submit;
#[cfg(not(loom))]
mod threads;
#[cfg(not(loom))]
mod turn;
#[cfg(not(loom))]
mod wait;
#[cfg(not(loom))]
mod worker;
mod yielders;

mod admission;
#[cfg(any(test, not(loom)))]
mod alike;
mod bell;
mod chunk;
mod countdown;
mod deque;
mod drain;
mod error;
mod fence;
mod latch;
#[cfg(all(test, loom))]
mod model;
mod roster;
mod sleep;
mod slots;
mod sync;
mod twin;
mod unwind;

pub use self::error::{
    AdmissionError, BuildError, JobError, ShutdownError, ShutdownReport, SubmitError,
};
#[cfg(not(loom))]
pub use self::{
    batch::{IteratorExt, Map, MapUnordered, ScopedMap, ScopedMapUnordered},
    broadcast::BroadcastContext,
    builder::{PoolBuilder, Workers},
    handle::JobHandle,
    metrics::{LatencySummary, Snapshot, WorkerSnapshot},
    permit::Permit,
    pool::Pool,
    scope::Scope,
    submit::Admit,
};

#[cfg(all(feature = "prometheus", not(loom)))]
pub use prometheus;

/// The README's example is compiled and run with the doctests.
#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../README.md")]
struct Readme;
