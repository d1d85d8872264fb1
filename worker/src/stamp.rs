//! A point in time whose age includes the machine's suspension.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock stops while a machine is suspended, and the wall clock may be set back. The
/// larger of the two ages is never too small because of one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    monotonic: Instant,
    wall: SystemTime,
}

impl Stamp {
    pub(crate) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    pub(crate) fn age(&self) -> Duration {
        let wall = self.wall.elapsed().unwrap_or_default();
        self.monotonic.elapsed().max(wall)
    }
}
