//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

#![cfg(not(loom))]

mod clock;
mod histogram;
mod recorder;
mod seat;
mod snapshot;
mod table;
mod timing;

#[cfg(feature = "prometheus")]
pub(crate) use self::histogram::Merged;
pub(crate) use self::{
    clock::{Stamp, settle as settle_clock},
    recorder::{BatchPlaces, Cell, Recorder},
    seat::{Seat, Started},
    timing::{JobSummaries, Latencies, Stamps, Timing},
};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
