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
    protocol::model::{Slots, explore, explore_to},
    sync::thread::{spawn, yield_now},
};

impl Sleep {
    /// One of those who are asleep becomes a searcher.
    fn call_one_in(&self) {
        assert_eq!(self.rouse(), Duty::Call);
        self.call_taken_up();
    }

    /// How many search, doze, are asleep and are called.
    pub(crate) fn census(&self) -> [u64; 4] {
        let counts = self.load();
        [SEARCHING, DOZING, ASLEEP, CALLED].map(|field| counts.of(field))
    }
}

impl Duty {
    /// It is nothing that a model would have to do.
    pub(crate) fn assert_nothing(self) {
        assert!(self.is_nothing(), "{self:?}");
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
        let sleep = Sleep::for_threads(workers, workers);
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

    fn submit(&self, job: usize) -> Duty {
        self.queue.push(job);
        let duty = self.sleep.after_push();
        duty.assert_nothing();
        duty
    }

    fn run(&self, job: usize) {
        self.runs[job].fetch_add(1, Relaxed);
        self.ended.notify();
    }

    /// As in `worker.rs`: with a job, the worker is not counted any more.
    fn search(&self) -> Option<usize> {
        let job = self.queue.take();
        self.sleep
            .stop_searching(|| self.queue.has_work())
            .assert_nothing();
        job
    }

    /// Lies down until it is to search again; false when the pool has stopped.
    fn lie_down(&self, index: usize) -> bool {
        let duty = self.sleep.doze(index, || self.queue.has_work());
        duty.assert_nothing();
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
        pool.sleep.after_offer().assert_nothing();
        worker.join().unwrap();
        assert!(pool.ran_once());
    });
}

/// R2, 1: a worker that lies down finds nobody who offers, and does without a heavy fence. So the light one of who begins
/// to offer meanwhile, for his first job and the next, is none here. Kills `sleep_no_fence_begin`.
#[test]
fn r2_who_begins_to_offer_is_seen_or_sees_who_lies_down() {
    explore(|| {
        let sleep = Arc::new(Sleep::for_threads(2, 2));
        let jobs = Arc::new([0, 1].map(|_| Slots::<1>::new()));
        // One runs, and the other searches.
        sleep.call_one_in();
        assert_eq!(sleep.stop_searching(|| false), Duty::None);
        sleep.call_one_in();
        let worker = {
            let (sleep, jobs) = (Arc::clone(&sleep), Arc::clone(&jobs));
            spawn(move || {
                sleep.enroll(0);
                assert_eq!(sleep.stop_searching(|| false), Duty::None);
                let mut found = [false; 2];
                let mut is_heavy = false;
                let duty = sleep.doze(0, || {
                    found = [0, 1].map(|job| jobs[job].has_work());
                    is_heavy = sleep.offering.load(Ordering::Relaxed) > 0;
                    false
                });
                duty.assert_nothing();
                (found, is_heavy)
            })
        };
        let is_left = [0, 1].map(|job| {
            jobs[job].push(0);
            if job == 0 {
                sleep.begin_to_offer();
            }
            sleep.load().of(DOZING) == 0
        });
        let (found, is_heavy) = worker.join().unwrap();
        for job in [0, 1] {
            assert!(found[job] || !is_left[job] || is_heavy, "{job}");
        }
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

/// R2: one searches, and does not come to look. Who pushes a job rouses another beside it. Kills
/// `sleep_another_uncounted`.
#[test]
fn r2_a_dozer_is_roused_beside_one_who_searches() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        let other = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(1);
                assert!(pool.lie_down(1));
                pool.search().map(|job| pool.run(job))
            })
        };
        while !pool.sleep.is_left_to_a_searcher() {
            yield_now();
        }
        let duty = pool.submit(0);
        pool.sleep.doubt_searchers(duty);
        assert!(other.join().unwrap().is_some());
        assert!(pool.search().is_none());
        assert_eq!(pool.sleep.census(), [0, 0, 0, 0]);
    });
}

