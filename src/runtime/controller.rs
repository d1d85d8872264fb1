//! The scaling controller: when the policy is asked, what it is told, and what becomes of its answer.
//!
//! # The protocol
//!
//! A *place in service* is what a thread fills while it is a worker. There are as many as
//! [`Idle`](crate::protocol::idle::Idle) counts; the policy in `scaling` says how many there should be.
//! To call one in adds a place that is in rayon, for which a thread is activated when there is a job. To park one takes away a
//! place that is in rayon; if there is none, it leaves an excess, which a worker takes when its job has ended. So
//! no thread is stopped, and what lies in its deque it hands over as always.
//!
//! The state is under one lock, and so are all changes of the number of places: it is within its
//! range at every instant (S1), and decisions are made one after another.
//!
//! **When the policy is asked.** Nothing ticks.
//! - *By depth.* A push compares the places that were ever drawn with a mark, `ask_at`. The depth, with what lies in
//!   permit caches, cannot have come to the threshold before the mark is passed, since it grows by one for each that is
//!   drawn: the mark is where it would be if none was given back meanwhile. So a pool that
//!   keeps up is asked once in so many jobs. While a timer is set for the next change, the mark is out of
//!   reach.
//! - *By time.* A push that finds every worker running sets `IS_TIMING`, and has the timer set for the end of a
//!   cooldown. A worker that becomes idle takes the flag back; then the queue was empty.
//! - *By idleness.* A worker that goes back to rayon is entered in a list, in which the longest idle come first; an
//!   activation takes out the last. The timer is set for the first.
//! - *By the user*: `resize` and `set_capacity`.
//!
//! **Jobs that wait in vain.** A worker may wait inside another rayon pool for what comes back to this one: it counts as
//! running, so that no activation is sent, and all workers may do so. So while jobs wait and all workers run, the pool is
//! *watched*: a push that finds all running, or a worker that leaves jobs behind as the last that was idle, has the
//! timer check after a while. If no job has started since, the timer sends *help* to rayon, which lies there until a
//! thread takes it up that waits in rayon. The pauses between two checks double; after help has run a job the
//! next is the shortest, since what comes back has often more to bring. The watch ends when the queue is empty: the timer
//! takes the flag back, has a heavy fence, and checks once more; a push has its own fence before it reads the flag.
//!
//! **The timer** sleeps until the one moment that it was given, or for good. It is unparked early only if a moment is set
//! before that one, or a thread is to be started; if the moment was taken back, it wakes once in vain. It takes
//! the state's lock, so that no thread enters the table under that.
//!
//! A pool whose range is one number has none of this but the watch: its mark is out of reach, and nothing is entered.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    protocol::idle::WakeUp,
    runtime::{
        inner::Inner,
        rayon_host::Help,
        scaler::{IS_TIMING, IS_WATCHED, MAY_GROW, MAY_SHRINK, NEVER, State, pressing},
    },
    scaling::{Decision, Measured},
    sync::{Instant, lock, thread},
};

/// For how long help is good, after it was sent, although other jobs have started meanwhile: some time slices, in which a
/// thread that rayon wakes gets a core.
const HELP: Duration = Duration::from_millis(20);

impl Inner {
    /// To be called when a place was taken for work that a job in the queue will come to.
    #[inline]
    pub(crate) fn place_taken(&self) {
        let flags = self.scaler.flags();
        let may_grow = flags & MAY_GROW != 0;
        let mut is_pressing = may_grow && flags & IS_TIMING == 0;
        if may_grow && self.admission.drawn() >= self.scaler.ask_at() {
            self.ask_policy();
            is_pressing = false;
        }
        if (is_pressing || flags & IS_WATCHED == 0) && self.idle.all_run() {
            self.all_run_while_jobs_wait(is_pressing);
        }
    }

    #[cold]
    fn all_run_while_jobs_wait(&self, is_pressing: bool) {
        if is_pressing {
            self.ask_policy();
        }
        if !self.scaler.has(IS_WATCHED) {
            self.watch();
        }
    }

