//! A histogram of latencies, of fixed size. Its writer needs a few plain stores, and readers merge
//! many.
//!
//! # The buckets
//!
//! A power of two is cut into 32 buckets of equal width, as in HdrHistogram. Below 64 ns each
//! bucket is one value; above, its width is at most 1/32 of any value in it. A bucket is reported
//! by its middle, so **what is reported is within 1/64 (1.6 %) of what was recorded**, and exact
//! below 64 ns. Count, mean and maximum are exact. The buckets end at 2^42 ns, which is 73 minutes.
//! Longer times go into one more bucket, and a percentile that falls into it is reported as the
//! maximum.
//!
//! A histogram is 1217 buckets of 8 bytes, 9.5 KiB on the heap, and 40 bytes in place. Jobs of
//! similar length share a few cache lines of it. The buckets at both ends, which may share a line
//! with other data, are the coldest: nothing takes less than 8 ns, and little takes an hour.
//!
//! # Writers and readers
//!
//! A worker writes its own histogram with plain loads and stores ([`Histogram::record`]). Threads
//! that are not the pool's share a histogram, and add to it ([`Histogram::record_shared`]). A
//! reader merges all while they are written ([`Histogram::merge_into`]). The count is the sum of
//! the buckets, so percentiles and count are always of the same records. The writer stores maximum,
//! bucket, sum, in this order, and the reader loads them in the reverse order. So what is summed
//! has been counted, and what is counted is no more than the maximum. A mean that is read meanwhile
//! may be a little low, and is never above the maximum. No counter ever goes backwards, and at rest
//! all agree.

#[cfg(test)]
mod tests;

use std::{fmt, sync::OnceLock, time::Duration};

use crate::sync::{AtomicU64, Ordering};

/// A power of two has `1 << SUB_BITS` buckets.
const SUB_BITS: u32 = 5;
const SUBS: u64 = 1 << SUB_BITS;
/// Values from `1 << RANGE_BITS` on are over the range.
const RANGE_BITS: u32 = 42;
/// The bucket of values over the range. It follows the last one within.
const OVER: usize = index_within((1 << RANGE_BITS) - 1) + 1;
const BUCKETS: usize = OVER + 1;

/// The sum is kept in two counters, since one could overflow: a million jobs that wait all the time
/// wait a million seconds in each second, and 2^64 ns are over after five hours. `low` gets the
/// last 16 bits of each value, `high` the rest. Both last for eight years of that, and of a million
/// records in each second.
const LOW_BITS: u32 = 16;
const LOW: u64 = (1 << LOW_BITS) - 1;

/// Returns the bucket of a value, as if the range had no end.
const fn index_within(nanos: u64) -> usize {
    // The same formula below `SUBS` as from `SUBS` on: width 1, and no branch.
    let exponent = 63 - (nanos | SUBS).leading_zeros();
    let shift = exponent - SUB_BITS;
    // The leading bit of what is left counts as one more `SUBS`.
    (shift as usize * SUBS as usize) + (nanos >> shift) as usize
}

#[inline]
fn index_of(nanos: u64) -> usize {
    index_within(nanos).min(OVER)
}

/// Returns the value that stands for all of a bucket within the range: its middle, rounded down.
fn middle_of(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / SUBS).saturating_sub(1);
    let first = (index - shift * SUBS) << shift;
    first + ((1 << shift) - 1) / 2
}

type Buckets = [AtomicU64; BUCKETS];

/// The records of one thread, or of those that share it.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    max: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
    /// Allocated before anything is recorded.
    buckets: OnceLock<Box<Buckets>>,
}

/// Adds to a counter that only the calling thread writes.
#[inline(always)]
fn add(counter: &AtomicU64, more: u64) {
    // Release pairs with the Acquire in `merge_into`: a reader of the sum finds its records
    // counted.
    let sum = counter.load(Ordering::Relaxed).wrapping_add(more);
    counter.store(sum, Ordering::Release);
}

impl Histogram {
    /// Makes a histogram in which values will be recorded.
    pub(crate) fn made() -> Self {
        let histogram = Self::default();
        histogram.make();
        histogram
    }

    /// Allocates what recording needs, so that recording does not allocate.
    pub(crate) fn make(&self) {
        self.buckets();
    }

    pub(crate) fn is_made(&self) -> bool {
        self.buckets.get().is_some()
    }

    fn buckets(&self) -> &Buckets {
        self.buckets.get_or_init(|| {
            // Made on the heap: a thread of the pool may have a stack of 64 KiB.
            let buckets: Box<[AtomicU64]> = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
            buckets.try_into().expect("as many as were made")
        })
    }

    /// Records a value `times` times, on the only thread that writes this histogram.
    #[inline]
    pub(crate) fn record(&self, nanos: u64, times: u64) {
        if nanos > self.max.load(Ordering::Relaxed) {
            // The Release of the bucket pairs with the Acquire in `merge_into`: a reader that
            // counts it loads a maximum that is no less.
            self.max.store(nanos, Ordering::Relaxed);
        }
        add(&self.buckets()[index_of(nanos)], times);
        add(&self.low, (nanos & LOW).wrapping_mul(times));
        add(&self.high, (nanos >> LOW_BITS).wrapping_mul(times));
    }

