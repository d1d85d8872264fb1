//! The counters of a pool. Each of its threads writes its own slot, with plain loads and stores;
//! only what it keeps over the bound is counted by any thread. What happens seldom, or on other
//! threads, is counted in one shared slot.

use std::{array, ops::Index, sync::Arc};

use crossbeam_utils::CachePadded;

use super::latency::reported_at_least;
use crate::{
    error::AdmissionError,
    protocol::admission::Holder,
    sync::{AtomicU64, Mutex, Ordering, Rank, bump, lock, slots::Slots},
};

/// What is counted. A reader loads the counters of a slot in this order. Ends come before starts,
/// so that no job appears to have ended without a start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {
    Completed,
    Panicked,
    Cancelled,
    Dropped,
    /// Jobs that started without being queued.
    Inlined,
    /// Jobs with a place that started on threads outside of the pool.
    StartedElsewhere,
    /// Jobs that were queued over the bound and started.
    OverdrawnStarted,
    /// Jobs ever queued over the bound.
    Overdrawn,
    /// Jobs over the bound that this thread keeps or, in the shared slot, that no thread keeps.
    /// Written by all threads, but seldom.
    Kept,
    /// Items of batches that have left the queue.
    LeftBatch,
    Steals,
    RejectedFull,
    RejectedTimedOut,
    RejectedClosed,
    ThreadStartFailures,
}

const COUNTERS: usize = Counter::ThreadStartFailures as usize + 1;

/// The counters that one thread of the pool writes, or those that all threads share.
#[derive(Debug, Default)]
pub(crate) struct CounterSlot([AtomicU64; COUNTERS]);

impl CounterSlot {
    #[inline]
    fn of(&self, counter: Counter) -> &AtomicU64 {
        &self.0[counter as usize]
    }

    fn read(&self) -> Counts {
        Counts(self.0.each_ref().map(|one| one.load(Ordering::Acquire)))
    }

    /// The jobs that started here without a place: those that had been queued, and those that had
    /// not. On the slot's thread.
    pub(crate) fn begun_unplaced(&self) -> (u64, u64) {
        let own = |counter| self.of(counter).load(Ordering::Relaxed);
        (own(Counter::OverdrawnStarted), own(Counter::Inlined))
    }
}

/// The counters of one slot as they were read, or the sums of several.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts([u64; COUNTERS]);

impl Index<Counter> for Counts {
    type Output = u64;

    fn index(&self, counter: Counter) -> &u64 {
        &self.0[counter as usize]
    }
}

impl Counts {
    /// Jobs that have run.
    pub(crate) fn run(&self) -> u64 {
        self[Counter::Completed] + self[Counter::Panicked]
    }

    pub(crate) fn ended(&self) -> u64 {
        self.run() + self[Counter::Cancelled] + self[Counter::Dropped]
    }

    /// Jobs that came in without a place.
    pub(crate) fn unplaced(&self) -> u64 {
        self[Counter::Inlined] + self[Counter::Overdrawn]
    }
}

/// The items ever put into a pool's batches.
#[derive(Debug, Default)]
struct Batched {
    /// Those of each batch. Its only producer writes the counter, with plain stores.
    open: Vec<Arc<AtomicU64>>,
    /// Those of batches that are gone.
    closed: u64,
}

impl Batched {
    /// Closes the batches whose `BatchPlaces` is gone.
    fn sweep(&mut self) {
        let Self { open, closed } = self;
        open.retain_mut(|put| {
            let is_open = Arc::get_mut(put).is_none();
            if !is_open {
                *closed += put.load(Ordering::Relaxed);
            }
            is_open
        });
    }
}

/// Counts the items of a batch that have places.
///
/// An item is counted after it has its place, and counted as gone before it returns the place. So a
/// reader may find fewer items than there are, and never more.
#[derive(Debug)]
pub(crate) struct BatchPlaces(Arc<AtomicU64>);

impl BatchPlaces {
    /// One more. By the batch's only producer.
    #[inline]
    pub(crate) fn put(&self) {
        bump(&self.0);
    }
}

/// All counters of a pool.
#[derive(Debug)]
pub(crate) struct Recorder {
    cells: Slots<CachePadded<CounterSlot>>,
    shared: CachePadded<CounterSlot>,
    /// The largest number of admitted jobs that was reported. The number is a difference of
    /// counters that are read one after another; this keeps it from decreasing.
    admitted_reported: AtomicU64,
    batches: Mutex<Batched>,
}

impl Recorder {
    /// For a pool whose threads below this index are not spare.
    pub(crate) fn new(first_spare: usize) -> Self {
        Self {
            cells: Slots::new(first_spare),
            shared: CachePadded::default(),
            admitted_reported: AtomicU64::new(0),
            batches: Mutex::new(Rank::BatchAccounts, Batched::default()),
        }
    }

    /// The slot of the calling thread, which has this index.
    pub(crate) fn slot(&self, index: usize) -> &CounterSlot {
        self.cells.enter(index)
    }

