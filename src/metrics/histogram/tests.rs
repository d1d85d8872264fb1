//! Each bucket, and the summaries against sorted lists.

use std::{sync::Barrier, thread};

use proptest::prelude::*;

use super::*;

const RANGE: u64 = 1 << RANGE_BITS;

fn recorded(values: &[u64]) -> Histogram {
    let histogram = Histogram::made();
    values.iter().for_each(|&value| histogram.record(value, 1));
    histogram
}

fn merged<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Merged {
    let mut merged = Merged::default();
    for histogram in histograms {
        histogram.merge_into(&mut merged);
    }
    merged
}

/// Whether `reported` is within 1/64 of `value`.
fn is_near(reported: u64, value: u64) -> bool {
    reported.abs_diff(value) <= value / 64
}

#[test]
fn m2_the_buckets_follow_each_other_without_gap_or_overlap() {
    let mut first = 0;
    for index in 0..OVER {
        let width = if index < 64 { 1 } else { 1 << (index / 32 - 1) };
        let last = first + width - 1;
        assert_eq!((index_of(first), index_of(last)), (index, index));
        let middle = middle_of(index);
        assert!((first..=last).contains(&middle));
        assert!(is_near(middle, first) && is_near(middle, last), "{index}");
        first += width;
    }
    assert_eq!(first, RANGE, "the range is full");
    for over in [RANGE, RANGE + 1, 2 * RANGE, u64::MAX] {
        assert_eq!(index_of(over), OVER);
    }
    let hour = 3600 * 1_000_000_000;
    assert!(index_of(hour) < OVER, "an hour is in the range");
}

#[test]
fn m2_a_histogram_has_the_documented_size() {
    let histogram = Histogram::made();
    assert_eq!(size_of_val(&histogram), 40);
    assert_eq!((BUCKETS, size_of_val(histogram.buckets())), (1217, 9736));
}

#[test]
fn m2_an_empty_histogram_is_all_zero() {
    let merged = merged([&Histogram::made()]);
    assert_eq!(merged.summary(), LatencySummary::default());
    assert_eq!(merged.cumulative(&[0, 1, u64::MAX]), [0, 0, 0]);
}

#[test]
fn m2_a_single_record_is_every_percentile() {
    for value in [
        0,
        1,
        63,
        64,
        65,
        1000,
        1_000_001,
        RANGE - 1,
        RANGE,
        u64::MAX,
    ] {
        let summary = merged([&recorded(&[value])]).summary();
        let exact = Duration::from_nanos(value);
        assert_eq!(
            (summary.count, summary.mean, summary.max),
            (1, exact, exact)
        );
        for reported in [summary.p50, summary.p90, summary.p99, summary.p999] {
            let reported = reported.as_nanos() as u64;
            assert!(
                is_near(reported, value) && reported <= value,
                "{reported} for {value}"
            );
        }
    }
}

#[test]
fn m2_a_record_of_some_weight_is_that_many_records() {
    let histogram = Histogram::made();
    for (value, weight) in [(40, 16), (5_000, 1), (41, 3), (u64::MAX, 2), (40, 2)] {
        histogram.record(value, weight);
    }
    let all = [vec![40; 18], vec![5_000], vec![41; 3], vec![u64::MAX; 2]].concat();
    assert_eq!(merged([&histogram]), merged([&recorded(&all)]));
}

#[test]
fn m2_the_ranks_are_exact() {
    // Each value has its own bucket, and equals its rank.
    let values: Vec<u64> = (1..=50).collect();
    let of = |values: &[u64], thousandths| merged([&recorded(values)]).percentile(thousandths);
    assert_eq!(of(&values, 0), 0);
    assert_eq!(of(&values, 500), 25);
    assert_eq!(of(&values, 501), 26);
    assert_eq!(of(&values, 900), 45);
    assert_eq!(of(&values, 980), 49);
    assert_eq!(of(&values, 981), 50);
    assert_eq!(of(&values, 1000), 50);
    assert_eq!(of(&[7, 9], 500), 7);
}