    /// Records a value, on any thread. Not to be mixed with [`record`](Self::record).
    pub(crate) fn record_shared(&self, nanos: u64) {
        // In the same order, and paired in the same way.
        self.max.fetch_max(nanos, Ordering::Relaxed);
        self.buckets()[index_of(nanos)].fetch_add(1, Ordering::Release);
        self.low.fetch_add(nanos & LOW, Ordering::Release);
        self.high.fetch_add(nanos >> LOW_BITS, Ordering::Release);
    }

    /// Adds what was recorded so far.
    pub(crate) fn merge_into(&self, merged: &mut Merged) {
        let Some(buckets) = self.buckets.get() else {
            return;
        };
        // In the reverse order of the writer: see the head of this file.
        let high = u128::from(self.high.load(Ordering::Acquire)) << LOW_BITS;
        merged.sum += high + u128::from(self.low.load(Ordering::Acquire));
        for (sum, bucket) in merged.buckets.iter_mut().zip(buckets.iter()) {
            let records = bucket.load(Ordering::Acquire);
            *sum += records;
            merged.count += records;
        }
        merged.max = merged.max.max(self.max.load(Ordering::Relaxed));
    }
}

/// Several histograms as one, for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    buckets: Box<[u64]>,
    /// The sum of all buckets.
    pub(crate) count: u64,
    /// In ns.
    pub(crate) sum: u128,
    /// In ns.
    pub(crate) max: u64,
}

impl Default for Merged {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl Merged {
    /// Adds the records of another.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, &records) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += records;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Adds `records` records of zero.
    pub(crate) fn add_zeros(&mut self, records: u64) {
        self.buckets[0] += records;
        self.count += records;
    }

    /// Returns the value that `thousandths` of the records do not exceed, within 1/64: that of the
    /// record of this rank, rounded up. 0 if there are none.
    pub(crate) fn percentile(&self, thousandths: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(thousandths)).div_ceil(1000);
        let mut counted = 0;
        let index = self.buckets[..OVER].iter().position(|&records| {
            counted += u128::from(records);
            counted >= rank
        });
        // No value is above the maximum, though the middle of its bucket may be.
        index.map_or(self.max, |index| middle_of(index).min(self.max))
    }

    /// Returns how many records are at most as long as each bound, for Prometheus. The bounds are
    /// in ns, in ascending order.
    ///
    /// Each record counts with the middle of its bucket, as it does in the percentiles, which may
    /// move a bound by up to 1/64. Records over the range are within no bound, however large: only
    /// the count includes them. So the numbers never go backwards, and none exceeds the next or the
    /// count.
    #[cfg(any(test, feature = "prometheus"))]
    pub(crate) fn cumulative(&self, bounds: &[u64]) -> Vec<u64> {
        let mut next = 0;
        let mut counted = 0;
        let upto = |&bound: &u64| {
            while next < OVER && middle_of(next) <= bound {
                counted += self.buckets[next];
                next += 1;
            }
            counted
        };
        bounds.iter().map(upto).collect()
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        let mean = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        let percentile = |thousandths| Duration::from_nanos(self.percentile(thousandths));
        LatencySummary {
            count: self.count,
            mean: Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)),
            max: Duration::from_nanos(self.max),
            p50: percentile(500),
            p90: percentile(900),
            p99: percentile(990),
            p999: percentile(999),
        }
    }
}

/// How long something took, over all the times that it happened.
///
/// The count is exact. The other figures are of what was timed: everything, unless jobs are short
/// (see [`Snapshot::run_time`](crate::Snapshot::run_time)). Of that, mean and maximum are exact. A
/// percentile is within 1/64 (1.6 %) of the time at its rank; one of more than 73 minutes is
/// reported as the maximum. All are zero as long as nothing was timed. While the pool works, the
/// mean may leave out what was timed just now.
///
/// # Examples
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// pool.for_each(0..100, |i| drop((0..i).product::<u64>()));
/// let run_time = pool.metrics().run_time;
/// assert!(run_time.p50 <= run_time.p99 && run_time.p99 <= run_time.max);
/// println!("{run_time}"); // count 100, mean 1.3µs, p50 ...
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many times it happened.
    pub count: u64,
    /// The mean.
    pub mean: Duration,
    /// The longest.
    pub max: Duration,
    /// Half of all were at most as long: the median.
    pub p50: Duration,
    /// 90 % were at most as long.
    pub p90: Duration,
    /// 99 % were at most as long.
    pub p99: Duration,
    /// 99.9 % were at most as long.
    pub p999: Duration,
}

/// On one line, in units that fit.
impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "count {}, mean {:.1?}, p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {:.1?}",
            self.count, self.mean, self.p50, self.p90, self.p99, self.p999, self.max
        )
    }
}
