//! The current thread as a thread of a pool: its slot, and the jobs and waits on its stack. It
//! leaves service and returns to it here.

use std::{cell::Cell, hint::assert_unchecked, ptr, sync::Arc};

use super::idle_policy::IdlePolicy;
use crate::{
    protocol::{admission::Refusal, deque::Theft},
    runtime::{
        context::{JobContext, ThreadSlots},
        inner::{Inner, Job, Local, Queue},
        job::{Ended, Entry, Holder},
        rayon_host::RayonThread,
        stack::Stack,
        turn::StridedClock,
        worker::inline::{Advice, Inline},
    },
    sync::{backoff::FullQueue, thread_local},
};

/// The calling thread, as a thread of a pool.
pub(crate) struct Current<'p> {
    inner: &'p Arc<Inner>,
    slots: ThreadSlots<'p>,
    context: JobContext<'p>,
    pub(super) local: Local,
    /// Changed through `set_has_deques`, as far as its deques are concerned.
    rayon: RayonThread,
    /// The address of the nearest scope on the stack, or of the half of a join for which the thread
    /// runs a job. Null in a job for which no wait of this thread exists.
    frame: Cell<*const ()>,
    /// The watermark of the own deque when that frame began.
    frame_watermark: Cell<usize>,
    /// The number, plus one, of the half of a join that the thread pushed last.
    last_half: Cell<usize>,
    inline: Inline,
    full_queue: FullQueue,
    /// Read for the jobs that the thread brings while the queue is full, and runs in place.
    refused_clock: StridedClock,
    pub(super) idle_policy: IdlePolicy,
    /// Whether the thread is counted as offering.
    offers: Cell<bool>,
}

/// The most frequent queries on the calling thread, each answered by one comparison.
#[derive(Clone, Copy)]
struct Here {
    /// Dangles on a thread of no pool. Never null, so the comparison of a pool alone decides.
    current: *const Current<'static>,
    /// The thread's pool, or [`NO_POOL`]: an address, not to be dereferenced.
    pool: *const Inner,
    /// The pool, while the thread has deques; otherwise [`NO_POOL`].
    deques_of: *const Inner,
    /// The pool, while the thread has deques and is counted as offering; otherwise [`NO_POOL`].
    offers_to: *const Inner,
}

impl Here {
    const NOWHERE: Self = Self {
        current: ptr::dangling(),
        pool: NO_POOL,
        deques_of: NO_POOL,
        offers_to: NO_POOL,
    };
}

/// An address that no pool can have.
const NO_POOL: *const Inner = ptr::dangling();

thread_local! {
    static HERE: Cell<Here> = const { Cell::new(Here::NOWHERE) };
    /// The thread's pool until the very end of the thread, since the drop of a thread-local value
    /// may end the pool. An address, not to be dereferenced.
    static HOME: Cell<*const Inner> = const { Cell::new(ptr::null()) };
}

impl<'a> JobContext<'a> {
    /// Returns the context of the calling thread.
    pub(crate) fn here(inner: &'a Inner) -> Self {
        current_of(inner).map_or(Self::elsewhere(inner), |current| *current.context())
    }
}

/// Runs `f` with the calling thread as the pool's thread `index`.
pub(crate) fn with_slot(inner: &Arc<Inner>, index: usize, f: impl FnOnce()) {
    inner.idle.enroll(index);
    let slots = ThreadSlots::of(inner, index);
    let current = Current {
        inner,
        slots,
        context: JobContext {
            inner,
            slots: Some(slots),
        },
        local: inner.queue.enroll(index),
        rayon: RayonThread::new(index),
        frame: Cell::new(ptr::null()),
        frame_watermark: Cell::new(0),
        last_half: Cell::new(0),
        inline: Inline::new(Stack::of_new_thread(inner.settings.stack_bytes())),
        full_queue: FullQueue::default(),
        refused_clock: StridedClock::new(),
        idle_policy: IdlePolicy::new(),
        offers: Cell::new(false),
    };
    HOME.set(Arc::as_ptr(inner));
    HERE.set(Here {
        current: ptr::from_ref(&current).cast(),
        pool: Arc::as_ptr(inner),
        deques_of: NO_POOL,
        offers_to: NO_POOL,
    });
    f();
    HERE.set(Here::NOWHERE);
}

