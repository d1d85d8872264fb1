//! Loom models of the placement, with the real idle protocol: the placement is under a lock, the
//! other is not. Each names the rule and the mutants that it kills.
//!
//! The activations that lie in rayon stay there: each model ends where no thread is left that could
//! take them up. `tests.rs` shows that longer paths lead to no other state. It takes all of them,
//! but with whole calls of the idle protocol as its steps.

use std::sync::Arc;

use super::*;
use crate::{
    protocol::{
        idle::WakeUp,
        model::{Slots, explore},
    },
    sync::{Mutex, Rank, lock, thread::spawn},
};

struct Pool {
    idle: Idle,
    placement: Mutex<Placement>,
    queue: Slots<1>,
}

impl Pool {
    /// Returns a pool whose threads that are not spare were started, and are in rayon.
    fn new(threads: usize, spares: usize) -> Self {
        let mut placement = Placement::new();
        placement.open(threads, spares);
        (0..threads).for_each(|_| placement.thread_started());
        Self {
            idle: Idle::for_threads(threads, threads + spares),
            placement: Mutex::new(Rank::ThreadTable, placement),
            queue: Slots::new(),
        }
    }

    /// As `Inner::perform`.
    fn perform(&self, wake_up: WakeUp) {
        if wake_up != WakeUp::Activate {
            return;
        }
        let mut placement = lock(&self.placement);
        let mut order = placement.activate(&self.idle);
        while order != Order::Nothing {
            if order == Order::MakeSpare {
                placement.spare_made();
            }
            if order == Order::Recheck {
                drop(placement);
                return self.recheck();
            }
            order = placement.activate_on(order, true, &self.idle);
        }
    }

    fn recheck(&self) {
        self.perform(self.idle.recheck(|| self.queue.has_work()));
    }

    /// Sends an activation that no thread takes up.
    fn send_activation(&self) {
        let wake_up = self.idle.wake_one();
        assert_eq!(wake_up, WakeUp::Activate);
        self.perform(wake_up);
    }

    /// Sends an activation. The thread of this index takes it up and is then in a job.
    fn activate(&self, index: usize) {
        self.send_activation();
        assert!(lock(&self.placement).begin_work(index));
        self.idle.activation_taken();
        assert_eq!(self.idle.stop_searching(|| false), WakeUp::None);
    }

    fn submit(&self) {
        self.queue.push(0);
        self.perform(self.idle.after_push());
    }

    /// As `blocking` of `runtime/rayon_host/thread.rs`, up to the wait.
    fn block(&self) {
        lock(&self.placement).block();
        self.perform(self.idle.block(|| self.queue.has_work()));
        self.reroute();
    }

    /// As `ThreadTable::reroute`.
    fn reroute(&self) {
        let mut placement = lock(&self.placement);
        let mut order = placement.reroute();
        while order != Order::Nothing {
            if order == Order::MakeSpare {
                placement.spare_made();
            }
            order = placement.reroute_on(order, true);
        }
    }

    /// As `ThreadTable::come_back`, for a worker that has found no place in rayon.
    fn come_late(&self) {
        let must_recheck = lock(&self.placement).come_back(&self.idle);
        if must_recheck {
            self.recheck();
        }
    }

    fn come_back(&self) {
        if !self.idle.return_to_service() {
            self.come_late();
        }
        lock(&self.placement).unblock();
    }
}

/// R2: a worker comes back from its wait while an activation is sent for its place. One of the two
/// fills it; no activation is left that no thread can take up. Kills `placement_activate_blind` and
/// `placement_come_back_blind`.
#[test]
fn r2_a_worker_that_comes_back_and_an_activation_share_one_slot() {
    explore(|| {
        let pool = Arc::new(Pool::new(1, 0));
        pool.activate(0);
        pool.block();
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.submit())
        };
        pool.come_back();
        submitter.join().unwrap();
        assert!(!pool.idle.has_excess());
        assert_eq!(lock(&pool.placement).activating, 0);
        assert!(!pool.idle.return_to_service());
    });
}

/// R2: a worker comes back and voids an activation, which has kept a submitter from sending
/// another. Kills `placement_come_back_silent` and `idle_no_fence_again`.
#[test]
fn r2_a_worker_that_voids_an_activation_sees_the_job_that_counts_on_it() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 0));
        pool.activate(0);
        pool.block();
        pool.send_activation();
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.submit())
        };
        // Another worker has left service since this one checked for a place.
        pool.come_late();
        submitter.join().unwrap();
        assert_eq!(lock(&pool.placement).activating, 1);
    });
}

