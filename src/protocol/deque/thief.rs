//! The far end of the deque, and thefts from it.

use std::sync::Arc;

use super::{Owner, Shared};
use crate::{
    sync::{Ordering, fence, try_lock},
    tuning::STEAL_BATCH,
};

const GIVE_BACK: Ordering = mutant_order!("deque_relaxed", Ordering::Release);

/// The far end of the deque.
pub(crate) struct Thief<T>(pub(super) Arc<Shared<T>>);

/// The outcome of a theft.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Theft<T> {
    Success(T),
    Empty,
    /// The value is the owner's again after it appeared taken: other threads may have missed it.
    Unwanted,
    /// Another thread holds the lock.
    Busy,
}

impl<T> Theft<T> {
    pub(crate) fn map<R>(self, f: impl FnOnce(T) -> R) -> Theft<R> {
        match self {
            Theft::Success(value) => Theft::Success(f(value)),
            Theft::Empty => Theft::Empty,
            Theft::Unwanted => Theft::Unwanted,
            Theft::Busy => Theft::Busy,
        }
    }

    pub(crate) fn success(self) -> Option<T> {
        match self {
            Theft::Success(value) => Some(value),
            Theft::Empty | Theft::Unwanted | Theft::Busy => None,
        }
    }
}

impl<T> Thief<T> {
    /// Returns how many values wait, or did a moment ago.
    pub(crate) fn len(&self) -> usize {
        let top = self.0.top().number();
        self.0.bottom.load(Ordering::Relaxed).saturating_sub(top)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether `purpose` is the owner's. A caller that asks about a value it has claimed
    /// gets the purpose at the push of that value or a later one.
    pub(crate) fn serves(&self, purpose: *const ()) -> bool {
        self.0.purpose.load(Ordering::Relaxed) == purpose.addr()
    }

    /// Steals the oldest value. Moves up to half of those that wait with it into the caller's
    /// deque, as long as they are `alike`.
    pub(crate) fn steal_batch(&self, into: &Owner<T>, alike: impl Fn(&T, &T) -> bool) -> Theft<T> {
        self.steal_batch_if(into, |_| true, alike)
    }

    /// As `steal_batch`, if the oldest value `is_wanted` when it is claimed.
    pub(crate) fn steal_batch_if(
        &self,
        into: &Owner<T>,
        is_wanted: impl Fn(&T) -> bool,
        alike: impl Fn(&T, &T) -> bool,
    ) -> Theft<T> {
        if self.is_empty() {
            return Theft::Empty;
        }
        // Before this deque's lock is taken: another thief may hold the lock of the caller's deque,
        // and want this one.
        into.reserve(STEAL_BATCH);
        self.steal_alike(
            STEAL_BATCH,
            |_, value| is_wanted(value),
            alike,
            |value| into.push(value),
        )
    }

    /// Steals the oldest value, if it was pushed above the mark and `is_wanted` when it is claimed.
    pub(crate) fn steal_above(&self, mark: usize, is_wanted: impl Fn(&T) -> bool) -> Theft<T> {
        if self.0.top().number() < mark || self.is_empty() {
            return Theft::Empty;
        }
        let is_wanted = |number, value: &T| number >= mark && is_wanted(value);
        self.steal_alike(1, is_wanted, |_, _| false, drop)
    }

    /// Steals the oldest value.
    pub(crate) fn steal(&self) -> Theft<T> {
        if self.is_empty() {
            return Theft::Empty;
        }
        self.steal_alike(1, |_, _| true, |_, _| false, drop)
    }

    fn steal_alike(
        &self,
        most: usize,
        is_wanted: impl Fn(usize, &T) -> bool,
        alike: impl Fn(&T, &T) -> bool,
        keep: impl Fn(T),
    ) -> Theft<T> {
        let Some(slots) = try_lock(&self.0.ring) else {
            return Theft::Busy;
        };
        let found = self.0.top();
        let top = found.number();
        let waiting = self.0.bottom.load(Ordering::Relaxed).saturating_sub(top);
        let wanted = waiting.div_ceil(2).min(most);
        if wanted == 0 {
            return Theft::Empty;
        }
        let claim = found.at(top + wanted);
        self.0.top.store(claim.0, Ordering::Relaxed);
        // Pairs with the light fence in `claim_number`, or with the plain one in `claim_fenced`.
        let is_expensive =
            !mutant!("deque_no_fence_steal") && !found.is_fenced() && self.0.fences.heavy();
        if found.is_fenced() && !mutant!("deque_no_fence_steal_fenced") {
            fence(Ordering::SeqCst);
        }
        // Acquire: we observe the values.
        let bottom = self.0.bottom.load(Ordering::Acquire);
        let ours = or_mutant!(
            "deque_keep_claim",
            bottom.saturating_sub(top).min(wanted),
            wanted
        );
        let slot = |number: usize| slots[number & (slots.len() - 1)].with(<*const _>::cast::<T>);
        let is_alike = |&number: &usize| {
            // SAFETY: both values are ours, and not moved out yet.
            unsafe { alike(&*slot(top), &*slot(number)) }
        };
        // SAFETY: as above.
        let is_wanted = ours > 0 && is_wanted(top, unsafe { &*slot(top) });
        let taken = if is_wanted {
            1 + (top + 1..top + ours).take_while(is_alike).count()
        } else {
            0
        };
        // The rest is the owner's again. Release: we no longer read it.
        let left = found.at(top + taken);
        let left = if is_expensive {
            left.after_expensive_theft(taken)
        } else {
            left
        };
        self.0.top.store(left.0, GIVE_BACK);
        for number in top + 1..top + taken {
            // SAFETY: it is ours, and read once.
            keep(unsafe { slot(number).read() });
        }
        if taken == 0 {
            return if ours == 0 {
                Theft::Empty
            } else {
                Theft::Unwanted
            };
        }
        // SAFETY: as above.
        Theft::Success(unsafe { slot(top).read() })
    }
}
