//! Loom models of the roster, with the real sleep, where the one is under a lock and the other is not. Each
//! names the rule and the mutants that it kills. The calls that lie in rayon stay there: each model ends
//! where nobody is left who could take them up. That longer ways lead to no other state is shown by
//! `tests.rs`, which goes all of them, but with whole calls of the sleep as its steps.

use std::sync::Arc;

use super::*;
use crate::{
    protocol::{
        idle::Duty,
        model::{Slots, explore},
    },
    sync::{Mutex, lock, thread::spawn},
};

struct Pool {
    sleep: Sleep,
    roster: Mutex<Roster>,
    queue: Slots<1>,
}

impl Pool {
    /// All threads that are not spare were started, and are with rayon.
    fn new(threads: usize, spares: usize) -> Self {
        let mut roster = Roster::new();
        roster.open(threads, spares);
        (0..threads).for_each(|_| roster.thread_started());
        Self {
            sleep: Sleep::for_threads(threads, threads + spares),
            roster: Mutex::new(roster),
            queue: Slots::new(),
        }
    }

    /// As `Inner::fulfil`.
    fn fulfil(&self, duty: Duty) {
        if duty != Duty::Call {
            return;
        }
        let mut roster = lock(&self.roster);
        let mut order = roster.call(&self.sleep);
        while order != Order::Nothing {
            if order == Order::MakeSpare {
                roster.spare_made();
            }
            if order == Order::LookAgain {
                drop(roster);
                return self.look_again();
            }
            order = roster.call_on(order, true, &self.sleep);
        }
    }

    fn look_again(&self) {
        self.fulfil(self.sleep.look_again(|| self.queue.has_work()));
    }

    /// A call is sent, and nobody takes it up.
    fn send_call(&self) {
        let duty = self.sleep.rouse();
        assert_eq!(duty, Duty::Call);
        self.fulfil(duty);
    }

    /// A call is sent, and this thread takes it up and is in a job.
    fn call_in(&self, index: usize) {
        self.send_call();
        assert!(lock(&self.roster).begin_work(index));
        self.sleep.call_taken_up();
        assert_eq!(self.sleep.stop_searching(|| false), Duty::None);
    }

    fn submit(&self) {
        self.queue.push(0);
        self.fulfil(self.sleep.after_push());
    }

    /// As `Current::blocking`, up to the wait.
    fn block(&self) {
        lock(&self.roster).block();
        self.fulfil(self.sleep.block(|| self.queue.has_work()));
        self.reroute();
    }

    /// As `Staff::reroute`.
    fn reroute(&self) {
        let mut roster = lock(&self.roster);
        let mut order = roster.reroute();
        while order != Order::Nothing {
            if order == Order::MakeSpare {
                roster.spare_made();
            }
            order = roster.reroute_on(order, true);
        }
    }

    /// As `Current::come_back`, for one that has found no place asleep.
    fn come_late(&self) {
        let has_to_look = lock(&self.roster).come_back(&self.sleep);
        if has_to_look {
            self.look_again();
        }
    }

    fn come_back(&self) {
        if !self.sleep.return_to_service() {
            self.come_late();
        }
        lock(&self.roster).unblock();
    }
}

/// R2: a worker comes back from its wait while a call is sent for its place. One of the two fills it; no
/// call is left to which nobody can come. Kills `roster_call_blind` and `roster_come_back_blind`.
#[test]
fn r2_a_worker_that_comes_back_and_a_call_share_one_place() {
    explore(|| {
        let pool = Arc::new(Pool::new(1, 0));
        pool.call_in(0);
        pool.block();
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.submit())
        };
        pool.come_back();
        submitter.join().unwrap();
        assert!(!pool.sleep.has_surplus());
        assert_eq!(lock(&pool.roster).called, 0);
        assert!(!pool.sleep.return_to_service());
    });
}

/// R2: a worker comes back and voids a call, which has kept one who pushed from sending another. Kills
/// `roster_come_back_deaf` and `sleep_no_fence_again`.
#[test]
fn r2_who_voids_a_call_sees_the_job_that_counts_on_it() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 0));
        pool.call_in(0);
        pool.block();
        pool.send_call();
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.submit())
        };
        // Another has left service since it looked for a place.
        pool.come_late();
        submitter.join().unwrap();
        assert_eq!(lock(&pool.roster).called, 1);
    });
}