/// R2: a lone job into a pool in which all doze wakes one of them. Kills `sleep_doubt_woken`.
#[test]
fn r2_one_job_is_one_wake_up() {
    explore_to(2, || {
        let pool = Pool::<1>::new(2);
        let workers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(index);
                if index == 0 {
                    pool.sleep.stop_searching(|| false).assert_nothing();
                }
                pool.sleep.doze(index, || false).assert_nothing();
                assert_eq!(pool.sleep.doze_for_good(index), DozeEnd::Roused);
                if let Some(job) = pool.search() {
                    pool.run(job);
                }
            })
        });
        while pool.sleep.census() != [0, 2, 0, 0] {
            yield_now();
        }
        let before = pool.sleep.wake_ups();
        let duty = pool.submit(0);
        pool.sleep.doubt_searchers(duty);
        pool.stop();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert!(pool.ran_once());
        assert_eq!(pool.sleep.wake_ups() - before, 1);
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
                duty.assert_nothing();
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
            (Some(DozeEnd::Roused), Duty::None | Duty::Woken) => {
                assert_eq!(pool.sleep.census(), [1, 0, 0, 0]);
            }
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
        pool.sleep.stop_searching(|| false).assert_nothing();
        pool.sleep.doze(0, || false).assert_nothing();
        let dozers = [0, 1].map(|index| {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(index);
                if index == 1 {
                    pool.sleep.doze(1, || false).assert_nothing();
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
        pool.sleep.stop_searching(|| false).assert_nothing();
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
                        duty.assert_nothing();
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

/// A pool in which places come and go. The calls that are sent are taken up by nobody: their threads are
/// asleep in rayon.
struct Scaled<const JOBS: usize> {
    sleep: Sleep,
    queue: Slots<JOBS>,
    calls: Count,
    /// All changes of the number of places are under one lock: see `scaler.rs`.
    changes: Mutex<()>,
}

impl<const JOBS: usize> Scaled<JOBS> {
    /// So many places, and of them so many whose workers are in jobs.
    fn new(places: usize, running: usize) -> Arc<Self> {
        let sleep = Sleep::for_threads(places, places);
        for _ in 0..running {
            sleep.call_one_in();
            assert_eq!(sleep.stop_searching(|| false), Duty::None);
        }
        Arc::new(Self {
            sleep,
            queue: Slots::new(),
            calls: Count::new(0),
            changes: Mutex::new(()),
        })
    }

    fn fulfil(&self, duty: Duty) {
        self.calls
            .fetch_add(usize::from(duty == Duty::Call), Relaxed);
    }

    fn submit(&self, job: usize) {
        self.queue.push(job);
        self.fulfil(self.sleep.after_push());
    }

    fn add_place(&self) {
        let _one = lock(&self.changes);
        self.fulfil(self.sleep.add_places(1, || self.queue.has_work()));
    }

    fn remove_place(&self) {
        let _one = lock(&self.changes);
        self.sleep.remove_places(1);
    }

    /// As in `worker.rs`, from the end of a job: runs what is there, and leaves, since it is one too many, or
    /// since there is nothing.
    fn work(&self) {
        loop {
            if self.sleep.has_surplus() && self.sleep.take_surplus() {
                return self.fulfil(self.sleep.after_push());
            }
            if self.queue.take().is_none() {
                return self.fulfil(self.sleep.leave_service(|| self.queue.has_work()));
            }
        }
    }

    /// As in `worker.rs`: the time of this dozer is over, or it is roused.
    fn fall_asleep(&self, index: usize) {
        let fall_asleep = || {
            self.sleep.fall_asleep(index) && {
                self.sleep.settle_surplus();
                true
            }
        };
        match self.sleep.doze_for(index, Duration::ZERO, fall_asleep) {
            DozeEnd::Asleep => {
                self.fulfil(self.sleep.look_again(|| self.queue.has_work()));
            }
            DozeEnd::Roused => {
                let found = self.queue.take();
                self.fulfil(self.sleep.stop_searching(|| self.queue.has_work()));
                if found.is_some() {
                    self.work();
                } else {
                    self.fulfil(self.sleep.leave_service(|| self.queue.has_work()));
                }
            }
        }
    }

    /// All places are filled, by so many who are still in jobs, or asleep, or called; and if a job waits, and a
    /// place is free, somebody is called for it.
    fn assert_at_rest(&self, places: usize, running: u64) {
        let [searching, dozing, asleep, called] = self.sleep.census();
        assert_eq!(self.sleep.in_service(), places);
        assert_eq!((searching, dozing), (0, 0));
        let surplus = self.sleep.surplus.load(Ordering::Relaxed) as u64;
        assert_eq!(running + asleep + called, places as u64 + surplus);
        assert_eq!(called as usize, self.calls.load(Relaxed));
        let is_free = running < places as u64;
        assert!(called > 0 || !is_free || !self.queue.has_work());
    }
}

/// S3, R2: a place is removed while one worker has jobs in its deque, another falls asleep, and a job
/// comes. Kills `sleep_park_forgets`, `sleep_torn_surplus`.
#[test]
fn s3_a_place_that_is_removed_strands_no_job() {
    explore_to(2, || {
        let pool = Scaled::<2>::new(2, 2);
        pool.sleep.doze(1, || false).assert_nothing();
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.remove_place())
        };
        let dozer = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(1);
                pool.fall_asleep(1);
            })
        };
        pool.queue.push(0);
        pool.fulfil(pool.sleep.after_offer());
        pool.work();
        scaler.join().unwrap();
        dozer.join().unwrap();
        pool.assert_at_rest(1, 0);
    });
}

/// S2, R2: a place is added while a job comes that nobody could be roused for. Kills `sleep_no_fence_add`.
#[test]
fn s2_a_place_that_is_added_is_filled_for_the_job_that_comes() {
    explore(|| {
        let pool = Scaled::<1>::new(1, 1);
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.add_place())
        };
        pool.submit(0);
        scaler.join().unwrap();
        pool.assert_at_rest(2, 1);
    });
}

/// S1, R2: a place is added while one who is there without a place falls asleep, and a job comes. Kills
/// `sleep_torn_surplus`.
#[test]
fn s1_a_place_that_is_added_meets_a_worker_that_falls_asleep() {
    explore_to(2, || {
        let pool = Scaled::<1>::new(2, 2);
        pool.sleep.doze(1, || false).assert_nothing();
        // Of the two places, none is asleep.
        pool.remove_place();
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.add_place())
        };
        let dozer = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.sleep.enroll(1);
                pool.fall_asleep(1);
            })
        };
        pool.submit(0);
        scaler.join().unwrap();
        dozer.join().unwrap();
        pool.assert_at_rest(2, 1);
    });
}

/// S1, R2: the number of places is changed twice, by two, while a job comes. Kills `sleep_no_fence_add` and
/// `sleep_park_forgets`.
#[test]
fn s1_two_changes_of_the_range_strand_no_job() {
    explore(|| {
        let pool = Scaled::<1>::new(2, 1);
        let changes = [Scaled::remove_place, Scaled::add_place].map(|change| {
            let pool = Arc::clone(&pool);
            spawn(move || change(&pool))
        });
        pool.submit(0);
        changes
            .into_iter()
            .for_each(|change| change.join().unwrap());
        pool.assert_at_rest(2, 1);
    });
}
