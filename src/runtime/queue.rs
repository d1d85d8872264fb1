//! The queue of a pool: injectors for all threads, and deques for each thread.
//!
//! Submitted and structured jobs are kept apart. Structured jobs are those of a scope, halves of a
//! join, and installed closures. A thread that waits for structured jobs pops them from the near
//! end of its own structured deque, down to a *mark*. It must not find any other job there: see
//! `deque.rs`. Submitted jobs are first in, first out: all go into the injector. While jobs are
//! short, a worker moves a batch of them into its own deque. Behind its batch are the jobs that the
//! worker keeps over the bound (see `inline.rs`). `turn.rs` decides which queue is next.
//!
//! The queue itself is unbounded. Admission in front of it bounds the jobs, and [`Queue::sweep`]
//! bounds the tombstones of cancelled jobs.

#[cfg(test)]
mod tests;

use std::{cell::Cell, collections::VecDeque, iter, ptr, sync::OnceLock};

use crossbeam_utils::CachePadded;

use crate::{
    protocol::deque::{self, Owner, Theft, Thief},
    runtime::{
        job::{Ended, Executor, Job, Place, Runnable},
        turn::Turn,
    },
    sync::{
        AtomicBool, AtomicI64, AtomicUsize, Mutex, Ordering, Rank,
        asymmetric::Fences,
        crossbeam_deque::{Injector, Steal, Stealer, Worker},
        lock,
        slots::Slots,
    },
};

/// The shared part of the queue.
pub(crate) struct Queue<E: Executor> {
    submitted: Injector<Job<E>>,
    structured: Injector<Job<E>>,
    /// The side list: structured jobs that could not be pushed on the deque of the thread that
    /// waits for them.
    side_list: Mutex<VecDeque<SideEntry<E>>>,
    side_count: CachePadded<AtomicUsize>,
    /// The far ends of the deques, set for each thread that has entered.
    stealers: Slots<OnceLock<Stealers<E>>>,
    /// Tombstones in the queues: jobs that were taken back. A tombstone may leave the queue before
    /// the thread that left it has counted it.
    tombstones: CachePadded<AtomicI64>,
    /// Queued jobs that work on batches and hold no place: the items hold the places.
    placeless: CachePadded<AtomicI64>,
    /// Queued structured jobs that are over the bound.
    overdrawn: CachePadded<AtomicI64>,
    is_sweeping: AtomicBool,
    fences: Fences,
}

/// A structured job in the side list.
struct SideEntry<E: Executor> {
    /// The address of the frame that waits for it, not to be dereferenced.
    frame: *const (),
    /// The frame's count of its jobs in the side list, if it has one. The frame outlives the job.
    count: *const AtomicUsize,
    job: Job<E>,
}

// SAFETY: the count is Sync, and a job is Send.
unsafe impl<E: Executor> Send for SideEntry<E> {}

/// The far ends of one thread's deques.
struct Stealers<E: Executor> {
    submitted: Stealer<Job<E>>,
    structured: Thief<Job<E>>,
}

/// Jobs that were pushed or moved to where any worker may take them: an idle one may have to be
/// woken. `Inner::pushed` and `Inner::wake_for` do that.
#[must_use = "an idle worker may have to be woken for the job"]
pub(crate) struct Pushed(());

/// As `Pushed`, for a job on the own deque of a thread that is counted as offering, which runs the
/// job itself if no worker takes it. `Inner::offered` and `Inner::wake_for_offer` use it up.
#[must_use = "an idle worker may have to be woken for the job"]
pub(crate) struct Offered(());

/// One thread's part of the queue.
pub(crate) struct Local<E: Executor> {
    /// First in, first out.
    submitted: Worker<Job<E>>,
    /// Last in, first out.
    structured: Owner<Job<E>>,
    /// An upper bound on the number of submitted jobs, in front, that came from the injector in one
    /// batch.
    batch: Cell<usize>,
    pub(crate) turn: Turn,
    random: Cell<u32>,
}

/// A job, and its origin.
pub(crate) struct Found<E: Executor> {
    pub(crate) job: Job<E>,
    /// Whether it came from another thread.
    pub(crate) stolen: bool,
}

impl<E: Executor> Queue<E> {
    /// Makes the queue of a pool. Threads below the index `first_spare` are not spare.
    pub(crate) fn new(first_spare: usize, fences: Fences) -> Self {
        Self {
            submitted: Injector::new(),
            structured: Injector::new(),
            stealers: Slots::new(first_spare),
            side_list: Mutex::new(Rank::SideList, VecDeque::new()),
            side_count: CachePadded::new(AtomicUsize::new(0)),
            tombstones: CachePadded::new(AtomicI64::new(0)),
            placeless: CachePadded::new(AtomicI64::new(0)),
            overdrawn: CachePadded::new(AtomicI64::new(0)),
            is_sweeping: AtomicBool::new(false),
            fences,
        }
    }

