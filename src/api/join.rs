//! Calls that wait: `install` runs a closure on a worker, `join` runs two in parallel.

use std::{
    mem::{self, ManuallyDrop, MaybeUninit},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr, thread,
};

use crate::{
    api::pool::Pool,
    metrics::{Stamp, Started},
    protocol::admission::Refusal,
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::{Ended, Entry, Place, Runnable},
        span,
        wait::frames::JobEnd,
        worker::{self, Current},
    },
    sync::{
        UnsafeCell,
        unwind::{DroppedQuietly, drop_payload, quietly},
    },
};

/// How a stack job is accounted for.
trait Account: Send {
    /// Whether it is a half of a join.
    const IS_HALF: bool = false;

    /// What `begin` hands to `end`.
    type Started;

    fn begin(&self, context: &JobContext<'_>, place: Place) -> Self::Started;
    fn end(&self, context: &JobContext<'_>, started: Self::Started, completed: bool) -> Ended;
}

/// An installed closure is a job. The stamp is the time at which it got its place.
impl Account for Stamp {
    type Started = Started;

    fn begin(&self, context: &JobContext<'_>, place: Place) -> Started {
        context.begin(place, *self)
    }

    fn end(&self, context: &JobContext<'_>, started: Started, completed: bool) -> Ended {
        context.end(started, completed)
    }
}

/// A half of a join is no job of its own.
struct PartOfAnother;

impl Account for PartOfAnother {
    const IS_HALF: bool = true;

    type Started = ();

    fn begin(&self, _: &JobContext<'_>, _: Place) {}

    fn end(&self, _: &JobContext<'_>, (): (), _: bool) -> Ended {
        Ended::new()
    }
}

/// A stack job: a closure, and later its result, in the frame that waits for it.
struct StackJob<F, R> {
    end: JobEnd,
    /// Moved out by the thread that runs or drops it.
    f: UnsafeCell<ManuallyDrop<F>>,
    /// Written by the worker that runs it, before the end; moved out by its owner, after.
    outcome: UnsafeCell<MaybeUninit<thread::Result<R>>>,
}

impl<F, R> StackJob<F, R>
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    #[inline]
    fn new(f: F) -> Self {
        Self {
            end: JobEnd::new(),
            f: UnsafeCell::new(ManuallyDrop::new(f)),
            outcome: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Moves the closure out, for the caller to run or drop.
    ///
    /// # Safety
    /// The caller alone has the job of this closure, and calls this once.
    #[inline]
    unsafe fn take(&self) -> F {
        // SAFETY: passed on to the caller.
        self.f.with_mut(|f| unsafe { ManuallyDrop::take(&mut *f) })
    }

    /// Moves the result of the closure out.
    ///
    /// # Safety
    /// The caller is the owner, has waited for the end, and calls this once.
    unsafe fn outcome(&self) -> thread::Result<R> {
        self.outcome
            // SAFETY: it is complete, so its outcome was written, and belongs to the caller.
            .with_mut(|outcome| unsafe { (*outcome).assume_init_read() })
    }

    /// Waits until another thread has run it.
    ///
    /// # Safety
    /// The caller is the owner, no longer has the job, and calls this once.
    #[cold]
    unsafe fn wait(&self, current: &Current) -> thread::Result<R> {
        self.end.wait(current, ptr::from_ref(self).cast());
        // SAFETY: it is complete; the rest is passed on to the caller.
        unsafe { self.outcome() }
    }
}

/// The queue's side of a stack job.
struct StackJobRef<F, R, A>(*const StackJob<F, R>, A);

// SAFETY: the closure and its result are Send, the end is made for the two threads, and the frame
// outlives its job.
unsafe impl<F: Send, R: Send, A: Account> Send for StackJobRef<F, R, A> {}

impl<F, R, A> Runnable<Inner> for StackJobRef<F, R, A>
where
    F: FnOnce() -> R + Send,
    R: Send,
    A: Account,
{
    const IS_HALF: bool = A::IS_HALF;

    fn run(self, context: &JobContext<'_>, place: Place) -> Ended {
        // SAFETY: the owner waits for the end, below.
        let stack_job = unsafe { &*self.0 };
        if A::IS_HALF {
            stack_job.end.begin(context.inner);
        }
        let started = self.1.begin(context, place);
        // SAFETY: there is one job for each closure.
        let f = unsafe { stack_job.take() };
        let result = catch_unwind(AssertUnwindSafe(f));
        let ended = self.1.end(context, started, result.is_ok());
        stack_job
            .outcome
            // SAFETY: the owner does not read it before the end.
            .with_mut(|outcome| unsafe { (*outcome).write(result) });
        // The frame may be gone after this.
        stack_job.end.end();
        ended
    }

    /// Runs it: the frame that waits for it has no way to learn that it was dropped.
    fn discard(self, context: &JobContext<'_>, place: Place) {
        context.inner.check_drained(self.run(context, place));
    }

    fn is_of_worker(&self, _: usize) -> bool {
        A::IS_HALF
    }
}

impl Inner {
    /// Runs `f` on a worker and waits for it. The caller is not a thread of the pool. On a closed
    /// pool `f` runs here.
    fn install_from_outside<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let f = span::carried(f);
        let admitted = match self.admission.try_acquire() {
            Ok(()) => Ok(Entry::Queued),
            // `f` does not wait, and runs here.
            Err(Refusal::Closed) => return f(),
            Err(Refusal::Full) => self.wait_for_place(None, false, None),
        };
        let Ok(Entry::Queued) = admitted else {
            return f();
        };
        let stack_job = StackJob::new(f);
        let job = StackJobRef(ptr::from_ref(&stack_job), self.timing.stamp_unsampled());
        // SAFETY: the stack job stays in this frame until it is complete.
        let job = unsafe { Job::borrowing(job) };
        self.pushed(if worker::is_of_another(self) {
            // From the side list, this thread can take it back.
            self.queue.push_to_side(&stack_job, None, job)
        } else {
            self.queue.push_structured(job)
        });
        stack_job
            .end
            .wait_outside(self, || self.queue.take_from_side_of(&stack_job));
        // SAFETY: this frame owns it, and it is complete.
        let outcome = unsafe { stack_job.outcome() };
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    }
}

/// Joins on the thread of `current`, which has deques and is counted as offering. All that each
/// join does is inlined: a call would take the halves by address, which costs a recursion an eighth
/// more instructions. Rare paths are not inlined, so that they take no registers from the rest.
#[inline(always)]
fn join_on<A, B, RA, RB>(current: &Current, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    let local = current.deques();
    let Some(mark) = local.room() else {
        return join_in_full_deque(current, a, b);
    };
    let half = StackJob::new(span::carried(b));
    let job = StackJobRef(ptr::from_ref(&half), PartOfAnother);
    // SAFETY: the stack job stays in this frame until the job is taken back, or is complete. There
    // is room.
    let offered = unsafe { local.push_structured_at(mark, job) };
    current.note_half(mark);
    let abandoned = Abandoned {
        current,
        half: &half,
    };
    current.inner().wake_for_offer(offered);
    let ours = a();
    mem::forget(abandoned);
    debug_assert_eq!(watermark_of_last(current), mark);
    let mark = watermark_of_last(current);
    if !local.retract_structured_at_once(mark) {
        return await_second(current, &half, mark, ours);
    }
    run_second(&half, ours)
}

/// Returns the watermark of a half whose first half has ended: what the first half pushed is gone.
/// It is computed again, since keeping it would take a register in each call.
#[inline]
fn watermark_of_last(current: &Current) -> usize {
    current.mark() - 1
}

#[cold]
#[inline(never)]
fn join_in_full_deque<A, B, RA, RB>(current: &Current, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    current.deques().make_room();
    join_on(current, a, b)
}

/// Runs the second half, which was taken back.
#[inline(always)]
fn run_second<RA, B, RB>(half: &StackJob<B, RB>, ours: RA) -> (RA, RB)
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    let ours = DroppedQuietly::new(ours);
    // SAFETY: its job was taken back.
    let b = unsafe { half.take() };
    let theirs = b();
    (ours.into_inner(), theirs)
}

/// Waits for a second half that was stolen, or may have been.
#[cold]
#[inline(never)]
fn await_second<RA, B, RB>(
    current: &Current,
    half: &StackJob<B, RB>,
    mark: usize,
    ours: RA,
) -> (RA, RB)
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    if current.deques().retract_structured(mark) {
        return run_second(half, ours);
    }
    let ours = DroppedQuietly::new(ours);
    // SAFETY: its job was pushed here, and is gone.
    let outcome = unsafe { half.wait(current) };
    let theirs = outcome.unwrap_or_else(|payload| resume_unwind(payload));
    (ours.into_inner(), theirs)
}

/// A guard of the first half: if that panics, the guard's drop ends the second half.
struct Abandoned<'a, B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    current: &'a Current<'a>,
    half: &'a StackJob<B, RB>,
}

