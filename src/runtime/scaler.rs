//! What the scaling controller remembers: when the policy was asked, what it was told, and when to ask it again.
//!
//! Here are the words and the clock alone; `controller.rs` reads the pool, asks the policy, and acts on its answer.

use std::{ops::RangeInclusive, time::Duration};

use crossbeam_utils::CachePadded;

use crate::{
    scaling::{Past, Policy},
    sync::{AtomicBool, AtomicU8, AtomicU64, Instant, Mutex, Ordering, lock},
    tuning::{RECHECK, STALL},
};

/// The longest pause between two checks for help. The first is [`STALL`]; after help was needed, [`RECHECK`].
const PAUSE_MAX: Duration = STALL.saturating_mul(8);
/// The longest while no job starts: help lies ready then.
const PAUSE_IN_VAIN: Duration = Duration::from_secs(1);

/// A mark that is never passed.
pub(super) const NEVER: u64 = u64::MAX;

/// There may be more workers than there are.
pub(super) const MAY_GROW: u8 = 1;
/// Since the policy was asked, jobs were waiting whenever that was checked.
pub(super) const IS_TIMING: u8 = 2;
/// There may be fewer workers than there are.
pub(super) const MAY_SHRINK: u8 = 4;
/// The timer will check whether jobs wait in vain.
pub(super) const IS_WATCHED: u8 = 8;

/// What every push and every worker that becomes idle reads.
struct Marks {
    flags: AtomicU8,
    /// The policy is asked when as many places were drawn. [`NEVER`] if there may be no more workers.
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
    /// Help has run a job since the last check.
    has_helped: AtomicBool,
    /// One change of the range at a time.
    pub(super) resizing: Mutex<()>,
}

pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) past: Past,
    pub(super) waiting_since: Option<Duration>,
    /// When each of those that are in rayon went there, or was added.
    pub(super) idle_since: Vec<Duration>,
    /// The most workers that were ever in service.
    pub(super) most: usize,
    /// When the timer is to wake.
    pub(super) wake_at: Option<Duration>,
    pub(super) watch: Option<Watch>,
    /// Until the next check of a watch.
    pub(super) pause: Duration,
    pub(super) scale_ups: u64,
    pub(super) parks: u64,
}

/// Jobs wait, and all workers run.
pub(super) struct Watch {
    /// When the timer checks next.
    pub(super) at: Duration,
    /// How many jobs had started by the last check.
    pub(super) started: u64,
}

/// What the scaling shows of itself.
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
            state: Mutex::new(State {
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
            }),
            has_helped: AtomicBool::new(false),
            resizing: Mutex::new(()),
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

    /// Sets the flag, or takes it back. Returns whether it was set.
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

    /// A thread that waits inside rayon runs a job by help.
    pub(crate) fn help_runs(&self) {
        self.has_helped.store(true, Ordering::Relaxed);
    }

    /// Whether help has run a job since the last call.
    pub(super) fn take_has_helped(&self) -> bool {
        self.has_helped.swap(false, Ordering::Relaxed)
    }
}

impl State {
    /// Begins to watch whether jobs start, of which so many have. Returns when the timer is to check, if it is new.
    pub(super) fn begin_watch(&mut self, now: Duration, started: u64) -> Option<Duration> {
        if self.watch.is_some() {
            return None;
        }
        let at = now + STALL.min(self.pause);
        self.watch = Some(Watch { at, started });
        Some(at)
    }

    /// The jobs that the watch was begun for may not start any more. Returns when the timer is to check, if that is sooner.
    pub(super) fn hasten_watch(&mut self, now: Duration, started: u64) -> Option<Duration> {
        let soon = now + STALL;
        let watch = self.watch.as_mut().filter(|watch| soon < watch.at)?;
        *watch = Watch { at: soon, started };
        Some(soon)
    }

    /// After a check that was due, of which this was the watch. Returns whether no job has started since the last.
    pub(super) fn go_on_watching(
        &mut self,
        watch: Watch,
        now: Duration,
        started: u64,
        has_helped: bool,
    ) -> bool {
        let is_in_vain = started == watch.started;
        let longest = if is_in_vain { PAUSE_IN_VAIN } else { PAUSE_MAX };
        self.pause = if has_helped {
            RECHECK
        } else {
            longest.min(self.pause * 2)
        };
        let at = now + self.pause;
        self.watch = Some(Watch { at, started });
        is_in_vain
    }
}

/// The smallest depth at which the threshold is reached.
pub(super) fn pressing(policy: &Policy, capacity: u64) -> u64 {
    let is_reached = |depth: u64| depth as f64 / capacity as f64 >= policy.threshold;
    // The product may be off by one either way.
    let near = (policy.threshold * capacity as f64) as u64;
    (near.saturating_sub(1).max(1)..=near.saturating_add(1))
        .find(|&depth| is_reached(depth))
        .unwrap_or(capacity)
}
