//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

mod recorder;
mod snapshot;

pub(crate) use self::recorder::Recorder;
pub use self::snapshot::{Snapshot, WorkerSnapshot};
