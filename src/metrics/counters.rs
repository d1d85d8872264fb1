//! The counters of a pool. Each of its threads writes its own slot, with plain loads and stores.
//! What happens seldom, or on other threads, is counted in one shared place.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::latency::reported_at_least;
use crate::{
    error::AdmissionError,
    protocol::admission::Holder,
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, Rank, bump, lock, slots::Slots},
};

/// The counters that one thread of the pool writes.
#[derive(Debug, Default)]
pub(crate) struct CounterSlot {
    inlined: AtomicU64,
    completed: AtomicU64,
    panicked: AtomicU64,
    steals: AtomicU64,
    /// Items of batches that have left the queue.
    left_batch: AtomicU64,
    /// Jobs that were queued over the bound and started here.
    overdrawn_started: AtomicU64,
    /// Jobs that this thread keeps over the bound. Written by all threads, but seldom.
    kept: AtomicU64,
}

impl CounterSlot {
    /// The jobs that started here without a place: those that had been queued, and those that had
    /// not. On the slot's thread.
    pub(crate) fn begun_unplaced(&self) -> (u64, u64) {
        let own = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (own(&self.overdrawn_started), own(&self.inlined))
    }

    /// Counts the end of a job. On the slot's thread.
    #[inline]
    fn ended(&self, completed: bool) {
        bump(if completed {
            &self.completed
        } else {
            &self.panicked
        });
    }
}

/// The counters that threads outside of the pool write, and all threads for what is seldom.
#[derive(Debug, Default)]
struct Elsewhere {
    inlined: AtomicU64,
    started: AtomicU64,
    completed: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    rejected_full: AtomicU64,
    rejected_timed_out: AtomicU64,
    rejected_closed: AtomicU64,
    thread_start_failures: AtomicU64,
    left_batch: AtomicU64,
    /// Jobs ever queued over the bound. Written under the lock of the admission.
    overdrawn: AtomicU64,
    overdrawn_started: AtomicU64,
    /// Those that are queued, and that no thread keeps.
    overdrawn_waiting: AtomicU64,
}

/// The items put into one batch. Its only producer writes here, with plain stores.
#[derive(Debug)]
struct Account {
    put: AtomicU64,
    /// The producer puts nothing more.
    is_closed: AtomicBool,
}

/// The accounts of a pool's batches.
#[derive(Debug, Default)]
struct Accounts {
    open: Vec<Arc<Account>>,
    /// The items put into batches that are gone.
    closed: u64,
}

impl Accounts {
    fn sweep(&mut self) {
        let Self { open, closed } = self;
        open.retain(|account| {
            let is_closed = account.is_closed.load(Ordering::Acquire);
            if is_closed {
                *closed += account.put.load(Ordering::Relaxed);
            }
            !is_closed
        });
    }
}

/// Counts the items of a batch that have places.
///
/// An item is counted after it has its place, and counted as gone before it returns the place. So a
/// reader may find fewer items than there are, and never more.
#[derive(Debug)]
pub(crate) struct BatchPlaces(Arc<Account>);

impl BatchPlaces {
    /// One more. By the batch's only producer.
    #[inline]
    pub(crate) fn put(&self) {
        bump(&self.0.put);
    }
}

impl Drop for BatchPlaces {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
    }
}

/// All counters of a pool.
#[derive(Debug)]
pub(crate) struct Recorder {
    cells: Slots<CachePadded<CounterSlot>>,
    elsewhere: CachePadded<Elsewhere>,
    /// The largest number of admitted jobs that was reported. The number is a difference of
    /// counters that are read one after another; this keeps it from decreasing.
    admitted_reported: AtomicU64,
    batches: Mutex<Accounts>,
}

