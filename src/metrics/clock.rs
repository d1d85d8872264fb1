//! The clock that jobs are timed with: the processor's own counter where the system trusts it, by the
//! `quanta` crate, and the system's clock elsewhere. A third of the cost of `Instant::now`.

use std::sync::atomic::{AtomicBool, Ordering};

/// A moment as the clock reads it: no unit of time yet. Zero if there is no clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// No moment, and before all moments.
    pub(crate) const NONE: Self = Self(0);

    /// In place of a moment: the clock was not read, and the job is as others before it.
    pub(crate) const ALIKE: Self = Self(1);

    /// This moment, lent to a job for which the clock was not read: it is as others before it, or if they were
    /// long, has waited since then.
    #[inline]
    pub(crate) fn lent(self) -> Self {
        Self(self.0 | Self::ALIKE.0)
    }

    /// Whether the clock was not read for the job.
    #[inline]
    pub(crate) fn is_alike(self) -> bool {
        self.0 & Self::ALIKE.0 != 0
    }

    /// This moment, or in place of one that is not known, the other.
    #[inline]
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::ALIKE { other } else { self }
    }

    #[inline]
    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    #[inline]
    pub(crate) fn raw(self) -> u64 {
        self.0
    }
}

/// A clock. The process's first is calibrated, which takes about a millisecond; in one of 300 processes it took the
/// 200 that `quanta` bounds it by.
#[derive(Debug)]
pub(crate) struct Clock(quanta::Clock);

/// Whether there is one, or somebody is making it.
static IS_WANTED: AtomicBool = AtomicBool::new(false);

/// Waits until the process's first clock is calibrated, if that is under way.
pub(crate) fn settle() {
    if IS_WANTED.load(Ordering::Relaxed) {
        drop(quanta::Clock::new());
    }
}

impl Clock {
    pub(crate) fn new() -> Self {
        IS_WANTED.store(true, Ordering::Relaxed);
        Self(quanta::Clock::new())
    }

    #[inline]
    pub(crate) fn now(&self) -> Stamp {
        // The last bit says whose it is.
        Stamp(self.0.raw() & !Stamp::ALIKE.0)
    }

    /// From one moment to another, in ns. Zero if the other is not later: two cores may differ by a little.
    #[inline]
    pub(crate) fn nanos(&self, from: Stamp, to: Stamp) -> u64 {
        self.0.delta_as_nanos(from.0, to.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_agrees_with_the_system_and_never_goes_below_zero() {
        let clock = Clock::new();
        let (began, from) = (Instant::now(), clock.now());
        let inner_began = Instant::now();
        while inner_began.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let inner = inner_began.elapsed();
        let to = clock.now();
        let outer = began.elapsed();
        let measured = Duration::from_nanos(clock.nanos(from, to));
        // One in a thousand for the calibration.
        assert!(measured >= inner * 999 / 1000, "{measured:?} < {inner:?}");
        assert!(measured <= outer * 1001 / 1000, "{measured:?} > {outer:?}");
        assert_eq!(clock.nanos(to, from), 0);
        assert!(Stamp::NONE < from);
    }
}