impl<B, RB> Drop for Abandoned<'_, B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    // Inlined, so that its fields need not be in memory.
    #[inline(always)]
    fn drop(&mut self) {
        abandon(self.current, self.half);
    }
}

/// Ends the second half while the panic of the first unwinds. Catching that panic would cost the
/// joins that do not panic. So the second half, or its result, is dropped on a panicking thread, as
/// other values are.
#[cold]
#[inline(never)]
fn abandon<B, RB>(current: &Current, half: &StackJob<B, RB>)
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    let mark = watermark_of_last(current);
    // If it has not started, it never does.
    if current.deques().retract_structured(mark) {
        // SAFETY: its job was taken back.
        let b = unsafe { half.take() };
        return quietly(move || drop(b));
    }
    // SAFETY: its job was pushed here, and is gone.
    match unsafe { half.wait(current) } {
        Ok(theirs) => quietly(move || drop(theirs)),
        Err(second) => drop_payload(second),
    }
}

/// # Calls
impl Pool {
    /// Runs `f` on a worker, and returns its result.
    ///
    /// On a thread of the pool `f` runs at once, in place. On another thread it is a job like
    /// others: the caller blocks for its admission, and until it has ended. Parallel iterators and
    /// rayon's own functions in `f` use this pool's workers. On a closed pool `f` runs on the
    /// calling thread, and no counter includes it.
    ///
    /// **A thread of a plain rayon pool** blocks in this call, and runs none of its pool's work
    /// meanwhile. So `f` must not call `install`, `join` or `scope` of that pool unless another
    /// thread of it is free: it would wait for the thread that waits for it. Between two rayon
    /// pools the waiting thread goes on with its own pool's work.
    ///
    /// # Panics
    /// With the panic of `f`.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::builder().workers(2).name("calc").build().unwrap();
    /// let name = pool.install(|| std::thread::current().name().map(str::to_owned));
    /// assert!(name.unwrap().starts_with("calc-"));
    /// ```
    pub fn install<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        match worker::current_of(&self.inner) {
            Some(_) => f(),
            None => self.inner.install_from_outside(f),
        }
    }

    /// Runs both closures, in parallel if another worker is free, and returns both results.
    ///
    /// The second closure needs no place in the queue and no allocation: it stays in the caller's
    /// frame. On a thread that is not the pool's, both move to a worker first, as with
    /// [`install`](Self::install). A worker waits in this call while another worker runs `b`.
    ///
    /// # Panics
    /// With the panic of `a` if it panicked, otherwise with that of `b`, after both have ended. If
    /// `a` panics before `b` has started, `b` is dropped; otherwise its result is. Either drop
    /// happens while the panic unwinds, so `std::thread::panicking` is true.
    ///
    /// # Examples
    /// ```
    /// fn sum(pool: &adaptive_pool::Pool, numbers: &[u64]) -> u64 {
    ///     if numbers.len() <= 1000 {
    ///         return numbers.iter().sum();
    ///     }
    ///     let (left, right) = numbers.split_at(numbers.len() / 2);
    ///     let (left, right) = pool.join(|| sum(pool, left), || sum(pool, right));
    ///     left + right
    /// }
    /// let pool = adaptive_pool::Pool::new().unwrap();
    /// let numbers: Vec<u64> = (1..=10_000).collect();
    /// assert_eq!(sum(&pool, &numbers), 50_005_000);
    /// ```
    #[inline(always)]
    pub fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        match worker::current_offering_to(&self.inner) {
            Some(current) => join_on(current, a, b),
            None => self.join_elsewhere(a, b),
        }
    }

    /// The first join of a recursion.
    #[inline(never)]
    fn join_elsewhere<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        match worker::current_of(&self.inner) {
            Some(_) => self.join_here(a, b),
            None => self.inner.install_from_outside(|| self.join_here(a, b)),
        }
    }

    /// Joins on the calling thread. It may not be counted as offering yet. If it has no deques, it
    /// runs one closure after the other: the pool is closed, or no worker returns to this deque
    /// while its thread runs rayon's work.
    fn join_here<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA,
        B: FnOnce() -> RB + Send,
        RB: Send,
    {
        match worker::current_with_deques_of(&self.inner) {
            Some(current) => {
                current.offering();
                join_on(current, a, b)
            }
            None => (a(), b()),
        }
    }
}