#[test]
fn m2_the_maximum_shows_what_is_over_the_range() {
    let merged = merged([&recorded(&[10, RANGE - 1, RANGE, RANGE + 5, u64::MAX - 1])]);
    assert_eq!(merged.percentile(200), 10);
    assert!(is_near(merged.percentile(400), RANGE - 1));
    assert_eq!(merged.percentile(401), u64::MAX - 1);
    assert_eq!(merged.cumulative(&[10, RANGE, u64::MAX]), [1, 2, 2]);
}

#[test]
fn m2_the_sum_is_exact_where_one_word_would_overflow() {
    let (own, shared) = (Histogram::made(), Histogram::made());
    for value in [u64::MAX, u64::MAX, u64::MAX - 3, 1] {
        own.record(value, 1);
        shared.record_shared(value);
    }
    let merged = merged([&own, &shared]);
    assert_eq!(merged.sum, 2 * (3 * u128::from(u64::MAX) - 2));
    let mean = Duration::from_nanos((3 * u128::from(u64::MAX) - 2).div_euclid(4) as u64);
    assert_eq!(merged.summary().mean, mean);
}

#[test]
fn m2_a_summary_is_one_line() {
    let micros: Vec<u64> = (1..=1000).map(|n| n * 1000).collect();
    let reported = merged([&recorded(&micros)]).summary().to_string();
    let (start, end) = reported.split_once(", p50 ").unwrap();
    assert_eq!(start, "count 1000, mean 500.5µs");
    assert!(
        end.contains("µs, p99.9 ") && end.ends_with(", max 1.0ms"),
        "{reported}"
    );
}

const RECORDS: u64 = if cfg!(miri) { 50 } else { 300_000 };

const RECORDS_BY: [fn(&Histogram, u64); 2] = [
    |histogram, value| histogram.record(value, 1),
    Histogram::record_shared,
];

/// Lets each of `threads` threads record `value(1)`, `value(2)`, …, while `watch` reads.
fn recording(
    threads: usize,
    record: fn(&Histogram, u64),
    value: fn(u64) -> u64,
    watch: impl FnOnce(&Histogram),
) -> Merged {
    let histogram = Histogram::made();
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                (1..=RECORDS).for_each(|n| record(&histogram, value(n)));
            });
        }
        watch(&histogram);
    });
    merged([&histogram])
}

/// Reads during writes. The sum is read first, then the bucket of 1, before nearly all others.
#[test]
fn m1_the_sum_never_runs_ahead_of_the_count() {
    for record in RECORDS_BY {
        let at_rest = recording(
            1,
            record,
            |_| 1,
            |histogram| {
                let mut before = Merged::default();
                while before.count < RECORDS {
                    let seen = merged([histogram]);
                    assert!(seen.count >= before.count && seen.sum >= before.sum);
                    assert!(
                        seen.sum <= seen.count.into(),
                        "{} of {}",
                        seen.sum,
                        seen.count
                    );
                    before = seen;
                }
            },
        );
        assert_eq!((at_rest.count, at_rest.sum), (RECORDS, RECORDS.into()));
    }
}

/// Values over the range are in the bucket that is read last. The maximum is read after it.
#[test]
fn m1_a_counted_record_is_within_the_maximum() {
    for record in RECORDS_BY {
        recording(
            1,
            record,
            |n| RANGE + n,
            |histogram| {
                let mut count = 0;
                while count < RECORDS {
                    let seen = merged([histogram]);
                    count = seen.count;
                    assert!(
                        count == 0 || seen.max >= RANGE + count,
                        "{} of {count}",
                        seen.max
                    );
                }
            },
        );
    }
}

/// All records go to one bucket, and change both words of the sum.
#[test]
fn m1_no_record_of_many_writers_is_lost() {
    const VALUE: u64 = (15 << LOW_BITS) + 1;
    let at_rest = recording(2, Histogram::record_shared, |_| VALUE, |_| ());
    assert_eq!(at_rest.count, 2 * RECORDS);
    assert_eq!(at_rest.sum, u128::from(2 * RECORDS * VALUE));
    assert_eq!(at_rest.max, VALUE);
}

