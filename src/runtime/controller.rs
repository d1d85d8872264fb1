//! The scaling controller: decides when to ask the policy, measures its input, and carries out its
//! decision.
//!
//! # The protocol
//!
//! A worker fills a *place in service*. [`Idle`](crate::protocol::idle::Idle) counts these places;
//! the policy in `scaling` decides how many there should be. Scaling up adds a place that is in
//! rayon, for which a thread is activated when there is a job. Parking removes a place that is in
//! rayon. If there is none, it records an excess, and a worker leaves for it when its job has
//! ended. So no thread is stopped, and a leaving worker hands over its deque as always.
//!
//! The state is under one lock, and so are all changes of the number of places. So that number is
//! within its range at every instant (S1), and decisions are sequential.
//!
//! **When the policy is asked.** There is no periodic tick.
//! - *By depth.* A push compares the number of places ever drawn with a mark, `ask_at`. Each drawn
//!   place adds one to the depth, permit caches included. The mark assumes that no place is
//!   released meanwhile, so the depth cannot reach the threshold before the mark is passed. A pool
//!   that keeps up therefore asks only once in many jobs. While a timer is set for the next change,
//!   the mark is out of reach.
//! - *By time.* A push that finds every worker running sets `IS_TIMING`, and sets the timer for the
//!   end of a cooldown. A worker that becomes idle clears the flag if the queue is empty.
//! - *By idleness.* A worker that goes to rayon adds an entry to a list, ordered by age, oldest
//!   first. An activation removes the youngest entry. The timer is set for the oldest.
//! - *By the user*: `resize` and `set_capacity`.
//!
//! **Stalled jobs.** A worker may wait inside another rayon pool for a result that comes back to
//! this pool. It counts as running, so no activation is sent, and all workers may wait so.
//! Therefore the pool is *watched* while jobs wait and all workers run. A push that finds all
//! workers running begins the watch. So does the last idle worker, if it takes a job and leaves
//! others behind. The timer checks after a pause. If no job has started since, the timer sends
//! *help* to rayon, where a thread that waits inside rayon takes it up. The pause doubles from
//! check to check. After help has run a job the next pause is the shortest, since more results
//! often follow. The watch ends when the queue is empty: the timer clears the flag, issues a heavy
//! fence, and checks once more. A push has its own fence before it reads the flag.
//!
//! **The timer** sleeps until the one moment it was given, or indefinitely. It is unparked early
//! only if an earlier moment is set, or a thread has to be started. If the moment was withdrawn,
//! the timer wakes once in vain. The timer takes the state's lock, so no thread enters the thread
//! table under that lock.
//!
//! If the range of a pool is a single number, only the watch remains. The mark is out of reach, and
//! no idle worker is listed.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    protocol::idle::WakeUp,
    runtime::{
        inner::Inner,
        rayon_host::Help,
        scaler::{IS_TIMING, IS_WATCHED, MAY_GROW, MAY_SHRINK, NEVER, State, pressing},
    },
    scaling::{Decision, Measured},
    sync::{Instant, MutexGuard, lock, thread},
    tuning::HELP_TIME,
};

impl Inner {
    /// Asks the policy or begins a watch if needed: a place was taken for work that a queued job
    /// will run. `Inner::pushed` and `offered` call it. By convention, so does a batch that adds an
    /// item to a chunk, for which a task is queued already: no job is pushed then.
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

    /// Begins a watch if the calling worker, which stops being idle, was the last idle one and
    /// leaves jobs behind.
    pub(super) fn check_left_behind(&self) {
        let is_last = !self.scaler.has(IS_WATCHED) && self.idle.all_run();
        // The fence of `recheck` pairs with those of a push, which may have observed the caller as
        // searching.
        if is_last && self.recheck() {
            self.watch();
        }
    }

    /// Begins a watch: jobs wait, and all workers run.
    #[cold]
    fn watch(&self) {
        let mut state = lock(&self.scaler.state);
        if !self.life.is_stopped() {
            let at = state.begin_watch(self.scaler.now(), self.jobs_started());
            if at.is_some() {
                self.scaler.set(IS_WATCHED, true);
            }
            self.wake_timer_at(&mut state, at);
        }
    }

    /// Returns help that is sent now.
    pub(crate) fn help_from_now_on(&self) -> Help {
        Help {
            until: Instant::now() + HELP_TIME,
            started: self.jobs_started(),
        }
    }

    /// Whether help is still valid. It is not if it is older than [`HELP_TIME`] and jobs have
    /// started since. Those jobs may have been the last to start, so the next check is moved
    /// forward.
    pub(crate) fn is_help_good(&self, sent: Help) -> bool {
        let is_good = Instant::now() <= sent.until || self.jobs_started() == sent.started;
        if !is_good {
            let mut state = lock(&self.scaler.state);
            let at = state.hasten_watch(self.scaler.now(), self.jobs_started());
            self.wake_timer_at(&mut state, at);
        }
        is_good
    }

