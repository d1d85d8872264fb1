//! The counters and latencies of a pool, and the snapshot that shows them.

#![cfg(not(loom))]

mod clock;
mod counters;
mod display;
mod histogram;
mod latency;
mod sampling;
mod snapshot;

#[cfg(feature = "prometheus")]
pub(crate) use self::histogram::Merged;
pub(crate) use self::{
    clock::{Stamp, settle as settle_clock},
    counters::{BatchPlaces, Counter, CounterSlot, Recorder},
    latency::{Latencies, Timing},
    sampling::{Begun, LatencySlot, Started, Times},
};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
