//! Waiting for a place: in the line, as a thread or as a task, and how a wait ends.

use std::{
    mem,
    task::{Context, Poll},
};

use super::{
    Admission, PROMPT, Refusal, WaiterId,
    waiters::{Joining, Standing},
};
use crate::{
    error::AdmissionError,
    protocol::completion::Wake,
    sync::{
        Instant, Ordering,
        backoff::{YieldHint, Yields},
        fence, lock, thread,
        unwind::quietly,
    },
    tuning::{BATCHED_WAIT, YIELDS},
};

/// The place in the line of a thread that waits for something else as well, whichever comes first.
#[derive(Debug)]
pub(crate) struct InLine {
    id: WaiterId,
    /// When the thread turns prompt.
    patience: Option<Instant>,
}

impl InLine {
    /// Until when the thread is to be parked at most, before it turns prompt.
    pub(crate) fn patience(&self) -> Option<Instant> {
        self.patience
    }
}

impl Admission {
    /// Takes a place (`None`), or has the calling thread join the line. It is unparked when its wait
    /// [is decided](Self::is_decided), and then, or when it does not want to wait any longer, is to [step out](Self::step_out).
    pub(crate) fn line_up(&self) -> Result<Option<InLine>, Refusal> {
        // A model has no timeouts.
        let prompt = cfg!(loom);
        let joined = self.join_line(Joining {
            wake: Wake::Thread(thread::current()),
            prompt,
            held: false,
        })?;
        let patience = (!prompt).then(|| Instant::now() + BATCHED_WAIT);
        Ok(joined.map(|id| InLine { id, patience }))
    }

    /// Whether the thread has its place, or the pool was closed.
    pub(crate) fn is_decided(&self, line: &InLine) -> bool {
        self.outcome(&line.id).is_some()
    }

    /// The thread was batched for long enough: from now on it is owed the first place.
    pub(crate) fn turn_prompt(&self, line: &mut InLine) {
        line.patience = None;
        self.insist(&line.id);
    }

    /// The thread leaves the line: with a place, if it has one by now, and otherwise as one whose time is up.
    pub(crate) fn step_out(&self, line: InLine) -> Result<(), AdmissionError> {
        self.give_up(line.id)
    }

    /// Takes a place, and waits for it until the deadline, or for ever. Also when its thread is unparked
    /// and it `is_futile` to wait any longer, its time is up.
    pub(crate) fn acquire(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        self.acquire_as(deadline, is_futile, false, None)
    }

    /// As `acquire`, for the feeder of a batch: it raises the `hint` while it yields.
    pub(crate) fn acquire_for_batch(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
        hint: &YieldHint,
    ) -> Result<(), AdmissionError> {
        self.acquire_as(deadline, is_futile, false, Some(hint))
    }

    /// As `acquire`, for a place that is to be held.
    pub(crate) fn acquire_held(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        self.acquire_as(deadline, is_futile, true, None)
    }

    fn acquire_as(
        &self,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
        held: bool,
        hint: Option<&YieldHint>,
    ) -> Result<(), AdmissionError> {
        let mut yields = Yields::new(YIELDS);
        let mut is_first = true;
        loop {
            let taken = if held {
                self.try_acquire_held()
            } else {
                self.try_acquire()
            };
            match taken {
                Ok(()) => return Ok(()),
                Err(Refusal::Closed) => return Err(AdmissionError::Closed),
                Err(Refusal::Full) => {}
            }
            if mem::take(&mut is_first)
                && deadline.is_some_and(|deadline| deadline <= Instant::now())
            {
                return Err(AdmissionError::TimedOut);
            }
            if self.wake_mode.level.load(Ordering::Relaxed) == PROMPT {
                break;
            }
            let has_yielded = match hint {
                Some(hint) => hint.yield_next(&mut yields),
                None => yields.next(),
            };
            if !has_yielded {
                break;
            }
        }
        let joining = Joining {
            wake: Wake::Thread(thread::current()),
            prompt: false,
            held,
        };
        match self.join_line(joining)? {
            Some(id) => self.wait_in_line(id, deadline, is_futile),
            None => Ok(()),
        }
    }

    /// Takes a place (`None`), or joins the line.
    pub(super) fn join_line(&self, joining: Joining) -> Result<Option<WaiterId>, Refusal> {
        let (held, prompt) = (joining.held, joining.prompt);
        self.on_slow_path(
            |slow_path, wakes| match self.take_in_turn(slow_path, wakes) {
                Ok(()) => {
                    slow_path.held += u64::from(held);
                    Ok(None)
                }
                Err(Refusal::Closed) => Err(Refusal::Closed),
                Err(Refusal::Full) => {
                    let since = self.acquired.word.load(Ordering::Relaxed);
                    let id = slow_path.line.push(joining, since);
                    // What was given back before this fence is in the sum that settling makes; who
                    // gives back after it sees the wake_mode. Pairs with those in `release_unattended` and
                    // `release`. Who is batched looks again in a while, by `insist`, and does without: a heavy
                    // fence stops other cores, and costs more than a batch of tiny jobs.
                    self.set_wake_mode(slow_path);
                    if prompt && cfg!(not(mutant = "admission_no_fence")) {
                        self.fences.heavy();
                    } else if cfg!(not(loom)) {
                        // In a model it would be as good as a heavy one, and hide that that of `insist` is missing.
                        fence(Ordering::SeqCst);
                    }
                    self.grant_waiters(slow_path, wakes, true);
                    Ok(Some(id))
                }
            },
        )
    }

