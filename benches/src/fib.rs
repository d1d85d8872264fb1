//! Shared by the questions about Fibonacci: the size, the duration, and the serial baseline.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    once::Way,
    report::{Entrant, Metric, Question},
    rivals::WORKERS,
};

/// Lets a rival wake its threads.
const WARM_UP: u64 = 15;

/// The calls below an inner node. The same in every rival.
#[inline(always)]
pub(crate) fn node(n: u64, fork: impl FnOnce(u64, u64) -> (u64, u64)) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = fork(n - 1, n - 2);
    a + b
}

pub(crate) fn serial(n: u64) -> u64 {
    node(n, |a, b| (serial(a), serial(b)))
}

fn number(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

/// The number of calls, including leaves.
fn nodes(n: u64) -> u64 {
    2 * number(n + 1) - 1
}

/// The largest number with at most `jobs` leaves that are 1: 30 with a million.
fn largest(jobs: u64) -> u64 {
    (2..).take_while(|&n| number(n) <= jobs).last().unwrap_or(2)
}

pub(crate) fn time(n: u64, mut fib: impl FnMut(u64) -> u64) -> Duration {
    fib(black_box(WARM_UP));
    let start = Instant::now();
    let result = fib(black_box(n));
    let time = start.elapsed();
    assert_eq!(result, number(n));
    time
}

/// The serial program runs before each rival, for the ratio.
fn measure(way: &Way, n: u64, times: u32) -> Vec<f64> {
    let (mut alone, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..times {
        alone += time(n, serial);
        theirs += (way.run)(WORKERS, n);
    }
    vec![
        theirs.as_nanos() as f64 / (nodes(n) * u64::from(times)) as f64,
        theirs.as_secs_f64() / alone.as_secs_f64(),
    ]
}

/// `times` makes a measurement long enough.
pub(crate) fn question(
    name: &'static str,
    by: &str,
    ways: &'static [Way],
    times: u32,
    jobs: u64,
) -> Question {
    let n = largest(jobs);
    let entrants = ways
        .iter()
        .map(|way| Entrant::new(way.name, move || measure(way, n, times)));
    Question {
        name,
        title: format!("fib({n}) by {by}: time per call, and relative to serial"),
        metrics: &[
            Metric {
                name: "ns/node",
                decimals: 1,
            },
            Metric {
                name: "x serial",
                decimals: 2,
            },
        ],
        entrants: entrants.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_jobs_make_thirty() {
        assert_eq!(largest(1_000_000), 30);
        assert_eq!(largest(1), 2);
    }

    #[test]
    fn nodes_are_counted_as_they_are_called() {
        fn calls(n: u64) -> u64 {
            let mut below = 0;
            node(n, |a, b| {
                below = calls(a) + calls(b);
                (0, 0)
            });
            1 + below
        }
        for n in 0..15 {
            assert_eq!(nodes(n), calls(n));
            assert_eq!(number(n), serial(n));
        }
    }
}