/// Values of any size, equal values, two clusters, and edges of buckets.
fn values() -> impl Strategy<Value = Vec<u64>> {
    let any_size = (any::<u64>(), 0..64u32).prop_map(|(value, shift)| value >> shift);
    let edge = (0..64u32, 0..64u64, -1..=1i64)
        .prop_map(|(shift, sub, step)| ((sub << shift) as i64).wrapping_add(step) as u64);
    let many = |value: BoxedStrategy<u64>| prop::collection::vec(value, 1..300);
    prop_oneof![
        many((0..100u64).boxed()),
        many((0..2_000_000u64).boxed()),
        many(prop_oneof![20_000..21_000u64, 3_000_000..90_000_000u64].boxed()),
        (any_size.clone(), 1..50usize).prop_map(|(value, times)| vec![value; times]),
        many(any_size.boxed()),
        many(edge.boxed()),
        many(prop_oneof![Just(0), Just(1), Just(u64::MAX), 0..5000u64].boxed()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn m2_percentiles_are_within_the_stated_error(mut values in values()) {
        let merged = merged([&recorded(&values)]);
        values.sort_unstable();
        let max = *values.last().unwrap();
        for thousandths in [1, 100, 250, 500, 900, 990, 999, 1000] {
            let rank = (values.len() * thousandths as usize).div_ceil(1000);
            let exact = values[rank - 1];
            let reported = merged.percentile(thousandths);
            if exact < RANGE {
                prop_assert!(is_near(reported, exact), "{} for {}", reported, exact);
            } else {
                prop_assert_eq!(reported, max);
            }
        }
        let sum: u128 = values.iter().copied().map(u128::from).sum();
        let summary = merged.summary();
        prop_assert_eq!(summary.count, values.len() as u64);
        prop_assert_eq!(summary.mean.as_nanos(), sum / values.len() as u128);
        prop_assert_eq!(summary.max, Duration::from_nanos(max));
        prop_assert!(summary.p50 <= summary.p90 && summary.p90 <= summary.p99);
        prop_assert!(summary.p99 <= summary.p999 && summary.p999 <= summary.max);
    }

    #[test]
    fn m2_an_index_and_its_value_are_inverse_and_in_order(
        a in any::<u64>(),
        b in any::<u64>(),
        shift in 0..64u32,
    ) {
        let (a, b) = ((a >> shift).min(b), (a >> shift).max(b));
        prop_assert!(index_of(a) <= index_of(b));
        for value in [a, b] {
            let index = index_of(value);
            if index < OVER {
                prop_assert!(is_near(middle_of(index), value));
                prop_assert_eq!(index_of(middle_of(index)), index);
            }
        }
    }

    #[test]
    fn m2_merged_histograms_equal_one(values in values(), parts in 1..5usize) {
        let one = merged([&recorded(&values)]);
        let many: Vec<Histogram> = (0..parts).map(|_| Histogram::made()).collect();
        for (at, &value) in values.iter().enumerate() {
            match at % parts {
                0 => many[0].record_shared(value),
                part => many[part].record(value, 1),
            }
        }
        prop_assert_eq!(merged(&many), one);
    }

    #[test]
    fn m3_the_cumulative_counts_are_within_the_stated_error(
        values in values(),
        mut bounds in prop::collection::vec((any::<u64>(), 0..64u32), 1..20),
    ) {
        bounds.sort_unstable_by_key(|&(bound, shift)| bound >> shift);
        let bounds: Vec<u64> = bounds.into_iter().map(|(bound, shift)| bound >> shift).collect();
        let merged = merged([&recorded(&values)]);
        let reported = merged.cumulative(&bounds);
        prop_assert_eq!(reported.len(), bounds.len());
        prop_assert!(reported.is_sorted());
        let up_to = |bound: u64| {
            values.iter().filter(|&&value| value <= bound && value < RANGE).count() as u64
        };
        for (&bound, reported) in bounds.iter().zip(reported) {
            // Plus one, since the quotient is rounded.
            let error = bound / 63 + 1;
            let error = if bound < 64 { 0 } else { error };
            let (least, most) = (up_to(bound - error), up_to(bound.saturating_add(error)));
            prop_assert!((least..=most).contains(&reported), "{} at {}", reported, bound);
        }
        // A percentile agrees with the counts of the bounds.
        let median = merged.percentile(500);
        if median < merged.max {
            let half = merged.count.div_ceil(2);
            prop_assert!(merged.cumulative(&[median])[0] >= half);
            prop_assert!(median == 0 || merged.cumulative(&[median - 1])[0] < half);
        }
    }
}
