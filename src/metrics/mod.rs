//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

mod clock;
mod histogram;
mod recorder;
mod snapshot;
mod table;

pub(crate) use self::{clock::Stamp, recorder::Recorder};
pub use self::{
    histogram::LatencySummary,
    snapshot::{Snapshot, WorkerSnapshot},
};
