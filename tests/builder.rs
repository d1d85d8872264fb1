//! Validation: each message names the option, its value and the violated rule.
mod support;

use std::time::Duration;

use adaptive_pool::{BuildError, Pool, PoolBuilder, Workers};
use support::*;

fn message(builder: PoolBuilder) -> String {
    let error = builder.build().unwrap_err();
    assert!(matches!(error, BuildError::Invalid { .. }));
    error.to_string()
}

#[test]
#[allow(clippy::reversed_empty_ranges)]
fn workers() {
    let of = |workers: Workers| message(Pool::builder().workers(workers));
    let at_least_one = "at least one worker has to be in service";
    assert_eq!(of(0.into()), format!("workers = 0: {at_least_one}"));
    assert_eq!(
        of((0..=3).into()),
        format!("workers = 0..=3: {at_least_one}")
    );
    assert_eq!(of((0..1).into()), format!("workers = 0: {at_least_one}"));
    let order = "at most must not be less than at least";
    assert_eq!(of((5..=2).into()), format!("workers = 5..=2: {order}"));
    assert_eq!(of((3..3).into()), format!("workers = 3..=2: {order}"));
    assert_eq!(of((..=0).into()), format!("workers = 1..=0: {order}"));
    assert_eq!(of((..1).into()), format!("workers = 1..=0: {order}"));
    let most = "at most 32767 workers";
    assert_eq!(of(32_768.into()), format!("workers = 32768: {most}"));
    assert_eq!(
        of((1..=40_000).into()),
        format!("workers = 1..=40000: {most}")
    );
    let max = usize::MAX;
    assert_eq!(of((max..).into()), format!("workers = {max}: {most}"));
}

#[test]
fn workers_accepts_numbers_and_ranges() {
    let cores = std::thread::available_parallelism().unwrap().get();
    for (workers, least, most) in [
        (Workers::from(2), 2, 2),
        ((1..=3).into(), 1, 3),
        ((1..3).into(), 1, 2),
        ((1..).into(), 1, cores.max(1)),
        ((cores + 2..).into(), cores + 2, cores + 2),
        ((..=2).into(), 1, 2),
        ((..3).into(), 1, 2),
    ] {
        let pool = Pool::builder().workers(workers).build().unwrap();
        let shown = format!("workers: {least}..={most}");
        assert!(format!("{pool:?}").contains(&shown), "{pool:?}");
        assert_eq!(pool.metrics().threads, TIMER_THREAD + least as u64);
    }
    let pool = Pool::new().unwrap();
    let shown = format!("{pool:?}");
    for default in ["threshold: 0.7", "cooldown: 100ms", "idle_timeout: 10s"] {
        assert!(shown.contains(default), "{default}: {shown}");
    }
    assert_eq!(pool.metrics().workers_in_service, cores as u64);
    assert_eq!(pool.metrics().capacity, 1024);
}

#[test]
fn capacity() {
    let least = "at least one job has to be able to wait";
    let most = "at most a quarter of usize::MAX";
    let of = |jobs| message(Pool::builder().capacity(jobs));
    assert_eq!(of(0), format!("capacity = 0: {least}"));
    let max = usize::MAX;
    assert_eq!(of(max), format!("capacity = {max}: {most}"));
    let pool = Pool::builder()
        .workers(1)
        .capacity(max >> 2)
        .build()
        .unwrap();
    let error = pool.set_capacity(0).unwrap_err();
    assert_eq!(error.to_string(), format!("capacity = 0: {least}"));
    assert!(pool.set_capacity((max >> 2) + 1).is_err());
    assert_eq!(pool.metrics().capacity, (max >> 2) as u64);
    assert_eq!(pool.try_submit(|| 7).unwrap().join().unwrap(), 7);
    pool.set_capacity(1).unwrap();
    assert_eq!(pool.try_submit(|| 7).unwrap().join().unwrap(), 7);
}

#[test]
fn max_threads() {
    let of = |workers, threads| message(Pool::builder().workers(workers).max_threads(threads));
    let rule = "at least as many threads as workers may be in service";
    assert_eq!(of(3, 2), format!("max_threads = 2: {rule}"));
    assert_eq!(of(1, 0), format!("max_threads = 0: {rule}"));
    assert_eq!(of(1, 32_768), "max_threads = 32768: at most 32767 threads");
    Pool::builder().workers(2).max_threads(2).build().unwrap();
}

#[test]
fn scale_up_threshold() {
    for (threshold, shown) in [
        (f64::NAN, "NaN"),
        (-0.1, "-0.1"),
        (1.5, "1.5"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
    ] {
        assert_eq!(
            message(Pool::builder().scale_up_threshold(threshold)),
            format!("scale_up_threshold = {shown}: a part of the capacity is from 0 to 1"),
        );
    }
    for threshold in [0.0, -0.0, 1.0] {
        let builder = Pool::builder().workers(1).scale_up_threshold(threshold);
        assert!(builder.build().is_ok());
    }
}

#[test]
fn name() {
    let rule = "a name is not empty and has no NUL in it";
    let of = |name: &str| message(Pool::builder().name(name));
    assert_eq!(of(""), format!("name = \"\": {rule}"));
    assert_eq!(of("a\0b"), format!("name = \"a\\0b\": {rule}"));
    // Longer than the system's limit, and not ASCII.
    let pool = Pool::builder()
        .workers(1)
        .name("größer-als-fünfzehn-bytes-ist-der-name");
    pool.build().unwrap();
}

#[test]
fn stack_size() {
    let rule = "a stack has at least 65536 bytes";
    let of = |bytes| message(Pool::builder().stack_size(bytes));
    assert_eq!(of(0), format!("stack_size = 0: {rule}"));
    assert_eq!(of(65_535), format!("stack_size = 65535: {rule}"));
}

/// Failure 23, first half: a stack size that no system provides.
#[test]
fn a_thread_that_cannot_be_started_is_an_error_of_build() {
    watched(|| {
        let builder = Pool::builder().workers(2).name("too-large");
        let error = builder.stack_size(usize::MAX >> 1).build().unwrap_err();
        assert!(matches!(error, BuildError::Thread { index: 0, .. }));
        let text = error.to_string();
        assert!(
            text.contains("threads: worker 0 could not be started"),
            "{text}"
        );
        wait_until(|| threads_named("too-large") == 0);
    });
}

#[test]
fn times_of_any_length_are_taken() {
    watched(|| {
        for time in [Duration::ZERO, Duration::MAX] {
            let builder = Pool::builder().workers(1..=2).capacity(1);
            let builder = builder.idle_timeout(time).scale_cooldown(time);
            let pool = builder.latency_tracking(false).build().unwrap();
            let jobs: Vec<_> = (0..50).map(|n| pool.submit(move || n).unwrap()).collect();
            assert!(
                jobs.into_iter()
                    .enumerate()
                    .all(|(n, job)| job.join().unwrap() == n)
            );
        }
    });
}

#[test]
fn nothing_is_checked_before_build() {
    let builder = Pool::builder().capacity(0).workers(0).name("");
    assert!(format!("{builder:?}").contains("capacity: 0"));
    let error = builder.build().unwrap_err();
    let BuildError::Invalid { field, value, rule } = error else {
        panic!("{error}");
    };
    assert_eq!((field, value.as_str()), ("workers", "0"));
    assert!(!rule.is_empty());
}
