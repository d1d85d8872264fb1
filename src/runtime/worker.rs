//! The loop of one worker, and the answer to a call.
//!
//! A thread of the pool has a *slot* for its whole life: its index, its part of the queue, its counters. It is a *worker*
//! while it is in [`run`]; otherwise it is with rayon, asleep or helping.
//!
//! A worker that becomes idle first grants the places that admission holds back for a batch, and checks whether the pool
//! has drained. Then it searches (`idle_policy.rs`). Then it polls rayon once (`rayon_core::yield_now`), not counted as
//! searching, since rayon's job may take long. Then it parks; and after [`IDLE_TIME`] it leaves the loop, and rayon has
//! its thread.
//!
//! **A call that a waiting thread takes up.** A thread that waits inside `rayon::join` (or scope, or
//! a parallel iterator), within one of our jobs, runs whatever rayon finds, and that may be the call
//! meant for a sleeper. It must neither be lost nor start a worker on top of the waiting frame. It
//! is sent on: put back into rayon, which wakes a sleeper for it, while the waiting thread looks
//! whether its own wait is over. If nobody has taken it for [`HOPPING`], all other threads are busy:
//! then the waiting thread runs **one** job itself, as rayon itself would do in its place, and looks
//! at its wait again. So the job is not stranded, and the wait is not either.
//!
//! **A call that a worker takes up in its turn.** A worker that serves rayon between two jobs of its loop may come across
//! a call, too. It puts the call back into rayon, and leaves rayon's work alone for a while, so that a sleeper finds the call.
//!
//! **Help.** A worker that waits inside another rayon pool counts as running, and no call is sent for what comes back from
//! there. When jobs wait and none starts (`scaler.rs` watches that), *help* is sent into each of rayon's pools: a call that
//! makes nobody a worker, and has no place. A thread that takes it up within a job, and so in a
//! wait of rayon's, runs one job, and sends it on to itself while there are more.

mod current;
mod idle_policy;
pub(crate) mod inline;
mod push;
mod stack;

use std::{sync::Arc, time::Duration};

pub(crate) use self::current::{
    Current, blocking, current, current_of, current_offering_to, current_with_deques_of, index_in,
    is_home, is_of_another, is_worker, with_slot,
};
use crate::{
    protocol::idle::IdleEnd,
    runtime::{
        inner::{Inner, Job},
        job::Place,
        rayon_host::inbox::{self, WaitProbe},
        turn::Source,
    },
    sync::{Instant, Ordering, backoff, rayon_core},
    tuning::IDLE_TIME,
};

/// How long a call is sent on before the thread that keeps getting it answers it. A sleeper that
/// rayon wakes comes in a tenth of that.
const HOPPING: Duration = Duration::from_micros(500);

/// For how long help is good, after it was sent, although other jobs have started meanwhile: some time slices, in which a
/// thread that rayon wakes gets a core.
const HELP: Duration = Duration::from_millis(20);

/// What a call is for.
#[derive(Clone, Copy)]
pub(crate) enum Activation {
    /// To become a worker. It was sent on since the given moment.
    Work(Option<Instant>),
    /// To run jobs that wait in vain, on a thread that waits inside rayon.
    Help(Help),
    /// To see where the thread is. It is a call because the depth of the base is that of calls.
    Probe(WaitProbe),
}

/// Until when help is good in any case, and how many jobs had started when it was sent.
#[derive(Clone, Copy)]
pub(crate) struct Help {
    until: Instant,
    started: u64,
    /// Until when it is sent on.
    hops_until: Option<Instant>,
}

/// What a call does on the thread that takes it up.
pub(crate) fn call(inner: Arc<Inner>, activation: Activation) -> impl FnOnce() + Send + 'static {
    move || answer_activation(inner, activation)
}

