//! The wait for a place: in the line, by a thread or a task, and its outcomes.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use super::{
    Admission, Ended, Refusal, WaiterId,
    release::PROMPT,
    waiters::{Joining, Standing},
};
#[cfg(test)]
use crate::protocol::wait::park_until;
use crate::{
    error::AdmissionError,
    protocol::{completion::Wake, wait::Condition},
    sync::{Instant, Ordering, fence, lock, thread, unwind::quietly},
    tuning::{BATCHED_WAIT, YIELDS},
};

/// The condition that a submitter has a place, or that the pool is closed. The submitter joins the
/// line when it is about to park, and leaves it at the end of the wait.
pub(crate) struct Admitted<'a> {
    admission: &'a Admission,
    /// Whether the place is to be held.
    held: bool,
    /// Called before the submitter joins the line, maybe again.
    joins: &'a dyn Fn(),
    state: Cell<State>,
    /// When the submitter turns prompt.
    patience: Cell<Option<Instant>>,
}

#[derive(Default)]
enum State {
    #[default]
    Outside,
    InLine(WaiterId),
    Decided(Result<(), AdmissionError>),
}

impl<'a> Admitted<'a> {
    pub(crate) fn new(admission: &'a Admission, held: bool, joins: &'a dyn Fn()) -> Self {
        Self {
            admission,
            held,
            joins,
            state: Cell::default(),
            patience: Cell::new(None),
        }
    }

    /// Returns the outcome of the wait. A place that was granted is the caller's.
    pub(crate) fn outcome(self) -> Result<(), AdmissionError> {
        match self.state.into_inner() {
            State::Decided(outcome) => outcome,
            State::Outside | State::InLine(_) => Err(AdmissionError::TimedOut),
        }
    }

    fn try_acquire(&self) -> State {
        let taken = if self.held {
            self.admission.try_acquire_held()
        } else {
            self.admission.try_acquire()
        };
        match taken {
            Ok(()) => State::Decided(Ok(())),
            Err(Refusal::Closed) => State::Decided(Err(AdmissionError::Closed)),
            Err(Refusal::Full) => State::Outside,
        }
    }

    fn join_line(&self) -> State {
        (self.joins)();
        let joining = Joining {
            wake: Wake::Thread(thread::current()),
            prompt: false,
            held: self.held,
        };
        match self.admission.join_line(joining) {
            Ok(None) => State::Decided(Ok(())),
            Ok(Some(id)) => {
                self.patience.set(Some(Instant::now() + BATCHED_WAIT));
                State::InLine(id)
            }
            Err(refusal) => State::Decided(Err(refusal.into())),
        }
    }
}

impl Condition for Admitted<'_> {
    fn is_met(&self) -> bool {
        let state = match self.state.take() {
            State::Outside => self.try_acquire(),
            State::InLine(id) => match self.admission.outcome(&id) {
                Some(outcome) => {
                    self.admission.leave_line(id);
                    State::Decided(outcome)
                }
                None => State::InLine(id),
            },
            decided @ State::Decided(_) => decided,
        };
        let is_met = matches!(state, State::Decided(_));
        self.state.set(state);
        is_met
    }

    /// Joins the line. A thread that was batched for long enough turns prompt.
    fn announce(&self) {
        let state = match self.state.take() {
            State::Outside => self.join_line(),
            State::InLine(id) => {
                if self.patience.get().is_some_and(|end| end <= Instant::now()) {
                    self.patience.set(None);
                    self.admission.insist(&id);
                }
                State::InLine(id)
            }
            decided @ State::Decided(_) => decided,
        };
        self.state.set(state);
    }

    fn announces_again_at(&self) -> Option<Instant> {
        self.patience.get()
    }

    /// Leaves the line. A place that was granted by then is kept.
    fn withdraw(&self) {
        self.patience.set(None);
        let state = match self.state.take() {
            State::InLine(id) => match self.admission.give_up(id) {
                Err(AdmissionError::TimedOut) => State::Outside,
                outcome => State::Decided(outcome),
            },
            other => other,
        };
        self.state.set(state);
    }
}

impl Admission {
    /// Returns how often a submitter yields before it joins the line. Zero while a waiter is owed
    /// the next place.
    pub(crate) fn yields_before_line(&self) -> u32 {
        if self.wake_mode.level.load(Ordering::Relaxed) == PROMPT {
            return 0;
        }
        YIELDS
    }

