//! What can be seen of a pool: the counters that its threads keep, and the snapshot made of them.

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "recorder.rs will keep it, and snapshot.rs tell it"
    )
)]
mod histogram;
mod recorder;
mod snapshot;

pub(crate) use self::recorder::Recorder;
pub use self::snapshot::{Snapshot, WorkerSnapshot};
