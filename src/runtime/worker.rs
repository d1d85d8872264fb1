//! The loop of one worker: run jobs, search, go idle, leave.
//!
//! A thread of the pool has a *slot* for its whole life: its index, its part of the queue, its
//! counters. It is a *worker* while it is in [`run`]. Otherwise it is in rayon, asleep or helping.
//!
//! A worker that becomes idle first grants the places that admission holds back for a batch, and
//! checks whether the pool is drained. It then searches (`idle_policy.rs`). It then polls rayon
//! once, not counted as searching, since rayon's job may take long. It then parks. After
//! [`IDLE_TIME`](crate::tuning::IDLE_TIME) it leaves the loop, and its thread is in rayon.

mod current;
mod host;
mod idle_policy;
pub(crate) mod inline;
mod push;

pub(crate) use self::current::{
    Current, blocking, current_of, current_offering_to, current_with_deques_of, index_in, is_home,
    is_of_another, is_worker, with_current_of, with_slot,
};
use crate::{
    protocol::{idle::IdleEnd, inbox::Inbox},
    runtime::{
        inner::Job,
        job::{Ended, Place},
        rayon_host::{self, has_read_all},
        turn::Source,
    },
    sync::{Instant, backoff::Yields},
};

#[inline]
fn execute(current: &Current, job: Job) -> Ended {
    current.inline().begin_turn();
    if current.inner().life.is_discarding() {
        job.discard(current.context(), Place::Queue);
        Ended::new()
    } else {
        job.run(current.context(), Place::Queue)
    }
}

/// Executes a job of the loop that does not come from the own structured deque.
#[inline]
fn execute_next(current: &Current, job: Job) {
    current.local.clear_steal_origin();
    current.leave_to_loop(execute(current, job));
}

/// Checks whether the pool has drained, for all ends that were left to the loop. The loop calls it
/// when it has no job, and when it ends. Not after each job: most are not the last.
fn check_ends(current: &Current) {
    current.inner().check_drained(Ended::new());
}

/// Polls the injectors, counted as searching.
fn poll_injectors(current: &Current) -> Option<Job> {
    let inner = current.inner();
    inner.idle.polls();
    inner.queue.take_injected(&current.local)
}

/// Polls the injectors, and steals.
fn search_once(current: &Current) -> Option<Job> {
    let inner = current.inner();
    poll_injectors(current).or_else(|| {
        let began = Instant::now();
        let stolen = inner.queue.steal(&current.local, current.index());
        stolen.inspect(|job| {
            inner.recorder.stole(current.index());
            if !job.frame().is_null() {
                current.idle_policy.stole_of_scope(began);
            }
        })
    })
}

/// The next step of a worker.
#[derive(PartialEq, Eq)]
enum Next {
    /// Run jobs from the own deques and the injectors.
    Work,
    /// Search everywhere. The worker is counted as searching.
    Search,
    /// Leave the loop, back to rayon.
    Leave,
}

/// The loop of a worker. At first the worker is counted as searching.
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

/// Runs jobs from the own deques and the injectors until both are empty.
fn work(current: &Current) -> Next {
    let inner = current.inner();
    current.local.turn.clock().resume();
    loop {
        read_inbox(current);
        if is_one_too_many(current) {
            inner.wake_for(inner.queue.hand_over(&current.local));
            check_ends(current);
            return Next::Leave;
        }
        if !run_next(current) {
            return idle(current);
        }
    }
}

/// Whether the worker is the excess, and has to leave. If so, the thread table no longer counts it.
#[inline]
fn is_one_too_many(current: &Current) -> bool {
    let idle = &current.inner().idle;
    idle.has_excess() && idle.take_excess() && current.inner().leave_as_excess(current.index())
}

#[inline]
fn read_inbox(current: &Current) {
    let inbox = current.inner().threads.inbox(current.index());
    if inbox.is_unread() {
        read_messages(current, inbox);
    }
}

/// Runs the parts of broadcasts that are in the calling thread's inbox.
#[cold]
fn read_messages(current: &Current, inbox: &Inbox) {
    // The tries are bounded by the number of probes. If jobs wait, giving way sends an activation,
    // which may be on top of the probes. Then a try takes out only that. The jobs do not run
    // meanwhile.
    for _ in 0..=inbox.probes() {
        while let Some(message) = inbox.take() {
            current.local.clear_steal_origin();
            message.open(current.index());
        }
        if has_read_all(inbox, |yield_local| current.give_way(yield_local)) {
            return;
        }
    }
}

/// Leaves the loop because the pool has stopped.
fn leave_for_good(current: &Current) -> Next {
    let inner = current.inner();
    inner.threads.end_work(current.index());
    Next::Leave
}

