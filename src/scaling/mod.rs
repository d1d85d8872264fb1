//! The scaling policy (S1 to S3): how many workers to call in or to park, from what was measured.
//! No thread and no clock; the threads only obey it.
//!
//! # The policy
//!
//! **The range comes first.** After a resize there may be too few workers in service, or too many.
//! Then they are brought to the nearer end of the range at once, whatever else is measured.
//!
//! **The high mark.** There is *pressure* when `depth / capacity` is at the threshold, or when the
//! queue was non-empty for a whole cooldown. It calls in a quarter of those in service, and at least
//! one: from 1 to `max` in at most 4 + log(`max`) / log(1.25) steps, one in each cooldown.
//!
//! **The low mark** is apart from it: somebody is parked only while the queue is empty, and only who
//! has idled for the whole idle timeout. Idleness before the last scale-up does not count: who is
//! called in is not parked for what was before, nor is another in its stead.
//!
//! **Jobs that idle workers are about to take are not pressure yet**, however large a part of the
//! capacity they are. Each job is in the queue for a moment; with a capacity of 1 that moment fills it,
//! and a trickle of jobs would call in every worker, one in each cooldown, to park them again. If the
//! idle do not take them, which would be a fault elsewhere, the queue stays non-empty, and that counts.
//! A place that is held fills the capacity, but there is nothing to take: each job of a trickle beside many
//! kept permits would call a worker in, to park it again.
//!
//! **For a cooldown, the parked count as idle.** What they would have taken was no pressure before, and
//! is none now; more than that is a new load, and calls in at once. So under a constant load an idle
//! timeout lies between a scale-up and the next park, and a cooldown between a park and the next
//! scale-up.
//!
//! # When to ask
//!
//! Whoever changes what is measured, to where the answer may differ: a push that meets a busy pool or
//! finds the queue empty, a worker that runs dry, a resize. And when time alone changes the answer, at
//! [`Verdict::recheck`]; an idle pool at its minimum, and one that has called in everybody, have no
//! such moment and need no timer (S5).
//!
//! Times are counted from the pool's start. One that lies in the future, because another thread read
//! the clock later, is no error: nothing has lasted yet that began there.

// Long, and nothing for miri: there is no unsafe code in it.
#![cfg(not(loom))]

#[cfg(all(test, not(miri)))]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// What the user asked for. `build` and `resize` see to it that `1 <= min <= max`, and that the
/// threshold is from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// At 0, pressure begins with the first job that no idle worker is there for; at 1, with a full
    /// queue.
    pub(crate) threshold: f64,
    /// Between two scale-ups.
    pub(crate) cooldown: Duration,
    pub(crate) idle_timeout: Duration,
}

/// What was measured. The parts need not be of quite the same moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) now: Duration,
    /// Places of the queue that are taken.
    pub(crate) depth: u64,
    /// Of those, how many are held by permits that have no job yet.
    pub(crate) held: u64,
    pub(crate) capacity: u64,
    /// Workers that are to be in service: a call that is still under way is counted, and so is not
    /// sent twice.
    pub(crate) in_service: usize,
    /// Of those, how many run a job.
    pub(crate) busy: usize,
    /// Since when jobs have been waiting without a break; `None` while the queue is empty.
    pub(crate) waiting_since: Option<Duration>,
    /// Since when each idle worker has found nothing, the longest first. Not all need be listed: who
    /// is not is not parked. A worker that runs a job, or is blocked in one, is not idle.
    pub(crate) idle_since: &'a [Duration],
    pub(crate) past: Past,
}

/// What was decided before, as far as it bears on what comes next. Who carries out a decision notes
/// it, in the same turn of the lock under which the workers are counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Past {
    last_scale_up: Option<Duration>,
    last_park: Option<Duration>,
    /// How many were parked, then and before, with less than a cooldown between any two parks.
    parked: usize,
}

/// What the threads are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Call in so many more. This is a scale-up, and begins a cooldown.
    CallIn(usize),
    /// Park so many: those that have idled longest. If there are too many in service, then busy ones
    /// too, when their jobs end.
    Park(usize),
    Nothing,
}

/// A decision, and until when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    /// When there will be something to do, if the decision is carried out and nothing else changes.
    /// It may be at once. `None`: time alone changes nothing.
    pub(crate) recheck: Option<Duration>,
}

/// The moment at which what began at `since` will have lasted for `wait`: `None` if it is never.
fn end_of(since: Duration, wait: Duration) -> Option<Duration> {
    if wait.is_zero() {
        // Even if `since` lies in the future.
        return Some(Duration::ZERO);
    }
    since.checked_add(wait)
}

