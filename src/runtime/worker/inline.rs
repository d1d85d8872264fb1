//! Inline execution: a job that found no place runs in place, on the stack of the thread that
//! brought it, or is kept.
//!
//! A pool's own thread never waits for a place, since it might wait for itself. So a job that it
//! brings to a full queue runs *in place*, as long as half of the stack is left. Beyond that the
//! job is *kept*: it goes to the thread's own deque, over the bound, where other workers steal it.
//! [`advise`] decides which. A job that starts in place has at least a quarter of the stack.
//!
//! **A turn.** A worker takes a job from its loop, and jobs in place count as part of that job. A
//! chain of jobs that bring each other has to return to the loop. So once the turn is over, a job
//! in place keeps the jobs that it brings. A turn ends after [`TURN_JOBS`] jobs in place, or after
//! [`TURN_TIME`].
//!
//! **A thread without a loop**, such as the caller of a closed pool, has no deque. It runs refused
//! jobs on a [`Trampoline`]: jobs without room go to a list, which the outermost job in place runs.
//! A scope inside such a job waits for its own jobs before that job ends. So it opens a *level*
//! with a list of its own.

use std::{cell::Cell, collections::VecDeque, mem::ManuallyDrop, sync::Arc, time::Duration};

use crate::{
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::Place,
        stack::{Room, Stack},
        turn::{LIMIT_JOBS, LIMIT_TIME},
    },
    sync::{Instant, thread_local},
};

/// The most jobs in place in one turn. After them a job in place keeps the jobs that it brings.
const TURN_JOBS: u32 = LIMIT_JOBS;

/// The longest time of a turn, from the first job in place on.
const TURN_TIME: Duration = LIMIT_TIME;

/// The decision about a job that found no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    RunInPlace,
    Keep,
}

/// Rule A8: with half of the stack left a job runs in place, unless the turn is over. Otherwise the
/// thread keeps it, if it `holds_few` so far. With many kept jobs it goes on in place down to a
/// quarter of the stack.
fn advise(room: Room, is_turn_over: bool, holds_few: impl FnOnce() -> bool) -> Advice {
    let has_room = room == Room::Half && !is_turn_over;
    if has_room || (room >= Room::Quarter && !holds_few()) {
        Advice::RunInPlace
    } else {
        Advice::Keep
    }
}

/// Returns the room on a stack of a simulated pool, by the depth of jobs in place: it cannot be
/// measured.
const fn simulated_room(depth: u32) -> Option<Room> {
    if cfg!(shuttle) {
        Some(match depth {
            0 => Room::Half,
            1 => Room::Quarter,
            _ => Room::Little,
        })
    } else if cfg!(miri) {
        Some(match depth {
            0..16 => Room::Half,
            16..24 => Room::Quarter,
            _ => Room::Little,
        })
    } else {
        None
    }
}

/// The jobs in place on the stack of one of the pool's threads.
#[derive(Debug)]
pub(crate) struct Inline {
    stack: Stack,
    /// The number of jobs in place on top of each other.
    depth: Cell<u32>,
    /// The number of jobs in place that have begun in this turn, and when the first one did.
    begun: Cell<u32>,
    since: Cell<Option<Instant>>,
}

impl Inline {
    pub(crate) fn new(stack: Stack) -> Self {
        Self {
            stack,
            depth: Cell::new(0),
            begun: Cell::new(0),
            since: Cell::new(None),
        }
    }

