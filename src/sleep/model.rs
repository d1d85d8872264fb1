//! Loom models of who is awake. Each names the rule, the number of the failure in
//! `docs/reliability.md` if there is one, and the mutants that it kills. A worker here is the loop
//! of `worker.rs` without rayon. It dozes without a timeout unless the timeout is what the model is
//! about.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize as Count, Ordering::Relaxed},
    },
    time::Duration,
};

use loom::sync::Notify;

use super::*;
use crate::{
    model::{Slots, explore, explore_to},
    sync::thread::spawn,
};

impl Sleep {
    /// One of those who are asleep becomes a searcher.
    fn call_one_in(&self) {
        assert_eq!(self.rouse(), Duty::Call);
        self.call_taken_up();
    }

    /// How many search, doze, are asleep and are called.
    fn census(&self) -> [u64; 4] {
        let counts = self.load();
        [SEARCHING, DOZING, ASLEEP, CALLED].map(|field| counts.of(field))
    }
}

/// All workers in service, one of them searching and the others running.
struct Pool<const JOBS: usize> {
    sleep: Sleep,
    queue: Slots<JOBS>,
    stopped: AtomicBool,
    /// How often each job was run. Not loom's, so that the check orders nothing.
    runs: [Count; JOBS],
    ended: Notify,
}

impl<const JOBS: usize> Pool<JOBS> {
    fn new(workers: usize) -> Arc<Self> {
        let sleep = Sleep::new(workers, workers);
        for worker in 0..workers {
            sleep.call_one_in();
            if worker + 1 < workers {
                assert_eq!(sleep.stop_searching(|| false), Duty::None);
            }
        }
        Arc::new(Self {
            sleep,
            queue: Slots::new(),
            stopped: AtomicBool::new(false),
            runs: std::array::from_fn(|_| Count::new(0)),
            ended: Notify::new(),
        })
    }

    fn submit(&self, job: usize) {
        self.queue.push(job);
        assert_eq!(self.sleep.after_push(), Duty::None);
    }

    fn run(&self, job: usize) {
        self.runs[job].fetch_add(1, Relaxed);
        self.ended.notify();
    }

    /// As in `worker.rs`: with a job, the worker is not counted any more.
    fn search(&self) -> Option<usize> {
        let job = self.queue.take();
        assert_eq!(
            self.sleep.stop_searching(|| self.queue.has_work()),
            Duty::None
        );
        job
    }

    /// Lies down until it is to search again; false when the pool has stopped.
    fn lie_down(&self, index: usize) -> bool {
        let duty = self.sleep.doze(index, || self.queue.has_work());
        assert_eq!(duty, Duty::None);
        if self.stopped.load(Ordering::Relaxed) {
            return false;
        }
        assert_eq!(self.sleep.doze_for_good(index), DozeEnd::Roused);
        !self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.sleep.rouse_all();
    }

    fn ran_once(&self) -> bool {
        self.runs.iter().all(|runs| runs.load(Relaxed) == 1)
    }
}

/// R2, 1. Kills `sleep_no_fence_push` and `sleep_no_fence_doze`.
#[test]
fn r2_a_job_that_meets_a_worker_on_its_way_to_sleep_is_run() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(0);
                loop {
                    if let Some(job) = pool.search() {
                        return pool.run(job);
                    }
                    assert!(pool.lie_down(0));
                }
            })
        };
        pool.submit(0);
        worker.join().unwrap();
        assert!(pool.ran_once());
        assert_eq!(pool.sleep.census(), [0, 0, 0, 0]);
    });
}

/// R2, 1: a worker that forks, with the light side of the fences, reaches one on its way to sleep. Kills
/// `sleep_no_fence_offer` and `sleep_no_fence_doze`.
#[test]
fn r2_a_fork_that_meets_a_worker_on_its_way_to_sleep_is_run() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(0);
                loop {
                    if let Some(job) = pool.search() {
                        return pool.run(job);
                    }
                    assert!(pool.lie_down(0));
                }
            })
        };
        pool.queue.push(0);
        assert_eq!(pool.sleep.after_offer(), Duty::None);
        worker.join().unwrap();
        assert!(pool.ran_once());
    });
}

/// R2, 2: whoever runs the first job stands still in it until the second is run, so one who stops
/// searching must rouse the other. Kills `sleep_no_fence_found` and `sleep_no_fence_push`.
#[test]
fn r2_who_finds_a_job_rouses_another_for_the_next() {
    explore_to(2, || {
        let pool = Pool::<2>::new(2);
        pool.submit(0);
        let workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(index);
                // The first searches already; the second has just run dry.
                let mut searches = index == 0;
                loop {
                    let job = if searches { pool.search() } else { None };
                    if let Some(job) = job {
                        while job == 0 && pool.runs[1].load(Relaxed) == 0 {
                            pool.ended.wait(); // May return early.
                        }
                        return pool.run(job);
                    }
                    searches = pool.lie_down(index);
                }
            })
        });
        pool.submit(1);
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert!(pool.ran_once());
    });
}

