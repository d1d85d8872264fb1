//! Loom models of the idle protocol. Each names the rule, the number of the failure in
//! `docs/reliability.md` if there is one, and the mutants that it kills. A worker here is the loop
//! of `worker.rs` without rayon. It parks without a timeout, unless the timeout is what the model
//! checks.

mod places;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize as Count, Ordering::Relaxed},
    },
    time::Duration,
};

use loom::sync::Notify;

use super::{counts::ACTIVATING, *};
use crate::{
    protocol::model::{Slots, explore, explore_to},
    sync::{
        AtomicBool, lock,
        thread::{spawn, yield_now},
    },
};

impl Idle {
    /// Makes a searcher of a worker that is in rayon.
    fn activate_one(&self) {
        assert_eq!(self.wake_one(), WakeUp::Activate);
        self.activation_taken();
    }

    /// Returns the numbers of workers that search, are idle, are in rayon, and are being activated.
    pub(crate) fn census(&self) -> [u64; 4] {
        let counts = self.load();
        [SEARCHING, IDLE, IN_RAYON, ACTIVATING].map(|field| counts.of(field))
    }
}

impl WakeUp {
    /// Asserts that a model has nothing to perform.
    pub(crate) fn assert_nothing(self) {
        assert!(self.is_nothing(), "{self:?}");
    }
}

/// A pool with all workers in service: one searches, and the others run.
struct Pool<const JOBS: usize> {
    idle: Idle,
    queue: Slots<JOBS>,
    stopped: AtomicBool,
    /// How often each job was run. Not loom's, so that the check orders nothing.
    runs: [Count; JOBS],
    ended: Notify,
}

impl<const JOBS: usize> Pool<JOBS> {
    fn new(workers: usize) -> Arc<Self> {
        let idle = Idle::for_threads(workers, workers);
        for worker in 0..workers {
            idle.activate_one();
            if worker + 1 < workers {
                assert_eq!(idle.stop_searching(|| false), WakeUp::None);
            }
        }
        Arc::new(Self {
            idle,
            queue: Slots::new(),
            stopped: AtomicBool::new(false),
            runs: std::array::from_fn(|_| Count::new(0)),
            ended: Notify::new(),
        })
    }

    fn submit(&self, job: usize) -> WakeUp {
        self.queue.push(job);
        self.idle.after_push()
    }

    fn run(&self, job: usize) {
        self.runs[job].fetch_add(1, Relaxed);
        self.ended.notify();
    }

    /// As in `worker.rs`: a worker that has a job is no longer counted.
    fn search(&self) -> Option<usize> {
        let job = self.queue.take();
        self.idle
            .stop_searching(|| self.queue.has_work())
            .assert_nothing();
        job
    }

    /// Parks until the worker is to search again. Returns false when the pool has stopped.
    fn go_idle(&self, index: usize) -> bool {
        let wake_up = self.idle.announce_idle(index, || self.queue.has_work());
        wake_up.assert_nothing();
        if self.stopped.load(Ordering::Relaxed) {
            return false;
        }
        assert_eq!(self.idle.park_for_good(index), IdleEnd::Notified);
        !self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.idle.wake_all();
    }

    fn ran_once(&self) -> bool {
        self.runs.iter().all(|runs| runs.load(Relaxed) == 1)
    }
}

/// R2, 1. Kills `idle_no_fence_push` and `idle_no_fence_announce`.
#[test]
fn r2_a_job_that_meets_a_worker_that_becomes_idle_is_run() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(0);
                loop {
                    if let Some(job) = pool.search() {
                        return pool.run(job);
                    }
                    assert!(pool.go_idle(0));
                }
            })
        };
        pool.submit(0).assert_nothing();
        worker.join().unwrap();
        assert!(pool.ran_once());
        assert_eq!(pool.idle.census(), [0, 0, 0, 0]);
    });
}

/// R2, 1: an offer, with the light side of the fences, meets a worker that becomes idle.
/// Kills `idle_no_fence_offer` and `idle_no_fence_announce`.
#[test]
fn r2_an_offer_that_meets_a_worker_that_becomes_idle_is_run() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(0);
                loop {
                    if let Some(job) = pool.search() {
                        return pool.run(job);
                    }
                    assert!(pool.go_idle(0));
                }
            })
        };
        pool.queue.push(0);
        if !pool.idle.all_run_after_offer() {
            pool.idle.wake_one().assert_nothing();
        }
        worker.join().unwrap();
        assert!(pool.ran_once());
    });
}