/// Runs a job from the source whose turn it is, or from the next one with work. Returns false if no
/// source has work.
#[inline]
fn run_next(current: &Current) -> bool {
    let turn = &current.local.turn;
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

/// Runs a job from this source. Returns false if there is none.
#[inline]
fn run_from(current: &Current, source: Source) -> bool {
    let inner = current.inner();
    let local = &current.local;
    let job = match source {
        Source::Own => {
            current.inline().begin_turn();
            // Not `execute`: a structured job is never discarded.
            let ended = local.run_structured(0, current.context());
            return ended.map(|ended| current.leave_to_loop(ended)).is_some();
        }
        Source::Kept if local.has_kept() => local.pop_submitted(),
        Source::Kept => None,
        Source::Submitted => return run_submitted(current),
        Source::Structured => inner.queue.take_structured(),
        Source::SideList => inner.queue.take_from_side(),
        Source::Rayon => return run_of_rayon(current),
    };
    let is_found = job.is_some();
    if let Some(job) = job {
        execute_next(current, job);
    }
    is_found
}

/// Runs the oldest submitted job that the worker may take. Returns false if there is none.
#[inline]
fn run_submitted(current: &Current) -> bool {
    match current.local.pop_of_batch() {
        Some(job) => {
            execute_next(current, job);
            true
        }
        None => run_injected(current),
    }
}

/// Runs a submitted job from the injector. Returns false if there is none.
fn run_injected(current: &Current) -> bool {
    let inner = current.inner();
    let local = &current.local;
    // Long jobs stay in the injector, where all workers take them in order.
    let takes_batch = local.turn.clock().are_short();
    let Some((job, batch)) = inner.queue.take_submitted_for(local, takes_batch) else {
        return false;
    };
    if let Some(batch) = batch {
        // It was invisible on its way here, and this worker was not counted as searching. Another
        // worker may have become idle because of that.
        inner.wake_for(batch);
    }
    execute_next(current, job);
    true
}

/// Runs one piece of rayon's work. Returns false if there is none.
fn run_of_rayon(current: &Current) -> bool {
    current.inline().begin_turn();
    let ran = current.run_of_rayon();
    if ran {
        // While rayon has work, the worker does not become idle.
        check_ends(current);
    }
    ran
}

/// Searches or parks: the own deques and the injectors are empty.
fn idle(current: &Current) -> Next {
    let inner = current.inner();
    inner.worker_became_idle();
    inner.admission.grant_waiters_if_any();
    check_ends(current);
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
        inner.stop_searching();
        return Next::Leave;
    }
    if let Some(job) = look_for_job(current) {
        inner.stop_searching();
        // The steal origin is set.
        current.leave_to_loop(execute(current, job));
        return Next::Work;
    }
    current.end_offers();
    inner.search_in_vain();
    if current.run_out_of_service(rayon_host::yield_now) {
        return Next::Work;
    }
    go_idle(current)
}

/// Searches in rounds. After a theft in vain, polls the injectors alone before.
fn look_for_job(current: &Current) -> Option<Job> {
    let policy = &current.idle_policy;
    policy
        .steal_backoff()
        .and_then(|yields| in_rounds(yields, || poll_injectors(current)))
        .or_else(|| in_rounds(policy.search(), || search_once(current)))
}

/// Polls until there is a job, with a yield between two rounds. If the thread may not yield, polls
/// once.
fn in_rounds(mut yields: Yields, poll: impl Fn() -> Option<Job>) -> Option<Job> {
    loop {
        let job = poll();
        if job.is_some() || !yields.next() {
            return job;
        }
    }
}

/// Parks until the worker is notified, or for [`IDLE_TIME`](crate::tuning::IDLE_TIME).
fn go_idle(current: &Current) -> Next {
    let inner = current.inner();
    let index = current.index();
    current.end_offers();
    inner.announce_idle(index);
    if inner.life.is_stopped() {
        return leave_for_good(current);
    }
    let inbox = inner.threads.inbox(index);
    inbox.check_before_park(&inner.idle, index);
    let parked = Instant::now();
    let end = inner.park(index);
    current.idle_policy.was_idle(parked.elapsed());
    match end {
        IdleEnd::InRayon => Next::Leave,
        IdleEnd::Notified if inner.life.is_stopped() => leave_for_good(current),
        // A worker that reads its messages does not promise to find a job.
        IdleEnd::Notified if inbox.is_unread() => {
            inner.stop_searching();
            Next::Work
        }
        IdleEnd::Notified => Next::Search,
    }
}
