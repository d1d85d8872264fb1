//! The counts at their largest: none runs into its neighbour.

use super::*;

/// As a worker does who is awake for nothing.
fn census(sleep: &Sleep) -> [u64; 4] {
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
