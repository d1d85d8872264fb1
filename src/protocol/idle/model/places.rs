//! Loom models of a pool whose number of places changes.

use super::*;

/// A pool whose number of places changes. No thread takes up the activations that are sent.
struct Scaled<const JOBS: usize> {
    idle: Idle,
    queue: Slots<JOBS>,
    /// The number of activations that were sent.
    activations: Count,
    /// All changes of the number of places are under one lock: see `controller.rs`.
    changes: Mutex<()>,
}

impl<const JOBS: usize> Scaled<JOBS> {
    /// Makes a pool of `places` places, of which `running` have workers that run jobs.
    fn new(places: usize, running: usize) -> Arc<Self> {
        let idle = Idle::for_threads(places, places);
        for _ in 0..running {
            idle.activate_one();
            assert_eq!(idle.stop_searching(|| false), WakeUp::None);
        }
        Arc::new(Self {
            idle,
            queue: Slots::new(),
            activations: Count::new(0),
            changes: Mutex::new(Rank::Scaler, ()),
        })
    }

    fn perform(&self, wake_up: WakeUp) {
        self.activations
            .fetch_add(usize::from(wake_up == WakeUp::Activate), Relaxed);
    }

    fn submit(&self, job: usize) {
        self.queue.push(job);
        self.perform(self.idle.after_push());
    }

    fn add_place(&self) {
        let _one = lock(&self.changes);
        self.perform(self.idle.add_places(1, || self.queue.has_work()));
    }

    fn remove_place(&self) {
        let _one = lock(&self.changes);
        self.idle.remove_places(1);
    }

    /// As in `worker.rs`, from the end of a job: runs the jobs that are queued. Leaves as the
    /// excess, or when no job is left.
    fn work(&self) {
        loop {
            if self.idle.has_excess() && self.idle.take_excess() {
                return self.perform(self.idle.after_push());
            }
            if self.queue.take().is_none() {
                return self.perform(self.idle.leave_service(|| self.queue.has_work()));
            }
        }
    }

    /// As in `worker.rs`: this worker's idle time is over, or it is notified.
    fn go_to_rayon(&self, index: usize) {
        let go_to_rayon = || {
            self.idle.go_to_rayon(index) && {
                self.idle.settle_excess();
                true
            }
        };
        match self.idle.park_for(index, Duration::ZERO, go_to_rayon) {
            IdleEnd::InRayon => {
                self.perform(self.idle.recheck(|| self.queue.has_work()));
            }
            IdleEnd::Notified => {
                let found = self.queue.take();
                self.perform(self.idle.stop_searching(|| self.queue.has_work()));
                if found.is_some() {
                    self.work();
                } else {
                    self.perform(self.idle.leave_service(|| self.queue.has_work()));
                }
            }
        }
    }

    /// Asserts that each place is in rayon, being activated, or filled by one of the `running`
    /// workers. If a job waits and a place is free, an activation is under way for it.
    fn assert_at_rest(&self, places: usize, running: u64) {
        let [searching, idle, in_rayon, activating] = self.idle.census();
        assert_eq!(self.idle.in_service(), places);
        assert_eq!((searching, idle), (0, 0));
        let excess = self.idle.excess.load(Ordering::Relaxed) as u64;
        assert_eq!(running + in_rayon + activating, places as u64 + excess);
        assert_eq!(activating as usize, self.activations.load(Relaxed));
        let is_free = running < places as u64;
        assert!(activating > 0 || !is_free || !self.queue.has_work());
    }
}

/// S3, R2: a place is removed while one worker has jobs in its deque, another goes to rayon, and a
/// job comes. Kills `idle_shrink_forgets`, `idle_torn_excess`.
#[test]
fn s3_a_removed_slot_strands_no_job() {
    explore_to(2, || {
        let pool = Scaled::<2>::new(2, 2);
        pool.idle.announce_idle(1, || false).assert_nothing();
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.remove_place())
        };
        let idle_worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(1);
                pool.go_to_rayon(1);
            })
        };
        pool.queue.push(0);
        if !pool.idle.all_run_after_offer() {
            pool.perform(pool.idle.wake_one());
        }
        pool.work();
        scaler.join().unwrap();
        idle_worker.join().unwrap();
        pool.assert_at_rest(1, 0);
    });
}

/// S2, R2: a place is added while a job comes for which no worker could be woken. Kills
/// `idle_no_fence_add`.
#[test]
fn s2_an_added_slot_is_filled_for_the_job_that_comes() {
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

/// S1, R2: a place is added while a worker without a place goes to rayon, and a job comes. Kills
/// `idle_torn_excess`.
#[test]
fn s1_an_added_slot_meets_a_worker_that_goes_to_rayon() {
    explore_to(2, || {
        let pool = Scaled::<1>::new(2, 2);
        pool.idle.announce_idle(1, || false).assert_nothing();
        // Neither of the two places is in rayon.
        pool.remove_place();
        let scaler = {
            let pool = Arc::clone(&pool);
            spawn(move || pool.add_place())
        };
        let idle_worker = {
            let pool = Arc::clone(&pool);
            spawn(move || {
                pool.idle.enroll(1);
                pool.go_to_rayon(1);
            })
        };
        pool.submit(0);
        scaler.join().unwrap();
        idle_worker.join().unwrap();
        pool.assert_at_rest(2, 1);
    });
}

/// S1, R2: two threads change the number of places while a job comes. Kills `idle_no_fence_add`
/// and `idle_shrink_forgets`.
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