    /// Makes the deques of the thread `index`, which has none yet.
    pub(crate) fn enroll(&self, index: usize) -> Local<E> {
        let submitted = Worker::new_fifo();
        let (structured, thief) = deque::new(self.fences);
        let stealers = Stealers {
            submitted: submitted.stealer(),
            structured: thief,
        };
        let is_new = self.stealers[index].set(stealers).is_ok();
        debug_assert!(is_new, "an index is one thread's for its life");
        self.stealers.enter(index);
        Local {
            submitted,
            structured,
            batch: Cell::new(0),
            turn: Turn::new(),
            random: Cell::new(0x9e37_79b9 ^ (index as u32 + 1)),
        }
    }

    /// Returns the far ends of the deques of each thread that has entered.
    fn stealers(&self) -> impl Iterator<Item = &Stealers<E>> {
        self.stealers.iter().filter_map(OnceLock::get)
    }

    /// Pushes a submitted job for all threads.
    #[inline]
    pub(crate) fn push(&self, job: Job<E>) -> Pushed {
        self.submitted.push(job);
        Pushed(())
    }

    /// Pushes a structured job for all threads. While the pool is emptied, also a submitted job
    /// that has to run nevertheless.
    pub(crate) fn push_structured(&self, job: Job<E>) -> Pushed {
        self.structured.push(job);
        Pushed(())
    }

    /// Pushes a structured job for its frame's thread, and for any worker that is not in a wait.
    /// `count` is the frame's count of its jobs in the side list.
    pub(crate) fn push_to_side<F>(
        &self,
        frame: &F,
        count: Option<&AtomicUsize>,
        job: Job<E>,
    ) -> Pushed {
        let mut side_list = lock(&self.side_list);
        side_list.push_back(SideEntry {
            frame: ptr::from_ref(frame).cast(),
            count: count.map_or(ptr::null(), ptr::from_ref),
            job,
        });
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.side_count.fetch_add(1, Ordering::Relaxed);
        Pushed(())
    }

    /// Takes a job of this frame from the side list.
    pub(crate) fn take_from_side_of<F>(&self, frame: &F) -> Option<Job<E>> {
        let frame = ptr::from_ref(frame).cast::<()>();
        let mut side_list = lock(&self.side_list);
        let at = side_list
            .iter()
            .position(|side_entry| side_entry.frame == frame)?;
        self.take_from_side_at(&mut side_list, at)
    }

    /// Takes the oldest job of the side list.
    fn take_from_side(&self) -> Option<Job<E>> {
        if self.side_count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.take_from_side_at(&mut lock(&self.side_list), 0)
    }

