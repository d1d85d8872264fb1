//! The scaling, carried out: when the policy is asked, what it is told, and what becomes of its answer.
//!
//! # The protocol
//!
//! A *place in service* is what a thread fills while it is a worker. There are as many as
//! [`Idle`](crate::protocol::idle::Idle) counts; the policy in `scaling.rs` says how many there should be.
//! Calling one in adds a place that is asleep, for which a thread is called when there is a job. Parking takes foreign_stack a
//! place that is asleep; if there is none, it leaves a excess, which a worker takes when its job has ended. So
//! no thread is told to stop, and what lies in its deque it hands over as always.
//!
//! The state is under one lock, and so are all changes of the number of places: it is within its
//! range at every instant (S1), and decisions are made one after another.
//!
//! **When the policy is asked.** Nothing ticks.
//! - *By depth.* A push compares the places that were ever drawn with a mark, `look_at`. The depth, with what lies in
//!   stocks, cannot have come to the threshold before the mark is passed, since it grows by one for each that is
//!   drawn: the mark is where it would be if none was given back meanwhile. So a pool that
//!   keeps up is asked once in so many jobs. While a timer is set for the next change, the mark is out of
//!   reach.
//! - *By time.* A push that finds nobody to wake_one sets `is_timing`, and has the timer set for the end of a
//!   cooldown. A worker that runs dry takes the flag back; then the queue was empty.
//! - *By idleness.* A worker that falls asleep is entered in a list, in which the longest idle come first; a call takes
//!   out the last. The timer is set for the first.
//! - *By the user*: `resize` and `set_capacity`.
//!
//! **Starvation.** A worker may wait inside another rayon pool for what comes back to this one: it counts as running, so that
//! nobody is called, and all workers may do so. So while jobs wait and all workers run, the pool is *watched*: a push that finds
//! all running, or a worker that leaves jobs behind as the last that was idle, has the timer look after [`STALL`]. If
//! no job has started since, the timer sends *help* to rayon (`worker.rs`), which lies there until a thread takes it up that
//! waits in rayon. The pauses between two looks double; after help has run a job the next is the shortest, since what comes
//! back has often more to bring. It ends the watch when the queue is empty: it takes the
//! flag back, has a heavy fence, and looks once more; a push has its own fence before it looks at the flag.
//!
//! **The timer** is the *timer*, a thread that has more to do: see `threads.rs`. It sleeps until the one moment that
//! it was told, or for good. It is woken early only if a moment is set before that one, or a thread is to be started; if
//! the moment was taken back, it wakes once in vain. It takes the state's lock, so that nobody enters the table under that.
//!
//! A pool whose range is one number has none of this: its mark is out of reach, nobody is entered, and the timer is told
//! no moment.

use std::{ops::RangeInclusive, time::Duration};

use crossbeam_utils::CachePadded;

use crate::{
    protocol::idle::WakeUp,
    runtime::{
        inner::{Inner, Scaling},
        rayon_host::threads::ACTIVATION_PATIENCE,
    },
    scaling::{Decision, Measured, Past, Policy},
    sync::{AtomicBool, AtomicU64, Instant, Mutex, Ordering, lock, thread},
    tuning::{RECHECK, STALL},
};

/// The longest pause between two checks for help. The first is [`STALL`]; after help was needed, [`RECHECK`].
const PAUSE_MAX: Duration = STALL.saturating_mul(8);
/// The longest while no job starts: help lies ready then.
const PAUSE_IN_VAIN: Duration = Duration::from_secs(1);

/// A mark that is never passed.
const NEVER: u64 = u64::MAX;

/// What every push and every worker that runs dry looks at.
struct Marks {
    /// The policy is asked when as many places were drawn.
    look_at: AtomicU64,
    /// There may be more workers than there are.
    may_grow: AtomicBool,
    /// Since the policy was asked, jobs were waiting whenever somebody looked.
    is_timing: AtomicBool,
    /// There may be fewer than there are.
    may_shrink: AtomicBool,
    /// The timer will look whether jobs wait in vain.
    is_watched: AtomicBool,
}

