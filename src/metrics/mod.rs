//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

mod clock;
mod histogram;
mod prometheus;
mod recorder;
mod seat;
mod snapshot;
mod table;
mod timing;

pub(crate) use self::{
    clock::{Stamp, settle as settle_clock},
    prometheus::PoolCollector,
    recorder::{BatchPlaces, Cell, Recorder},
    seat::{Seat, Started},
    timing::{Stamps, Timing},
};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
