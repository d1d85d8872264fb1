//! Two ways to call into the pool and wait: `install` a closure on a worker, and `join` two.

use std::{
    any::Any,
    mem::{self, ManuallyDrop, MaybeUninit},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
};

use crate::{
    api::pool::Pool,
    metrics::{Stamp, Started},
    protocol::admission::Refusal,
    runtime::{
        context::JobContext,
        inner::{Inner, Job},
        job::{Entry, Place, Runnable},
        span,
        wait::frames::{Completion, OfOther, OfWorker},
        worker::{self, Current},
    },
    sync::{
        UnsafeCell,
        unwind::{DroppedQuietly, drop_payload, quietly},
    },
};

/// How a guest's job is booked.
trait Account: Send {
    /// Whether it is a half of a join.
    const IS_HALF: bool = false;

    /// What the end has to know of the start.
    type Started;

    fn begin(&self, context: &JobContext<'_>, place: Place) -> Self::Started;
    fn end(&self, context: &JobContext<'_>, started: Self::Started, completed: bool);
}

/// An installed closure is a job, with a place since then.
impl Account for Stamp {
    type Started = Started;

    fn begin(&self, context: &JobContext<'_>, place: Place) -> Started {
        context.begin(place, *self)
    }

    fn end(&self, context: &JobContext<'_>, started: Started, completed: bool) {
        context.end(started, completed);
    }
}

/// A half of a join is none.
struct PartOfAnother;

impl Account for PartOfAnother {
    const IS_HALF: bool = true;

    type Started = ();

    fn begin(&self, _: &JobContext<'_>, _: Place) {}

    fn end(&self, _: &JobContext<'_>, (): (), _: bool) {}
}

type Outcome<R> = Result<R, Box<dyn Any + Send>>;

/// A closure, and later its result, in the frame that waits for it.
struct Guest<C, F, R> {
    completion: C,
    /// Moved out by the thread that runs or drops it.
    f: UnsafeCell<ManuallyDrop<F>>,
    /// Written by a worker that runs it, before its completion; moved out by its owner, after.
    outcome: UnsafeCell<MaybeUninit<Outcome<R>>>,
}

impl<C, F, R> Guest<C, F, R>
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    #[inline]
    fn new(completion: C, f: F) -> Self {
        Self {
            completion,
            f: UnsafeCell::new(ManuallyDrop::new(f)),
            outcome: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The closure, to be run or dropped by the caller.
    ///
    /// # Safety
    /// The caller alone has the job of this guest, and calls this once.
    #[inline]
    unsafe fn take(&self) -> F {
        // SAFETY: passed on to the caller.
        self.f.with_mut(|f| unsafe { ManuallyDrop::take(&mut *f) })
    }

    /// The result of the closure.
    ///
    /// # Safety
    /// The caller is its owner, has waited for its completion, and calls this once.
    unsafe fn outcome(&self) -> Outcome<R> {
        self.outcome
            // SAFETY: it is complete, and so its outcome was written, and is ours.
            .with_mut(|outcome| unsafe { (*outcome).assume_init_read() })
    }
}

/// The second half of a join.
type Half<F, R> = Guest<OfWorker, F, R>;

impl<F, R> Half<F, R>
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    /// Waits until it was run elsewhere.
    ///
    /// # Safety
    /// The caller is its owner, has its job no more, and calls this once.
    #[cold]
    unsafe fn wait(&self, current: &Current) -> Outcome<R> {
        self.completion.wait(current, ptr::from_ref(self).cast());
        // SAFETY: it was waited for; the rest is passed on to the caller.
        unsafe { self.outcome() }
    }
}

/// The job of a guest.
struct GuestJob<C, F, R, A>(*const Guest<C, F, R>, A);

// SAFETY: the closure and its result are Send, the completion is made for the two threads, and the
// guest outlives its job.
unsafe impl<C: Completion, F: Send, R: Send, A: Account> Send for GuestJob<C, F, R, A> {}

impl<C, F, R, A> Runnable<Inner> for GuestJob<C, F, R, A>
where
    C: Completion,
    F: FnOnce() -> R + Send,
    R: Send,
    A: Account,
{
    const IS_HALF: bool = A::IS_HALF;

    fn run(self, context: &JobContext<'_>, place: Place) {
        // SAFETY: the guest's owner waits for its completion, below.
        let guest = unsafe { &*self.0 };
        guest.completion.begin(context.inner);
        let started = self.1.begin(context, place);
        // SAFETY: this is its one job.
        let f = unsafe { guest.take() };
        let result = catch_unwind(AssertUnwindSafe(f));
        self.1.end(context, started, result.is_ok());
        guest
            .outcome
            // SAFETY: the owner does not look before the completion.
            .with_mut(|outcome| unsafe { (*outcome).write(result) });
        // The guest may be gone after this.
        guest.completion.end(context.inner);
    }

    /// A frame waits for it, which has no way to learn that it was dropped.
    fn discard(self, context: &JobContext<'_>, place: Place) {
        self.run(context, place);
    }

    fn is_of_worker(&self, _: usize) -> bool {
        A::IS_HALF
    }
}

impl Inner {
    /// Runs `f` on a worker, for a thread that is none, which waits for it. If the pool is closed
    /// it runs here.
    fn install_from_outside<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let f = span::carried(f);
        let admitted = match self.admission.try_acquire() {
            Ok(()) => Ok(Entry::Queued),
            // It does not wait.
            Err(Refusal::Closed) => return f(),
            Err(Refusal::Full) => self.wait_for_place(None, false, None),
        };
        let Ok(Entry::Queued) = admitted else {
            return f();
        };
        let guest = Guest::new(OfOther::new(), f);
        let job = GuestJob(ptr::from_ref(&guest), self.timing.stamp_unsampled());
        // SAFETY: the guest stays in this frame until it is complete.
        let job = unsafe { Job::borrowing(job) };
        if worker::is_of_another(self) {
            // So that it can be taken back.
            self.queue.push_to_side(&guest, None, job);
        } else {
            self.queue.push_structured(job);
        }
        self.pushed(self.idle.after_push());
        guest
            .completion
            .wait(self, || self.queue.take_from_side_of(&guest));
        // SAFETY: it is ours, and complete.
        let outcome = unsafe { guest.outcome() };
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    }
}

/// A join on the thread of `current`, which has deques and is counted as offering. Always inlined,
/// with all of it that is done each time: called, it would be told of the halves by addresses of
/// what they borrow, which costs a recursion an eighth more instructions. What is seldom done is
/// not, so that it takes no registers from the rest.
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
    let half = Half::new(OfWorker::new(), span::carried(b));
    let job = GuestJob(ptr::from_ref(&half), PartOfAnother);
    // SAFETY: the guest stays in this frame until the job is taken back, or is complete. There is
    // room.
    unsafe { local.push_structured_at(mark, job) };
    current.note_half(mark);
    let abandoned = Abandoned {
        current,
        half: &half,
    };
    if !current.inner().idle.takes_no_offer() {
        offer(current);
    }
    let ours = a();
    mem::forget(abandoned);
    debug_assert_eq!(watermark_of_last(current), mark);
    let mark = watermark_of_last(current);
    if !local.retract_structured_at_once(mark) {
        return await_second(current, &half, mark, ours);
    }
    run_second(&half, ours)
}

/// A join on the thread of `current`, which has deques, and may not have offered anything yet.
fn join_anew<A, B, RA, RB>(current: &Current, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    current.begin_to_offer();
    join_on(current, a, b)
}

/// The mark at which a half lies whose first half has ended: what that pushed is not there any
/// more. It is asked for again, since to keep it would take a register in each call.
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

/// Wakes a worker for a second half, if need be. Not cold: it is called as long as not all workers
/// run.
#[inline(never)]
fn offer(current: &Current) {
    current.inner().perform(current.offer());
}

/// Runs the second half, which was taken back.
#[inline(always)]
fn run_second<RA, B, RB>(half: &Half<B, RB>, ours: RA) -> (RA, RB)
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

/// The second half was stolen, or may have been.
#[cold]
#[inline(never)]
fn await_second<RA, B, RB>(current: &Current, half: &Half<B, RB>, mark: usize, ours: RA) -> (RA, RB)
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

/// What is dropped when the first half of a join panics: with it ends the second.
struct Abandoned<'a, B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    current: &'a Current<'a>,
    half: &'a Half<B, RB>,
}

impl<B, RB> Drop for Abandoned<'_, B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    // Inlined, so that its fields need not lie in memory.
    #[inline(always)]
    fn drop(&mut self) {
        abandon(self.current, self.half);
    }
}