    /// Takes a place (`None`), or joins the line.
    pub(super) fn join_line(&self, joining: Joining) -> Result<Option<WaiterId>, Refusal> {
        let (held, prompt) = (joining.held, joining.prompt);
        // Outside of the closure, which is dropped under the lock: a waker is user code.
        let mut joining = Some(joining);
        let joined =
            self.on_slow_path(
                |slow_path, wakes| match self.take_in_turn(slow_path, wakes) {
                    Ok(()) => {
                        slow_path.held += u64::from(held);
                        Ok(None)
                    }
                    Err(Refusal::Closed) => Err(Refusal::Closed),
                    Err(Refusal::Full) => {
                        let since = self.acquired.word.load(Ordering::Relaxed);
                        let id = joining
                            .take()
                            .map(|joining| slow_path.line.push(joining, since));
                        // A place released before this fence is in the sum that granting makes; a
                        // thread that releases one after it observes the wake_mode. Pairs with the
                        // fences in `release_unattended` and `release`. A batched waiter does
                        // without a heavy fence, since it checks again later, by `insist`. A heavy
                        // fence stops other cores, and costs more than a batch of tiny jobs.
                        self.set_wake_mode(slow_path);
                        if prompt && !mutant!("admission_no_fence") {
                            self.fences.heavy();
                        } else if cfg!(not(loom)) {
                            // In a model it would be as good as a heavy one, and hide that the one
                            // in `insist` is missing.
                            fence(Ordering::SeqCst);
                        }
                        self.grant_waiters(slow_path, wakes, true);
                        Ok(id)
                    }
                },
            );
        quietly(move || drop(joining));
        joined
    }

    /// Takes a place. Blocks until there is one, as a thread outside of the pool does.
    #[cfg(test)]
    pub(crate) fn acquire(&self) -> Result<(), AdmissionError> {
        let admitted = Admitted::new(self, false, &|| ());
        if !admitted.is_met() {
            park_until(&[&admitted], &|| false, None);
        }
        admitted.outcome()
    }

    /// Returns the outcome for this waiter, if it is decided.
    pub(super) fn outcome(&self, id: &WaiterId) -> Option<Result<(), AdmissionError>> {
        match lock(&self.slow_path).line.standing(id) {
            Standing::Batched | Standing::Prompt => None,
            Standing::Granted => Some(Ok(())),
            Standing::Closed => Some(Err(AdmissionError::Closed)),
        }
    }

    /// Frees the slot of a waiter whose outcome is known.
    pub(super) fn leave_line(&self, id: WaiterId) {
        let removed = lock(&self.slow_path).line.remove(id);
        drop(removed);
    }

    /// Turns the waiter prompt, and grants it a place that is free already.
    pub(super) fn insist(&self, id: &WaiterId) {
        self.on_slow_path(|slow_path, wakes| {
            slow_path.line.make_prompt(id);
            self.set_wake_mode(slow_path);
            // Pairs with the fence in `release_unattended`, as in `join_line`.
            unless_mutant!("admission_no_fence", self.fences.heavy());
            self.grant_waiters(slow_path, wakes, true);
        });
    }

    /// Ends a wait whose time is up. A place that was granted at the last moment is taken.
    pub(super) fn give_up(&self, id: WaiterId) -> Result<(), AdmissionError> {
        let (standing, wake) = self.on_slow_path(|slow_path, wakes| {
            self.grant_waiters(slow_path, wakes, true);
            let removed = slow_path.line.remove(id);
            self.set_wake_mode(slow_path);
            removed
        });
        // A waker is user code. Its panic is dropped.
        quietly(move || drop(wake));
        match standing {
            Standing::Granted if mutant!("admission_drop_grant") => Err(AdmissionError::TimedOut),
            Standing::Granted => Ok(()),
            Standing::Closed => Err(AdmissionError::Closed),
            Standing::Batched | Standing::Prompt => Err(AdmissionError::TimedOut),
        }
    }

    /// Drives a task's wait. `id` is its place in the line, if it has one. The place that it is
    /// ready with is held.
    pub(crate) fn poll_acquire_held(
        &self,
        id: &mut Option<WaiterId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AdmissionError>> {
        // A clone is user code: it is made before the lock is taken, and while `id` is whole.
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
            Standing::Batched | Standing::Prompt => slow_path.line.rewake(&waiting, wake),
            Standing::Granted | Standing::Closed => None,
        };
        drop(slow_path);
        let polled = self.poll_outcome(waiting, id);
        // User code again. Its panic must not lose a place that was granted meanwhile.
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

    /// Ends the wait of a task that is dropped. A place that it was granted goes to the next
    /// waiter.
    pub(crate) fn abandon(&self, id: WaiterId) -> Option<Ended> {
        let is_granted = self.give_up(id).is_ok() && !mutant!("admission_abandon_keeps");
        is_granted.then(|| self.release_held())
    }
}
