//! A job: a closure whose type is erased, as the queues hold it.
//!
//! A job is seven words: a table of functions, and six words for the value. They hold a closure of
//! up to four words, its scope, and its time of admission. A value that is larger, or aligned to
//! more than a word (a captured `u128` or SIMD value), is boxed. A job may panic; its `Runnable`
//! catches that, so nothing unwinds out of this module.

use std::{
    mem::{self, MaybeUninit},
    ptr,
};

pub(crate) use crate::protocol::admission::{Ended, Holder};
use crate::sync::unwind::quietly;

/// What a job holds of the queue's bound until it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A place, which is released when the job starts, is cancelled or is dropped.
    Queue,
    /// Nothing: the job was not queued.
    None,
    /// Nothing: the job was queued over the bound.
    Overdrawn(Holder),
}

/// How a job enters the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It holds a place in the queue.
    Queued,
    /// It holds no place, and runs at once on the calling thread.
    InPlace,
    /// It holds no place, and is queued over the bound. It is already counted.
    Overdrawn(Holder),
}

impl Entry {
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Queued => Place::Queue,
            Self::InPlace => Place::None,
            Self::Overdrawn(holder) => Place::Overdrawn(holder),
        }
    }
}

/// The executor of jobs, as far as jobs know it: a job receives its context when it runs.
pub(crate) trait Executor: 'static {
    type Context<'a>;
}

/// A value that a queue of executor `E` can hold.
pub(crate) trait Runnable<E: Executor>: Send {
    /// Whether it is one half of a join. The thread that pushed it runs the other half, until it
    /// takes this one back or it has ended elsewhere.
    const IS_HALF: bool = false;

