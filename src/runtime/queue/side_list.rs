//! The side list: structured jobs that could not be pushed on the deque of the thread that waits
//! for them.

use std::{collections::VecDeque, ptr};

use crossbeam_utils::CachePadded;

use super::{Pushed, Queue};
use crate::{
    runtime::job::{Executor, Job},
    sync::{AtomicUsize, Mutex, Ordering, Rank, lock},
};

pub(super) struct SideList<E: Executor> {
    entries: Mutex<VecDeque<Entry<E>>>,
    len: CachePadded<AtomicUsize>,
}

struct Entry<E: Executor> {
    /// The address of the frame that waits for the job, not to be dereferenced.
    frame: *const (),
    /// The frame's count of its jobs in the side list, if it has one. The frame outlives the job.
    count: *const AtomicUsize,
    job: Job<E>,
}

// SAFETY: the count is Sync, and a job is Send.
unsafe impl<E: Executor> Send for Entry<E> {}

impl<E: Executor> SideList<E> {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(Rank::SideList, VecDeque::new()),
            len: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Takes the oldest job whose entry `is_wanted`.
    fn take(&self, is_wanted: impl FnMut(&Entry<E>) -> bool) -> Option<Job<E>> {
        let mut entries = lock(&self.entries);
        let at = entries.iter().position(is_wanted)?;
        let Entry { count, job, .. } = entries.remove(at)?;
        // SAFETY: the frame waits for the job, which has not run.
        if let Some(count) = unsafe { count.as_ref() } {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }
}

impl<E: Executor> Queue<E> {
    /// Pushes a structured job for its frame's thread, and for any worker that is not in a wait.
    /// `count` is the frame's count of its jobs in the side list.
    pub(crate) fn push_to_side<F>(
        &self,
        frame: &F,
        count: Option<&AtomicUsize>,
        job: Job<E>,
    ) -> Pushed {
        let mut entries = lock(&self.side_list.entries);
        entries.push_back(Entry {
            frame: ptr::from_ref(frame).cast(),
            count: count.map_or(ptr::null(), ptr::from_ref),
            job,
        });
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.side_list.len.fetch_add(1, Ordering::Relaxed);
        Pushed(())
    }

    /// Takes a job of this frame from the side list.
    pub(crate) fn take_from_side_of<F>(&self, frame: &F) -> Option<Job<E>> {
        let frame = ptr::from_ref(frame).cast::<()>();
        self.side_list.take(|entry| ptr::eq(entry.frame, frame))
    }

    /// Takes the oldest job of the side list, for a worker that is not in a wait.
    pub(crate) fn take_from_side(&self) -> Option<Job<E>> {
        if self.side_list.len() == 0 {
            return None;
        }
        self.side_list.take(|_| true)
    }
}