/// R2: a spare thread leaves for the surplus while the last other worker blocks, and sends a call. Kills
/// `roster_leave_blind`.
#[test]
fn r2_a_spare_that_leaves_meets_a_call_that_finds_no_thread() {
    explore(|| {
        let pool = Arc::new(Pool::new(1, 1));
        pool.call_in(0);
        pool.block();
        pool.call_in(1);
        pool.come_back();
        assert!(pool.sleep.has_surplus());
        pool.submit();
        let spare = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                if !pool.sleep.take_surplus() {
                    return;
                }
                if lock(&pool.roster).leave_as_surplus(&pool.sleep, 1) {
                    pool.fulfil(pool.sleep.after_push());
                } else {
                    pool.look_again();
                }
            })
        };
        pool.block();
        spare.join().unwrap();
        // It is a worker still, or again.
        assert!(lock(&pool.roster).spares[0].is_busy);
    });
}

/// R2: a spare thread falls asleep while a call lies in rayon that no other can take up, and a job comes.
/// Kills `roster_keep_calls` and `sleep_no_fence_again`.
#[test]
fn r2_a_spare_that_falls_asleep_is_called_in_place_of_who_cannot_come() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 1));
        pool.call_in(0);
        pool.call_in(1);
        pool.block();
        pool.call_in(2);
        pool.block();
        pool.send_call();
        assert_eq!(lock(&pool.roster).called, 1);
        assert_eq!(pool.sleep.doze(2, || false), Duty::None);
        let spare = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                // Its time has passed; if it is roused at this moment, it searches.
                if lock(&pool.roster).fall_asleep(&pool.sleep, 2) {
                    pool.look_again();
                }
            })
        };
        pool.submit();
        spare.join().unwrap();
        // It was roused, or called.
        assert!(lock(&pool.roster).spares[0].is_busy);
    });
}

/// R2: a call lies in rayon, the only thread that is with rayon is busy, and the last worker blocks, while
/// a job comes. Kills `roster_no_reroute`.
#[test]
fn r2_a_call_is_answered_by_a_spare_when_its_last_thread_blocks() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 1));
        pool.call_in(0);
        pool.send_call();
        lock(&pool.roster).begin_errand();
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.submit())
        };
        pool.block();
        submitter.join().unwrap();
        assert!(lock(&pool.roster).spares[0].is_busy);
    });
}

/// R2: a spare thread was called, and blocks in rayon's work before it takes that up, while the worker in
/// whose place it was called comes back. Kills `roster_spare_keeps_call`.
#[test]
fn r2_a_call_to_a_spare_that_blocks_is_sent_to_another() {
    explore(|| {
        let pool = Arc::new(Pool::new(1, 2));
        pool.call_in(0);
        pool.block();
        pool.submit();
        assert!(lock(&pool.roster).spares[0].is_called);
        let spare = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                if lock(&pool.roster).block_aside(1, false).calls {
                    pool.fulfil(Duty::Call);
                }
                pool.reroute();
            })
        };
        pool.come_back();
        spare.join().unwrap();
        let roster = lock(&pool.roster);
        // Another spare is called; or the worker, which will look at the queue, fills the place.
        let is_called = roster.spares.get(1).is_some_and(|spare| spare.is_called);
        assert_eq!(pool.sleep.census()[3], u64::from(is_called));
        assert!(is_called || !pool.sleep.has_surplus());
        assert_eq!(roster.called, 0);
    });
}

/// S4, R2: the place of a thread that is asleep was removed, and one is added, while the only other worker
/// blocks and comes back. The thread is called again, and none too many. Kills `roster_come_back_deaf` and
/// `sleep_no_fence_add`.
#[test]
fn s4_a_parked_thread_is_called_in_while_a_worker_blocks() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 0));
        pool.call_in(0);
        pool.sleep.remove_places(1);
        assert_eq!(pool.sleep.census(), [0, 0, 0, 0]);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.block();
                pool.come_back();
            })
        };
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.fulfil(pool.sleep.add_places(1, || pool.queue.has_work())))
        };
        pool.submit();
        worker.join().unwrap();
        scaler.join().unwrap();
        // The worker is in its job, and may stay there: the other thread is called for the one that waits.
        assert_eq!(lock(&pool.roster).called, 1);
        let [searching, dozing, asleep, called] = pool.sleep.census();
        assert_eq!((searching, dozing, called), (0, 0, 1));
        // The place came while the worker had found none: who takes the call leaves for the surplus first.
        assert_eq!(asleep, u64::from(pool.sleep.has_surplus()));
    });
}
