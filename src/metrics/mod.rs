//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

mod clock;
mod histogram;
mod prometheus;
mod recorder;
mod seat;
mod snapshot;
mod table;
mod timing;

#[cfg(all(unix, not(any(miri, shuttle))))]
pub(crate) use self::clock::settle as settle_clock;
pub(crate) use self::{
    clock::Stamp,
    prometheus::PoolCollector,
    recorder::{BatchPlaces, Cell, GuestCell, Recorder},
    seat::{Seat, Started},
    timing::{Guest, Stamps, Timing},
};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