    fn take_from_side_at(
        &self,
        side_list: &mut VecDeque<SideEntry<E>>,
        at: usize,
    ) -> Option<Job<E>> {
        let side_entry = side_list.remove(at)?;
        // SAFETY: the frame waits for the job, which has not run.
        if let Some(count) = unsafe { side_entry.count.as_ref() } {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.side_count.fetch_sub(1, Ordering::Relaxed);
        Some(side_entry.job)
    }

    /// Takes a structured job that was pushed for all threads.
    pub(crate) fn take_structured(&self, local: &Local<E>) -> Option<Job<E>> {
        if self.structured.is_empty() {
            return None;
        }
        local.clear_steal_origin();
        insist(|| self.structured.steal())
    }

    /// Takes the oldest job of the side list, for a worker that is not in a wait.
    pub(crate) fn take_from_side_for(&self, local: &Local<E>) -> Option<Job<E>> {
        self.take_from_side()
            .inspect(|_| local.clear_steal_origin())
    }

    /// Takes the next job of the batch that the worker has taken from the injector.
    pub(crate) fn take_of_batch(&self, local: &Local<E>) -> Option<Job<E>> {
        if local.batch.get() == 0 {
            return None;
        }
        local.pop_submitted()
    }

    /// Takes a submitted job from the injector. With `takes_batch`, moves others into the own
    /// deque. The last batch must be used up.
    pub(crate) fn take_submitted_for(
        &self,
        local: &Local<E>,
        takes_batch: bool,
    ) -> Option<(Job<E>, Option<Pushed>)> {
        if self.submitted.is_empty() {
            return None;
        }
        local.clear_steal_origin();
        if !takes_batch {
            return Some((insist(|| self.submitted.steal())?, None));
        }
        let job = insist(|| self.submitted.steal_batch_and_pop(&local.submitted))?;
        // The jobs that the worker kept before are in front of the batch, and count as part of it.
        let batch = local.submitted.len();
        local.batch.set(batch);
        Some((job, (batch > 0).then_some(Pushed(()))))
    }

    /// Takes a job that was pushed for all threads, and maybe moves a batch of others into the own
    /// deque.
    fn take_injected(&self, local: &Local<E>) -> Option<Job<E>> {
        self.take_structured(local)
            .or_else(|| self.take_from_side_for(local))
            .or_else(|| self.take_submitted_for(local, true).map(|(job, _)| job))
    }

    /// Searches everywhere, for a thread that is not in a wait and whose own deques are empty. It is
    /// counted as searching: when it stops, it checks all queues, those that it has moved included.
    pub(crate) fn search(&self, local: &Local<E>, own: usize) -> Option<Found<E>> {
        if let Some(job) = self.take_injected(local) {
            return Some(Found { job, stolen: false });
        }
        let start = random_below(local, self.stealers.len());
        let victims = self.stealers.indexed_from(start);
        let victims = victims
            .filter(|&(victim, _)| victim != own)
            .filter_map(|(_, stealers)| stealers.get());
        for victim in victims {
            // If another thief is busy at this deque, the search continues elsewhere. A worker that
            // stops searching observes the jobs that the thief leaves.
            let structured = &victim.structured;
            let job = match structured.steal_batch(&local.structured, Job::is_of_frame_of) {
                Theft::Success(job) => {
                    local.structured.set_purpose(job.frame());
                    Some(job)
                }
                Theft::Empty | Theft::Unwanted | Theft::Busy => {
                    insist(|| victim.submitted.steal_batch_and_pop(&local.submitted))
                }
            };
            if let Some(job) = job {
                return Some(Found { job, stolen: true });
            }
        }
        None
    }

    /// Takes the oldest job from the deque of a thread that serves this scope, for the thread that
    /// waits in the scope. The job must be the scope's own, or a frame on that thread must wait for
    /// it. Moves other jobs of the scope into the own deque.
    pub(crate) fn take_back(&self, local: &Local<E>, scope: *const ()) -> Theft<Job<E>> {
        for (index, thread) in self.stealers.indexed() {
            let Some(Stealers {
                structured: victim, ..
            }) = thread.get()
            else {
                continue;
            };
            if !victim.serves(scope) {
                continue;
            }
            let is_of_scope = |job: &Job<E>| ptr::eq(job.frame(), scope);
            // The victim may serve another scope by now, and have pushed this job for that.
            let is_wanted = |job: &Job<E>| {
                victim.serves(scope) && (is_of_scope(job) || job.is_of_worker(index))
            };
            let alike = |one: &Job<E>, other: &Job<E>| is_of_scope(one) && is_of_scope(other);
            match victim.steal_batch_if(&local.structured, is_wanted, alike) {
                Theft::Empty | Theft::Busy => {}
                theft => return theft,
            }
        }
        Theft::Empty
    }

    /// Takes the oldest structured job of a thread, if it is above this mark, and a frame on that
    /// thread waits for it. `is_due` must hold when the job is claimed.
    pub(crate) fn leapfrog(
        &self,
        thread: usize,
        mark: usize,
        is_due: impl Fn() -> bool,
    ) -> Theft<Job<E>> {
        let is_wanted = |job: &Job<E>| job.is_of_worker(thread) && is_due();
        match self.stealers[thread].get() {
            Some(stealers) => stealers.structured.steal_above(mark, is_wanted),
            None => Theft::Empty,
        }
    }

    /// Returns the number of submitted jobs and tombstones in the injector.
    #[cfg(test)]
    pub(crate) fn injected(&self) -> usize {
        self.submitted.len()
    }

    /// Whether no job is queued anywhere. Exact between two fences of the idle protocol.
    pub(crate) fn is_empty(&self) -> bool {
        self.submitted.is_empty()
            && self.structured.is_empty()
            && self.side_count.load(Ordering::Relaxed) == 0
            && self
                .stealers()
                .all(|thread| thread.submitted.is_empty() && thread.structured.is_empty())
    }

    /// Takes one job of either kind from anywhere, on any thread.
    pub(crate) fn take_any(&self) -> Option<Job<E>> {
        insist(|| self.structured.steal())
            .or_else(|| {
                let thefts = self.stealers().map(|thread| thread.structured.steal());
                thefts.filter_map(Theft::success).next()
            })
            .or_else(|| self.take_from_side())
            .or_else(|| self.take_submitted())
    }

    /// Returns the number of queued structured jobs with places. It includes the submitted jobs
    /// that have to run even when the pool is emptied. All tombstones are subtracted, since some of
    /// these jobs may be tombstones. Once the submitted jobs are gone there are no others.
    pub(crate) fn structured(&self) -> u64 {
        let deques = self.stealers().map(|thread| thread.structured.len());
        let waiting =
            deques.sum::<usize>() + self.structured.len() + self.side_count.load(Ordering::Relaxed);
        let left_out = [&self.tombstones, &self.placeless, &self.overdrawn]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum::<i64>();
        (waiting as u64).saturating_sub(left_out.try_into().unwrap_or(0))
    }

    /// Returns the number of queued jobs without a place.
    pub(crate) fn placeless(&self) -> u64 {
        let placeless = self.placeless.load(Ordering::Acquire);
        placeless.try_into().unwrap_or(0)
    }

    /// Counts jobs without a place that enter the queues or, if `more` is negative, leave them.
    pub(crate) fn count_placeless(&self, more: i64) {
        // Release pairs with Acquire in `placeless`: what the job brings is seen.
        self.placeless.fetch_add(more, Ordering::Release);
    }

    /// Counts structured jobs over the bound that enter the queues or, if `more` is negative, leave
    /// them.
    pub(crate) fn count_overdrawn(&self, more: i64) {
        self.overdrawn.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the number of queued structured jobs over the bound.
    pub(crate) fn overdrawn(&self) -> u64 {
        let overdrawn = self.overdrawn.load(Ordering::Relaxed);
        overdrawn.try_into().unwrap_or(0)
    }

    /// Takes one submitted job from anywhere, on any thread.
    pub(crate) fn take_submitted(&self) -> Option<Job<E>> {
        insist(|| {
            iter::once(self.submitted.steal())
                .chain(self.stealers().map(|thread| thread.submitted.steal()))
                .collect()
        })
    }

    /// Moves all jobs of the thread to the injectors.
    pub(crate) fn hand_over(&self, local: &Local<E>) -> Pushed {
        while let Some(job) = local.structured.pop(0) {
            self.structured.push(job);
        }
        while let Some(job) = local.submitted.pop() {
            self.submitted.push(job);
        }
        local.batch.set(0);
        Pushed(())
    }

    /// Counts a tombstone: a job was taken back. Sweeps the queues if there are as many as `bound`.
    pub(crate) fn tombstone_left(&self, bound: i64) -> Option<Pushed> {
        let is_due = self.tombstones.fetch_add(1, Ordering::Relaxed) >= bound;
        is_due.then(|| self.sweep()).flatten()
    }

    /// Counts a tombstone that left the queue.
    pub(crate) fn tombstone_gone(&self) {
        self.tombstones.fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes all tombstones from the queues, and moves the live jobs to the injector's end, in
    /// their order. Does nothing while another thread sweeps.
    ///
    /// A sweep visits each queued job once, and happens once in as many cancellations as the bound
    /// on tombstones. So its cost for each cancellation is constant.
    #[cold]
    fn sweep(&self) -> Option<Pushed> {
        // Not a lock: the drop of a tombstone may run user code.
        if self.is_sweeping.swap(true, Ordering::Acquire) {
            return None;
        }
        self.sweep_all();
        self.is_sweeping.store(false, Ordering::Release);
        Some(Pushed(()))
    }

    fn sweep_all(&self) {
        for _ in 0..self.submitted.len() {
            let Some(job) = insist(|| self.submitted.steal()) else {
                break;
            };
            self.keep_if_alive(job);
        }
        for thread in self.stealers() {
            for _ in 0..thread.submitted.len() {
                let Some(job) = insist(|| thread.submitted.steal()) else {
                    break;
                };
                self.keep_if_alive(job);
            }
        }
    }

    fn keep_if_alive(&self, job: Job<E>) {
        if job.is_tombstone() {
            self.tombstone_gone();
        } else {
            self.submitted.push(job);
        }
    }
}

impl<E: Executor> Local<E> {
    /// Pushes a submitted job that the thread keeps over the bound, for itself and for thieves.
    pub(crate) fn keep(&self, job: Job<E>) -> Pushed {
        self.submitted.push(job);
        Pushed(())
    }

    /// Whether the thread's deque has submitted jobs behind those of a batch.
    pub(crate) fn has_kept(&self) -> bool {
        self.submitted.len() > self.batch.get()
    }

    /// Whether the thread's deque has no structured jobs.
    #[inline]
    pub(crate) fn has_no_structured(&self) -> bool {
        self.structured.is_empty()
    }

    /// Pushes a structured job, for this thread and for thieves.
    ///
    /// # Safety
    /// As for [`Job::borrowing`].
    #[inline]
    pub(crate) unsafe fn push_structured<R: Runnable<E>>(&self, runnable: R) -> Offered {
        // SAFETY: the slot is for a job; the rest is passed on to the caller.
        unsafe {
            self.structured.push_with(|slot| Job::write(slot, runnable));
        }
        Offered(())
    }

    /// Returns the mark of the next structured job, if there is room for one.
    #[inline]
    pub(crate) fn room(&self) -> Option<usize> {
        self.structured.room()
    }

    /// Makes room for one more structured job.
    pub(crate) fn make_room(&self) {
        self.structured.reserve(1);
    }

    /// As `push_structured`, at a known mark.
    ///
    /// # Safety
    /// 1. As for [`Job::borrowing`].
    /// 2. `mark` was returned by `room`.
    #[inline]
    pub(crate) unsafe fn push_structured_at<R: Runnable<E>>(
        &self,
        mark: usize,
        runnable: R,
    ) -> Offered {
        // SAFETY: the slot is for a job; the rest is passed on to the caller.
        unsafe {
            self.structured
                .push_at(mark, |slot| Job::write(slot, runnable));
        }
        Offered(())
    }

    /// Returns the mark below all structured jobs that are pushed later.
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.structured.mark()
    }

    /// Whether the structured job that was pushed last is a half of a join. That job may have left
    /// the deque. At least one must have been pushed.
    #[inline]
    pub(crate) fn is_last_half(&self) -> bool {
        let is_half = |job| {
            // SAFETY: a job was written there, and the number was not given to another since.
            unsafe { Job::is_half(job) }
        };
        self.structured.peek_last(is_half)
    }

    /// Drops the record of the structured jobs that were pushed above this mark. All of them were
    /// stolen.
    #[inline]
    pub(crate) fn clear_stolen(&self, mark: usize) {
        self.structured.clear_stolen(mark);
    }

    /// Takes back the structured job at this mark, the last one that is there. Returns false if it
    /// was stolen.
    pub(crate) fn retract_structured(&self, mark: usize) -> bool {
        self.structured.retract(mark)
    }

    /// As `retract_structured`, if that can be decided at once. If it returns false,
    /// `retract_structured` has to be called.
    #[inline]
    pub(crate) fn retract_structured_at_once(&self, mark: usize) -> bool {
        self.structured.retract_at_once(mark)
    }

    /// Runs the structured job that was pushed last, if it is above the mark and was not stolen.
    /// Returns its end.
    #[inline]
    pub(crate) fn run_structured(&self, mark: usize, context: &E::Context<'_>) -> Option<Ended> {
        // SAFETY: running it moves its closure out first.
        unsafe {
            self.structured
                .pop_with(mark, |job| Job::run_in_place(job, context, Place::Queue))
        }
    }

    /// Pops the next submitted job of the thread's own deque.
    #[inline]
    pub(crate) fn pop_submitted(&self) -> Option<Job<E>> {
        let job = self.submitted.pop();
        let batch = self.batch.get();
        // Thieves may have taken part of the batch.
        self.batch.set(if job.is_some() {
            batch.saturating_sub(1)
        } else {
            0
        });
        job.inspect(|_| self.clear_steal_origin())
    }

    /// Clears the steal origin: the next job of the loop serves no scope whose jobs this thread has
    /// stolen.
    pub(crate) fn clear_steal_origin(&self) {
        self.structured.set_purpose(ptr::null());
    }

    /// Whether a job of the loop may push jobs of this scope here. The deque of a thread that
    /// serves a scope has only jobs of that scope.
    #[inline]
    pub(crate) fn may_push_for(&self, scope: *const ()) -> bool {
        let purpose = self.structured.purpose();
        purpose == 0 || purpose == scope.addr()
    }
}

/// Repeats a steal that lost a race, until it succeeds or the queue is empty.
fn insist<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(found) => return Some(found),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// Returns a random number below `bound`, by xorshift: good enough to choose a victim.
fn random_below<E: Executor>(local: &Local<E>, bound: usize) -> usize {
    let mut x = local.random.get();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    local.random.set(x);
    // The calling thread itself has entered.
    x as usize % bound.max(1)
}