/// R2: a spare thread leaves for the excess while the last other worker blocks, and sends an
/// activation. Kills `placement_leave_blind`.
#[test]
fn r2_a_spare_thread_that_leaves_meets_an_activation_without_a_thread() {
    explore(|| {
        let pool = Arc::new(Pool::new(1, 1));
        pool.activate(0);
        pool.block();
        pool.activate(1);
        pool.come_back();
        assert!(pool.idle.has_excess());
        pool.submit();
        let spare = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                if !pool.idle.take_excess() {
                    return;
                }
                if lock(&pool.placement).leave_as_excess(&pool.idle, 1) {
                    pool.perform(pool.idle.after_push());
                } else {
                    pool.recheck();
                }
            })
        };
        pool.block();
        spare.join().unwrap();
        // It is a worker still, or again.
        assert!(lock(&pool.placement).spares[0].is_busy);
    });
}

/// R2: a spare thread goes back to rayon while an activation lies there that no other can take up,
/// and a job comes. Kills `placement_keep_activations` and `idle_no_fence_again`.
#[test]
fn r2_a_spare_thread_in_rayon_is_activated_in_place_of_a_blocked_one() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 1));
        pool.activate(0);
        pool.activate(1);
        pool.block();
        pool.activate(2);
        pool.block();
        pool.send_activation();
        assert_eq!(lock(&pool.placement).activating, 1);
        assert_eq!(pool.idle.announce_idle(2, || false), WakeUp::None);
        let spare = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                // Its idle time has passed; if it is woken at this moment, it searches.
                if lock(&pool.placement).go_to_rayon(&pool.idle, 2) {
                    pool.recheck();
                }
            })
        };
        pool.submit();
        spare.join().unwrap();
        // It was woken, or activated.
        assert!(lock(&pool.placement).spares[0].is_busy);
    });
}

/// R2: an activation lies in rayon, the only thread in rayon is busy, and the last worker blocks,
/// while a job comes. Kills `placement_no_reroute`.
#[test]
fn r2_a_spare_thread_takes_the_activation_when_the_last_thread_blocks() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 1));
        pool.activate(0);
        pool.send_activation();
        lock(&pool.placement).begin_aside();
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.submit())
        };
        pool.block();
        submitter.join().unwrap();
        assert!(lock(&pool.placement).spares[0].is_busy);
    });
}

/// R2: a spare thread was activated, and blocks in rayon's work before it takes that up. Meanwhile
/// the worker in whose place it was activated comes back. Kills `placement_spare_keeps_activation`.
#[test]
fn r2_an_activation_of_a_spare_thread_that_blocks_is_sent_to_another() {
    explore(|| {
        let pool = Arc::new(Pool::new(1, 2));
        pool.activate(0);
        pool.block();
        pool.submit();
        assert!(lock(&pool.placement).spares[0].is_activated);
        let spare = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                if lock(&pool.placement).block_aside(1, false).is_voided {
                    pool.perform(WakeUp::Activate);
                }
                pool.reroute();
            })
        };
        pool.come_back();
        spare.join().unwrap();
        let placement = lock(&pool.placement);
        // Another spare thread is activated; or the worker, which will check the queue, fills the
        // place.
        let is_activated = placement
            .spares
            .get(1)
            .is_some_and(|spare| spare.is_activated);
        assert_eq!(pool.idle.census()[3], u64::from(is_activated));
        assert!(is_activated || !pool.idle.has_excess());
        assert_eq!(placement.activating, 0);
    });
}

/// S4, R2: the place of a thread in rayon was removed, and one is added, while the only other
/// worker blocks and comes back. The thread is activated again, and there is no excess. Kills
/// `placement_come_back_silent` and `idle_no_fence_add`.
#[test]
fn s4_a_parked_thread_is_activated_while_a_worker_blocks() {
    explore(|| {
        let pool = Arc::new(Pool::new(2, 0));
        pool.activate(0);
        pool.idle.remove_places(1);
        assert_eq!(pool.idle.census(), [0, 0, 0, 0]);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.block();
                pool.come_back();
            })
        };
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.perform(pool.idle.add_places(1, || pool.queue.has_work())))
        };
        pool.submit();
        worker.join().unwrap();
        scaler.join().unwrap();
        // The worker is in its job, and may stay there: the other thread is activated for the
        // waiting one.
        assert_eq!(lock(&pool.placement).activating, 1);
        let [searching, idle, in_rayon, activating] = pool.idle.census();
        assert_eq!((searching, idle, activating), (0, 0, 1));
        // The place was added after the worker had found none: the thread that takes the activation
        // leaves for the excess first.
        assert_eq!(in_rayon, u64::from(pool.idle.has_excess()));
    });
}