#[inline(never)]
fn answer_activation(inner: Arc<Inner>, activation: Activation) {
    let Some(current) = current_of(Arc::as_ptr(&inner)) else {
        // Only the pool's own threads run its rayon jobs.
        debug_assert!(false, "a call was taken up by a stranger");
        return;
    };
    let since = match activation {
        Activation::Work(since) => since,
        Activation::Help(sent) => {
            let at_base = !current.in_loop.get() && current.is_at_base();
            return help(&inner, current, sent, at_base);
        }
        Activation::Probe(probe) => {
            let at_base = !current.in_loop.get() && current.is_at_base();
            return probe.answer(current, at_base);
        }
    };
    if !current.in_loop.get() && current.is_at_base() {
        if !inner.threads.begin_work(&inner, current.slot.index) {
            return;
        }
        inner.idle.activation_taken();
        let post = &inner.post;
        current.in_loop.set(true);
        current.set_has_deques(true);
        post.set_in_loop(current.slot.index, true);
        run(current);
        post.set_in_loop(current.slot.index, false);
        current.set_has_deques(false);
        current.in_loop.set(false);
        inbox::read_beside_loop(current);
        return;
    }
    if inner.threads.take_if_void(current.slot.index) {
        return;
    }
    if inner.life.is_stopped() {
        inner.threads.take_activation(&inner, current.slot.index);
        return;
    }
    let since = since.unwrap_or_else(Instant::now);
    let in_turn = current.is_first_of_rayon();
    if in_turn || since.elapsed() < HOPPING {
        if in_turn {
            // It comes to all jobs by its loop, and takes the call when that runs dry.
            current.leave_rayon_until(Instant::now() + HOPPING);
        } else {
            backoff::yield_now();
        }
        // On a thread of its pool this needs no handle to the pool: rayon finds it by the thread.
        rayon_core::spawn(call(inner, Activation::Work(Some(since))));
        return;
    }
    if !inner.threads.take_activation(&inner, current.slot.index) {
        return;
    }
    inner.idle.activation_taken();
    let job = inner.queue.take_any();
    let wake_up = inner.idle.stop_searching(|| !inner.queue.is_empty());
    inner.perform(wake_up);
    if let Some(job) = job {
        inner.is_busy_again();
        current.hops.set(current.hops.get() + 1);
        inner.hopping.fetch_add(1, Ordering::Relaxed);
        execute(current, job);
        inner.hopping.fetch_sub(1, Ordering::Relaxed);
        current.hops.set(current.hops.get() - 1);
        inner.check_drained();
    }
    let wake_up = inner.idle.leave_service(|| !inner.queue.is_empty());
    inner.perform(wake_up);
}

/// Runs a job on top of a wait inside rayon, within a job: all workers may be in such waits, and nobody else may come.
/// What was sent long ago is void, if jobs have started since.
///
/// A worker that comes across it in its turn puts it back, as a call. A thread that does not wait sends it on for a moment:
/// rayon has woken it in place of one that does. But if a thread
/// fills two places, because it has answered a call, then this one may run a job in its place.
fn help(inner: &Arc<Inner>, current: &Current, sent: Help, at_base: bool) {
    let index = current.slot.index;
    if current.is_first_of_rayon() {
        current.leave_rayon_until(Instant::now() + HOPPING);
        return rayon_core::spawn(call(Arc::clone(inner), Activation::Help(sent)));
    }
    let waits = current.in_loop.get() && (current.has_deques() || current.serves_rayon());
    let is_idle = !current.in_loop.get() && index < inner.settings.workers_max;
    let stands_in = is_idle && at_base && inner.hopping.load(Ordering::Relaxed) > 0;
    if is_idle && !stands_in {
        let until = sent.hops_until.unwrap_or_else(|| Instant::now() + HOPPING);
        if Instant::now() < until {
            backoff::yield_now();
            let hops_until = Some(until);
            let on = Help { hops_until, ..sent };
            return rayon_core::spawn(call(Arc::clone(inner), Activation::Help(on)));
        }
    }
    inner.threads.take_help(index);
    if !waits && !stands_in {
        return;
    }
    if Instant::now() > sent.until && inner.started() != sent.started {
        return inner.scaler.found_old_help(inner);
    }
    let Some(job) = inner.queue.take_any() else {
        return;
    };
    inner.scaler.help_runs();
    if waits {
        execute(current, job);
    } else {
        current.run_aside(|| execute(current, job));
    }
    inner.check_drained();
    if !inner.queue.is_empty() && inner.threads.begin_help(index) {
        // The wait looks first whether it is over.
        rayon_core::spawn(call(Arc::clone(inner), help_from_now_on(inner)));
    }
}