/// R2, 1: a worker that becomes idle observes no offering worker, and omits the heavy fence. So the
/// light fence of a worker that begins to offer meanwhile orders nothing, for its first job and the
/// next. Kills `idle_no_fence_begin`.
#[test]
fn r2_a_worker_that_begins_to_offer_sees_or_is_seen_by_one_that_becomes_idle() {
    explore(|| {
        let idle = Arc::new(Idle::for_threads(2, 2));
        let jobs = Arc::new([0, 1].map(|_| Slots::<1>::new()));
        // One worker runs, and the other searches.
        idle.activate_one();
        assert_eq!(idle.stop_searching(|| false), WakeUp::None);
        idle.activate_one();
        let worker = {
            let (idle, jobs) = (Arc::clone(&idle), Arc::clone(&jobs));
            spawn(move || {
                idle.enroll(0);
                assert_eq!(idle.stop_searching(|| false), WakeUp::None);
                let mut found = [false; 2];
                let mut is_heavy = false;
                let wake_up = idle.announce_idle(0, || {
                    found = [0, 1].map(|job| jobs[job].has_work());
                    is_heavy = idle.offering.load(Ordering::Relaxed) > 0;
                    false
                });
                wake_up.assert_nothing();
                (found, is_heavy)
            })
        };
        let is_left = [0, 1].map(|job| {
            jobs[job].push(0);
            if job == 0 {
                idle.begin_to_offer();
            }
            idle.load().of(IDLE) == 0
        });
        let (found, is_heavy) = worker.join().unwrap();
        for job in [0, 1] {
            assert!(found[job] || !is_left[job] || is_heavy, "{job}");
        }
    });
}

/// R2, 2: the worker that runs the first job stays in it until the second is run. So a worker that
/// stops searching must wake the other. Kills `idle_no_fence_found` and `idle_no_fence_push`.
#[test]
fn r2_a_searcher_that_finds_a_job_wakes_another_for_the_next() {
    explore_to(2, || {
        let pool = Pool::<2>::new(2);
        pool.submit(0).assert_nothing();
        let workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(index);
                // The first searches already; the second has just become idle.
                let mut searches = index == 0;
                loop {
                    let job = if searches { pool.search() } else { None };
                    if let Some(job) = job {
                        while job == 0 && pool.runs[1].load(Relaxed) == 0 {
                            pool.ended.wait(); // May return early.
                        }
                        return pool.run(job);
                    }
                    searches = pool.go_idle(index);
                }
            })
        });
        pool.submit(1).assert_nothing();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert!(pool.ran_once());
    });
}

/// R2: a worker counts as searching, but does not poll. A submitter wakes another worker beside it.
/// Kills `idle_another_uncounted`.
#[test]
fn r2_an_idle_worker_is_woken_beside_a_searcher() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        let other = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(1);
                assert!(pool.go_idle(1));
                pool.search().map(|job| pool.run(job))
            })
        };
        while !pool.idle.is_left_to_a_searcher() {
            yield_now();
        }
        let wake_up = pool.submit(0);
        wake_up.assert_nothing();
        pool.idle.check_searcher_deadline(wake_up);
        assert!(other.join().unwrap().is_some());
        assert!(pool.search().is_none());
        assert_eq!(pool.idle.census(), [0, 0, 0, 0]);
    });
}

/// R2: a lone job in a pool whose workers are all idle wakes one of them. Kills
/// `idle_doubt_woken`.
#[test]
fn r2_one_job_is_one_wake_up() {
    explore_to(2, || {
        let pool = Pool::<1>::new(2);
        let workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(index);
                if index == 0 {
                    pool.idle.stop_searching(|| false).assert_nothing();
                }
                pool.idle.announce_idle(index, || false).assert_nothing();
                assert_eq!(pool.idle.park_for_good(index), IdleEnd::Notified);
                if let Some(job) = pool.search() {
                    pool.run(job);
                }
            })
        });
        while pool.idle.census() != [0, 2, 0, 0] {
            yield_now();
        }
        let before = pool.idle.wake_ups();
        let wake_up = pool.submit(0);
        wake_up.assert_nothing();
        pool.idle.check_searcher_deadline(wake_up);
        pool.stop();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert!(pool.ran_once());
        assert_eq!(pool.idle.wake_ups() - before, 1);
    });
}