    /// Counts on the calling thread. `slot` is its slot, if it is one of the pool's.
    #[inline]
    fn count(&self, slot: Option<&CounterSlot>, counter: Counter) {
        match slot {
            Some(slot) => bump(slot.of(counter)),
            None => self.count_shared(counter),
        }
    }

    fn count_shared(&self, counter: Counter) {
        self.shared.of(counter).fetch_add(1, Ordering::Release);
    }

    /// Counts a job that runs at once, without being queued. `slot` as in `count`.
    pub(crate) fn inlined(&self, slot: Option<&CounterSlot>) {
        self.count(slot, Counter::Inlined);
    }

    /// Counts a job that is queued over the bound. Called before the push; under the lock of the
    /// admission, unless the job had a held place.
    pub(crate) fn overdraws(&self, holder: Holder) {
        self.kept_by(holder).fetch_add(1, Ordering::Relaxed);
        self.count_shared(Counter::Overdrawn);
    }

    /// Counts a job over the bound as gone from the queue.
    pub(crate) fn left_overdrawn(&self, holder: Holder) {
        self.kept_by(holder).fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts the start of a job over the bound. `slot` as in `count`.
    pub(crate) fn started_overdrawn(&self, slot: Option<&CounterSlot>, holder: Holder) {
        self.count(slot, Counter::OverdrawnStarted);
        self.left_overdrawn(holder);
    }

    fn kept_by(&self, holder: Holder) -> &AtomicU64 {
        let slot = match holder {
            Holder::Thread(index) => &self.cells[index as usize],
            Holder::Queue => &self.shared,
        };
        slot.of(Counter::Kept)
    }

    /// The jobs that the thread of this index keeps over the bound.
    pub(crate) fn held_by(&self, index: usize) -> u64 {
        self.cells[index].of(Counter::Kept).load(Ordering::Relaxed)
    }

    /// The sum of the counter of this number.
    fn sum(&self, counter: usize) -> u64 {
        let own = self.cells.iter().map(|slot| &**slot);
        let all = own.chain([&*self.shared]);
        all.map(|slot| slot.0[counter].load(Ordering::Acquire))
            .fold(0, u64::wrapping_add)
    }

    /// The jobs over the bound that are queued.
    pub(crate) fn overdrawn_now(&self) -> u64 {
        self.sum(Counter::Kept as usize)
    }

    /// Counts a job with a place that starts on a thread outside of the pool.
    pub(crate) fn started_elsewhere(&self) {
        self.count_shared(Counter::StartedElsewhere);
    }

    /// Counts the end of a job.
    #[inline]
    pub(crate) fn ended(&self, slot: Option<&CounterSlot>, completed: bool) {
        let counter = if completed {
            Counter::Completed
        } else {
            Counter::Panicked
        };
        self.count(slot, counter);
    }

    /// Begins to count the items of a batch.
    pub(crate) fn open_batch(&self) -> BatchPlaces {
        let put = Arc::default();
        let mut batches = lock(&self.batches);
        batches.sweep();
        batches.open.push(Arc::clone(&put));
        BatchPlaces(put)
    }

    /// Counts an item of a batch that leaves the queue: it starts, or is dropped.
    #[inline]
    pub(crate) fn left_batch(&self, slot: Option<&CounterSlot>) {
        self.count(slot, Counter::LeftBatch);
    }

    /// The items of batches that are queued.
    pub(crate) fn batched(&self) -> u64 {
        // In this order: items that leave in between make it less, never more.
        let mut batches = lock(&self.batches);
        batches.sweep();
        let open = batches.open.iter().map(|put| put.load(Ordering::Acquire));
        let put = open.fold(batches.closed, u64::wrapping_add);
        drop(batches);
        put.saturating_sub(self.sum(Counter::LeftBatch as usize))
    }

    pub(crate) fn stole(&self, slot: usize) {
        bump(self.cells[slot].of(Counter::Steals));
    }

    pub(crate) fn cancelled(&self) {
        self.count_shared(Counter::Cancelled);
    }

    pub(crate) fn dropped(&self) {
        self.count_shared(Counter::Dropped);
    }

    pub(crate) fn rejected(&self, reason: AdmissionError) {
        self.count_shared(match reason {
            AdmissionError::Full => Counter::RejectedFull,
            AdmissionError::TimedOut => Counter::RejectedTimedOut,
            AdmissionError::Closed => Counter::RejectedClosed,
        });
    }

    pub(crate) fn thread_start_failed(&self) {
        self.count_shared(Counter::ThreadStartFailures);
    }

    /// The counters of the shared slot alone.
    pub(crate) fn shared(&self) -> Counts {
        self.shared.read()
    }

    /// The sums of all counters: the ends on all threads are read before any start.
    pub(crate) fn sums(&self) -> Counts {
        Counts(array::from_fn(|counter| self.sum(counter)))
    }

    /// The number of admitted jobs, given what the counters amount to now.
    pub(crate) fn admitted_at_least(&self, read: u64) -> u64 {
        reported_at_least(&self.admitted_reported, read)
    }

    /// The counters of one thread.
    pub(crate) fn of_slot(&self, slot: usize) -> Counts {
        self.cells[slot].read()
    }
}
