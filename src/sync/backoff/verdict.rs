//! The verdict on a long yield: whether threads of others had the core meanwhile.

use std::time::Duration;

use crate::tuning::{LONG_YIELD, SLICE};

/// Whether a yield that took `took` was lost to others. Meanwhile all workers together used at most
/// `used` of CPU time, if the system reports that.
pub(super) fn is_lost(took: Duration, used: Option<Duration>) -> bool {
    match used {
        // Nine tenths: the clocks are not read at the same moment.
        Some(used) => took >= LONG_YIELD && used * 10 < took * 9,
        None => took >= SLICE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r9_a_yield_is_lost_if_the_workers_used_less_than_a_core() {
        // How long it took, and what the workers used, both in us; whether it was lost.
        let table = [
            // Too short to be a time slice, whatever happened.
            (0, Some(0), false),
            (199, Some(0), false),
            (200, Some(0), true),
            (4_000, Some(0), true),
            // A job of 500 us ran meanwhile, on another core or before the others had this one.
            (4_000, Some(500), true),
            (4_000, Some(3_599), true),
            // A worker had it.
            (4_000, Some(3_600), false),
            (4_000, Some(4_000), false),
            // Several workers ran.
            (4_000, Some(8_000), false),
            // The system does not report the CPU time.
            (999, None, false),
            (1_000, None, true),
        ];
        let us = Duration::from_micros;
        for (took, used, lost) in table {
            assert_eq!(is_lost(us(took), used.map(us)), lost, "{took} {used:?}");
        }
    }
}