/// Returns the calling thread, if this address of its pool is `inner`'s.
#[inline(always)]
fn current_if(inner: &Inner, address: impl FnOnce(Here) -> *const Inner) -> Option<&Current<'_>> {
    HERE.with(|here| {
        let here = here.get();
        // SAFETY: it dangles, or points to a value. Without this, the compiler adds a check for
        // null to the comparison.
        unsafe { assert_unchecked(!here.current.is_null()) };
        // SAFETY: as in `with_current`; a pool is there. The reference is not sent to another
        // thread.
        ptr::eq(address(here), inner).then(|| unsafe { &*here.current })
    })
}

/// Returns the calling thread, if it is a thread of this pool.
#[inline]
pub(crate) fn current_of(inner: &Inner) -> Option<&Current<'_>> {
    current_if(inner, |here| here.pool)
}

/// Returns the calling thread, if it is a thread of this pool and has deques.
#[inline]
pub(crate) fn current_with_deques_of(inner: &Inner) -> Option<&Current<'_>> {
    current_if(inner, |here| here.deques_of)
}

/// Returns the calling thread, if it is a thread of this pool, has deques, and is counted as
/// offering.
#[inline]
pub(crate) fn current_offering_to(inner: &Inner) -> Option<&Current<'_>> {
    current_if(inner, |here| here.offers_to)
}

