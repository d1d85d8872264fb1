//! The calling thread, as a thread of a pool: its slot, the jobs and waits on its stack, and its ways out of service and
//! back.

use std::{cell::Cell, ptr, sync::Arc};

use super::idle_policy::IdlePolicy;
use crate::{
    protocol::{admission::Refusal, deque::Theft, idle::WakeUp},
    runtime::{
        context::{JobContext, ThreadSlots},
        inner::{Inner, Job, Local, Queue},
        job::{Entry, Holder},
        worker::{
            inline::{Advice, Inline},
            stack::{Stack, stack_pointer},
        },
    },
    sync::{Instant, Ordering, backoff::FullQueue, rayon_core, thread_local},
};

/// How much two depths of the stack may differ and be the same, in bytes: alignment. A wait inside of
/// a rayon job adds several frames.
const SAME_DEPTH: usize = 128;

/// A thread's own, for its whole life.
pub(super) struct WorkerSlot {
    pub(super) index: usize,
    pub(super) local: Local,
}

/// The calling thread, as a thread of a pool.
pub(crate) struct Current<'p> {
    inner: &'p Arc<Inner>,
    slots: ThreadSlots<'p>,
    context: JobContext<'p>,
    pub(super) slot: WorkerSlot,
    /// An address in the first frames of its stack.
    base: usize,
    /// Whether it is a worker now, further down the stack.
    pub(super) in_loop: Cell<bool>,
    /// Whether its present job comes from our loop, so that it comes back to its deques. Changed by `set_has_deques`.
    has_deques: Cell<bool>,
    /// Whether it runs a broadcast's message while it is with rayon.
    runs_aside: Cell<bool>,
    /// The number of places in service that it fills with jobs on top of waits inside rayon.
    pub(super) hops: Cell<usize>,
    /// Odd while it runs, as a worker and outside of any job, what rayon gave it.
    rayon_turn: Cell<usize>,
    /// Whether it does that in its turn, and so fills its place in service meanwhile.
    serves_rayon: Cell<bool>,
    /// The address of the nearest scope on the stack, or of a half of a join while the thread runs something for it. Null
    /// in a job that a worker runs for no wait.
    frame: Cell<*const ()>,
    /// The mark of the own deque when that frame began.
    frame_watermark: Cell<usize>,
    /// The number, plus one, of the half of a join that it pushed last.
    last_half: Cell<usize>,
    inline: Inline,
    full_queue: FullQueue,
    pub(super) idle_policy: IdlePolicy,
    /// Whether it is counted as offering.
    offers: Cell<bool>,
}

/// The most frequent questions about the calling thread, each answered by one comparison.
#[derive(Clone, Copy)]
struct Here {
    /// Null on a thread of no pool.
    current: *const Current<'static>,
    /// The thread's pool: an address, not to be followed. Never null, so one comparison decides.
    pool: *const Inner,
    /// The same while the thread has deques.
    deques_of: *const Inner,
    /// The same while it has deques and is counted as offering.
    offers_to: *const Inner,
}

impl Here {
    const NOWHERE: Self = Self {
        current: ptr::null(),
        pool: NO_POOL,
        deques_of: NO_POOL,
        offers_to: NO_POOL,
    };
}

/// An address where no pool can be.
const NO_POOL: *const Inner = ptr::dangling();

thread_local! {
    static HERE: Cell<Here> = const { Cell::new(Here::NOWHERE) };
    /// The thread's pool until the thread's very end: thread-local values may end the pool when they are dropped. An
    /// address, not to be followed.
    static HOME: Cell<*const Inner> = const { Cell::new(ptr::null()) };
}

impl<'a> JobContext<'a> {
    /// The calling thread.
    pub(crate) fn here(inner: &'a Inner) -> Self {
        current_of(inner).map_or(Self::elsewhere(inner), |current| *current.context())
    }
}

