//! The queues of one pool, without threads.

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
