//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

#![cfg(not(loom))]

mod clock;
mod histogram;
mod latency_slot;
mod recorder;
mod snapshot;
mod table;
mod timing;

#[cfg(feature = "prometheus")]
pub(crate) use self::histogram::Merged;
pub(crate) use self::{
    clock::{Stamp, settle as settle_clock},
    latency_slot::{LatencySlot, Started},
    recorder::{BatchPlaces, CounterSlot, Recorder},
    timing::{JobSummaries, Latencies, Stamps, Timing},
};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