/// Calls `f` with the calling thread, if it is a thread of any pool.
#[inline]
fn with_current<R>(f: impl FnOnce(Option<&Current<'_>>) -> R) -> R {
    let here = HERE.get();
    // SAFETY: `with_slot` sets both while the value lives, on this thread's own stack, further down
    // than any caller. The reference does not outlive this call.
    let current = (here.pool != NO_POOL).then(|| unsafe { &*here.current });
    // A forked child's thread is no thread of the parent's pool.
    f(current.filter(|current| !current.inner.is_inherited()))
}

/// Calls `f` with the calling thread, if it is a thread of the pool at this address. If it is not,
/// that pool may be gone.
pub(crate) fn with_current_of<R>(
    pool: *const Inner,
    f: impl FnOnce(Option<&Current<'_>>) -> R,
) -> R {
    with_current(|current| f(current.filter(|current| ptr::eq(current.inner(), pool))))
}

/// Whether the calling thread is a thread of any pool.
pub(crate) fn is_worker() -> bool {
    with_current(|current| current.is_some())
}

/// Whether the calling thread is a thread of a pool other than the one at this address.
pub(crate) fn is_of_another(inner: *const Inner) -> bool {
    with_current(|current| current.is_some_and(|current| !ptr::eq(current.inner(), inner)))
}

/// Returns the calling thread's index in this pool, if it is a thread of it.
pub(crate) fn index_in(inner: &Inner) -> Option<usize> {
    current_of(inner).map(Current::index)
}

/// Whether the calling thread is a thread of this pool, even when it is about to end.
pub(crate) fn is_home(inner: &Inner) -> bool {
    ptr::eq(HOME.get(), inner)
}

impl<'p> Current<'p> {
    #[inline]
    pub(crate) fn context(&self) -> &JobContext<'p> {
        &self.context
    }

    #[inline]
    pub(crate) fn slots(&self) -> &ThreadSlots<'p> {
        &self.slots
    }

    pub(crate) fn inner(&self) -> &'p Inner {
        self.context.inner
    }

    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.slots.index
    }

    /// Returns the thread's own deques, if it has them now: not in work of rayon, which runs
    /// without them.
    #[inline]
    pub(crate) fn local(&self) -> Option<&Local> {
        self.has_deques().then_some(&self.local)
    }

    /// Whether it has deques now.
    #[inline]
    pub(crate) fn has_deques(&self) -> bool {
        self.rayon.has_deques()
    }

    pub(super) fn set_has_deques(&self, has: bool) {
        self.rayon.set_has_deques(has);
        self.note_here();
    }

    /// Updates `HERE`.
    fn note_here(&self) {
        let pool_if = |is_so| if is_so { self.inner() } else { NO_POOL };
        let has_deques = self.has_deques();
        HERE.set(Here {
            deques_of: pool_if(has_deques),
            offers_to: pool_if(has_deques && self.offers.get()),
            ..HERE.get()
        });
    }

    /// Returns the thread's deques. The thread must have them now.
    #[inline]
    pub(crate) fn deques(&self) -> &Local {
        debug_assert!(self.has_deques());
        &self.local
    }

    /// Leaves the check whether the pool has drained to the thread's loop, which is further down
    /// the stack and goes on afterwards.
    #[inline]
    pub(crate) fn leave_to_loop(&self, _: Ended) {
        debug_assert!(self.has_deques());
    }

    /// Counts `items` of a batch with the present job, in the turn of the loop.
    pub(crate) fn count_items(&self, items: u32) {
        self.local.turn.count_items(items);
    }

    /// Returns the clock of the loop's jobs.
    pub(crate) fn clock(&self) -> &StridedClock {
        self.local.turn.clock()
    }

    /// Returns the state of the jobs in place on the thread's stack.
    #[inline]
    pub(crate) fn inline(&self) -> &Inline {
        &self.inline
    }

    /// Decides how a job that this thread brought, and that found no place, enters the pool.
    #[inline]
    pub(crate) fn refused(&self) -> Entry {
        let (inner, index) = (self.inner(), self.index());
        let holds_few = || inner.recorder.held_by(index) < inner.admission.capacity();
        match self.inline.advise(holds_few) {
            Advice::RunInPlace => Entry::InPlace,
            Advice::Keep => self.keep(),
        }
    }

    #[cold]
    fn keep(&self) -> Entry {
        let holder = Holder::Thread(self.index() as u32);
        // If no worker is left to run it, the thread itself is about to end, and runs it.
        self.inner()
            .overdraw(false, holder)
            .unwrap_or(Entry::InPlace)
    }

    /// Returns the thread's deques, for a push. Counts the thread as offering until `end_offers`.
    #[inline]
    pub(crate) fn offering(&self) -> &Local {
        if !self.offers.get() {
            self.begin_to_offer();
        }
        self.deques()
    }

    #[inline(never)]
    fn begin_to_offer(&self) {
        self.offers.set(true);
        self.inner().idle.begin_to_offer();
        self.note_here();
    }

    /// Ends the thread's count as offering.
    pub(super) fn end_offers(&self) {
        if self.offers.replace(false) {
            self.note_here();
            self.inner.idle.end_offers();
        }
    }

    /// Takes a place for a job that can also run inline. After a full queue the check is not
    /// repeated for each job.
    #[inline]
    pub(crate) fn take_place(&self) -> Result<(), Refusal> {
        let admission = &self.inner().admission;
        if self.full_queue.is_due() && admission.try_acquire_cached(self.slots.places) {
            return Ok(());
        }
        self.take_uncached_place()
    }

    #[inline(never)]
    fn take_uncached_place(&self) -> Result<(), Refusal> {
        let (inner, slots) = (self.inner(), &self.slots);
        // The jobs that filled the queue are gone (A3), or are not this thread's.
        if self.local.has_no_structured() {
            self.full_queue.end();
        }
        self.refused_clock.tick();
        let are_short = self.refused_clock.are_short();
        if self.full_queue.skips() && are_short {
            return inner.admission.try_acquire_unsummed();
        }
        let taken = inner.admission.try_acquire_from(slots.places);
        if taken.is_err() && are_short {
            let capacity = inner.admission.capacity();
            self.full_queue
                .found_full(capacity, inner.idle.in_service());
        }
        taken
    }

    /// Ends the full-queue backoff if the own deque is empty. Called when a scope ends, whose jobs
    /// may have filled the queue.
    #[inline]
    pub(crate) fn scope_ended(&self) {
        if !self.full_queue.is_due() && self.local.has_no_structured() {
            self.full_queue.end();
        }
    }

    /// Returns the watermark of the own deque: later pushes are above it.
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.local.mark()
    }

    /// Whether a job of the loop may push jobs of this scope on the own deque.
    #[inline]
    pub(crate) fn may_push_for(&self, scope: *const ()) -> bool {
        self.local.may_push_for(scope)
    }

    /// Takes a job that `runner` has pushed above `mark`, and waits for. The claim succeeds only if
    /// `is_due` still holds for the job that the runner runs.
    pub(crate) fn leapfrog(
        &self,
        runner: usize,
        mark: usize,
        is_due: impl Fn() -> bool,
    ) -> Theft<Job> {
        self.steal(|queue| queue.leapfrog(runner, mark, is_due))
    }

    /// Takes jobs of this scope out of a thief's deque, for the calling thread, which waits in the
    /// scope and has none left. Returns the oldest, and moves others into its own deque.
    pub(crate) fn take_back(&self, scope: *const ()) -> Theft<Job> {
        self.steal(|queue| queue.take_back(&self.local, scope))
            .map(|(job, moved)| {
                // They were invisible on their way here, and this thread is not counted as
                // searching.
                if let Some(moved) = moved {
                    self.inner.wake_for(moved);
                }
                job
            })
    }

    /// Steals for a wait, and counts a success. After an unwanted job, checks the queues again.
    fn steal<J>(&self, steal: impl FnOnce(&Queue) -> Theft<J>) -> Theft<J> {
        let inner = self.inner();
        let theft = steal(&inner.queue);
        match theft {
            Theft::Success(_) => inner.recorder.stole(self.index()),
            Theft::Unwanted => {
                inner.recheck();
            }
            Theft::Empty | Theft::Busy => {}
        }
        theft
    }

    /// Returns the nearest wait on this stack, joins excepted.
    #[inline]
    pub(crate) fn frame(&self) -> *const () {
        self.frame.get()
    }

    /// Whether a join within that frame has not ended, on a thread that has deques.
    ///
    /// Each wait leaves the deque as it was when the wait began. While a join is under way, no job
    /// is pushed on top of its half, except within frames nested in it. So the job that was pushed
    /// last decides.
    #[inline]
    pub(crate) fn is_joining(&self) -> bool {
        // The half of such a join is the last job, and all jobs that were pushed after it had
        // larger numbers.
        self.mark() <= self.last_half.get() && self.may_be_joining()
    }

    #[cold]
    #[inline(never)]
    fn may_be_joining(&self) -> bool {
        let is_joining = self.mark() > self.frame_watermark.get() && self.deques().is_last_half();
        is_joining && !mutant!("join_unseen")
    }

    /// Records that the thread has pushed the half of a join, which has this number.
    #[inline]
    pub(crate) fn note_half(&self, number: usize) {
        self.last_half.set(number + 1);
    }

    /// Runs `f`, which does not unwind, with `frame` as the nearest wait.
    #[inline]
    pub(crate) fn in_frame<R>(&self, frame: *const (), f: impl FnOnce() -> R) -> R {
        let outer = self.frame.replace(frame);
        let outer_mark = self.frame_watermark.replace(self.mark());
        let result = f();
        self.frame.set(outer);
        self.frame_watermark.set(outer_mark);
        result
    }

    /// Returns the state of the thread with respect to rayon.
    pub(crate) fn rayon(&self) -> &RayonThread {
        &self.rayon
    }

    /// Runs one piece of rayon's work at the base of the loop. It counts as a job of this worker.
    /// Returns false if there is none.
    pub(super) fn run_of_rayon(&self) -> bool {
        self.rayon.may_serve() && self.without_deques(|| self.rayon.serve())
    }

    /// Runs `f`, which runs rayon's work at the base of the loop. It may take long, and may wait
    /// for a job of this pool. So the worker leaves service, and another thread may take its place.
    pub(super) fn give_way<R>(&self, f: impl FnOnce() -> R) -> R {
        self.inner.leave_service();
        self.run_out_of_service(f)
    }

    /// Runs `f`, which runs rayon's work. The worker has left service before, and returns to it
    /// afterwards.
    pub(super) fn run_out_of_service<R>(&self, f: impl FnOnce() -> R) -> R {
        let result = self.without_deques(|| self.rayon.in_turn(f));
        self.inner.return_to_service();
        result
    }

    fn without_deques<R>(&self, f: impl FnOnce() -> R) -> R {
        self.set_has_deques(false);
        let result = f();
        self.set_has_deques(true);
        result
    }
}

/// Runs `f`, which blocks. If the calling thread is a pool's worker, it is out of service
/// meanwhile.
pub(crate) fn blocking<R>(f: impl FnOnce() -> R) -> R {
    with_current(|current| match current {
        Some(current) => current.rayon.blocking(current.inner, f),
        None => f(),
    })
}