/// R2: an idle time ends by its timeout while a waker comes. The worker is woken, or an activation
/// is on its way; never neither, never both. Kills `idle_torn_leave`.
#[test]
fn r2_a_waker_meets_a_worker_that_goes_to_rayon() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(0);
                if pool.search().is_some() {
                    return None;
                }
                let wake_up = pool.idle.announce_idle(0, || pool.queue.has_work());
                wake_up.assert_nothing();
                Some(
                    pool.idle
                        .park_for(0, Duration::ZERO, || pool.idle.go_to_rayon(0)),
                )
            })
        };
        pool.queue.push(0);
        let wake_up = pool.idle.after_push();
        match (worker.join().unwrap(), wake_up) {
            (None, WakeUp::None) => assert_eq!(pool.idle.census(), [0, 0, 0, 0]),
            (Some(IdleEnd::Notified), WakeUp::None | WakeUp::Woken) => {
                assert_eq!(pool.idle.census(), [1, 0, 0, 0]);
            }
            (Some(IdleEnd::InRayon), WakeUp::Activate) => {
                assert_eq!(pool.idle.census(), [0, 0, 0, 1])
            }
            other => panic!("{other:?}"),
        }
    });
}

/// S5, R3: one worker goes to rayon while a waker chooses and a third becomes idle. No worker waits
/// for a parker that does not notify: a worker that does not search is in rayon in the end. Kills
/// `idle_park_for_good`.
#[test]
fn s5_an_idle_time_ends_whichever_worker_the_waker_took() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        pool.idle.stop_searching(|| false).assert_nothing();
        pool.idle.announce_idle(0, || false).assert_nothing();
        let idle_workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(index);
                if index == 1 {
                    pool.idle.announce_idle(1, || false).assert_nothing();
                }
                pool.idle
                    .park_for(index, Duration::ZERO, || pool.idle.go_to_rayon(index))
            })
        });
        let wake_up = pool.idle.wake_one();
        let ends = idle_workers.map(|idle_worker| idle_worker.join().unwrap());
        let woken = ends.iter().filter(|&&end| end == IdleEnd::Notified).count() as u64;
        let activating = u64::from(wake_up == WakeUp::Activate);
        assert_eq!(woken + activating, 1);
        assert_eq!(pool.idle.census(), [woken, 0, 1, activating]);
    });
}

/// R2: a worker that is in rayon again after it answered an activation. Kills
/// `idle_no_fence_leave`.
#[test]
fn r2_a_job_that_meets_a_worker_on_its_way_to_rayon_sends_an_activation() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        pool.idle.stop_searching(|| false).assert_nothing();
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.idle.leave_service(|| pool.queue.has_work()))
        };
        pool.queue.push(0);
        let wake_ups = [pool.idle.after_push(), worker.join().unwrap()];
        assert_eq!(
            wake_ups
                .iter()
                .filter(|&&wake_up| wake_up == WakeUp::Activate)
                .count(),
            1
        );
        assert_eq!(pool.idle.census(), [0, 0, 0, 1]);
    });
}

/// R2: a worker that goes to rayon from a search in vain. Kills `idle_no_fence_vain`.
#[test]
fn r2_a_job_that_meets_a_search_in_vain_sends_an_activation() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.idle.search_in_vain(|| pool.queue.has_work()))
        };
        pool.queue.push(0);
        let wake_ups = [pool.idle.after_push(), worker.join().unwrap()];
        assert_eq!(
            wake_ups
                .iter()
                .filter(|&&wake_up| wake_up == WakeUp::Activate)
                .count(),
            1
        );
        assert_eq!(pool.idle.census(), [0, 0, 0, 1]);
    });
}

/// D1, 14. Kills `idle_stop_wakes_one`.
#[test]
fn d1_a_stop_reaches_a_worker_that_becomes_idle() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        let workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(index);
                assert!(!pool.go_idle(index));
            })
        });
        pool.stop();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    });
}

/// D4: a job that is pushed while the pool begins to discard. Kills `idle_no_fence_discard`,
/// `idle_no_fence_push`.
#[test]
fn d4_a_job_that_meets_a_discard_is_dropped_by_one_of_the_two() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.queue.push(0);
                match pool.idle.after_push() {
                    WakeUp::Discard => pool.queue.take(),
                    wake_up => {
                        wake_up.assert_nothing();
                        None
                    }
                }
            })
        };
        pool.idle.begin_discarding();
        let here = pool.queue.take();
        let there = submitter.join().unwrap();
        assert_eq!(here.xor(there), Some(0));
    });
}
