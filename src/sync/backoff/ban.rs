//! The ban on yields, in one word for the process.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use crate::{sync::Instant, tuning::FIRST_BAN};

/// How often a ban's length doubles, up to some 1.3 s. A bound: one slice of 4 ms in that is 0.3 %.
const DOUBLINGS: u32 = 7;

/// A ban. Times are in us since a moment before the first ban.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ban {
    /// The end of the ban. 0: there was none.
    until: u64,
    /// How often its length was doubled.
    doublings: u32,
}

impl Ban {
    const NONE: Self = Self {
        until: 0,
        doublings: 0,
    };

    /// The low bits of the word hold `doublings`.
    const BITS: u32 = 4;

    fn to_word(self) -> u64 {
        self.until << Self::BITS | u64::from(self.doublings)
    }

    fn of_word(word: u64) -> Self {
        Self {
            until: word >> Self::BITS,
            doublings: (word & ((1 << Self::BITS) - 1)) as u32,
        }
    }

    fn length(self) -> u64 {
        (FIRST_BAN.as_micros() as u64) << self.doublings
    }

    fn allows(self, now: u64) -> bool {
        now >= self.until
    }

    /// Returns the ban after a yield that was lost to others, and ended now.
    fn after_loss(self, now: u64) -> Self {
        if !self.allows(now) {
            // That yield was under way when the ban began.
            return self;
        }
        let is_forgotten = self == Self::NONE || now - self.until > self.length();
        let doublings = if is_forgotten {
            0
        } else {
            (self.doublings + 1).min(DOUBLINGS)
        };
        let next = Self {
            until: 0,
            doublings,
        };
        Self {
            until: now + next.length(),
            doublings,
        }
    }
}

/// The ban of a process.
#[derive(Debug)]
pub(super) struct Bans(AtomicU64);

pub(super) static OF_PROCESS: Bans = Bans::new();

impl Bans {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn load(&self) -> Ban {
        Ban::of_word(self.0.load(Ordering::Relaxed))
    }

    /// Whether a thread may yield.
    #[inline]
    pub(super) fn allows(&self, now: Instant) -> bool {
        let ban = self.load();
        ban == Ban::NONE || ban.allows(micros(now))
    }

    /// Begins the next ban after a lost yield that ended `now`.
    pub(super) fn begin(&self, now: Instant) {
        let next = self.load().after_loss(micros(now));
        self.0.store(next.to_word(), Ordering::Relaxed);
    }
}

fn micros(now: Instant) -> u64 {
    // At least 1, so that no ban ends at 0.
    now.saturating_duration_since(start()).as_micros() as u64 + 1
}

/// Returns the moment from which bans are counted.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Makes that moment, or waits until another thread has made it.
pub(crate) fn settle() {
    start();
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn r9_bans_are_doubled_while_yields_are_lost_and_then_forgotten() {
        // When a yield is lost, and how long the ban lasts that it brings; both in ms.
        let table = [
            (5, Some(10)),
            // Under way when the previous ban began.
            (9, None),
            (15, Some(20)),
            (40, Some(40)),
            // As late as one can be.
            (120, Some(80)),
            (250, Some(160)),
            (411, Some(320)),
            (731, Some(640)),
            (1_371, Some(1_280)),
            // No longer than that.
            (2_651, Some(1_280)),
            (3_931, Some(1_280)),
            // Forgotten: yields were short for longer than that.
            (6_492, Some(10)),
            (6_502, Some(20)),
            (6_543, Some(10)),
        ];
        let mut ban = Ban::NONE;
        for (at, length) in table {
            let (before, now) = (ban, at * MS);
            ban = ban.after_loss(now);
            match length {
                Some(length) => {
                    assert!(before.allows(now), "{at}");
                    assert_eq!(ban.until, now + length * MS, "{at}");
                    assert!(!ban.allows(ban.until - 1) && ban.allows(ban.until), "{at}");
                }
                None => assert_eq!(ban, before, "{at}"),
            }
            assert_eq!(Ban::of_word(ban.to_word()), ban, "{at}");
        }
    }

    #[test]
    fn r9_without_a_ban_a_thread_yields_at_any_time() {
        assert!(Ban::NONE.allows(0));
        assert!(Bans::new().allows(Instant::now()));
    }
}