    /// Runs the value. The caller checks whether the pool has drained.
    fn run(self, context: &E::Context<'_>, place: Place) -> Ended;

    /// Drops the value without running it, because the pool is being emptied. A job that a stack
    /// frame waits for runs nevertheless. Checks whether the pool has drained.
    fn discard(self, context: &E::Context<'_>, place: Place);

    /// Returns the frame that waits for it, or null. A thief that takes it may run other jobs of
    /// the same frame first.
    fn frame(&self) -> *const () {
        ptr::null()
    }

    /// Whether a frame on the stack of the thread of this slot waits for it, given that it is in
    /// the deque of that thread.
    fn is_of_worker(&self, _: usize) -> bool {
        false
    }

    /// Whether it was taken back, so that only its tombstone is left.
    fn is_tombstone(&self) -> bool {
        false
    }

    /// Whether `discard` runs it.
    fn is_kept(&self) -> bool {
        false
    }
}

type Words = MaybeUninit<[usize; 6]>;

struct Table<E: Executor> {
    is_half: bool,
    /// # Safety
    /// The words hold an initialized value of the table's type. The function moves it out first.
    run: unsafe fn(*mut Words, &E::Context<'_>, Place) -> Ended,
    /// # Safety
    /// As for `run`.
    discard: unsafe fn(*mut Words, &E::Context<'_>, Place),
    /// # Safety
    /// As for `run`.
    drop: unsafe fn(*mut Words),
    /// # Safety
    /// The words hold an initialized value of the table's type.
    is_tombstone: unsafe fn(*const Words) -> bool,
    /// # Safety
    /// As for `is_tombstone`.
    is_kept: unsafe fn(*const Words) -> bool,
    /// # Safety
    /// As for `is_tombstone`.
    frame: unsafe fn(*const Words) -> *const (),
    /// # Safety
    /// As for `is_tombstone`.
    is_of_worker: unsafe fn(*const Words, usize) -> bool,
}

/// A closure without its type.
pub(crate) struct Job<E: Executor> {
    table: &'static Table<E>,
    words: Words,
}

// SAFETY: the value in the words is `Runnable`, which is `Send`.
unsafe impl<E: Executor> Send for Job<E> {}

const fn fits<R>() -> bool {
    mem::size_of::<R>() <= mem::size_of::<Words>()
        && mem::align_of::<R>() <= mem::align_of::<Words>()
}

/// The table of functions for a value that fits into the words.
trait InWords<E: Executor>: Runnable<E> + Sized {
    const TABLE: Table<E> = Table {
        is_half: Self::IS_HALF,
        run: |words, context, place| {
            // SAFETY: the words hold a Self, and nothing else reads them again.
            let runnable = unsafe { words.cast::<Self>().read() };
            runnable.run(context, place)
        },
        discard: |words, context, place| {
            // SAFETY: as in `run`.
            let runnable = unsafe { words.cast::<Self>().read() };
            runnable.discard(context, place);
        },
        drop: |words| {
            // SAFETY: as in `run`.
            let runnable = unsafe { words.cast::<Self>().read() };
            quietly(move || drop(runnable));
        },
        is_tombstone: |words| {
            // SAFETY: the words hold a Self.
            let runnable = unsafe { &*words.cast::<Self>() };
            runnable.is_tombstone()
        },
        is_kept: |words| {
            // SAFETY: the words hold a Self.
            let runnable = unsafe { &*words.cast::<Self>() };
            runnable.is_kept()
        },
        frame: |words| {
            // SAFETY: the words hold a Self.
            let runnable = unsafe { &*words.cast::<Self>() };
            runnable.frame()
        },
        is_of_worker: |words, slot| {
            // SAFETY: the words hold a Self.
            let runnable = unsafe { &*words.cast::<Self>() };
            runnable.is_of_worker(slot)
        },
    };
}

impl<E: Executor, R: Runnable<E>> InWords<E> for R {}

/// A value that does not fit into the words.
impl<E: Executor, R: Runnable<E>> Runnable<E> for Box<R> {
    const IS_HALF: bool = R::IS_HALF;

    fn run(self, context: &E::Context<'_>, place: Place) -> Ended {
        (*self).run(context, place)
    }

    fn discard(self, context: &E::Context<'_>, place: Place) {
        (*self).discard(context, place);
    }

    fn is_tombstone(&self) -> bool {
        (**self).is_tombstone()
    }

    fn is_kept(&self) -> bool {
        (**self).is_kept()
    }

    fn frame(&self) -> *const () {
        (**self).frame()
    }

    fn is_of_worker(&self, slot: usize) -> bool {
        (**self).is_of_worker(slot)
    }
}

impl<E: Executor> Job<E> {
    #[inline]
    pub(crate) fn new<R: Runnable<E> + 'static>(runnable: R) -> Self {
        // SAFETY: a `'static` value borrows nothing.
        unsafe { Self::borrowing(runnable) }
    }

    /// Makes a job that may borrow from a stack frame.
    ///
    /// # Safety
    /// The caller ensures that the job is run, discarded or dropped before its borrows end.
    #[inline]
    pub(crate) unsafe fn borrowing<R: Runnable<E>>(runnable: R) -> Self {
        let mut job = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for a job; the rest is passed on to the caller.
        unsafe { Self::write(job.as_mut_ptr(), runnable) };
        // SAFETY: it was just written.
        unsafe { job.assume_init() }
    }

    /// Makes a job as [`Job::borrowing`] does, directly at the address `place`.
    ///
    /// # Safety
    /// 1. `place` is valid for writes of a job.
    /// 2. The borrows of the value outlive the job.
    #[inline]
    pub(crate) unsafe fn write<R: Runnable<E>>(place: *mut Self, runnable: R) {
        if const { fits::<R>() } {
            // SAFETY: passed on to the caller; the value fits.
            unsafe { Self::write_inline(place, runnable) };
        } else {
            // SAFETY: passed on to the caller; a box fits.
            unsafe { Self::write_inline(place, Box::new(runnable)) };
        }
    }

    /// # Safety
    /// As for `write`, and the value fits into the words.
    #[inline]
    unsafe fn write_inline<R: Runnable<E>>(place: *mut Self, runnable: R) {
        debug_assert!(const { fits::<R>() });
        // SAFETY: `place` is valid for writes.
        unsafe { (&raw mut (*place).table).write(&<R as InWords<E>>::TABLE) };
        // SAFETY: as above, and an R fits into the words, in size and alignment.
        unsafe { (&raw mut (*place).words).cast::<R>().write(runnable) };
    }

    /// Whether a frame on the stack of the thread of this slot waits for it. It has to be in the
    /// deque of that thread.
    pub(crate) fn is_of_worker(&self, slot: usize) -> bool {
        // SAFETY: as in `is_tombstone`.
        unsafe { (self.table.is_of_worker)(&self.words, slot) }
    }

    #[inline]
    pub(crate) fn run(self, context: &E::Context<'_>, place: Place) -> Ended {
        let mut job = mem::ManuallyDrop::new(self);
        // SAFETY: the table belongs to the value in the words, which was not moved out yet; `job`
        // is not dropped.
        unsafe { (job.table.run)(&mut job.words, context, place) }
    }

    /// Runs the job at its address. Its closure is moved out first.
    ///
    /// # Safety
    /// `job` points to a job, which is not used again.
    #[inline]
    pub(crate) unsafe fn run_in_place(
        job: *mut Self,
        context: &E::Context<'_>,
        place: Place,
    ) -> Ended {
        // SAFETY: passed on to the caller; the table belongs to the value in the words.
        unsafe { ((*job).table.run)(&raw mut (*job).words, context, place) }
    }

    pub(crate) fn discard(self, context: &E::Context<'_>, place: Place) {
        let mut job = mem::ManuallyDrop::new(self);
        // SAFETY: as in `run`.
        unsafe { (job.table.discard)(&mut job.words, context, place) };
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        // SAFETY: the table belongs to the value in the words, which was not moved out.
        unsafe { (self.table.is_tombstone)(&self.words) }
    }

    /// Whether a submitted job has to run even when the pool is emptied.
    pub(crate) fn is_kept(&self) -> bool {
        // SAFETY: as in `is_tombstone`.
        unsafe { (self.table.is_kept)(&self.words) }
    }

    /// Whether the job at this address is one half of a join. The job may have been taken already.
    ///
    /// # Safety
    /// A job was written to this address, and nothing else since.
    #[inline]
    pub(crate) unsafe fn is_half(job: *const Self) -> bool {
        // SAFETY: passed on to the caller; the table is `'static`.
        unsafe { (*job).table.is_half }
    }

    /// Whether both are jobs of one frame, so that a thief may take them together.
    pub(crate) fn is_of_frame_of(&self, other: &Self) -> bool {
        let frame = self.frame();
        !frame.is_null() && ptr::eq(frame, other.frame())
    }

    /// Returns the frame that waits for it if it is a scope's job, or null.
    pub(crate) fn frame(&self) -> *const () {
        // SAFETY: as in `is_tombstone`.
        unsafe { (self.table.frame)(&self.words) }
    }
}

impl<E: Executor> Drop for Job<E> {
    fn drop(&mut self) {
        // SAFETY: the table belongs to the value in the words; code that moves the value out
        // forgets the job.
        unsafe { (self.table.drop)(&mut self.words) };
    }
}
