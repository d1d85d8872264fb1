//! State of the scaling controller: past decisions, waiting and idle times, and the next moment of
//! the timer.
//!
//! This file holds the flags, the clock, and the state under the controller's lock. `controller.rs`
//! measures the pool, asks the policy, and carries out its decision.

use std::{ops::RangeInclusive, time::Duration};

use crossbeam_utils::CachePadded;

use crate::{
    scaling::{Past, Policy},
    sync::{AtomicBool, AtomicU8, AtomicU64, Instant, Mutex, Ordering, Rank, lock},
    tuning::{RECHECK, RECHECK_MAX, STALL, STALL_MAX},
};

/// A mark that is never passed.
pub(super) const NEVER: u64 = u64::MAX;

/// The number of workers is below its maximum.
pub(super) const MAY_GROW: u8 = 1;
/// Jobs were waiting at every check since the policy was asked.
pub(super) const IS_TIMING: u8 = 2;
/// The number of workers is above its minimum.
pub(super) const MAY_SHRINK: u8 = 4;
/// The timer will check for stalled jobs.
pub(super) const IS_WATCHED: u8 = 8;

/// The words that every push and every worker that becomes idle reads.
struct Marks {
    flags: AtomicU8,
    /// The number of drawn places at which the policy is asked. [`NEVER`] if the pool may not grow.
    ask_at: AtomicU64,
}

/// The options of scaling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaling {
    pub(crate) threshold: f64,
    pub(crate) cooldown: Duration,
    pub(crate) idle_timeout: Duration,
}

pub(crate) struct Scaler {
    start: Instant,
    marks: CachePadded<Marks>,
    pub(super) state: Mutex<State>,
    /// Whether help has run a job since the last check.
    has_helped: AtomicBool,
    /// Held during a change of the range, so that changes are sequential.
    pub(super) resizing: Mutex<()>,
}

pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) past: Past,
    pub(super) waiting_since: Option<Duration>,
    /// When each place that is in rayon went there, or was added. The oldest is first.
    pub(super) idle_since: Vec<Duration>,
    /// The largest number of workers that were ever in service.
    pub(super) most: usize,
    /// When the timer is to wake.
    pub(super) wake_at: Option<Duration>,
    pub(super) watch: Option<StallWatch>,
    /// The pause until the next check of a watch.
    pub(super) pause: Duration,
    pub(super) scale_ups: u64,
    pub(super) parks: u64,
}

/// The watch for a stall: jobs wait, and all workers run.
pub(super) struct StallWatch {
    /// When the timer checks next.
    pub(super) at: Duration,
    /// The number of jobs that had started by the last check.
    pub(super) started: u64,
}

/// The part of the scaling state that a snapshot shows.
pub(crate) struct Scaled {
    pub(crate) workers: RangeInclusive<usize>,
    pub(crate) most: usize,
    pub(crate) scale_ups: u64,
    pub(crate) parks: u64,
}

impl Scaler {
    pub(crate) fn new(workers: RangeInclusive<usize>, scaling: Scaling) -> Self {
        let (min, max) = workers.into_inner();
        let may_grow = min < max;
        Self {
            start: Instant::now(),
            marks: CachePadded::new(Marks {
                flags: AtomicU8::new(if may_grow { MAY_GROW } else { 0 }),
                ask_at: AtomicU64::new(if may_grow { 0 } else { NEVER }),
            }),
            state: Mutex::new(
                Rank::Scaler,
                State {
                    policy: Policy {
                        min,
                        max,
                        threshold: scaling.threshold,
                        cooldown: scaling.cooldown,
                        idle_timeout: scaling.idle_timeout,
                    },
                    past: Past::default(),
                    waiting_since: None,
                    idle_since: Vec::new(),
                    most: min,
                    wake_at: None,
                    watch: None,
                    pause: STALL,
                    scale_ups: 0,
                    parks: 0,
                },
            ),
            has_helped: AtomicBool::new(false),
            resizing: Mutex::new(Rank::Resize, ()),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn scaled(&self) -> Scaled {
        let state = lock(&self.state);
        Scaled {
            workers: state.policy.min..=state.policy.max,
            most: state.most,
            scale_ups: state.scale_ups,
            parks: state.parks,
        }
    }

    #[inline]
    pub(super) fn flags(&self) -> u8 {
        self.marks.flags.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags() & flag != 0
    }

    /// Sets or clears the flag. Returns whether it was set.
    pub(super) fn set(&self, flag: u8, is_set: bool) -> bool {
        let flags = &self.marks.flags;
        let before = if is_set {
            flags.fetch_or(flag, Ordering::Relaxed)
        } else {
            flags.fetch_and(!flag, Ordering::Relaxed)
        };
        before & flag != 0
    }

    #[inline]
    pub(super) fn ask_at(&self) -> u64 {
        self.marks.ask_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_ask_at(&self, drawn: u64) {
        self.marks.ask_at.store(drawn, Ordering::Relaxed);
    }

    /// Records that help runs a job, on a thread that waits inside rayon.
    pub(crate) fn help_runs(&self) {
        self.has_helped.store(true, Ordering::Relaxed);
    }

    /// Returns whether help has run a job since the last call.
    pub(super) fn take_has_helped(&self) -> bool {
        self.has_helped.swap(false, Ordering::Relaxed)
    }
}

impl State {
    /// Begins a watch at which `started` jobs have started. Returns when the timer is to check, or
    /// `None` if a watch exists.
    pub(super) fn begin_watch(&mut self, now: Duration, started: u64) -> Option<Duration> {
        if self.watch.is_some() {
            return None;
        }
        let at = now + STALL.min(self.pause);
        self.watch = Some(StallWatch { at, started });
        Some(at)
    }

    /// Moves the next check forward, because the jobs of the watch may not start any more. Returns
    /// its time if it is now sooner.
    pub(super) fn hasten_watch(&mut self, now: Duration, started: u64) -> Option<Duration> {
        let soon = now + STALL;
        let watch = self.watch.as_mut().filter(|watch| soon < watch.at)?;
        *watch = StallWatch { at: soon, started };
        Some(soon)
    }

    /// Continues a watch after a due check. Returns whether no job has started since the check
    /// before.
    pub(super) fn go_on_watching(
        &mut self,
        watch: StallWatch,
        now: Duration,
        started: u64,
        has_helped: bool,
    ) -> bool {
        let is_in_vain = started == watch.started;
        let longest = if is_in_vain { RECHECK_MAX } else { STALL_MAX };
        self.pause = if has_helped {
            RECHECK
        } else {
            longest.min(self.pause * 2)
        };
        let at = now + self.pause;
        self.watch = Some(StallWatch { at, started });
        is_in_vain
    }
}

/// Returns the smallest depth that reaches the threshold.
pub(super) fn pressing(policy: &Policy, capacity: u64) -> u64 {
    let is_reached = |depth: u64| depth as f64 / capacity as f64 >= policy.threshold;
    // Rounding may put the product off by one either way.
    let near = (policy.threshold * capacity as f64) as u64;
    (near.saturating_sub(1).max(1)..=near.saturating_add(1))
        .find(|&depth| is_reached(depth))
        .unwrap_or(capacity)
}