/// The sums at one moment, read in the order of the fields. Ends are read before starts, so that no
/// job appears to have ended without a start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) completed: u64,
    pub(crate) panicked: u64,
    pub(crate) cancelled: u64,
    pub(crate) dropped: u64,
    pub(crate) inlined: u64,
    pub(crate) overdrawn: u64,
    /// Queued jobs that started on threads outside of the pool.
    pub(crate) queued_elsewhere: u64,
    /// Jobs that started there without being queued.
    pub(crate) inlined_elsewhere: u64,
    pub(crate) steals: u64,
    pub(crate) rejected_full: u64,
    pub(crate) rejected_timed_out: u64,
    pub(crate) rejected_closed: u64,
    pub(crate) thread_start_failures: u64,
}

impl Sums {
    pub(crate) fn ended(&self) -> u64 {
        self.completed + self.panicked + self.cancelled + self.dropped
    }

    /// Jobs that came in without a place.
    pub(crate) fn unplaced(&self) -> u64 {
        self.inlined + self.overdrawn
    }
}

/// The counters of one thread, read in the order of the fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotCounts {
    pub(crate) completed: u64,
    pub(crate) panicked: u64,
    pub(crate) inlined: u64,
    pub(crate) overdrawn_started: u64,
    pub(crate) steals: u64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Release);
}

impl Recorder {
    /// For a pool whose threads below this index are not spare.
    pub(crate) fn new(first_spare: usize) -> Self {
        Self {
            cells: Slots::new(first_spare),
            elsewhere: CachePadded::default(),
            admitted_reported: AtomicU64::new(0),
            batches: Mutex::new(Rank::BatchAccounts, Accounts::default()),
        }
    }

    /// The slot of the calling thread, which has this index.
    pub(crate) fn cell(&self, index: usize) -> &CounterSlot {
        self.cells.enter(index)
    }

    /// Counts a job that runs at once, without being queued. `cell` is the calling thread's, if it
    /// is one of the pool's.
    pub(crate) fn inlined(&self, cell: Option<&CounterSlot>) {
        match cell {
            Some(cell) => bump(&cell.inlined),
            None => add(&self.elsewhere.inlined),
        }
    }

    /// Counts a job that is queued over the bound. Called under the lock of the admission, before
    /// the push.
    pub(crate) fn overdraws(&self, holder: Holder) {
        self.waiting_of(holder).fetch_add(1, Ordering::Relaxed);
        add(&self.elsewhere.overdrawn);
    }