pub(crate) struct Scaler {
    start: Instant,
    marks: CachePadded<Marks>,
    state: Mutex<State>,
    /// Help has run a job since the last look.
    has_helped: AtomicBool,
    /// One change of the range at a time.
    resizing: Mutex<()>,
}

struct State {
    policy: Policy,
    past: Past,
    waiting_since: Option<Duration>,
    /// When each of those that are asleep fell asleep, or was added.
    idle_since: Vec<Duration>,
    /// The most workers that were ever in service.
    most: usize,
    /// The timer is to look then.
    look_at: Option<Duration>,
    watch: Option<Watch>,
    /// Until the next look of a watch.
    pause: Duration,
    scale_ups: u64,
    parks: u64,
}

/// Jobs wait, and all workers run.
struct Watch {
    /// When the timer looks next.
    at: Duration,
    /// How many jobs had started by the last look.
    started: u64,
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
        Self {
            start: Instant::now(),
            marks: CachePadded::new(Marks {
                look_at: AtomicU64::new(if min < max { 0 } else { NEVER }),
                may_grow: AtomicBool::new(min < max),
                is_timing: AtomicBool::new(false),
                may_shrink: AtomicBool::new(false),
                is_watched: AtomicBool::new(false),
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
                look_at: None,
                watch: None,
                pause: STALL,
                scale_ups: 0,
                parks: 0,
            }),
            has_helped: AtomicBool::new(false),
            resizing: Mutex::new(()),
        }
    }

    fn now(&self) -> Duration {
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

    /// To be asked after each push: whether the policy is to be asked.
    #[inline]
    pub(crate) fn is_due(&self, inner: &Inner) -> bool {
        let marks = &*self.marks;
        marks.may_grow.load(Ordering::Relaxed)
            && (inner.admission.drawn() >= marks.look_at.load(Ordering::Relaxed)
                || !marks.is_timing.load(Ordering::Relaxed) && inner.idle.all_run())
    }

    /// Whether the timer is to be told that jobs wait, if all workers run.
    #[inline]
    pub(crate) fn is_unwatched(&self) -> bool {
        !self.marks.is_watched.load(Ordering::Relaxed)
    }

    /// Jobs wait, and all workers run.
    #[cold]
    pub(crate) fn watch(&self, inner: &Inner) {
        let mut state = lock(&self.state);
        if state.watch.is_none() && !inner.life.is_stopped() {
            self.marks.is_watched.store(true, Ordering::Relaxed);
            let at = self.now() + STALL.min(state.pause);
            state.watch = Some(Watch {
                at,
                started: inner.started(),
            });
            state.wake_timer_at(inner, Some(at));
        }
    }

    /// A thread that waits inside rayon runs a job by help.
    pub(crate) fn help_runs(&self) {
        self.has_helped.store(true, Ordering::Relaxed);
    }

    /// A thread that waits inside rayon has found help there that was sent long ago, and jobs have started since: maybe
    /// they do not any more.
    pub(crate) fn found_old_help(&self, inner: &Inner) {
        let mut state = lock(&self.state);
        let soon = self.now() + STALL;
        if let Some(watch) = &mut state.watch {
            if soon < watch.at {
                watch.at = soon;
                watch.started = inner.started();
                state.wake_timer_at(inner, Some(soon));
            }
        }
    }

    /// By the timer. Returns whether jobs wait in vain.
    fn look_for_starvation(&self, inner: &Inner) -> bool {
        let mut state = lock(&self.state);
        let now = self.now();
        let Some(mut watch) = state.watch.take() else {
            return false;
        };
        let mut is_starved = false;
        if watch.at <= now {
            if inner.queue.is_empty() {
                self.marks.is_watched.store(false, Ordering::Relaxed);
                // Pairs with the fences in `after_push` and `after_offer`: we see the job, or they see that nobody watches.
                inner.fences.heavy();
            }
            if inner.queue.is_empty() || inner.life.is_stopped() {
                return false;
            }
            self.marks.is_watched.store(true, Ordering::Relaxed);
            let started = inner.started();
            is_starved = started == watch.started;
            let longest = if is_starved { PAUSE_IN_VAIN } else { PAUSE_MAX };
            state.pause = if self.has_helped.swap(false, Ordering::Relaxed) {
                RECHECK
            } else {
                longest.min(state.pause * 2)
            };
            watch = Watch {
                at: now + state.pause,
                started,
            };
        }
        state.wake_timer_at(inner, Some(watch.at));
        state.watch = Some(watch);
        is_starved
    }

    /// A worker has found nothing in its deques and the injectors. In those of others there may be hundreds of jobs.
    #[inline]
    pub(crate) fn became_idle(&self, inner: &Inner) {
        if self.marks.is_timing.load(Ordering::Relaxed) && inner.queue.is_empty() {
            self.marks.is_timing.store(false, Ordering::Relaxed);
        }
    }

    /// A worker that found nothing since then has fallen asleep.
    pub(crate) fn went_to_rayon(&self, inner: &Inner, idled: Duration) {
        if self.marks.may_shrink.load(Ordering::Relaxed) {
            self.ask(inner, |state| {
                state.idle_since.push(self.now().saturating_sub(idled));
            });
        }
    }

    /// A thread was called to fill a place that was asleep: that which was the last to fall asleep.
    pub(crate) fn was_activated(&self) {
        if self.marks.may_shrink.load(Ordering::Relaxed) {
            lock(&self.state).idle_since.pop();
        }
    }

    /// A call was left to threads that are with rayon, though there are some that were not started.
    pub(crate) fn watch_activation(&self, inner: &Inner) {
        let mut state = lock(&self.state);
        let at = self.now() + ACTIVATION_PATIENCE;
        state.wake_timer_at(inner, Some(at));
    }

    /// Asks the policy, and does what it says.
    #[cold]
    pub(crate) fn look(&self, inner: &Inner) {
        self.ask(inner, |_| ());
    }

    /// Changes the range.
    pub(crate) fn resize(&self, inner: &Inner, workers: RangeInclusive<usize>) {
        let _one = lock(&self.resizing);
        let (min, max) = workers.into_inner();
        // It may start threads: not under the lock that the timer takes.
        inner.threads.set_max(&inner.me(), max);
        self.ask(inner, |state| {
            (state.policy.min, state.policy.max) = (min, max);
        });
    }

    /// Changes something, asks the policy, and does what it says.
    fn ask(&self, inner: &Inner, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let wake_up = self.decide(&mut state, inner);
        drop(state);
        inner.perform(wake_up);
    }

    /// The wake_up is to be fulfilled without the lock: threads are started and called for it.
    fn decide(&self, state: &mut State, inner: &Inner) -> WakeUp {
        if inner.life.is_stopped() {
            return WakeUp::None;
        }
        let idle = &inner.idle;
        let now = self.now();
        // Before the queue is looked at: a worker that finds it empty after that takes the flag back.
        let was_timing = self.marks.is_timing.swap(true, Ordering::Relaxed);
        if inner.queue.is_empty() {
            state.waiting_since = None;
            self.marks.is_timing.store(false, Ordering::Relaxed);
        } else if !was_timing || state.waiting_since.is_none() {
            state.waiting_since = Some(now);
        }
        let in_service = idle.in_service();
        let idle_workers = idle.idle();
        state.idle_since.truncate(idle.in_rayon());
        let drawn = inner.admission.drawn();
        let depth = inner.admission.depth();
        let capacity = inner.admission.capacity();
        let verdict = state.policy.decide(&Measured {
            now,
            depth,
            held: depth.saturating_sub(inner.admission.queued()),
            capacity,
            in_service,
            busy: in_service.saturating_sub(idle_workers),
            waiting_since: state.waiting_since,
            idle_since: &state.idle_since,
            past: state.past,
        });
        state
            .past
            .note(verdict.decision, now, state.policy.cooldown);
        let after = match verdict.decision {
            Decision::ScaleUp(workers) => {
                state.scale_ups += 1;
                state.idle_since.extend((0..workers).map(|_| now));
                state.most = state.most.max(in_service + workers);
                in_service + workers
            }
            Decision::Park(workers) => {
                state.parks += workers as u64;
                state
                    .idle_since
                    .drain(..workers.min(state.idle_since.len()));
                in_service - workers
            }
            Decision::Nothing => in_service,
        };
        let may_grow = after < state.policy.max;
        let pressing = pressing(&state.policy, capacity);
        let cooling = state.past.is_cooling(now, state.policy.cooldown);
        let look_at = if !may_grow || cooling && depth >= pressing && verdict.next_at.is_some() {
            NEVER
        } else {
            // What lies in stocks may be taken without being drawn.
            let deepest = inner.admission.depth_with_caches();
            drawn + pressing.saturating_sub(deepest).max(1)
        };
        self.marks.look_at.store(look_at, Ordering::Relaxed);
        self.marks.may_grow.store(may_grow, Ordering::Relaxed);
        let may_shrink = after > state.policy.min;
        if may_shrink && !self.marks.may_shrink.swap(true, Ordering::Relaxed) {
            // Those who fell asleep before were not entered.
            let missing = idle.in_rayon().saturating_sub(state.idle_since.len());
            state.idle_since.splice(0..0, (0..missing).map(|_| now));
        } else if !may_shrink {
            self.marks.may_shrink.store(false, Ordering::Relaxed);
            state.idle_since.clear();
        }
        state.wake_timer_at(inner, verdict.next_at);
        match verdict.decision {
            Decision::ScaleUp(workers) => idle.add_places(workers, || !inner.queue.is_empty()),
            Decision::Park(workers) => {
                idle.remove_places(workers);
                WakeUp::None
            }
            Decision::Nothing => WakeUp::None,
        }
    }

    /// By the timer: asks the policy if it is time, or sleeps until it is, or until somebody unparks it.
    pub(crate) fn keep_time(&self, inner: &Inner) {
        let now = self.now();
        let mut state = lock(&self.state);
        match state.look_at {
            None => {
                drop(state);
                thread::park();
            }
            Some(at) if at > now => {
                drop(state);
                thread::park_timeout(at - now);
            }
            Some(_) => {
                state.look_at = None;
                let wake_up = self.decide(&mut state, inner);
                drop(state);
                inner.perform(wake_up);
                if let Some(left) = inner.threads.start_for_late_activation(&inner.me()) {
                    let mut state = lock(&self.state);
                    let at = self.now() + left;
                    state.wake_timer_at(inner, Some(at));
                }
                if self.look_for_starvation(inner) {
                    inner.threads.send_help(&inner.me());
                }
            }
        }
    }
}

/// The smallest depth at which the threshold is reached.
fn pressing(policy: &Policy, capacity: u64) -> u64 {
    let is_reached = |depth: u64| depth as f64 / capacity as f64 >= policy.threshold;
    // The product may be off by one either way.
    let near = (policy.threshold * capacity as f64) as u64;
    (near.saturating_sub(1).max(1)..=near.saturating_add(1))
        .find(|&depth| is_reached(depth))
        .unwrap_or(capacity)
}

impl State {
    /// Has the timer wake at this moment, or before.
    fn wake_timer_at(&mut self, inner: &Inner, at: Option<Duration>) {
        let Some(at) = at else {
            return;
        };
        if self.look_at.is_none_or(|look_at| at < look_at) {
            self.look_at = Some(at);
            inner.threads.unpark_timer();
        }
    }
}
