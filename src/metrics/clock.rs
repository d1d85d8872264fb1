//! The clock that jobs are timed with: the processor's counter where the system trusts it, through
//! the `quanta` crate, and the system's clock elsewhere. A reading takes a third of the time of
//! `Instant::now`.

use std::sync::atomic::{AtomicBool, Ordering};

/// A moment as the clock reads it, without a unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// No moment: the clock was not read.
    pub(crate) const NONE: Self = Self(0);

    /// Set in a moment at which a job came that is timed whatever jobs came before it.
    const UNSAMPLED: u64 = 1;

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    #[inline]
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// This moment, for a job that is no sample: its times stand for it alone.
    #[inline]
    pub(crate) fn unsampled(self) -> Self {
        Self(self.0 | u64::from(!self.is_none()))
    }

    #[inline]
    pub(crate) fn is_unsampled(self) -> bool {
        self.0 & Self::UNSAMPLED != 0
    }
}

/// A clock. The process's first one is calibrated, which takes about a millisecond. In one of 300
/// processes it took 200, the limit of `quanta`.
#[derive(Debug)]
pub(crate) struct Clock(quanta::Clock);

/// Whether the process has a clock, or a thread is making one.
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
        Stamp(self.0.raw() & !Stamp::UNSAMPLED)
    }

    /// The time from one moment to another, in ns. Zero if `to` is not later: two cores may differ
    /// by a little.
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
