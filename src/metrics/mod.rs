//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

mod clock;
mod histogram;
#[cfg(feature = "prometheus")]
mod prometheus;
mod recorder;
mod seat;
mod snapshot;
mod table;
mod timing;

#[cfg(all(unix, not(any(miri, shuttle))))]
pub(crate) use self::clock::settle as settle_clock;
#[cfg(feature = "prometheus")]
pub(crate) use self::prometheus::PoolCollector;
pub(crate) use self::{
    clock::Stamp,
    recorder::{BatchPlaces, Cell, Recorder},
    seat::{Seat, Started},
    timing::{Stamps, Timing},
};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