    /// Begins a turn: the thread's loop has taken a job.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        self.begun.set(0);
    }

    /// Decides about a job that the thread brings.
    #[inline]
    pub(crate) fn advise(&self, holds_few: impl FnOnce() -> bool) -> Advice {
        let depth = self.depth.get();
        let room = simulated_room(depth).unwrap_or_else(|| self.stack.room());
        advise(room, depth > 0 && self.is_turn_over(), holds_few)
    }

    fn is_turn_over(&self) -> bool {
        let is_late = |since: Instant| since.elapsed() >= TURN_TIME;
        self.begun.get() >= TURN_JOBS || self.since.get().is_some_and(is_late)
    }

    /// Runs a job in place, which does not unwind.
    #[inline]
    pub(crate) fn run<R>(&self, run: impl FnOnce() -> R) -> R {
        let depth = self.depth.get();
        let begun = self.begun.get();
        if begun == 0 {
            self.since.set(Some(Instant::now()));
        }
        self.begun.set(begun.saturating_add(1));
        self.depth.set(depth + 1);
        let result = run();
        self.depth.set(depth);
        result
    }
}

thread_local! {
    /// The jobs in place on the stack of a thread of no pool, or of another pool.
    static OUTSIDE: Trampoline = const { Trampoline::new() };
}

/// Calls `f` with the trampoline of the calling thread.
#[inline]
pub(crate) fn outside<R>(f: impl FnOnce(&Trampoline) -> R) -> R {
    OUTSIDE.with(f)
}

/// A job in a list. On a thread of no pool, jobs of several pools may be on top of each other.
struct Waiting {
    pool: *const Inner,
    /// Its pool, if no other reference keeps that alive.
    kept_alive: Option<Arc<Inner>>,
    job: Job,
}

/// Outlives the thread's other values, so that it exists until the thread's very end: the outermost
/// job drops it.
type List = Option<ManuallyDrop<Box<VecDeque<Waiting>>>>;

/// The jobs in place on the stack of a thread without a loop, down to the innermost level.
pub(crate) struct Trampoline {
    /// Measured at first use.
    stack: Cell<Option<Option<Stack>>>,
    depth: Cell<u32>,
    list: Cell<List>,
}

impl Trampoline {
    pub(crate) const fn new() -> Self {
        Self {
            stack: Cell::new(None),
            depth: Cell::new(0),
            list: Cell::new(None),
        }
    }

    /// Calls `f` with the list.
    fn with_list<R>(&self, f: impl FnOnce(&mut VecDeque<Waiting>) -> R) -> R {
        let mut list = self.list.take().unwrap_or_default();
        let result = f(&mut list);
        self.list.set(Some(list));
        result
    }

    fn room(&self) -> Room {
        simulated_room(self.depth.get()).unwrap_or_else(|| {
            let stack = self.stack.get().unwrap_or_else(Stack::of_this_thread);
            self.stack.set(Some(stack));
            stack.map_or(Room::Little, Stack::room)
        })
    }

    /// Decides about a job that the thread brings, with at most `most` jobs in a list.
    pub(crate) fn advise(&self, most: u64) -> Advice {
        // Without a job in place beneath, nothing would run the list.
        if self.depth.get() == 0 {
            return Advice::RunInPlace;
        }
        let holds_few = || self.with_list(|list| (list.len() as u64) < most);
        advise(self.room(), false, holds_few)
    }

    /// Puts a job into the list, with its pool if no other reference keeps that alive.
    ///
    /// # Safety
    /// The pool outlives the job, and so does all that the job borrows.
    pub(crate) unsafe fn keep(&self, pool: &Inner, kept_alive: Option<Arc<Inner>>, job: Job) {
        let waiting = Waiting {
            pool,
            kept_alive,
            job,
        };
        self.with_list(|list| list.push_back(waiting));
    }

    /// Runs a job in place, which does not unwind. If it is the outermost, then runs the list.
    #[inline]
    pub(crate) fn run(&self, run: impl FnOnce()) {
        let depth = self.depth.get();
        self.depth.set(depth + 1);
        run();
        if depth == 0 {
            let list = self.list.take();
            if list.is_some() {
                self.list.set(list);
                self.run_list();
            }
        }
        self.depth.set(depth);
    }

    #[cold]
    fn run_list(&self) {
        while let Some(waiting) = self.with_list(VecDeque::pop_front) {
            // SAFETY: it is kept alive here, or by the caller of `keep`.
            let pool = unsafe { &*waiting.pool };
            pool.check_drained(waiting.job.run(&JobContext::elsewhere(pool), Place::None));
            drop(waiting.kept_alive);
        }
        drop(self.list.take().map(ManuallyDrop::into_inner));
    }