    /// Counts a job over the bound as gone from the queue.
    pub(crate) fn left_overdrawn(&self, holder: Holder) {
        self.waiting_of(holder).fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts the start of a job over the bound. `cell` as in `inlined`.
    pub(crate) fn started_overdrawn(&self, cell: Option<&CounterSlot>, holder: Holder) {
        match cell {
            Some(cell) => bump(&cell.overdrawn_started),
            None => add(&self.elsewhere.overdrawn_started),
        }
        self.left_overdrawn(holder);
    }

    fn waiting_of(&self, holder: Holder) -> &AtomicU64 {
        match holder {
            Holder::Thread(index) => &self.cells[index as usize].kept,
            Holder::Queue => &self.elsewhere.overdrawn_waiting,
        }
    }

    /// The jobs that the thread of this index keeps over the bound.
    pub(crate) fn held_by(&self, index: usize) -> u64 {
        self.cells[index].kept.load(Ordering::Relaxed)
    }

    /// The jobs over the bound that are queued.
    pub(crate) fn overdrawn_now(&self) -> u64 {
        let kept = self.cells.iter().map(|cell| &cell.kept);
        kept.chain([&self.elsewhere.overdrawn_waiting])
            .map(|waiting| waiting.load(Ordering::Acquire))
            .sum()
    }

    /// Counts a job with a place that starts on a thread outside of the pool.
    pub(crate) fn started_elsewhere(&self) {
        add(&self.elsewhere.started);
    }

    /// Counts the end of a job.
    #[inline]
    pub(crate) fn ended(&self, cell: Option<&CounterSlot>, completed: bool) {
        match (cell, completed) {
            (Some(cell), completed) => cell.ended(completed),
            (None, true) => add(&self.elsewhere.completed),
            (None, false) => add(&self.elsewhere.panicked),
        }
    }

    /// Opens the account of a batch.
    pub(crate) fn open_batch(&self) -> BatchPlaces {
        let account = Arc::new(Account {
            put: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        });
        let mut batches = lock(&self.batches);
        batches.sweep();
        batches.open.push(Arc::clone(&account));
        BatchPlaces(account)
    }

    /// Counts an item of a batch that leaves the queue: it starts, or is dropped.
    #[inline]
    pub(crate) fn left_batch(&self, cell: Option<&CounterSlot>) {
        match cell {
            Some(cell) => bump(&cell.left_batch),
            None => add(&self.elsewhere.left_batch),
        }
    }

    /// The items of batches that are queued.
    pub(crate) fn batched(&self) -> u64 {
        // In this order: items that leave in between make it less, never more.
        let mut batches = lock(&self.batches);
        batches.sweep();
        let open = batches
            .open
            .iter()
            .map(|one| one.put.load(Ordering::Acquire));
        let put = open.fold(batches.closed, u64::wrapping_add);
        drop(batches);
        let cells = self.cells.iter().map(|cell| &cell.left_batch);
        let left = cells.map(|left| left.load(Ordering::Acquire)).fold(
            self.elsewhere.left_batch.load(Ordering::Acquire),
            u64::wrapping_add,
        );
        put.saturating_sub(left)
    }

    pub(crate) fn stole(&self, slot: usize) {
        bump(&self.cells[slot].steals);
    }

    pub(crate) fn cancelled(&self) {
        add(&self.elsewhere.cancelled);
    }

    pub(crate) fn dropped(&self) {
        add(&self.elsewhere.dropped);
    }

    pub(crate) fn rejected(&self, reason: AdmissionError) {
        add(match reason {
            AdmissionError::Full => &self.elsewhere.rejected_full,
            AdmissionError::TimedOut => &self.elsewhere.rejected_timed_out,
            AdmissionError::Closed => &self.elsewhere.rejected_closed,
        });
    }

    pub(crate) fn thread_start_failed(&self) {
        add(&self.elsewhere.thread_start_failures);
    }

    pub(crate) fn sums(&self) -> Sums {
        let sum = |of: fn(&CounterSlot) -> &AtomicU64| -> u64 {
            self.cells
                .iter()
                .map(|cell| of(cell).load(Ordering::Acquire))
                .sum()
        };
        let here = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let elsewhere = &*self.elsewhere;
        let all = |of: fn(&CounterSlot) -> &AtomicU64, there| sum(of) + here(there);
        // In the order of the fields.
        let completed = all(|cell| &cell.completed, &elsewhere.completed);
        let panicked = all(|cell| &cell.panicked, &elsewhere.panicked);
        let (cancelled, dropped) = (here(&elsewhere.cancelled), here(&elsewhere.dropped));
        let inlined_elsewhere = here(&elsewhere.inlined);
        Sums {
            completed,
            panicked,
            cancelled,
            dropped,
            inlined: sum(|cell| &cell.inlined) + inlined_elsewhere,
            queued_elsewhere: here(&elsewhere.started) + here(&elsewhere.overdrawn_started),
            inlined_elsewhere,
            overdrawn: here(&elsewhere.overdrawn),
            steals: sum(|cell| &cell.steals),
            rejected_full: here(&elsewhere.rejected_full),
            rejected_timed_out: here(&elsewhere.rejected_timed_out),
            rejected_closed: here(&elsewhere.rejected_closed),
            thread_start_failures: here(&elsewhere.thread_start_failures),
        }
    }

    /// The number of admitted jobs, given what the counters amount to now.
    pub(crate) fn admitted_at_least(&self, read: u64) -> u64 {
        reported_at_least(&self.admitted_reported, read)
    }

    /// The counters of one thread.
    pub(crate) fn of_slot(&self, slot: usize) -> SlotCounts {
        let cell = &self.cells[slot];
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        // Ends are read before starts.
        SlotCounts {
            completed: read(&cell.completed),
            panicked: read(&cell.panicked),
            inlined: read(&cell.inlined),
            overdrawn_started: read(&cell.overdrawn_started),
            steals: read(&cell.steals),
        }
    }
}