/// Help that is sent now.
pub(crate) fn help_from_now_on(inner: &Inner) -> Activation {
    Activation::Help(Help {
        until: Instant::now() + HELP,
        started: inner.started(),
        hops_until: None,
    })
}

#[inline]
fn execute(current: &Current, job: Job) {
    current.inline().begin_turn();
    if current.inner().life.is_discarding() {
        job.discard(current.context(), Place::Queue);
    } else {
        job.run(current.context(), Place::Queue);
    }
}

fn search_once(current: &Current) -> Option<Job> {
    let inner = current.inner();
    let slot = &current.slot;
    inner.idle.polls();
    let found = inner.queue.search(&slot.local, slot.index)?;
    if found.stolen {
        inner.recorder.stole(slot.index);
    }
    Some(found.job)
}

/// What a worker does next.
#[derive(PartialEq, Eq)]
enum Next {
    /// Run jobs from the own deques and the injectors.
    Work,
    /// Search everywhere; the worker is counted as searching.
    Search,
    /// Leave the loop, back to rayon.
    Leave,
}

/// The loop of a worker, which is counted as searching at first.
fn run(current: &Current) {
    let mut next = Next::Search;
    loop {
        next = match next {
            Next::Work => work(current),
            Next::Search => search(current),
            Next::Leave => return current.end_offers(),
        };
    }
}

/// Runs jobs for as long as there are some in the own deques and the injectors.
fn work(current: &Current) -> Next {
    let inner = current.inner();
    current.slot.local.turn.resume();
    loop {
        read_inbox(current);
        if is_one_too_many(current) {
            inner.queue.hand_over(&current.slot.local);
            let wake_up = inner.idle.after_push();
            inner.perform(wake_up);
            inner.check_drained();
            return Next::Leave;
        }
        if !run_next(current) {
            return idle(current);
        }
    }
}

/// Whether the worker is the excess, and has to leave. The thread table has counted it out then.
#[inline]
fn is_one_too_many(current: &Current) -> bool {
    let idle = &current.inner().idle;
    idle.has_excess() && idle.take_excess() && leave_as_excess(current)
}

#[cold]
fn leave_as_excess(current: &Current) -> bool {
    let inner = current.inner();
    let leaves = inner.threads.leave_as_excess(inner, current.slot.index);
    if !leaves {
        inner.recheck();
    }
    leaves
}

#[inline]
fn read_inbox(current: &Current) {
    if current.inner().post.has_messages(current.slot.index) {
        inbox::read_in_loop(current);
    }
}

/// Leaves since the pool has stopped.
fn leave_for_good(current: &Current) -> Next {
    let inner = current.inner();
    inner.threads.end_work(inner, current.slot.index);
    Next::Leave
}

/// Runs a job from the source whose turn it is, or from the next one with work. False if none has work.
#[inline]
fn run_next(current: &Current) -> bool {
    let turn = &current.slot.local.turn;
    let timing = &current.inner().timing;
    for _ in 0..=Source::COUNT {
        if run_from(current, turn.source()) {
            turn.ran(timing.is_short(current.slots().times) != Some(false));
            return true;
        }
        turn.found_nothing();
    }
    false
}

/// Runs a job from this source. False if there is none.
#[inline]
fn run_from(current: &Current, source: Source) -> bool {
    let inner = current.inner();
    let local = &current.slot.local;
    let job = match source {
        Source::Own => {
            current.inline().begin_turn();
            // Not `execute`: no structured job is ever discarded.
            return local.run_structured(0, current.context());
        }
        Source::Kept if local.has_kept() => local.pop_submitted(),
        Source::Kept => None,
        Source::Submitted => return run_submitted(current),
        Source::Structured => inner.queue.take_structured(local),
        Source::SideList => inner.queue.take_from_side_for(local),
        Source::Rayon => return run_of_rayon(current),
    };
    let is_found = job.is_some();
    if let Some(job) = job {
        execute(current, job);
    }
    is_found
}

/// Runs the oldest submitted job that the worker may take. False if there is none.
#[inline]
fn run_submitted(current: &Current) -> bool {
    match current.inner().queue.take_of_batch(&current.slot.local) {
        Some(job) => {
            execute(current, job);
            true
        }
        None => run_injected(current),
    }
}