    /// Runs `f`, which waits for the jobs that it brings, on a level of its own.
    #[inline]
    pub(crate) fn level<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.depth.get() == 0 {
            return f();
        }
        let _outer = Outer {
            trampoline: self,
            depth: self.depth.replace(0),
            list: Cell::new(self.list.take()),
        };
        f()
    }
}

/// The state outside a level, restored when it is dropped.
struct Outer<'a> {
    trampoline: &'a Trampoline,
    depth: u32,
    list: Cell<List>,
}

impl Drop for Outer<'_> {
    fn drop(&mut self) {
        self.trampoline.depth.set(self.depth);
        self.trampoline.list.set(self.list.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::context::Detached;

    const FEW: fn() -> bool = || true;
    const MANY: fn() -> bool = || false;

    #[test]
    fn a8_a_job_runs_in_place_while_half_of_the_stack_is_left() {
        for few in [FEW, MANY] {
            assert_eq!(advise(Room::Half, false, few), Advice::RunInPlace);
        }
    }

    #[test]
    fn a8_beyond_that_few_jobs_are_kept_and_more_run_in_place_down_to_a_quarter() {
        for (room, is_turn_over) in [
            (Room::Quarter, false),
            (Room::Quarter, true),
            (Room::Half, true),
        ] {
            assert_eq!(advise(room, is_turn_over, FEW), Advice::Keep);
            assert_eq!(advise(room, is_turn_over, MANY), Advice::RunInPlace);
        }
    }

    #[test]
    fn a8_without_room_every_job_is_kept() {
        for (is_turn_over, few) in [(false, FEW), (false, MANY), (true, FEW), (true, MANY)] {
            assert_eq!(advise(Room::Little, is_turn_over, few), Advice::Keep);
        }
    }

    #[test]
    #[cfg(not(any(shuttle, miri)))]
    fn d1_the_last_job_of_a_pool_ends_it_from_a_list_too() {
        let pool = crate::Pool::builder().workers(1).build().unwrap();
        let inner: Arc<Inner> = Arc::clone(&pool.inner);
        let since = inner.timing.stamp();
        // The pool is not drained before this job has ended.
        let f = move || inner.begin_drain();
        let outside = Trampoline::new();
        let job = Job::new(Detached { since, f });
        // SAFETY: it borrows nothing, and the pool outlives this call.
        outside.run(|| unsafe { outside.keep(&pool.inner, None, job) });
        assert!(pool.inner.life.is_stopped());
    }

    /// A thread with all of its stack left.
    #[cfg(not(any(shuttle, miri)))]
    fn inline() -> Inline {
        Inline::new(Stack::of_new_thread(1 << 20))
    }

    #[test]
    #[cfg(not(any(shuttle, miri)))]
    fn a8_only_a_job_in_place_keeps_what_it_brings_when_the_turn_is_over() {
        let inline = inline();
        for begun in 0..2 * TURN_JOBS {
            assert_eq!(inline.advise(FEW), Advice::RunInPlace, "it is the loop's");
            let expected = if begun + 1 < TURN_JOBS {
                Advice::RunInPlace
            } else {
                Advice::Keep
            };
            assert_eq!(inline.run(|| inline.advise(FEW)), expected, "{begun}");
        }
        inline.begin_turn();
        assert_eq!(inline.run(|| inline.advise(FEW)), Advice::RunInPlace);
    }

    #[test]
    #[cfg(not(any(shuttle, miri)))]
    fn a8_a_turn_ends_by_time_too() {
        let inline = inline();
        let after = inline.run(|| {
            let began = Instant::now() - TURN_TIME;
            inline.since.set(Some(began));
            inline.advise(FEW)
        });
        assert_eq!(after, Advice::Keep);
    }
}
