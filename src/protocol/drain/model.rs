//! Loom models of the drain of a pool: the real admission, idle and drain, with a worker that is
//! the loop of `runtime/worker` without rayon. Each names the rule, the number of the failure in
//! `docs/reliability.md` if there is one, and the mutants that it kills.

use std::sync::{
    Arc,
    atomic::{AtomicUsize as Count, Ordering::Relaxed},
};

use super::Drain;
use crate::{
    error::AdmissionError,
    protocol::{
        admission::{Admission, Ended},
        idle::{Idle, IdleEnd, WakeUp},
        model::{Slots, explore, explore_to},
    },
    sync::{AtomicU64, Ordering, asymmetric::Fences, bump, thread::spawn},
};

/// One worker, which is running.
struct Pool<const JOBS: usize> {
    admission: Admission,
    idle: Idle,
    drain: Drain,
    queue: Slots<JOBS>,
    /// Jobs that ended on the worker, and those that ended elsewhere.
    ended: AtomicU64,
    ended_elsewhere: AtomicU64,
    inlined: AtomicU64,
    /// Not a loom type, so that the checks order nothing.
    ran: Count,
    stops: Count,
}

impl<const JOBS: usize> Pool<JOBS> {
    fn new(capacity: usize) -> Arc<Self> {
        let idle = Idle::for_threads(1, 1);
        assert_eq!(idle.wake_one(), WakeUp::Activate);
        idle.activation_taken();
        assert_eq!(idle.stop_searching(|| false), WakeUp::None);
        Arc::new(Self {
            admission: Admission::with_slots(capacity, 1),
            idle,
            drain: Drain::new(Fences::PLAIN),
            queue: Slots::new(),
            ended: AtomicU64::new(0),
            ended_elsewhere: AtomicU64::new(0),
            inlined: AtomicU64::new(0),
            ran: Count::new(0),
            stops: Count::new(0),
        })
    }

    fn enqueue(&self, job: usize) {
        self.queue.push(job);
        self.idle.after_push().assert_nothing();
    }

    /// `Inner::begin_drain`.
    fn close(&self) {
        self.drain.begin(&self.admission);
        self.stop_if_drained();
    }

    /// `Inner::check_drained`.
    fn check_drained(&self, _: Ended) {
        if self.drain.is_awaited() {
            self.stop_if_drained();
        }
    }

    /// `Inner::stop_if_drained`.
    fn stop_if_drained(&self) {
        let counts = || {
            let ended = self.ended.load(Ordering::Acquire);
            let ended = ended + self.ended_elsewhere.load(Ordering::Acquire);
            (self.inlined.load(Ordering::Acquire), ended)
        };
        if self.drain.try_stop(&self.admission, &self.idle, counts) {
            self.stops.fetch_add(1, Relaxed);
        }
    }

    /// The worker's loop, up to its end.
    fn work(&self) {
        self.work_with(|| assert!(!self.admission.release_from(0)));
    }

    fn work_with(&self, begin: impl Fn()) {
        self.idle.enroll(0);
        loop {
            while let Some(_job) = self.queue.take() {
                begin();
                self.ran.fetch_add(1, Relaxed);
                bump(&self.ended);
            }
            self.admission.grant_waiters_if_any();
            self.check_drained(Ended::new());
            if self.drain.is_stopped() {
                return;
            }
            let wake_up = self.idle.announce_idle(0, || self.queue.has_work());
            wake_up.assert_nothing();
            if self.drain.is_stopped() {
                return;
            }
            assert_eq!(self.idle.park_for_good(0), IdleEnd::Notified);
            if self.drain.is_stopped() {
                return;
            }
            self.idle
                .stop_searching(|| self.queue.has_work())
                .assert_nothing();
        }
    }

    /// `Permit::put_in`.
    fn submit_held(&self, job: usize) {
        if self.admission.unhold() {
            return self.enqueue(job);
        }
        self.admission.release_unused();
        self.inlined.fetch_add(1, Ordering::Release);
        self.ran.fetch_add(1, Relaxed);
        self.ended_elsewhere.fetch_add(1, Ordering::Release);
        self.check_drained(Ended::new());
    }

    /// Submits a job over the bound, as `Inner::overdraw` and `enqueue_overdrawn` do. If the job is
    /// refused, it is dropped.
    fn submit_overdrawn(&self, job: usize) -> bool {
        let count = || {
            self.inlined.fetch_add(1, Ordering::Release);
        };
        let is_counted = self.admission.overdraw(false, count).is_ok();
        if is_counted {
            self.enqueue(job);
        }
        is_counted
    }

    /// The worker's loop, for jobs without places.
    fn work_overdrawn(&self) {
        self.work_with(|| ())
    }

    /// Asserts, after all threads have returned, that the slots are closed and nothing is left.
    fn assert_ended(&self, jobs: usize) {
        assert_eq!(self.ran.load(Relaxed), jobs);
        assert_eq!(self.stops.load(Relaxed), 1);
        assert!(!self.queue.has_work());
        assert_eq!(self.admission.depth(), 0);
        assert_eq!(self.admission.waiting(), 0);
    }
}