    #[cfg(not(loom))]
    fn wait_in_line(
        &self,
        id: WaiterId,
        deadline: Option<Instant>,
        is_futile: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        let mut patience = Some(Instant::now() + BATCHED_WAIT);
        loop {
            if let Some(outcome) = self.outcome(&id) {
                self.leave_line(id);
                return outcome;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) || is_futile() {
                return self.give_up(id);
            }
            if patience.is_some_and(|end| now >= end) {
                patience = None;
                self.insist(&id);
                continue;
            }
            match [deadline, patience].into_iter().flatten().min() {
                Some(end) => thread::park_timeout(end - now),
                None => thread::park(),
            }
        }
    }

    /// loom has no timeouts: the waiter is prompt at once, and giving up is the model's to call.
    #[cfg(loom)]
    fn wait_in_line(
        &self,
        id: WaiterId,
        _: Option<Instant>,
        _: &dyn Fn() -> bool,
    ) -> Result<(), AdmissionError> {
        self.insist(&id);
        loop {
            if let Some(outcome) = self.outcome(&id) {
                self.leave_line(id);
                return outcome;
            }
            thread::park();
        }
    }

    /// How it ended for this waiter, if it did.
    pub(super) fn outcome(&self, id: &WaiterId) -> Option<Result<(), AdmissionError>> {
        match lock(&self.slow_path).line.standing(id) {
            Standing::Patient | Standing::Eager => None,
            Standing::Granted => Some(Ok(())),
            Standing::Closed => Some(Err(AdmissionError::Closed)),
        }
    }

    /// Frees the slot of a waiter whose outcome is known.
    pub(super) fn leave_line(&self, id: WaiterId) {
        let removed = lock(&self.slow_path).line.remove(id);
        drop(removed);
    }

    /// From now on the waiter is owed the first place; there may be one already.
    pub(super) fn insist(&self, id: &WaiterId) {
        self.on_slow_path(|slow_path, wakes| {
            slow_path.line.make_prompt(id);
            self.set_wake_mode(slow_path);
            // Pairs with the fence in `release_unattended`, as in `join_line`.
            if cfg!(not(mutant = "admission_no_fence")) {
                self.fences.heavy();
            }
            self.grant_waiters(slow_path, wakes, true);
        });
    }

    /// Ends a wait whose time is up. If a place came at the last moment it is taken.
    pub(super) fn give_up(&self, id: WaiterId) -> Result<(), AdmissionError> {
        let (standing, wake) = self.on_slow_path(|slow_path, wakes| {
            self.grant_waiters(slow_path, wakes, true);
            let removed = slow_path.line.remove(id);
            self.set_wake_mode(slow_path);
            removed
        });
        // A waker is the user's code. If it panics, that is nobody's.
        quietly(move || drop(wake));
        match standing {
            Standing::Granted if cfg!(mutant = "admission_drop_grant") => {
                Err(AdmissionError::TimedOut)
            }
            Standing::Granted => Ok(()),
            Standing::Closed => Err(AdmissionError::Closed),
            Standing::Patient | Standing::Eager => Err(AdmissionError::TimedOut),
        }
    }

    /// Drives a task's wait; `id` is its place in the line, if it has one. The place that it is
    /// ready with is held.
    pub(crate) fn poll_acquire_held(
        &self,
        id: &mut Option<WaiterId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AdmissionError>> {
        // A clone is the user's code: it is made before the lock is taken, and while `id` is whole.
        let wake = Wake::Task(cx.waker().clone());
        let Some(waiting) = id.take() else {
            let joining = Joining {
                wake,
                prompt: true,
                held: true,
            };
            return match self.join_line(joining) {
                Ok(None) => Poll::Ready(Ok(())),
                Err(refusal) => Poll::Ready(Err(refusal.into())),
                Ok(Some(waiting)) => self.poll_outcome(waiting, id),
            };
        };
        let mut slow_path = lock(&self.slow_path);
        let old = match slow_path.line.standing(&waiting) {
            Standing::Patient | Standing::Eager => slow_path.line.rewake(&waiting, wake),
            Standing::Granted | Standing::Closed => None,
        };
        drop(slow_path);
        let polled = self.poll_outcome(waiting, id);
        // The user's code again. What was granted meanwhile must not be lost by its panic.
        quietly(move || drop(old));
        polled
    }

    fn poll_outcome(
        &self,
        waiting: WaiterId,
        id: &mut Option<WaiterId>,
    ) -> Poll<Result<(), AdmissionError>> {
        match self.outcome(&waiting) {
            Some(outcome) => {
                self.leave_line(waiting);
                Poll::Ready(outcome)
            }
            None => {
                *id = Some(waiting);
                Poll::Pending
            }
        }
    }

    /// Ends the wait of a task that is dropped. A place that it was granted goes to the next.
    pub(crate) fn forsake(&self, id: WaiterId) {
        if self.give_up(id).is_ok() && cfg!(not(mutant = "admission_forsake_keeps")) {
            self.release_held();
        }
    }
}
