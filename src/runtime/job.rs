//! The erased closure: what lies in the queues.
//!
//! A job is seven words: a table of functions, and room for a closure of up to four words, its
//! scope, and the moment at which it was admitted. A larger one is boxed, and one that is aligned to more than a word,
//! as by a captured `u128` or SIMD value. Whatever runs through here may panic: nothing unwinds out of it.

use std::{
    mem::{self, MaybeUninit},
    ptr,
};

pub(crate) use crate::protocol::admission::Holder;
use crate::sync::unwind::quietly;

/// What a job holds of the queue's bound until it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A place, which is given back when the job starts, is cancelled or is dropped.
    Queue,
    /// Nothing: it was not queued.
    None,
    /// Nothing, although it was queued: over the bound.
    Overdrawn(Holder),
}

/// How a job gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It has a place in the queue.
    Queued,
    /// It has none, and runs at once on the thread that brought it.
    InPlace,
    /// It has none, and is queued over the bound. It is counted already.
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

/// What runs jobs, as far as these know it: each is handed its executor's context when it runs.
pub(crate) trait Executor: 'static {
    type Context<'a>;
}

/// What can lie in a queue of this executor.
pub(crate) trait Runnable<E: Executor>: Send {
    /// Whether it is a half of a join, whose other half runs on the thread that has pushed it until it is taken back, or has
    /// ended elsewhere.
    const IS_HALF: bool = false;

    /// Runs it.
    fn run(self, context: &E::Context<'_>, place: Place);

    /// Drops it un-run, because the pool is being emptied; a job that somebody waits for in its own
    /// stack frame is run even so.
    fn discard(self, context: &E::Context<'_>, place: Place);

    /// The frame that waits for it, if it may be stolen together with others of the same one: a thief
    /// that has taken it may run those others first. Null if not.
    fn frame(&self) -> *const () {
        ptr::null()
    }

    /// Whether a frame on the stack of this thread waits for it, if it lies in that thread's deque.
    fn is_of_worker(&self, _: usize) -> bool {
        false
    }

    /// Whether it was taken back meanwhile, so that only its tombstone is left.
    fn is_tombstone(&self) -> bool {
        false
    }

    /// Whether `discard` would run it.
    fn is_kept(&self) -> bool {
        false
    }
}

type Words = MaybeUninit<[usize; 6]>;

struct Table<E: Executor> {
    is_half: bool,
    /// # Safety
    /// The words hold an initialized value of the table's type, which is moved out before anything else.
    run: unsafe fn(*mut Words, &E::Context<'_>, Place),
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

/// The functions for a value that lies in the words itself.
trait InWords<E: Executor>: Runnable<E> + Sized {
    const TABLE: Table<E> = Table {
        is_half: Self::IS_HALF,
        run: |words, context, place| {
            // SAFETY: the words hold a Self, which nobody else will touch again.
            let runnable = unsafe { words.cast::<Self>().read() };
            runnable.run(context, place);
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

/// A value that is too large for the words.
impl<E: Executor, R: Runnable<E>> Runnable<E> for Box<R> {
    const IS_HALF: bool = R::IS_HALF;

    fn run(self, context: &E::Context<'_>, place: Place) {
        (*self).run(context, place);
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
        // SAFETY: it borrows nothing.
        unsafe { Self::borrowing(runnable) }
    }

    /// A job that borrows from somebody's stack frame.
    ///
    /// # Safety
    /// What it borrows has to outlive the job: the caller sees to it that the job is run, discarded
    /// or dropped before.
    #[inline]
    pub(crate) unsafe fn borrowing<R: Runnable<E>>(runnable: R) -> Self {
        let mut job = MaybeUninit::uninit();
        // SAFETY: the place is a job's; the rest is passed on to the caller.
        unsafe { Self::write(job.as_mut_ptr(), runnable) };
        // SAFETY: it was just written.
        unsafe { job.assume_init() }
    }

    /// Makes a job as [`Job::borrowing`] does, at once in the place where it is to lie.
    ///
    /// # Safety
    /// 1. The place is valid for writes of a job.
    /// 2. What it borrows has to outlive the job.
    #[inline]
    pub(crate) unsafe fn write<R: Runnable<E>>(place: *mut Self, runnable: R) {
        if const { fits::<R>() } {
            // SAFETY: passed on to the caller; it fits.
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
        // SAFETY: the place is valid for writes.
        unsafe { (&raw mut (*place).table).write(&<R as InWords<E>>::TABLE) };
        // SAFETY: as above, and an R fits into the words, in size and alignment.
        unsafe { (&raw mut (*place).words).cast::<R>().write(runnable) };
    }

    /// Whether a frame on the stack of this thread waits for it, in whose deque it lies.
    pub(crate) fn is_of_worker(&self, slot: usize) -> bool {
        // SAFETY: as in `is_tombstone`.
        unsafe { (self.table.is_of_worker)(&self.words, slot) }
    }

    #[inline]
    pub(crate) fn run(self, context: &E::Context<'_>, place: Place) {
        let mut job = mem::ManuallyDrop::new(self);
        // SAFETY: the table belongs to the value in the words, which was not moved out yet; `job`
        // is not dropped.
        unsafe { (job.table.run)(&mut job.words, context, place) };
    }

    /// Runs the job where it lies. Its closure is moved out first.
    ///
    /// # Safety
    /// The place holds a job, which is not used again.
    #[inline]
    pub(crate) unsafe fn run_in_place(job: *mut Self, context: &E::Context<'_>, place: Place) {
        // SAFETY: passed on to the caller; the table belongs to the value in the words.
        unsafe { ((*job).table.run)(&raw mut (*job).words, context, place) };
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

    /// Whether a submitted job is to be run even when the pool is emptied.
    pub(crate) fn is_kept(&self) -> bool {
        // SAFETY: as in `is_tombstone`.
        unsafe { (self.table.is_kept)(&self.words) }
    }

    /// Whether the job that lies there, or lay there until it was taken, is a half of a join.
    ///
    /// # Safety
    /// A job was written there, and nothing else since.
    #[inline]
    pub(crate) unsafe fn is_half(job: *const Self) -> bool {
        // SAFETY: passed on to the caller; the table is there for good.
        unsafe { (*job).table.is_half }
    }

    /// Whether both are jobs of one frame, of which a thief may take many at once.
    pub(crate) fn is_of_frame_of(&self, other: &Self) -> bool {
        let frame = self.frame();
        !frame.is_null() && ptr::eq(frame, other.frame())
    }

    /// The frame that waits for it, if it is a scope's.
    pub(crate) fn frame(&self) -> *const () {
        // SAFETY: as in `is_tombstone`.
        unsafe { (self.table.frame)(&self.words) }
    }
}

impl<E: Executor> Drop for Job<E> {
    fn drop(&mut self) {
        // SAFETY: the table belongs to the value in the words; whoever moves it out forgets the job.
        unsafe { (self.table.drop)(&mut self.words) };
    }
}
