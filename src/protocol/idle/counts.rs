//! The word of the idle protocol, and what a change of it leaves to perform.

/// The word of the idle protocol: four counts of 15 bits each, and a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts(pub(super) u64);

const FIELD: u64 = (1 << 15) - 1;
pub(super) const SEARCHING: u64 = 1;
pub(super) const IDLE: u64 = 1 << 15;
pub(super) const IN_RAYON: u64 = 1 << 30;
pub(super) const ACTIVATING: u64 = 1 << 45;
/// Set when a submitter has to empty the queues after its push: see `lifecycle.rs`.
pub(super) const DISCARDING: u64 = 1 << 60;

/// The largest number of workers that the word can count.
pub(crate) const MAX_WORKERS: usize = FIELD as usize;

impl Counts {
    #[inline]
    pub(super) fn of(self, one: u64) -> u64 {
        (self.0 / one) & FIELD
    }

    /// Returns the number of places in service whose worker runs no job.
    pub(super) fn idle(self) -> u64 {
        [SEARCHING, IDLE, IN_RAYON, ACTIVATING]
            .map(|field| self.of(field))
            .iter()
            .sum()
    }

    pub(super) fn discarding(self) -> bool {
        self.0 & DISCARDING != 0
    }

    /// Whether every worker in service runs a job, so that there is none to wake.
    #[inline]
    pub(super) fn all_run(self) -> bool {
        self.0 & !DISCARDING == 0
    }

    /// Returns the counts after one more worker is woken, and which one; `None` if none is needed.
    #[inline]
    pub(super) fn wake_one(self) -> Option<(Counts, Notified)> {
        if self.of(SEARCHING) > 0 {
            None
        } else if self.of(IDLE) > 0 {
            Some((Counts(self.0 - IDLE + SEARCHING), Notified::IdleWorker))
        } else if self.of(IN_RAYON) > 0 && self.of(ACTIVATING) == 0 {
            Some((Counts(self.0 - IN_RAYON + ACTIVATING), Notified::Activation))
        } else {
            None
        }
    }
}

/// The worker that the counts say is woken. The wake-up itself is still to be performed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notified {
    IdleWorker,
    Activation,
}

/// The wake-up that is left to perform after a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum WakeUp {
    /// None: a worker that is awake will run the job.
    None,
    /// None: a worker was woken for the job.
    Woken,
    /// Send an activation through rayon.
    Activate,
    /// The pool is being emptied: drop the submitted jobs, then wake one worker.
    Discard,
}

impl WakeUp {
    /// Whether nothing is left to perform.
    #[inline]
    pub(crate) fn is_nothing(self) -> bool {
        matches!(self, WakeUp::None | WakeUp::Woken)
    }
}

/// The end of an idle time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum IdleEnd {
    /// Notified, and counted as searching.
    Notified,
    /// Counted as in rayon: the thread returns there.
    InRayon,
}