    /// To be called by a worker that was idle and is not any more: if it was the last, and jobs wait, the timer
    /// watches them.
    pub(crate) fn check_left_behind(&self) {
        if self.scaler.has(IS_WATCHED) || !self.idle.all_run() {
            return;
        }
        let mut jobs_wait = false;
        // Its fence pairs with those of a push, which may have found the caller searching.
        let wake_up = self.idle.recheck(|| {
            jobs_wait = !self.queue.is_empty();
            jobs_wait
        });
        self.perform(wake_up);
        if jobs_wait {
            self.watch();
        }
    }

    /// Jobs wait, and all workers run.
    #[cold]
    fn watch(&self) {
        let mut state = lock(&self.scaler.state);
        if !self.life.is_stopped() {
            let at = state.begin_watch(self.scaler.now(), self.started());
            if at.is_some() {
                self.scaler.set(IS_WATCHED, true);
            }
            self.wake_timer_at(&mut state, at);
        }
    }

    /// Help that is sent now.
    pub(crate) fn help_from_now_on(&self) -> Help {
        Help {
            until: Instant::now() + HELP,
            started: self.started(),
        }
    }

    /// Whether help is still good. If it was sent long ago, and jobs have started since, it is not; maybe they do not
    /// start any more.
    pub(crate) fn is_help_good(&self, sent: Help) -> bool {
        let is_good = Instant::now() <= sent.until || self.started() == sent.started;
        if !is_good {
            let mut state = lock(&self.scaler.state);
            let at = state.hasten_watch(self.scaler.now(), self.started());
            self.wake_timer_at(&mut state, at);
        }
        is_good
    }

    /// By the timer. Returns whether jobs wait in vain.
    fn check_watch(&self) -> bool {
        let mut state = lock(&self.scaler.state);
        let now = self.scaler.now();
        let Some(watch) = state.watch.take() else {
            return false;
        };
        if watch.at > now {
            let at = Some(watch.at);
            state.watch = Some(watch);
            self.wake_timer_at(&mut state, at);
            return false;
        }
        if self.queue.is_empty() {
            self.scaler.set(IS_WATCHED, false);
            // Pairs with the fences in `after_push` and `after_offer`: we see the job, or they see that nothing watches.
            self.fences.heavy();
        }
        if self.queue.is_empty() || self.life.is_stopped() {
            return false;
        }
        self.scaler.set(IS_WATCHED, true);
        let has_helped = self.scaler.take_has_helped();
        let is_in_vain = state.go_on_watching(watch, now, self.started(), has_helped);
        let at = state.watch.as_ref().map(|watch| watch.at);
        self.wake_timer_at(&mut state, at);
        is_in_vain
    }

    /// A worker has found nothing in its deques and the injectors. In those of others there may be hundreds of jobs.
    #[inline]
    pub(crate) fn worker_became_idle(&self) {
        if self.scaler.has(IS_TIMING) && self.queue.is_empty() {
            self.scaler.set(IS_TIMING, false);
        }
    }

    /// A worker that found nothing for that long has gone back to rayon.
    pub(crate) fn worker_went_to_rayon(&self, idled: Duration) {
        if self.scaler.has(MAY_SHRINK) {
            let since = self.scaler.now().saturating_sub(idled);
            self.change_and_ask(|state| state.idle_since.push(since));
        }
    }

    /// A thread was activated to fill a place that was in rayon: the one that was the last to go there.
    pub(crate) fn place_was_activated(&self) {
        if self.scaler.has(MAY_SHRINK) {
            lock(&self.scaler.state).idle_since.pop();
        }
    }

    /// An activation was left to threads that are with rayon, though there are some that were not started.
    pub(crate) fn watch_late_activation(&self, patience: Duration) {
        let mut state = lock(&self.scaler.state);
        let at = Some(self.scaler.now() + patience);
        self.wake_timer_at(&mut state, at);
    }

    /// Asks the policy, and does what it says.
    #[cold]
    pub(crate) fn ask_policy(&self) {
        self.change_and_ask(|_| ());
    }

