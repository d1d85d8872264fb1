//! The policy for messages that fail, and for messages whose deliveries never end. Pure functions.
//!
//! A *failure* is a panic or an `Err`. A *crash* is a delivery that never ended: the process died,
//! or its lease expired. JetStream counts deliveries only, so each delivery that ends without an
//! ack leaves a record ([`history`](crate::history)), and `crashes = deliveries - 1 - records`.
//!
//! A process that dies takes its other messages along, and each of them counts a crash. If they
//! came back together with the poison each time, good ones would die with it. So a message that has
//! crashed [`SUSPECT`] times runs alone: the process holds nothing else meanwhile.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Crashes after which a message runs alone. By feel: a storm of kills rarely hits one message
/// three times, and a poison harms its neighbours no more often.
pub(crate) const SUSPECT: u64 = 3;

/// When a message is dead, and how long it waits after a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) max_failures: u64,
    pub(crate) max_crashes: u64,
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
}

/// What to do with a fetched message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Run,
    RunAlone,
    Dead,
}

impl Policy {
    pub(crate) fn on_fetch(&self, crashes: u64) -> Verdict {
        if crashes >= self.max_crashes {
            Verdict::Dead
        } else if crashes >= SUSPECT {
            Verdict::RunAlone
        } else {
            Verdict::Run
        }
    }

    /// Whether `failures`, the last one included, are too many.
    pub(crate) fn is_dead(&self, failures: u64) -> bool {
        failures >= self.max_failures
    }

    /// The wait after failure number `failures`: doubled each time, up to the maximum. `jitter` (0
    /// to 1) takes up to half of it off, so messages that failed together come back apart.
    pub(crate) fn backoff(&self, failures: u64, jitter: f64) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).map_or(31, |n| n.min(31));
        let full = self
            .backoff
            .saturating_mul(1 << doublings)
            .min(self.backoff_max);
        full.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// A random number from 0 to 1: std's random hash keys.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0u8);
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        max_failures: 5,
        max_crashes: 25,
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(60),
    };

    #[test]
    fn the_backoff_doubles_and_stays_between_half_and_full() {
        for failures in 1..100 {
            let full = POLICY.backoff(failures, 0.0);
            let expected = Duration::from_secs(1 << (failures - 1).min(10)).min(POLICY.backoff_max);
            assert_eq!(full, expected, "{failures} failures");
            assert_eq!(POLICY.backoff(failures, 1.0), full / 2);
        }
        let drawn = jitter();
        assert!((0.0..1.0).contains(&drawn));
    }

    #[test]
    fn a_message_runs_then_runs_alone_then_is_dead() {
        assert_eq!(POLICY.on_fetch(SUSPECT - 1), Verdict::Run);
        assert_eq!(POLICY.on_fetch(SUSPECT), Verdict::RunAlone);
        assert_eq!(POLICY.on_fetch(24), Verdict::RunAlone);
        assert_eq!(POLICY.on_fetch(25), Verdict::Dead);
        assert!(!POLICY.is_dead(4));
        assert!(POLICY.is_dead(5));
    }
}
