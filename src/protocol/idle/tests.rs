//! Tests of the idle counts at their largest, where none overflows into its neighbour, and of the
//! offering count.

use std::time::Duration;

use super::{counts::ACTIVATING, *};
use crate::sync::{Instant, thread};

/// Returns the numbers of workers that search, are idle, are in rayon, and are being activated.
pub(crate) fn census(idle: &Idle) -> [u64; 4] {
    [SEARCHING, IDLE, IN_RAYON, ACTIVATING].map(|field| idle.load().of(field))
}

/// Failure 29.
#[test]
fn s1_no_count_runs_into_the_next() {
    const MOST: u64 = MAX_WORKERS as u64;
    let idle = Idle::new(MAX_WORKERS, 1, Fences::PLAIN);
    let every_worker = |step: &dyn Fn()| (0..MAX_WORKERS).for_each(|_| step());
    assert_eq!(census(&idle), [0, 0, MOST, 0]);
    every_worker(&|| assert_eq!(idle.activate_another(), WakeUp::Activate));
    assert_eq!(census(&idle), [0, 0, 0, MOST]);
    assert_eq!(idle.activate_another(), WakeUp::None);
    every_worker(&|| idle.activation_put_back());
    every_worker(&|| assert_eq!(idle.activate_another(), WakeUp::Activate));
    every_worker(&|| idle.activation_taken());
    assert_eq!(census(&idle), [MOST, 0, 0, 0]);
    assert_eq!(idle.wake_one(), WakeUp::None);
    // One worker after another stops searching, and becomes idle.
    every_worker(&|| {
        assert_eq!(idle.stop_searching(|| false), WakeUp::None);
        assert_eq!(idle.announce_idle(0, || false), WakeUp::None);
    });
    assert_eq!(census(&idle), [0, MOST, 0, 0]);
    every_worker(&|| assert!(idle.go_to_rayon(0)));
    assert_eq!(census(&idle), [0, 0, MOST, 0]);
    idle.begin_discarding();
    assert_eq!(census(&idle), [0, 0, MOST, 0]);
    every_worker(&|| assert!(idle.return_to_service()));
    assert!(!idle.return_to_service());
    assert_eq!(census(&idle), [0; 4]);
    assert!(idle.load().discarding() && idle.all_run());
}

/// Otherwise each worker that becomes idle would interrupt all cores, for good.
#[test]
fn r2_a_worker_that_becomes_idle_offers_no_more() {
    let pool = crate::Pool::builder().workers(2).build().unwrap();
    let idle = &pool.inner.idle;
    let offering = || idle.offering.load(Ordering::Relaxed);
    for round in 0..20 {
        pool.install(|| {
            pool.join(|| assert!(offering() > 0), || ());
            pool.scope(|scope| {
                scope.spawn(|_| ());
                assert!(offering() > 0);
            });
        });
        let end = Instant::now() + Duration::from_secs(20);
        let out_of_work = || {
            let counts = Counts(idle.counts.load(Ordering::Acquire));
            counts.of(IDLE) + counts.of(IN_RAYON)
        };
        while out_of_work() < 2 {
            assert!(Instant::now() < end, "{round}: {:?}", census(idle));
            thread::yield_now();
        }
        assert_eq!(offering(), 0, "{round}");
    }
    let report = pool.shutdown();
    assert_eq!((report.completed, report.panicked), (40, 0));
}