/// R2: a doze that ends by its timeout while a waker comes. The worker is roused, or a call is on its
/// way; never neither, never both. Kills `sleep_torn_fall`.
#[test]
fn r2_a_waker_meets_a_worker_that_falls_asleep() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(0);
                if pool.search().is_some() {
                    return None;
                }
                let duty = pool.sleep.doze(0, || pool.queue.has_work());
                assert_eq!(duty, Duty::None);
                Some(
                    pool.sleep
                        .doze_for(0, Duration::ZERO, || pool.sleep.fall_asleep(0)),
                )
            })
        };
        pool.queue.push(0);
        let duty = pool.sleep.after_push();
        match (worker.join().unwrap(), duty) {
            (None, Duty::None) => assert_eq!(pool.sleep.census(), [0, 0, 0, 0]),
            (Some(DozeEnd::Roused), Duty::None) => assert_eq!(pool.sleep.census(), [1, 0, 0, 0]),
            (Some(DozeEnd::Asleep), Duty::Call) => assert_eq!(pool.sleep.census(), [0, 0, 0, 1]),
            other => panic!("{other:?}"),
        }
    });
}

/// S5, R3: one worker falls asleep while a waker chooses and a third lies down. Nobody waits for a
/// bell that does not ring: what does not search is with rayon in the end. Kills
/// `sleep_doze_for_good`.
#[test]
fn s5_a_doze_ends_whomever_the_waker_took() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        assert_eq!(pool.sleep.stop_searching(|| false), Duty::None);
        assert_eq!(pool.sleep.doze(0, || false), Duty::None);
        let dozers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(index);
                if index == 1 {
                    assert_eq!(pool.sleep.doze(1, || false), Duty::None);
                }
                pool.sleep
                    .doze_for(index, Duration::ZERO, || pool.sleep.fall_asleep(index))
            })
        });
        let duty = pool.sleep.rouse();
        let ends = dozers.map(|dozer| dozer.join().unwrap());
        let roused = ends.iter().filter(|&&end| end == DozeEnd::Roused).count() as u64;
        let called = u64::from(duty == Duty::Call);
        assert_eq!(roused + called, 1);
        assert_eq!(pool.sleep.census(), [roused, 0, 1, called]);
    });
}

/// R2: a worker that is with rayon again after it answered a call. Kills `sleep_no_fence_leave`.
#[test]
fn r2_a_job_that_meets_a_worker_on_its_way_to_rayon_sends_a_call() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        assert_eq!(pool.sleep.stop_searching(|| false), Duty::None);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.sleep.leave_service(|| pool.queue.has_work()))
        };
        pool.queue.push(0);
        let duties = [pool.sleep.after_push(), worker.join().unwrap()];
        assert_eq!(duties.iter().filter(|&&duty| duty == Duty::Call).count(), 1);
        assert_eq!(pool.sleep.census(), [0, 0, 0, 1]);
    });
}

/// R2: the same, for one that goes there from a search in vain. Kills `sleep_no_fence_vain`.
#[test]
fn r2_a_job_that_meets_a_search_in_vain_sends_a_call() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.sleep.search_in_vain(|| pool.queue.has_work()))
        };
        pool.queue.push(0);
        let duties = [pool.sleep.after_push(), worker.join().unwrap()];
        assert_eq!(duties.iter().filter(|&&duty| duty == Duty::Call).count(), 1);
        assert_eq!(pool.sleep.census(), [0, 0, 0, 1]);
    });
}

/// D1, 14. Kills `sleep_stop_rings_one`.
#[test]
fn d1_a_stop_reaches_a_worker_that_lies_down() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        assert_eq!(pool.sleep.stop_searching(|| false), Duty::None);
        let workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(index);
                assert!(!pool.lie_down(index));
            })
        });
        pool.stop();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    });
}

/// D4: a job that is pushed while the pool begins to discard. Kills `sleep_no_fence_discard`,
/// `sleep_no_fence_push`.
#[test]
fn d4_a_job_that_meets_a_discard_is_dropped_by_one_of_the_two() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let submitter = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.queue.push(0);
                match pool.sleep.after_push() {
                    Duty::Discard => pool.queue.take(),
                    duty => {
                        assert_eq!(duty, Duty::None);
                        None
                    }
                }
            })
        };
        pool.sleep.begin_discarding();
        let here = pool.queue.take();
        let there = submitter.join().unwrap();
        assert_eq!(here.xor(there), Some(0));
    });
}