/// Runs `f` with the calling thread as the pool's thread of this index.
pub(crate) fn with_slot(inner: &Arc<Inner>, index: usize, f: impl FnOnce()) {
    inner.idle.enroll(index);
    let slot = WorkerSlot {
        index,
        local: inner.queue.enroll(index),
    };
    let slots = ThreadSlots::of(inner, slot.index);
    let current = Current {
        inner,
        slots,
        context: JobContext {
            inner,
            slots: Some(slots),
        },
        slot,
        base: stack_pointer(),
        in_loop: Cell::new(false),
        has_deques: Cell::new(false),
        runs_aside: Cell::new(false),
        hops: Cell::new(0),
        rayon_turn: Cell::new(0),
        serves_rayon: Cell::new(false),
        frame: Cell::new(ptr::null()),
        frame_watermark: Cell::new(0),
        last_half: Cell::new(0),
        inline: Inline::new(Stack::of_new_thread(inner.settings.stack_bytes())),
        full_queue: FullQueue::default(),
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

/// The calling thread, if it is a thread of the pool at this address.
#[inline]
pub(crate) fn current_of<'a>(inner: *const Inner) -> Option<&'a Current<'a>> {
    let here = HERE.get();
    // SAFETY: as in `current`; a pool is there.
    ptr::eq(here.pool, inner).then(|| unsafe { &*here.current })
}

/// The same, if it has deques.
#[inline]
pub(crate) fn current_with_deques_of<'a>(inner: &Inner) -> Option<&'a Current<'a>> {
    let here = HERE.get();
    // SAFETY: as in `current_of`.
    ptr::eq(here.deques_of, inner).then(|| unsafe { &*here.current })
}

/// The same, if it is counted as offering, too.
#[inline]
pub(crate) fn current_offering_to<'a>(inner: &Inner) -> Option<&'a Current<'a>> {
    let here = HERE.get();
    // SAFETY: as in `current_of`.
    ptr::eq(here.offers_to, inner).then(|| unsafe { &*here.current })
}

/// The calling thread, if it is a thread of any pool.
#[inline]
pub(crate) fn current<'a>() -> Option<&'a Current<'a>> {
    // SAFETY: `with_slot` sets it while the value lives, on this thread's own stack, further down
    // than any caller. The reference does not leave the calling function's frame.
    let current = unsafe { HERE.get().current.as_ref() };
    // A thread of the parent's pool that has forked is no pool's in the child.
    current.filter(|current: &&Current| !current.inner.is_inherited())
}

/// Whether the calling thread is a thread of any pool.
pub(crate) fn is_worker() -> bool {
    current().is_some()
}

/// Whether the calling thread is a thread of another pool than the one at this address.
pub(crate) fn is_of_another(inner: *const Inner) -> bool {
    current().is_some_and(|current| !ptr::eq(current.inner(), inner))
}