    /// Changes the range.
    pub(crate) fn resize(&self, workers: RangeInclusive<usize>) {
        let _one = lock(&self.scaler.resizing);
        let (min, max) = workers.into_inner();
        // It may start threads: not under the lock that the timer takes.
        self.threads.set_max(&self.me(), max);
        self.change_and_ask(|state| {
            (state.policy.min, state.policy.max) = (min, max);
        });
    }

    /// Changes something, asks the policy, and does what it says.
    fn change_and_ask(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.scaler.state);
        change(&mut state);
        let wake_up = self.decide(&mut state);
        drop(state);
        self.perform(wake_up);
    }

    /// The wake-up is to be performed without the lock: threads are started and activated for it.
    fn decide(&self, state: &mut State) -> WakeUp {
        if self.life.is_stopped() {
            return WakeUp::None;
        }
        let scaler = &self.scaler;
        let idle = &self.idle;
        let now = scaler.now();
        // Before the queue is read: a worker that finds it empty after that takes the flag back.
        let was_timing = scaler.set(IS_TIMING, true);
        if self.queue.is_empty() {
            state.waiting_since = None;
            scaler.set(IS_TIMING, false);
        } else if !was_timing || state.waiting_since.is_none() {
            state.waiting_since = Some(now);
        }
        let in_service = idle.in_service();
        let idle_workers = idle.idle();
        state.idle_since.truncate(idle.in_rayon());
        let drawn = self.admission.drawn();
        let depth = self.admission.depth();
        let capacity = self.admission.capacity();
        let verdict = state.policy.decide(&Measured {
            now,
            depth,
            held: depth.saturating_sub(self.admission.queued()),
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
        let ask_at = if !may_grow || cooling && depth >= pressing && verdict.next_at.is_some() {
            NEVER
        } else {
            // What lies in permit caches may be taken without being drawn.
            let deepest = self.admission.depth_with_caches();
            drawn + pressing.saturating_sub(deepest).max(1)
        };
        scaler.set_ask_at(ask_at);
        scaler.set(MAY_GROW, may_grow);
        let may_shrink = after > state.policy.min;
        if !scaler.set(MAY_SHRINK, may_shrink) && may_shrink {
            // Those that went to rayon before were not entered.
            let missing = idle.in_rayon().saturating_sub(state.idle_since.len());
            state.idle_since.splice(0..0, (0..missing).map(|_| now));
        } else if !may_shrink {
            state.idle_since.clear();
        }
        self.wake_timer_at(state, verdict.next_at);
        match verdict.decision {
            Decision::ScaleUp(workers) => idle.add_places(workers, || !self.queue.is_empty()),
            Decision::Park(workers) => {
                idle.remove_places(workers);
                WakeUp::None
            }
            Decision::Nothing => WakeUp::None,
        }
    }

    /// Has the timer wake at this moment, or before.
    fn wake_timer_at(&self, state: &mut State, at: Option<Duration>) {
        let Some(at) = at else {
            return;
        };
        if state.wake_at.is_none_or(|wake_at| at < wake_at) {
            state.wake_at = Some(at);
            self.threads.unpark_timer();
        }
    }

    /// By the timer: asks the policy if it is time, or sleeps until it is, or until it is unparked.
    pub(crate) fn run_timer(&self) {
        let now = self.scaler.now();
        let mut state = lock(&self.scaler.state);
        match state.wake_at {
            None => {
                drop(state);
                thread::park();
            }
            Some(at) if at > now => {
                drop(state);
                thread::park_timeout(at - now);
            }
            Some(_) => {
                state.wake_at = None;
                let wake_up = self.decide(&mut state);
                drop(state);
                self.perform(wake_up);
                let me = self.me();
                if let Some(left) = self.threads.start_for_late_activation(&me) {
                    self.watch_late_activation(left);
                }
                if self.check_watch() {
                    self.threads.send_help(&me, self.help_from_now_on());
                }
            }
        }
    }
}