fn start<const JOBS: usize, R: 'static>(
    pool: &Arc<Pool<JOBS>>,
    thread: impl FnOnce(&Pool<JOBS>) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let pool = Arc::clone(pool);
    spawn(move || thread(&pool))
}

/// D1, D2, 13, 14. Kills `drain_no_fence_begin`, `drain_no_fence_look`, `drain_stop_late`.
#[test]
fn d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = start(&pool, Pool::work);
        let submitter = start(&pool, |pool| match pool.admission.acquire() {
            Ok(()) => {
                pool.enqueue(0);
                1
            }
            Err(reason) => {
                assert_eq!(reason, AdmissionError::Closed);
                0
            }
        });
        pool.close();
        let admitted = submitter.join().unwrap();
        worker.join().unwrap();
        pool.assert_ended(admitted);
    });
}

/// D2, A6, 13: one of two submitters has to wait, and is granted a place or closed out. Kills
/// `admission_close_peeks`.
#[test]
fn d2_a_pool_that_closes_runs_the_jobs_of_granted_waiters() {
    explore_to(2, || {
        let pool = Pool::<2>::new(1);
        assert_eq!(pool.admission.try_acquire(), Ok(()));
        pool.enqueue(0);
        let worker = start(&pool, Pool::work);
        let submitter = start(&pool, |pool| match pool.admission.acquire() {
            Ok(()) => {
                pool.enqueue(1);
                1
            }
            Err(reason) => {
                assert_eq!(reason, AdmissionError::Closed);
                0
            }
        });
        pool.close();
        let admitted = submitter.join().unwrap();
        worker.join().unwrap();
        pool.assert_ended(1 + admitted);
    });
}

/// D3: of two threads that close the pool, one stops it. Kills `admission_stop_twice`.
#[test]
fn d3_a_pool_that_two_close_stops_once() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        assert_eq!(pool.admission.try_acquire(), Ok(()));
        pool.enqueue(0);
        let worker = start(&pool, Pool::work);
        let other = start(&pool, Pool::close);
        pool.close();
        other.join().unwrap();
        worker.join().unwrap();
        pool.assert_ended(1);
    });
}

/// D1: a permit that is kept does not delay the stop; its job finds the pool stopped. Kills
/// `admission_no_hold`.
#[test]
fn d1_a_permit_that_is_kept_does_not_hold_up_the_end() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        assert_eq!(pool.admission.try_acquire_held(), Ok(()));
        let worker = start(&pool, Pool::work);
        pool.close();
        worker.join().unwrap();
        assert!(pool.drain.is_stopped());
        pool.submit_held(0);
        pool.assert_ended(1);
    });
}

/// R1, D2, 13: a permit is used while the pool drains. Its job is run by the worker, or finds the
/// pool stopped. Kills `admission_stop_blind`, `drain_no_fence_look`.
#[test]
fn d2_the_job_of_a_permit_is_run_once_while_the_pool_ends() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = start(&pool, Pool::work);
        let submitter = start(&pool, |pool| {
            if pool.admission.try_acquire_held().is_err() {
                return 0;
            }
            pool.submit_held(0);
            1
        });
        pool.close();
        let admitted = submitter.join().unwrap();
        worker.join().unwrap();
        pool.assert_ended(admitted);
    });
}

/// D1, A2: a permit is dropped while the pool drains, and another is kept. The pool stops, and not
/// too early. Kills `admission_unused_first`.
#[test]
fn d1_a_permit_that_is_dropped_leaves_the_others_counted() {
    explore(|| {
        let pool = Pool::<1>::new(2);
        assert_eq!(pool.admission.try_acquire_held(), Ok(()));
        assert_eq!(pool.admission.try_acquire(), Ok(()));
        let worker = start(&pool, Pool::work);
        let dropper = start(&pool, |pool| {
            pool.check_drained(pool.admission.release_held());
        });
        pool.close();
        // A thread that is about to push has taken the second place.
        assert!(!pool.drain.is_stopped());
        pool.enqueue(0);
        dropper.join().unwrap();
        worker.join().unwrap();
        pool.assert_ended(1);
    });
}

/// R1, D2: a job is queued over the bound while the pool drains. The worker runs it, or it is
/// refused. Kills `admission_overdraw_blind`.
#[test]
fn d2_a_job_over_the_bound_is_run_or_refused_while_the_pool_ends() {
    explore(|| {
        let pool = Pool::<1>::new(1);
        let worker = start(&pool, Pool::work_overdrawn);
        let submitter = start(&pool, |pool| usize::from(pool.submit_overdrawn(0)));
        pool.close();
        let admitted = submitter.join().unwrap();
        worker.join().unwrap();
        pool.assert_ended(admitted);
    });
}
