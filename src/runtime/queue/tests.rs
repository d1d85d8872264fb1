//! The queues of one pool, without threads.

use std::ptr;

use super::*;
use crate::runtime::job::{Ended, Place, Runnable};

/// A job that runs nothing.
struct Nothing;

impl Executor for Nothing {
    type Context<'a> = ();
}

impl Runnable<Nothing> for () {
    fn run(self, (): &(), _: Place) -> Ended {
        Ended::new()
    }

    fn discard(self, (): &(), _: Place) {}
}

/// A job of the frame at this address.
struct OfFrame(*const ());

// SAFETY: the address is not dereferenced.
unsafe impl Send for OfFrame {}

impl Runnable<Nothing> for OfFrame {
    fn run(self, (): &(), _: Place) -> Ended {
        Ended::new()
    }

    fn discard(self, (): &(), _: Place) {}

    fn frame(&self) -> *const () {
        self.0
    }
}

/// Makes a queue of `threads` threads, and the part of each.
fn queue(threads: usize) -> (Queue<Nothing>, Vec<Local<Nothing>>) {
    let queue = Queue::new(threads, Fences::new(true));
    let locals = (0..threads).map(|index| queue.enroll(index)).collect();
    (queue, locals)
}

#[test]
fn a_lost_race_is_not_taken_for_an_empty_queue() {
    let mut script = [Steal::Retry, Steal::Retry, Steal::Success(7)].into_iter();
    assert_eq!(insist(|| script.next().unwrap_or(Steal::Empty)), Some(7));
    let mut script = [Steal::<u8>::Retry, Steal::Empty].into_iter();
    assert_eq!(insist(|| script.next().unwrap_or(Steal::Empty)), None);
}

fn submit(queue: &Queue<Nothing>) {
    // No thread is there to be woken.
    let _ = queue.push(Job::new(()));
}

/// The jobs that the waiting thread moves into its own deque need a wake-up. One that it runs at
/// once needs none.
#[test]
fn r2_jobs_that_a_scope_takes_back_from_a_thief_are_pushed_anew() {
    let (queue, locals) = queue(2);
    let (waiting, thief) = (&locals[0], &locals[1]);
    let frame = ptr::from_ref(&queue).cast();
    for (jobs, moves) in [(3, true), (1, false)] {
        thief.structured.set_purpose(frame);
        for _ in 0..jobs {
            // SAFETY: the job borrows nothing.
            let _ = unsafe { thief.push_structured(OfFrame(frame)) };
        }
        let Theft::Success((_, moved)) = queue.take_back(waiting, frame) else {
            panic!("the thief has jobs of the scope");
        };
        assert_eq!(moved.is_some(), moves, "{jobs} jobs");
        while waiting.structured.pop(0).is_some() {}
        while thief.structured.pop(0).is_some() {}
    }
}

#[test]
fn r8_a_batch_goes_before_the_jobs_of_the_injector() {
    let (queue, locals) = queue(1);
    let local = &locals[0];
    (0..100).for_each(|_| submit(&queue));
    assert!(queue.take_submitted_for(local, true).is_some());
    let (batch, left) = (local.batch.get(), queue.injected());
    assert!(batch > 0 && left > 0);
    for left_of_batch in (0..batch).rev() {
        assert!(!local.has_kept());
        assert!(local.pop_of_batch().is_some());
        assert_eq!((local.batch.get(), queue.injected()), (left_of_batch, left));
    }
    assert!(local.pop_of_batch().is_none());
    assert!(queue.take_submitted_for(local, false).is_some());
    assert_eq!(queue.injected(), left - 1);
}

#[test]
fn r8_kept_jobs_come_after_the_batch() {
    let (queue, locals) = queue(1);
    let local = &locals[0];
    (0..3).for_each(|_| submit(&queue));
    assert!(queue.take_submitted_for(local, true).is_some());
    let _ = local.keep(Job::new(()));
    assert!(local.has_kept());
    while local.batch.get() > 0 {
        assert!(local.pop_submitted().is_some());
    }
    assert!(local.has_kept());
    assert!(local.pop_submitted().is_some());
    assert!(!local.has_kept());
}