/// The calling thread's index in this pool, if it is a thread of it.
pub(crate) fn index_in(inner: &Inner) -> Option<usize> {
    current_of(inner).map(|current| current.slot.index)
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
        self.slot.index
    }

    /// The thread's own deques, while it will come back to them.
    #[inline]
    pub(crate) fn local(&self) -> Option<&Local> {
        self.has_deques.get().then_some(&self.slot.local)
    }

    /// Whether it has deques now.
    #[inline]
    pub(crate) fn has_deques(&self) -> bool {
        self.has_deques.get()
    }

    pub(super) fn set_has_deques(&self, has: bool) {
        self.has_deques.set(has);
        self.note_here();
    }

    /// Updates `HERE`.
    fn note_here(&self) {
        let pool_if = |is_so| if is_so { self.inner() } else { NO_POOL };
        let has_deques = self.has_deques.get();
        HERE.set(Here {
            deques_of: pool_if(has_deques),
            offers_to: pool_if(has_deques && self.offers.get()),
            ..HERE.get()
        });
    }

    /// Whether the thread is counted as offering.
    #[inline]
    pub(crate) fn is_offering(&self) -> bool {
        self.offers.get()
    }

    /// The deques of a thread that has them.
    #[inline]
    pub(crate) fn deques(&self) -> &Local {
        debug_assert!(self.has_deques.get());
        &self.slot.local
    }

    /// Counts `items` of a batch with the present job, in the turn of the loop.
    pub(crate) fn count_items(&self, items: u32) {
        self.slot.local.turn.count_items(items);
    }

    /// The jobs that run in place on its stack.
    #[inline]
    pub(crate) fn inline(&self) -> &Inline {
        &self.inline
    }

    /// Decides what becomes of a job of this thread that has found no place.
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
        // If no worker is left to run it, the thread is at its own end, and runs it.
        self.inner()
            .overdraw(false, holder)
            .unwrap_or(Entry::InPlace)
    }

    /// To be called after the push of a job on the thread's own deque, unless it is offering, and `takes_no_offer`.
    pub(crate) fn offer(&self) -> WakeUp {
        self.begin_to_offer();
        self.inner().idle.after_offer()
    }

    /// Counts the thread as offering until `end_offers`.
    pub(crate) fn begin_to_offer(&self) {
        if !self.offers.replace(true) {
            self.inner().idle.begin_to_offer();
            self.note_here();
        }
    }

    /// Ends that.
    pub(super) fn end_offers(&self) {
        if self.offers.replace(false) {
            self.note_here();
            self.inner.idle.end_offers();
        }
    }

    /// Takes a place for a job that can as well run inline. A queue that was full is not checked for each job.
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
        let is_short = inner.timing.is_short(slots.times) == Some(true);
        if self.full_queue.skips() && is_short {
            return inner.admission.try_acquire_unsummed();
        }
        let taken = inner.admission.try_acquire_from(slots.places);
        if taken.is_err() && is_short {
            let capacity = inner.admission.capacity();
            self.full_queue
                .found_full(capacity, inner.idle.in_service());
        }
        taken
    }

    /// A scope has ended on this thread, and maybe all jobs that filled the queue with it.
    #[inline]
    pub(crate) fn scope_ended(&self) {
        if !self.full_queue.is_due() && self.slot.local.has_no_structured() {
            self.full_queue.end();
        }
    }

    /// Whether a rayon job that is running now was taken from rayon's main loop, and not while the
    /// thread waits in another one further down the stack.
    ///
    /// rayon does not tell; the depth of the stack does. The very first call of a pool comes before
    /// any job that could use rayon, so it is taken at the base, and each later one that is takes the
    /// same way through rayon's code.
    #[inline(never)]
    pub(super) fn is_at_base(&self) -> bool {
        let depth = self.base.abs_diff(stack_pointer());
        match self
            .inner
            .base_depth
            .compare_exchange(0, depth, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => true,
            Err(base) => depth <= base + SAME_DEPTH,
        }
    }

    /// The mark below all that is pushed on the own deque from now on.
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.slot.local.mark()
    }

    /// The next job of the loop serves no scope whose jobs this thread has stolen.
    pub(crate) fn clear_steal_origin(&self) {
        self.slot.local.clear_steal_origin();
    }

    /// Whether a job of the loop may push jobs of this scope on the own deque.
    #[inline]
    pub(crate) fn may_push_for(&self, scope: *const ()) -> bool {
        self.slot.local.may_push_for(scope)
    }

    /// Takes a job that `runner` has pushed meanwhile and waits for, if the runner's own job `is_due` even then.
    pub(crate) fn leapfrog(
        &self,
        runner: usize,
        mark: usize,
        is_due: impl Fn() -> bool,
    ) -> Theft<Job> {
        self.steal(|queue| queue.leapfrog(runner, mark, is_due))
    }

    /// Takes jobs of this scope out of a thief's deque, for the calling thread, which waits in the scope and has none
    /// left: returns the oldest, and moves others into its own deque.
    pub(crate) fn take_back(&self, scope: *const ()) -> Theft<Job> {
        self.steal(|queue| queue.take_back(&self.slot.local, scope))
    }

    /// Steals for a wait, and counts that.
    fn steal(&self, steal: impl FnOnce(&Queue) -> Theft<Job>) -> Theft<Job> {
        let inner = self.inner();
        let theft = steal(&inner.queue);
        match theft {
            Theft::Success(_) => inner.recorder.stole(self.slot.index),
            Theft::Unwanted => inner.recheck(),
            Theft::Empty | Theft::Busy => {}
        }
        theft
    }

    /// The nearest wait on this stack, joins excepted.
    #[inline]
    pub(crate) fn frame(&self) -> *const () {
        self.frame.get()
    }

    /// Whether a join within that frame has not ended, on a thread that has deques.
    ///
    /// Each wait leaves the deque as it was when the wait began, and while a join is under way nothing is pushed on top of
    /// its half, frames within it excepted. So the job that was pushed last decides.
    #[inline]
    pub(crate) fn is_joining(&self) -> bool {
        // The half of such a join lies last, and all jobs that were pushed after it had larger numbers.
        self.mark() <= self.last_half.get() && self.may_be_joining()
    }

    #[cold]
    #[inline(never)]
    fn may_be_joining(&self) -> bool {
        let is_joining = self.mark() > self.frame_watermark.get() && self.deques().is_last_half();
        is_joining && !mutant!("join_unseen")
    }

    /// The thread has just pushed the half of a join, of this number.
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

    /// Back in service, after the place was given to others.
    fn come_back(&self) {
        let inner = self.inner;
        if !inner.idle.return_to_service() && inner.threads.come_back(inner) {
            inner.recheck();
        }
        inner.is_busy_again();
    }

    /// Whether it runs what rayon gave it in its turn, and has come across no call in that before: a second one
    /// comes within a wait of rayon's.
    pub(super) fn is_first_of_rayon(&self) -> bool {
        self.serves_rayon.get() && !self.idle_policy.has_left_rayon()
    }

    /// Whether it runs a piece of rayon's work in the turn of that.
    pub(super) fn serves_rayon(&self) -> bool {
        self.serves_rayon.get()
    }

    /// From now on it takes no piece of rayon's work in a turn.
    pub(super) fn leave_rayon_until(&self, moment: Instant) {
        self.idle_policy.leave_rayon_until(moment);
    }

    /// Runs a piece of rayon's work, if there is one, at the base of the loop. It counts as a job of this worker. False
    /// if there is none.
    pub(super) fn run_of_rayon(&self) -> bool {
        if !self.idle_policy.polls_rayon() {
            return false;
        }
        self.rayon_turn.set(self.rayon_turn.get() + 1);
        self.set_has_deques(false);
        self.serves_rayon.set(true);
        let ran = rayon_core::yield_now() == Some(rayon_core::Yield::Executed);
        self.serves_rayon.set(false);
        self.set_has_deques(true);
        self.rayon_turn.set(self.rayon_turn.get() + 1);
        ran
    }

    /// Runs `f`, at the base of the loop, which runs what rayon has: it may take long, and may even wait for
    /// a job of ours, so another thread may take the place.
    pub(crate) fn give_way<R>(&self, f: impl FnOnce() -> R) -> R {
        let wake_up = self
            .inner
            .idle
            .leave_service(|| !self.inner.queue.is_empty());
        self.inner.perform(wake_up);
        self.run_out_of_service(f)
    }

    /// Runs `f`, which runs what rayon has, out of service.
    pub(super) fn run_out_of_service<R>(&self, f: impl FnOnce() -> R) -> R {
        self.rayon_turn.set(self.rayon_turn.get() + 1);
        self.set_has_deques(false);
        let result = f();
        self.set_has_deques(true);
        self.rayon_turn.set(self.rayon_turn.get() + 1);
        self.come_back();
        result
    }

    /// A number for each of rayon's gifts, and for each time between them.
    pub(crate) fn rayon_turn(&self) -> usize {
        self.rayon_turn.get()
    }

    /// Whether it is no worker now.
    pub(crate) fn is_with_rayon(&self) -> bool {
        !self.in_loop.get()
    }

    /// Whether what rayon gives it now comes within a job of ours, which waits, or gives way.
    pub(crate) fn is_in_job(&self) -> bool {
        self.has_deques.get()
    }

    /// Runs `f`, which the table counts as busy while the thread is with rayon.
    pub(crate) fn run_aside(&self, f: impl FnOnce()) {
        self.inner.threads.begin_aside(self.inner);
        self.runs_aside.set(true);
        f();
        self.runs_aside.set(false);
        self.inner.threads.end_aside();
    }

    /// Runs `f`, which blocks, with this worker out of service: another thread, maybe a spare one, may
    /// take its place.
    fn blocking<R>(&self, f: impl FnOnce() -> R) -> R {
        let (inner, index) = (self.inner, self.slot.index);
        inner.post.begin_to_block(index);
        let in_loop = self.in_loop.get();
        let counts = if in_loop {
            inner.threads.block(inner);
            false
        } else {
            // It does not come back to rayon, where a call may count on it.
            inner
                .threads
                .block_aside(inner, index, self.runs_aside.get())
        };
        // What rayon gave an idle worker runs out of service already; a job on top of that does not.
        let serves = self.has_deques.get() || self.serves_rayon.get();
        let places = usize::from(serves) + self.hops.get();
        for _ in 0..places {
            let wake_up = inner.idle.block(|| !inner.queue.is_empty());
            inner.perform(wake_up);
        }
        inner.threads.reroute(inner);
        let result = f();
        for _ in 0..places {
            self.come_back();
        }
        if in_loop {
            inner.threads.unblock(inner);
        } else {
            inner.threads.unblock_aside(inner, index, counts);
        }
        inner.post.end_blocking(index);
        result
    }
}

/// Runs `f`, which blocks: if the calling thread is some pool's worker, it is out of service
/// meanwhile.
pub(crate) fn blocking<R>(f: impl FnOnce() -> R) -> R {
    match current() {
        Some(current) => current.blocking(f),
        None => f(),
    }
}
