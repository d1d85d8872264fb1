//! Loom models of the one-shot completion. Each names the rule and the mutants that it kills.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
};

use loom::cell::UnsafeCell;

use super::{Latch, Wake};
use crate::{
    protocol::model::explore,
    sync::thread::{self, spawn},
};

/// R1, D2: whoever waits for a job is told of its end. Kills `latch_mute`.
#[test]
fn d2_who_waits_for_a_job_is_told_of_its_end() {
    explore(|| {
        let latch = Arc::new(Latch::new());
        let job = {
            let latch = Arc::clone(&latch);
            spawn(move || {
                assert!(latch.claim());
                latch.finish();
            })
        };
        if !latch.awaits(Wake::Thread(thread::current())) {
            while !latch.is_done() {
                thread::park();
            }
        }
        assert!(latch.is_done());
        job.join().unwrap();
    });
}

/// D2: a task that is not ready is polled again, by the waker of its last poll. Kills `latch_deaf`.
#[test]
fn d2_a_task_that_awaits_a_job_is_told_of_its_end() {
    explore(|| {
        let latch = Arc::new(Latch::new());
        let job = {
            let latch = Arc::clone(&latch);
            spawn(move || {
                assert!(latch.claim());
                latch.finish();
            })
        };
        // A first poll, with the waker of a task that is gone.
        let earlier = Wake::Task(Waker::noop().clone());
        if !latch.awaits(earlier) {
            loom::future::block_on(poll_fn(|cx| {
                if latch.is_done() || latch.awaits(Wake::Task(cx.waker().clone())) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
        }
        assert!(latch.is_done());
        job.join().unwrap();
    });
}

/// R1: of a worker, a canceller and a shutdown one gets the closure. Kills `latch_torn_claim`.
#[test]
fn r1_one_of_three_claims_the_job() {
    explore(|| {
        let latch = Arc::new(Latch::new());
        let body = Arc::new(UnsafeCell::new(Some(())));
        let claim = || {
            let latch = Arc::clone(&latch);
            let body = Arc::clone(&body);
            move || {
                let won = latch.claim();
                if won {
                    // SAFETY: loom checks that nobody else is here.
                    assert_eq!(body.with_mut(|body| unsafe { (*body).take() }), Some(()));
                    latch.finish();
                }
                won
            }
        };
        let others = [claim(), claim()].map(spawn);
        let here = claim()();
        let won = others.map(|other| other.join().unwrap());
        assert_eq!(
            won.into_iter().filter(|&won| won).count() + usize::from(here),
            1
        );
        assert!(latch.is_done());
    });
}

/// R6: who sees the job done sees its result. Kills `latch_relaxed`.
#[test]
fn r6_who_sees_the_end_sees_the_result() {
    explore(|| {
        let latch = Arc::new(Latch::new());
        let result = Arc::new(UnsafeCell::new(0));
        let job = {
            let latch = Arc::clone(&latch);
            let result = Arc::clone(&result);
            spawn(move || {
                assert!(latch.claim());
                // SAFETY: loom checks that nobody else is here.
                result.with_mut(|result| unsafe { *result = 42 });
                latch.finish();
            })
        };
        if latch.is_done() || latch.awaits(Wake::Thread(thread::current())) {
            // SAFETY: as above.
            result.with(|result| assert_eq!(unsafe { *result }, 42));
        }
        job.join().unwrap();
    });
}