/// The first half of a join has panicked, and is unwinding. To catch it would cost the joins that
/// do not panic; so the second half, or its result, is dropped by a thread that is panicking, as
/// other values are.
#[cold]
#[inline(never)]
fn abandon<B, RB>(current: &Current, half: &Half<B, RB>)
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    let mark = watermark_of_last(current);
    // A half that did not start is not begun any more.
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
    /// Runs `f` on a worker, and returns what it returns.
    ///
    /// On a thread of the pool it runs at once, here. Elsewhere it is a job like others: the caller
    /// blocks for its admission and until it has ended. Parallel iterators and rayon's own
    /// functions in `f` use this pool's workers. On a closed pool it runs on the calling thread,
    /// and is in no count.
    ///
    /// **A thread of a plain rayon pool** that calls this blocks, and runs none of its pool's work
    /// meanwhile. So `f` must not go back into that pool with `install`, `join` or `scope` unless
    /// another thread of it is free: it would wait for the thread that waits for it. Between two
    /// rayon pools the waiting thread goes on with its own pool's work.
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

    /// Runs both closures, in parallel if another worker has time for one, and returns both
    /// results.
    ///
    /// The second half needs no place in the queue and no allocation: it lives in the caller's
    /// frame. Called from a thread that is not the pool's, all of it moves to a worker first, as
    /// with [`install`](Self::install).
    ///
    /// # Panics
    /// With the panic of `a`, if it panicked, otherwise with that of `b`; after both have ended.
    /// When `a` panics before `b` was begun, `b` is dropped, and else its result: while the panic
    /// unwinds, so that `std::thread::panicking` is true.
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

    /// The first of a recursion.
    #[inline(never)]
    fn join_elsewhere<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        match worker::current_of(&self.inner) {
            Some(current) if current.has_deques() => join_anew(current, a, b),
            // In a piece of rayon's work no worker comes back to this deque.
            Some(_) => (a(), b()),
            None => self.inner.install_from_outside(|| self.join_here(a, b)),
        }
    }

    /// As `join`, where the pool may have been closed, so that the thread is still not its own.
    fn join_here<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA,
        B: FnOnce() -> RB + Send,
        RB: Send,
    {
        match worker::current_with_deques_of(&self.inner) {
            Some(current) => join_anew(current, a, b),
            None => (a(), b()),
        }
    }
}