impl Policy {
    /// What is to be done now, and when to ask again.
    pub(crate) fn decide(&self, seen: &Measured<'_>) -> Verdict {
        let Some((due, decision)) = self.next(seen) else {
            return Verdict {
                decision: Decision::Nothing,
                recheck: None,
            };
        };
        if due > seen.now {
            return Verdict {
                decision: Decision::Nothing,
                recheck: Some(due),
            };
        }
        let next = self.next(&self.after(seen, decision));
        Verdict {
            decision,
            recheck: next.map(|(due, _)| due.max(seen.now)),
        }
    }

    /// What is to be done next, if nothing changes but the time, and from when on. The decision and
    /// the timer are both made of this, so they cannot disagree.
    fn next(&self, seen: &Measured<'_>) -> Option<(Duration, Decision)> {
        if seen.in_service < self.min {
            let missing = self.min - seen.in_service;
            Some((Duration::ZERO, Decision::CallIn(missing)))
        } else if seen.in_service > self.max {
            let excess = seen.in_service - self.max;
            Some((Duration::ZERO, Decision::Park(excess)))
        } else if seen.depth > seen.held || seen.waiting_since.is_some() {
            self.next_call(seen)
        } else {
            self.next_park(seen)
        }
    }

    fn next_call(&self, seen: &Measured<'_>) -> Option<(Duration, Decision)> {
        let room = self.max - seen.in_service;
        if room == 0 {
            return None;
        }
        let pressed = self.pressure_begins(seen)?;
        let cooled = match seen.past.last_scale_up {
            Some(last) => end_of(last, self.cooldown)?,
            None => Duration::ZERO,
        };
        // One at least, since one at least is in service.
        let quarter = seen.in_service.div_ceil(4);
        Some((pressed.max(cooled), Decision::CallIn(quarter.min(room))))
    }

    /// From when on there is pressure, if nothing changes.
    fn pressure_begins(&self, seen: &Measured<'_>) -> Option<Duration> {
        let idle = seen.in_service.saturating_sub(seen.busy) as u64;
        // A quotient, not a product: 7 of 100 is 0.07, but 0.07 * 100.0 is more than 7.
        let is_full = seen.depth as f64 / seen.capacity as f64 >= self.threshold;
        // An idle worker is there for a job, not for a place that has none.
        let jobs = seen.depth.saturating_sub(seen.held);
        let by_depth = if !is_full || jobs <= idle {
            None
        } else if jobs - idle > seen.past.parked as u64 {
            Some(Duration::ZERO)
        } else {
            end_of(seen.past.last_park?, self.cooldown)
        };
        let by_time = seen
            .waiting_since
            .and_then(|since| end_of(since, self.cooldown));
        by_depth.into_iter().chain(by_time).min()
    }

    fn next_park(&self, seen: &Measured<'_>) -> Option<(Duration, Decision)> {
        let spare = (seen.in_service - self.min).min(seen.in_service.saturating_sub(seen.busy));
        let idle = &seen.idle_since[..seen.idle_since.len().min(spare)];
        let end_for = |&since: &Duration| {
            end_of(
                since.max(seen.past.last_scale_up.unwrap_or(since)),
                self.idle_timeout,
            )
        };
        let due = end_for(idle.first()?)?;
        let by = due.max(seen.now);
        let ended = idle
            .iter()
            .take_while(|since| end_for(since).is_some_and(|end| end <= by));
        Some((due, Decision::Park(ended.count())))
    }

    /// What will be measured when the decision has been carried out.
    fn after<'a>(&self, seen: &Measured<'a>, decision: Decision) -> Measured<'a> {
        let mut seen = *seen;
        seen.past.note(decision, seen.now, self.cooldown);
        match decision {
            Decision::CallIn(workers) => seen.in_service += workers,
            Decision::Park(workers) => {
                seen.in_service -= workers;
                seen.busy = seen.busy.min(seen.in_service);
                seen.idle_since = &seen.idle_since[workers.min(seen.idle_since.len())..];
            }
            Decision::Nothing => {}
        }
        seen
    }
}

impl Past {
    /// Whether the last scale-up is less than a cooldown ago.
    pub(crate) fn is_cooling(&self, now: Duration, cooldown: Duration) -> bool {
        self.last_scale_up
            .is_some_and(|last| end_of(last, cooldown).is_none_or(|end| end > now))
    }

    pub(crate) fn note(&mut self, decision: Decision, now: Duration, cooldown: Duration) {
        match decision {
            Decision::CallIn(_) => self.last_scale_up = Some(now),
            Decision::Park(workers) => {
                let lately = self
                    .last_park
                    .and_then(|last| end_of(last, cooldown))
                    .is_some_and(|end| end > now);
                let before = if lately { self.parked } else { 0 };
                self.parked = before.saturating_add(workers);
                self.last_park = Some(now);
            }
            Decision::Nothing => {}
        }
    }
}