    /// Performs a due check of the watch, on the timer thread. Returns whether jobs are stalled.
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
            // Pairs with the fences in `after_push` and `all_run_after_offer`: we see the job, or
            // they see that nothing watches.
            self.fences.heavy();
        }
        if self.queue.is_empty() || self.life.is_stopped() {
            return false;
        }
        self.scaler.set(IS_WATCHED, true);
        let has_helped = self.scaler.take_has_helped();
        let is_in_vain = state.go_on_watching(watch, now, self.jobs_started(), has_helped);
        let at = state.watch.as_ref().map(|watch| watch.at);
        self.wake_timer_at(&mut state, at);
        is_in_vain
    }

    /// Ends the timing if the queue is empty. The calling worker has found no job in its own deque
    /// and the injectors; the deques of other workers may still hold hundreds.
    #[inline]
    pub(crate) fn worker_became_idle(&self) {
        if self.scaler.has(IS_TIMING) && self.queue.is_empty() {
            self.scaler.set(IS_TIMING, false);
        }
    }

    /// Lists a worker that has gone to rayon after it found no job for `idled`.
    pub(super) fn worker_went_to_rayon(&self, idled: Duration) {
        if self.scaler.has(MAY_SHRINK) {
            let since = self.scaler.now().saturating_sub(idled);
            self.change_and_ask(|state| state.idle_since.push(since));
        }
    }

    /// Removes the youngest entry of the list: a thread was activated to fill a place that was in
    /// rayon.
    pub(super) fn place_was_activated(&self) {
        if self.scaler.has(MAY_SHRINK) {
            lock(&self.scaler.state).idle_since.pop();
        }
    }

    /// Sets the timer for an activation that was left to threads in rayon although some threads are
    /// unstarted.
    pub(crate) fn watch_late_activation(&self, patience: Duration) {
        let mut state = lock(&self.scaler.state);
        let at = Some(self.scaler.now() + patience);
        self.wake_timer_at(&mut state, at);
    }

    /// Asks the policy, and carries out its decision.
    #[cold]
    pub(crate) fn ask_policy(&self) {
        self.change_and_ask(|_| ());
    }

    /// Changes the range of workers.
    pub(crate) fn resize(&self, workers: RangeInclusive<usize>) {
        let _one = lock(&self.scaler.resizing);
        let (min, max) = workers.into_inner();
        // This may start threads, so it must not run under the lock that the timer takes.
        self.threads.set_max(&self.me(), max);
        self.change_and_ask(|state| {
            (state.policy.min, state.policy.max) = (min, max);
        });
    }

    /// Changes the state, asks the policy, and carries out its decision.
    fn change_and_ask(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.scaler.state);
        change(&mut state);
        self.ask(state);
    }

    fn ask(&self, mut state: MutexGuard<'_, State>) {
        let wake_up = self.decide(&mut state);
        // Without the lock, since this starts and activates threads.
        drop(state);
        self.perform(wake_up);
    }

    /// Asks the policy, and changes the number of places by its decision.
    fn decide(&self, state: &mut State) -> WakeUp {
        if self.life.is_stopped() {
            return WakeUp::None;
        }
        let scaler = &self.scaler;
        let idle = &self.idle;
        let now = scaler.now();
        // This precedes the read of the queue: a worker that finds the queue empty later clears the
        // flag.
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
            // Permits in caches may be taken without being drawn.
            let deepest = self.admission.depth_with_caches();
            drawn + pressing.saturating_sub(deepest).max(1)
        };
        scaler.set_ask_at(ask_at);
        scaler.set(MAY_GROW, may_grow);
        let may_shrink = after > state.policy.min;
        if !scaler.set(MAY_SHRINK, may_shrink) && may_shrink {
            // Workers that went to rayon while the pool could not shrink were not listed.
            let missing = idle.in_rayon().saturating_sub(state.idle_since.len());
            state.idle_since.splice(0..0, (0..missing).map(|_| now));
        } else if !may_shrink {
            state.idle_since.clear();
        }
        self.wake_timer_at(state, verdict.next_at);
        match verdict.decision {
            Decision::ScaleUp(workers) => idle.add_places(workers, || self.has_jobs()),
            Decision::Park(workers) => {
                idle.remove_places(workers);
                WakeUp::None
            }
            Decision::Nothing => WakeUp::None,
        }
    }

    /// Makes the timer wake at `at` or earlier.
    fn wake_timer_at(&self, state: &mut State, at: Option<Duration>) {
        let Some(at) = at else {
            return;
        };
        if state.wake_at.is_none_or(|wake_at| at < wake_at) {
            state.wake_at = Some(at);
            self.threads.unpark_timer();
        }
    }

    /// Asks the policy if it is due, on the timer thread. Otherwise blocks until it is, or until
    /// the timer is unparked.
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
                self.ask(state);
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
