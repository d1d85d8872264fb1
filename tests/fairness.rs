//! Rule R8: the jobs of one source do not starve those of another. Each kind of endless work runs
//! beside each kind that waits, with one worker and with two, on a queue with room and on a full
//! one. Also the order of jobs with one worker.
mod support;

use std::{
    iter,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use adaptive_pool::{Pool, Scope};
use support::*;

/// Work that respawns itself until it is stopped.
struct Endless {
    pool: Arc<Pool>,
    is_over: AtomicBool,
    /// The number of its jobs and items that have started.
    begun: AtomicU64,
}

impl Endless {
    fn goes_on(&self) -> bool {
        self.begun.fetch_add(1, Ordering::Relaxed);
        !self.is_over.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn again_spawned(work: Arc<Endless>) {
    if work.goes_on() {
        let own = Arc::clone(&work);
        work.pool.spawn(move || again_spawned(own)).unwrap();
    }
}

fn again_submitted(work: Arc<Endless>) {
    if work.goes_on() {
        let own = Arc::clone(&work);
        drop(work.pool.submit(move || again_submitted(own)).unwrap());
    }
}

fn again_deferred(work: Arc<Endless>) {
    if work.goes_on() {
        let own = Arc::clone(&work);
        let admit = work.pool.admit().deferred();
        admit.spawn(move || again_deferred(own)).unwrap();
    }
}

fn again_in_scope<'a>(s: &Scope<'a>, work: &'a Endless) {
    if work.goes_on() {
        s.spawn(|s| again_in_scope(s, work));
    }
}

fn again_by_rayon(work: Arc<Endless>) {
    if work.goes_on() {
        rayon_core::spawn(move || again_by_rayon(work));
    }
}

type Kind = (&'static str, fn(&Arc<Endless>));

/// The kinds of endless work. Each function returns when the work is over, and is called on one
/// thread per worker.
const ENDLESS: [Kind; 10] = [
    ("spawn", |work| {
        let own = Arc::clone(work);
        work.pool.spawn(move || again_spawned(own)).unwrap();
    }),
    ("submit", |work| {
        let own = Arc::clone(work);
        drop(work.pool.submit(move || again_submitted(own)).unwrap());
    }),
    ("deferred", |work| {
        let own = Arc::clone(work);
        work.pool.spawn(move || again_deferred(own)).unwrap();
    }),
    ("scope", |work| {
        work.pool
            .in_place_scope(|s| s.spawn(|s| again_in_scope(s, work)));
    }),
    ("rayon", |work| {
        let own = Arc::clone(work);
        let job = move || rayon_core::spawn(move || again_by_rayon(own));
        work.pool.spawn(job).unwrap();
    }),
    ("for_each", |work| {
        let items = iter::repeat(()).take_while(|()| !work.is_over());
        work.pool.for_each(items, |()| {
            work.goes_on();
        });
    }),
    ("map", |work| {
        let own = Arc::clone(work);
        let items = iter::repeat(()).take_while(|()| !work.is_over());
        let map = work.pool.map_unordered(items, move |()| own.goes_on());
        map.for_each(drop);
    }),
    ("install", |work| {
        while !work.is_over() {
            work.pool.install(|| work.goes_on());
        }
    }),
    ("join", |work| {
        while !work.is_over() {
            work.pool.join(|| work.goes_on(), || work.goes_on());
        }
    }),
    ("producer", |work| {
        while !work.is_over() {
            let own = Arc::clone(work);
            let job = move || {
                own.goes_on();
            };
            work.pool.spawn(job).unwrap();
        }
    }),
];

type Waiting = (&'static str, fn(&Arc<Pool>));

/// The kinds of work that waits. Each function returns when the pool has run it.
const WAITING: [Waiting; 10] = [
    ("submit", |pool| pool.submit(|| ()).unwrap().join().unwrap()),
    ("spawn", |pool| {
        let (sender, receiver) = mpsc::channel();
        pool.spawn(move || sender.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
    }),
    ("deferred", |pool| {
        pool.admit()
            .deferred()
            .submit(|| ())
            .unwrap()
            .join()
            .unwrap();
    }),
    ("install", |pool| pool.install(|| ())),
    ("join", |pool| assert_eq!(pool.join(|| 1, || 2), (1, 2))),
    ("scope", |pool| pool.scope(|s| s.spawn(|_| ()))),
    ("in_place_scope", |pool| {
        pool.in_place_scope(|s| s.spawn(|_| ()))
    }),
    ("for_each", |pool| pool.for_each(0..3, |_| ())),
    ("map", |pool| pool.map(0..3, |n| n).for_each(drop)),
    ("rayon", |pool| {
        let (sender, receiver) = mpsc::channel();
        let job = move || rayon_core::spawn(move || sender.send(()).unwrap());
        pool.spawn(job).unwrap();
        receiver.recv().unwrap();
    }),
];

/// Far more than 64 jobs for each job ahead in the queue, and far fewer than run while one starves.
const MANY: u64 = 1_000_000;

fn each_is_served_beside(name: &'static str, start: fn(&Arc<Endless>)) {
    watched(move || {
        for (workers, capacity) in [(1, 4), (2, 4), (2, 64)] {
            for is_full in [false, true] {
                let builder = Pool::builder().workers(workers).capacity(capacity);
                let pool = Arc::new(builder.build().unwrap());
                let work = Arc::new(Endless {
                    pool: Arc::clone(&pool),
                    is_over: AtomicBool::new(false),
                    begun: AtomicU64::new(0),
                });
                thread::scope(|threads| {
                    for _ in 0..workers {
                        threads.spawn(|| start(&work));
                    }
                    if is_full {
                        for _ in 0..2 {
                            threads.spawn(|| {
                                while !work.is_over() {
                                    pool.spawn(|| ()).unwrap();
                                }
                            });
                        }
                    }
                    wait_until(|| work.begun.load(Ordering::Relaxed) > 200);
                    for (waiting, serve) in WAITING {
                        let before = work.begun.load(Ordering::Relaxed);
                        serve(&pool);
                        let begun = work.begun.load(Ordering::Relaxed) - before;
                        let pair = format!(
                            "{waiting} beside {name}, {workers} workers, {capacity} places"
                        );
                        assert!(begun < MANY, "{pair}: after {begun} jobs");
                    }
                    work.is_over.store(true, Ordering::Relaxed);
                });
            }
        }
    });
}

macro_rules! beside {
    ($($test:ident: $index:literal,)*) => {
        $(#[test]
        #[cfg_attr(miri, ignore = "it would take hours")]
        fn $test() {
            let (name, start) = ENDLESS[$index];
            each_is_served_beside(name, start);
        })*

        #[test]
        fn r8_each_kind_of_endless_work_has_its_test() {
            assert_eq!([$($index),*], *(0..ENDLESS.len()).collect::<Vec<_>>());
        }
    };
}

beside! {
    r8_all_are_served_beside_spawns_that_spawn: 0,
    r8_all_are_served_beside_submits_that_submit: 1,
    r8_all_are_served_beside_deferred_jobs_that_defer: 2,
    r8_all_are_served_beside_a_scope_that_does_not_end: 3,
    r8_all_are_served_beside_pieces_of_rayons_work: 4,
    r8_all_are_served_beside_a_for_each_that_does_not_end: 5,
    r8_all_are_served_beside_a_map_that_does_not_end: 6,
    r8_all_are_served_beside_installed_closures: 7,
    r8_all_are_served_beside_joins: 8,
    r8_all_are_served_beside_producers: 9,
}

#[test]
fn r8_with_one_worker_the_jobs_of_a_thread_start_in_their_order() {
    watched(|| {
        for capacity in [1, 2, 3, 64, 1024] {
            let builder = Pool::builder().workers(1).capacity(capacity);
            let pool = builder.build().unwrap();
            let seen = Arc::new(Mutex::new(Vec::new()));
            let jobs = if cfg!(miri) { 100 } else { 2_000 };
            for n in 0..jobs {
                let seen = Arc::clone(&seen);
                let job = move || seen.lock().unwrap().push(n);
                match n % 4 {
                    0 => pool.spawn(job).unwrap(),
                    1 => drop(pool.submit(job).unwrap()),
                    2 => pool.reserve().unwrap().spawn(job),
                    _ => drop(pool.reserve().unwrap().submit(job)),
                }
            }
            pool.shutdown();
            let seen = seen.lock().unwrap();
            assert!(seen.is_sorted(), "{seen:?}");
            assert_eq!(seen.len(), jobs);
        }
    });
}

/// Jobs of one thread beside those that jobs submit.
#[test]
fn r8_with_one_worker_the_jobs_of_a_job_start_in_their_order() {
    watched(|| {
        let jobs = if cfg!(miri) { 10 } else { 200 };
        let builder = Pool::builder().workers(1).capacity(4 * jobs);
        let pool = Arc::new(builder.build().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |submitter: usize, n: usize| {
            let seen = Arc::clone(&seen);
            move || seen.lock().unwrap().push((submitter, n))
        };
        for submitter in 1..3 {
            let own = Arc::clone(&pool);
            let notes: Vec<_> = (0..jobs).map(|n| note(submitter, n)).collect();
            let submit_all = move || notes.into_iter().for_each(|note| own.spawn(note).unwrap());
            pool.spawn(submit_all).unwrap();
        }
        (0..jobs).for_each(|n| pool.spawn(note(0, n)).unwrap());
        wait_until(|| seen.lock().unwrap().len() == 3 * jobs);
        for submitter in 0..3 {
            let seen = seen.lock().unwrap();
            let own = seen.iter().filter(|(other, _)| *other == submitter);
            assert!(own.map(|(_, n)| n).is_sorted(), "{seen:?}");
        }
    });
}
