//! The counts at their largest, where none runs into its neighbour; and who is counted as offering.

use super::*;

/// As a worker does who is awake for nothing.
pub(crate) fn census(sleep: &Sleep) -> [u64; 4] {
    [SEARCHING, DOZING, ASLEEP, CALLED].map(|field| sleep.load().of(field))
}

/// Failure 29.
#[test]
fn s1_no_count_runs_into_the_next() {
    const MOST: u64 = MAX_WORKERS as u64;
    let sleep = Sleep::new(MAX_WORKERS, 1);
    let every_worker = |step: &dyn Fn()| (0..MAX_WORKERS).for_each(|_| step());
    assert_eq!(census(&sleep), [0, 0, MOST, 0]);
    every_worker(&|| assert_eq!(sleep.call_another(), Duty::Call));
    assert_eq!(census(&sleep), [0, 0, 0, MOST]);
    assert_eq!(sleep.call_another(), Duty::None);
    every_worker(&|| sleep.call_put_back());
    every_worker(&|| assert_eq!(sleep.call_another(), Duty::Call));
    every_worker(&|| sleep.call_taken_up());
    assert_eq!(census(&sleep), [MOST, 0, 0, 0]);
    assert_eq!(sleep.rouse(), Duty::None);
    // One after the other stops searching, and lies down.
    every_worker(&|| {
        assert_eq!(sleep.stop_searching(|| false), Duty::None);
        assert_eq!(sleep.doze(0, || false), Duty::None);
    });
    assert_eq!(census(&sleep), [0, MOST, 0, 0]);
    every_worker(&|| assert!(sleep.fall_asleep(0)));
    assert_eq!(census(&sleep), [0, 0, MOST, 0]);
    sleep.begin_discarding();
    assert_eq!(census(&sleep), [0, 0, MOST, 0]);
    every_worker(&|| assert!(sleep.return_to_service()));
    assert!(!sleep.return_to_service());
    assert_eq!(census(&sleep), [0; 4]);
    assert!(sleep.load().discarding() && sleep.all_run());
}

/// Else whoever lies down would interrupt all cores, for good.
#[test]
fn r2_a_worker_that_lies_down_offers_no_more() {
    let pool = crate::Pool::builder().workers(2).build().unwrap();
    let sleep = &pool.inner.sleep;
    let offering = || sleep.offering.load(Ordering::Relaxed);
    for round in 0..20 {
        pool.install(|| {
            pool.join(|| assert!(offering() > 0), || ());
            pool.scope(|scope| {
                scope.spawn(|_| ());
                assert!(offering() > 0);
            });
        });
        let end = Instant::now() + Duration::from_secs(20);
        let lying = || {
            let counts = Counts(sleep.counts.load(Ordering::Acquire));
            counts.of(DOZING) + counts.of(ASLEEP)
        };
        while lying() < 2 {
            assert!(Instant::now() < end, "{round}: {:?}", census(sleep));
            thread::yield_now();
        }
        assert_eq!(offering(), 0, "{round}");
    }
    let report = pool.shutdown();
    assert_eq!((report.completed, report.panicked), (40, 0));
}
