//! The scaling policy (S1 to S3): a pure function from measurements to a decision.
//!
//! It has no threads and no clock. [`Policy::decide`] returns how many workers to add to service or
//! to park; `runtime/controller.rs` carries the decision out.
//!
//! # Policy
//!
//! **Range (S1).** After a resize, the number of workers in service may lie outside the range. The
//! policy moves it to the nearer bound at once, before it considers anything else.
//!
//! **Scale-up (S2).** There is *pressure* if `depth / capacity` reaches the threshold, or if the
//! queue was non-empty for a whole cooldown. Under pressure the policy adds a quarter of the
//! workers in service, rounded up, once per cooldown. From 1 worker to `max` takes at most 4 +
//! log(`max`) / log(1.25) steps.
//!
//! **Parking (S3).** A worker is parked only while the queue is empty, and only after it was idle
//! for the whole idle timeout. Idle time before the last scale-up does not count: it must not park
//! a worker that was just added, nor another one in its place.
//!
//! **Jobs that idle workers are about to take are no pressure.** Every job is in the queue for a
//! moment. With a capacity of 1, that moment fills the queue. Otherwise a trickle of jobs would add
//! every worker, one per cooldown, only to park them again. If idle workers fail to take the jobs,
//! the queue stays non-empty, which is pressure after a cooldown.
//!
//! **Held places are no jobs.** A permit fills the capacity, but leaves idle workers nothing to
//! take. Otherwise each job of a trickle beside many held permits would add a worker, only to park
//! it again.
//!
//! **For one cooldown, parked workers count as idle.** The jobs that they would have taken are no
//! pressure; more jobs than that are a new load, and scale up at once. Under a constant load, an
//! idle timeout therefore separates a scale-up from the next park, and a cooldown a park from the
//! next scale-up.
//!
//! # When to ask
//!
//! After every change that may change the answer: a push to a busy pool or an empty queue, a worker
//! that becomes idle, a resize. If time alone changes the answer, ask again at
//! [`Verdict::next_at`]. A pool that is idle at its minimum or already at its maximum needs no
//! timer (S5).
//!
//! Times count from the pool's start. A time in the future is valid, since another thread may have
//! read the clock later: nothing has lasted yet that began then.

// Not under miri: it takes long and has no unsafe code.
#![cfg(not(loom))]

#[cfg(all(test, not(miri)))]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// The user's options. `build` and `resize` ensure `1 <= min <= max` and a threshold from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// At 0, the first job without an idle worker is pressure; at 1, only a full queue is.
    pub(crate) threshold: f64,
    /// The minimum time between two scale-ups.
    pub(crate) cooldown: Duration,
    pub(crate) idle_timeout: Duration,
}

/// A measurement of the pool. Its fields may be from slightly different moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) now: Duration,
    /// The number of taken places.
    pub(crate) depth: u64,
    /// The number of taken places that are held by unused permits.
    pub(crate) held: u64,
    pub(crate) capacity: u64,
    /// The workers in service, including those that are still starting, so that none is added
    /// twice.
    pub(crate) in_service: usize,
    /// The number of workers in service that run a job.
    pub(crate) busy: usize,
    /// Since when the queue has been non-empty; `None` while it is empty.
    pub(crate) waiting_since: Option<Duration>,
    /// Since when each idle worker has been idle, the longest first. A worker that is not listed is
    /// not parked. A worker that runs a job, or is blocked in one, is not idle.
    pub(crate) idle_since: &'a [Duration],
    pub(crate) past: Past,
}

/// The part of past decisions that affects the next one. Every decision that is carried out is
/// noted, in the critical section in which the workers are counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Past {
    last_scale_up: Option<Duration>,
    last_park: Option<Duration>,
    /// The number of workers in the last run of parks, with less than a cooldown between any two.
    parked: usize,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Add `.0` workers to service. Begins a cooldown.
    ScaleUp(usize),
    /// Park `.0` workers, those that have been idle longest. Above the maximum also busy workers,
    /// when their jobs end.
    Park(usize),
    Nothing,
}

/// A decision, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    /// The next time at which there will be something to do, if the decision is carried out and
    /// nothing else changes. It may be now. `None`: time alone changes nothing.
    pub(crate) next_at: Option<Duration>,
}

/// Returns `since + wait`, or `None` if that moment never comes.
fn end_of(since: Duration, wait: Duration) -> Option<Duration> {
    if wait.is_zero() {
        // Even if `since` lies in the future.
        return Some(Duration::ZERO);
    }
    since.checked_add(wait)
}

impl Policy {
    /// Returns what to do now, and when to ask again.
    pub(crate) fn decide(&self, seen: &Measured<'_>) -> Verdict {
        let Some((due, decision)) = self.next(seen) else {
            return Verdict {
                decision: Decision::Nothing,
                next_at: None,
            };
        };
        if due > seen.now {
            return Verdict {
                decision: Decision::Nothing,
                next_at: Some(due),
            };
        }
        let next = self.next(&self.after(seen, decision));
        Verdict {
            decision,
            next_at: next.map(|(due, _)| due.max(seen.now)),
        }
    }

    /// Returns the next decision if only time passes, and when it is due. The decision and the
    /// timer both derive from this function, so they cannot disagree.
    fn next(&self, seen: &Measured<'_>) -> Option<(Duration, Decision)> {
        if seen.in_service < self.min {
            let missing = self.min - seen.in_service;
            Some((Duration::ZERO, Decision::ScaleUp(missing)))
        } else if seen.in_service > self.max {
            let excess = seen.in_service - self.max;
            Some((Duration::ZERO, Decision::Park(excess)))
        } else if seen.depth > seen.held || seen.waiting_since.is_some() {
            self.next_scale_up(seen)
        } else {
            self.next_park(seen)
        }
    }

    fn next_scale_up(&self, seen: &Measured<'_>) -> Option<(Duration, Decision)> {
        let room = self.max - seen.in_service;
        if room == 0 {
            return None;
        }
        let pressed = self.pressure_begins(seen)?;
        let cooled = match seen.past.last_scale_up {
            Some(last) => end_of(last, self.cooldown)?,
            None => Duration::ZERO,
        };
        // At least one, since at least one is in service.
        let quarter = seen.in_service.div_ceil(4);
        Some((pressed.max(cooled), Decision::ScaleUp(quarter.min(room))))
    }

    /// Returns when pressure begins, if only time passes.
    fn pressure_begins(&self, seen: &Measured<'_>) -> Option<Duration> {
        let idle = seen.in_service.saturating_sub(seen.busy) as u64;
        // A quotient, not a product: 7 of 100 is 0.07, but 0.07 * 100.0 is more than 7.
        let is_full = seen.depth as f64 / seen.capacity as f64 >= self.threshold;
        // An idle worker takes a job, but not a held place.
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

    /// Returns the measurement after the decision is carried out.
    fn after<'a>(&self, seen: &Measured<'a>, decision: Decision) -> Measured<'a> {
        let mut seen = *seen;
        seen.past.note(decision, seen.now, self.cooldown);
        match decision {
            Decision::ScaleUp(workers) => seen.in_service += workers,
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
            Decision::ScaleUp(_) => self.last_scale_up = Some(now),
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