/// Runs a submitted job from the injector. False if there is none.
fn run_injected(current: &Current) -> bool {
    let inner = current.inner();
    let local = &current.slot.local;
    // Long jobs are left to all workers, in their order.
    let takes_batch = local.turn.are_short();
    let Some(job) = inner.queue.take_submitted_for(local, takes_batch) else {
        return false;
    };
    if takes_batch && local.has_submitted() {
        // No worker could see the batch on its way here, and this one was not counted as searching: another may
        // have become idle because of that.
        let wake_up = inner.idle.after_push();
        inner.perform(wake_up);
    }
    execute(current, job);
    true
}

/// Runs a piece of rayon's work. False if there is none.
fn run_of_rayon(current: &Current) -> bool {
    current.inline().begin_turn();
    let ran = current.run_of_rayon();
    if ran {
        // If a job waited for it, a shutdown may wait for its end.
        current.inner().check_drained();
    }
    ran
}

/// The own deques and the injectors are empty: searches, or parks.
fn idle(current: &Current) -> Next {
    let inner = current.inner();
    inner.scaler.became_idle(inner);
    inner.admission.grant_waiters_if_any();
    inner.check_drained();
    if inner.life.is_stopped() {
        return leave_for_good(current);
    }
    if inner.idle.try_search(current.idle_policy.searches_anyway()) {
        Next::Search
    } else {
        go_idle(current)
    }
}

/// Searches for a job, counted as searching, and runs it.
fn search(current: &Current) -> Next {
    let inner = current.inner();
    if is_one_too_many(current) {
        let wake_up = inner.idle.stop_searching(|| !inner.queue.is_empty());
        inner.perform(wake_up);
        return Next::Leave;
    }
    if let Some(job) = look_for_job(current) {
        let wake_up = inner.idle.stop_searching(|| !inner.queue.is_empty());
        inner.perform(wake_up);
        inner.is_busy_again();
        execute(current, job);
        return Next::Work;
    }
    current.end_offers();
    let wake_up = inner.idle.search_in_vain(|| !inner.queue.is_empty());
    inner.perform(wake_up);
    let rayon_turn = current.run_out_of_service(rayon_core::yield_now);
    if rayon_turn == Some(rayon_core::Yield::Executed) {
        return Next::Work;
    }
    go_idle(current)
}

/// Searches in rounds, with a yield between two; in one round, if the thread may not yield.
fn look_for_job(current: &Current) -> Option<Job> {
    let mut yields = current.idle_policy.search();
    loop {
        let job = search_once(current);
        if job.is_some() || !yields.next() {
            return job;
        }
    }
}

/// Parks until the worker is woken, or for [`IDLE_TIME`].
fn go_idle(current: &Current) -> Next {
    let inner = current.inner();
    let index = current.slot.index;
    current.end_offers();
    let wake_up = inner.idle.announce_idle(index, || !inner.queue.is_empty());
    inner.perform(wake_up);
    if inner.life.is_stopped() {
        return leave_for_good(current);
    }
    // It is in the list of idle workers by now: the sender of a message finds it there, or we see the message.
    if inner.post.has_messages(index) {
        inner.idle.wake_this(index);
    }
    // A waker that sees it counted as in rayon, and activates a thread, finds it gone from the workers.
    let go_to_rayon = || inner.threads.go_to_rayon(inner, index);
    let parked = Instant::now();
    let end = inner.idle.park_for(index, IDLE_TIME, go_to_rayon);
    current.idle_policy.was_idle(parked.elapsed());
    match end {
        IdleEnd::Asleep => {
            inner.recheck();
            inner.scaler.went_to_rayon(inner, IDLE_TIME);
            Next::Leave
        }
        IdleEnd::Notified if inner.life.is_stopped() => leave_for_good(current),
        // A worker that reads its messages does not promise to find a job.
        IdleEnd::Notified if inner.post.has_messages(index) => {
            let wake_up = inner.idle.stop_searching(|| !inner.queue.is_empty());
            inner.perform(wake_up);
            inner.is_busy_again();
            Next::Work
        }
        IdleEnd::Notified => Next::Search,
    }
}
