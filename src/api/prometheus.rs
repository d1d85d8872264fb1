//! A pool's metrics for Prometheus: the table of metric families, and the collector that fills it.
//!
//! Every family is a row of [`FAMILIES`]: its name, its help, and how its values are read from a
//! [`Snapshot`]. docs/metrics.md says what each is good for.
//!
//! A collector shares the pool's insides, but does not keep the pool open. After the pool is
//! dropped, the collector reports its last state.

use std::{collections::HashMap, sync::Arc};

use prometheus::{
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{
    metrics::{Latencies, Merged, Snapshot},
    runtime::{inner::Inner, resident::Resident},
};

/// The label that distinguishes pools.
const POOL: &str = "pool";
/// The label of rejections.
const REASON: &str = "reason";

/// The type of a family, and how its values are read.
enum Kind {
    Gauge(fn(&Snapshot) -> u64),
    Counter(fn(&Snapshot) -> u64),
    /// One counter for each reason.
    CounterByReason(fn(&Snapshot) -> [(&'static str, u64); 3]),
    Histogram(fn(&Latencies) -> &Merged),
}

struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Snapshot) -> u64) -> Family {
    Family {
        name,
        help,
        kind: Kind::Gauge(read),
    }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Snapshot) -> u64) -> Family {
    Family {
        name,
        help,
        kind: Kind::Counter(read),
    }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    read: fn(&Latencies) -> &Merged,
) -> Family {
    Family {
        name,
        help,
        kind: Kind::Histogram(read),
    }
}

/// The upper bounds of the histograms' buckets, in ns: 1, 2.5 and 5 times each power of ten, from 1
/// us to 100 s. Neighbours differ by a factor of 2.5 at most, which bounds the error of an
/// interpolated quantile.
///
/// A record counts with the middle of its bucket in the finer histogram, so each bound is exact to
/// 1/64.
const BOUNDS: [u64; 25] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    25_000_000_000,
    50_000_000_000,
    100_000_000_000,
];

const NANOS_PER_SECOND: f64 = 1e9;

static FAMILIES: &[Family] = &[
    gauge(
        "adaptive_pool_queue_depth",
        "Places of the queue that are taken.",
        |seen| seen.depth,
    ),
    gauge(
        "adaptive_pool_queue_capacity",
        "Places of the queue.",
        |seen| seen.capacity,
    ),
    gauge(
        "adaptive_pool_waiting_submitters",
        "Submitters that wait for a place in the queue.",
        |seen| seen.waiting_submitters,
    ),
    gauge(
        "adaptive_pool_workers_in_service",
        "Workers that run jobs or look for them.",
        |seen| seen.workers_in_service,
    ),
    gauge(
        "adaptive_pool_workers_busy",
        "Threads that run a job, or wait inside one.",
        |seen| seen.workers_busy,
    ),
    gauge(
        "adaptive_pool_workers_idle",
        "Workers in service without a job.",
        |seen| seen.workers_idle,
    ),
    gauge(
        "adaptive_pool_workers_parked",
        "Workers that were in service before, and are parked now.",
        |seen| seen.workers_parked,
    ),
    gauge(
        "adaptive_pool_threads",
        "Threads that were started and have not ended.",
        |seen| seen.threads,
    ),
    counter(
        "adaptive_pool_jobs_submitted_total",
        "Jobs submitted: admitted or rejected.",
        |seen| seen.submitted,
    ),
    counter(
        "adaptive_pool_jobs_admitted_total",
        "Jobs admitted.",
        |seen| seen.admitted,
    ),
    Family {
        name: "adaptive_pool_jobs_rejected_total",
        help: "Jobs rejected, by reason.",
        kind: Kind::CounterByReason(|seen| {
            [
                ("closed", seen.rejected_closed),
                ("full", seen.rejected_full),
                ("timed_out", seen.rejected_timed_out),
            ]
        }),
    },
    counter(
        "adaptive_pool_jobs_started_total",
        "Jobs started.",
        |seen| seen.started,
    ),
    counter(
        "adaptive_pool_jobs_completed_total",
        "Jobs that returned.",
        |seen| seen.completed,
    ),
    counter(
        "adaptive_pool_jobs_panicked_total",
        "Jobs that panicked.",
        |seen| seen.panicked,
    ),
    counter(
        "adaptive_pool_jobs_cancelled_total",
        "Jobs cancelled by their handle before they started.",
        |seen| seen.cancelled,
    ),
    counter(
        "adaptive_pool_jobs_dropped_total",
        "Jobs dropped by a shutdown before they started.",
        |seen| seen.dropped,
    ),
    counter(
        "adaptive_pool_jobs_inlined_total",
        "Jobs run at once on the submitter's stack.",
        |seen| seen.inlined,
    ),
    counter(
        "adaptive_pool_jobs_overdrawn_total",
        "Jobs queued over the capacity.",
        |seen| seen.overdrawn,
    ),
    gauge(
        "adaptive_pool_overdrawn_jobs",
        "Jobs over the capacity that are queued now.",
        |seen| seen.overdrawn_now,
    ),
    counter(
        "adaptive_pool_steals_total",
        "Batches of jobs taken from another worker.",
        |seen| seen.steals,
    ),
    counter(
        "adaptive_pool_scale_ups_total",
        "Times that workers were added.",
        |seen| seen.scale_ups,
    ),
    counter(
        "adaptive_pool_parks_total",
        "Workers parked, over time.",
        |seen| seen.parks,
    ),
    counter(
        "adaptive_pool_thread_start_failures_total",
        "Threads that the operating system failed to start.",
        |seen| seen.thread_start_failures,
    ),
    histogram(
        "adaptive_pool_admission_wait_seconds",
        "Time to get a place in the queue; zero if one was free.",
        |latencies| &latencies.admission_wait,
    ),
    histogram(
        "adaptive_pool_queue_wait_seconds",
        "Time from admission to the start of a job. Sampled while jobs are short.",
        |latencies| &latencies.jobs.queue_wait,
    ),
    histogram(
        "adaptive_pool_job_run_seconds",
        "Run time of a job, even if it panicked. Sampled while jobs are short.",
        |latencies| &latencies.jobs.run_time,
    ),
];

/// The families of this pool. A histogram in which nothing is ever recorded would claim that no job
/// waits.
fn families(inner: &Inner) -> impl Iterator<Item = &'static Family> {
    let tracked = inner.settings.latency_tracking;
    FAMILIES
        .iter()
        .filter(move |family| tracked || !matches!(family.kind, Kind::Histogram(_)))
}

/// What [`Pool::collector`](crate::Pool::collector) returns.
#[derive(Clone)]
pub(crate) struct PoolCollector {
    inner: Resident,
    descs: Arc<[Desc]>,
}

impl PoolCollector {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let descs = families(inner).map(|family| {
            let variable = match family.kind {
                Kind::CounterByReason(_) => vec![String::from(REASON)],
                _ => Vec::new(),
            };
            // A constant label, so that a registry accepts the same names from several pools, and
            // rejects two pools of one name.
            let constant = HashMap::from([(String::from(POOL), inner.settings.name.clone())]);
            Desc::new(family.name.into(), family.help.into(), variable, constant)
                .expect("the names are valid, whatever the label's value")
        });
        Self {
            inner: Resident::new(Arc::clone(inner)),
            descs: descs.collect(),
        }
    }

    /// The labels of a metric, by name.
    fn labels(&self, reason: Option<&str>) -> Vec<LabelPair> {
        let pair = |name: &str, value: &str| {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value.into());
            pair
        };
        let mut labels = vec![pair(POOL, &self.inner.settings.name)];
        labels.extend(reason.map(|reason| pair(REASON, reason)));
        labels
    }

    fn gauge(&self, value: u64) -> Metric {
        let mut gauge = Gauge::default();
        gauge.set_value(value as f64);
        let mut metric = Metric::from_label(self.labels(None));
        metric.set_gauge(gauge);
        metric
    }

    fn counter(&self, reason: Option<&str>, value: u64) -> Metric {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = Metric::from_label(self.labels(reason));
        metric.set_counter(counter);
        metric
    }

    fn histogram(&self, merged: &Merged) -> Metric {
        let within = merged.cumulative(&BOUNDS);
        let buckets = BOUNDS.iter().zip(within).map(|(&bound, records)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound as f64 / NANOS_PER_SECOND);
            bucket.set_cumulative_count(records);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(merged.count);
        histogram.set_sample_sum(merged.sum as f64 / NANOS_PER_SECOND);
        let mut metric = Metric::from_label(self.labels(None));
        metric.set_histogram(histogram);
        metric
    }

    fn family(&self, family: &Family, seen: &Snapshot, latencies: &Latencies) -> MetricFamily {
        let (kind, metrics) = match family.kind {
            Kind::Histogram(read) => (MetricType::HISTOGRAM, vec![self.histogram(read(latencies))]),
            Kind::Gauge(read) => (MetricType::GAUGE, vec![self.gauge(read(seen))]),
            Kind::Counter(read) => (MetricType::COUNTER, vec![self.counter(None, read(seen))]),
            Kind::CounterByReason(read) => {
                let metrics = read(seen).map(|(reason, value)| self.counter(Some(reason), value));
                (MetricType::COUNTER, metrics.into())
            }
        };
        let mut told = MetricFamily::default();
        told.set_name(family.name.into());
        told.set_help(family.help.into());
        told.set_field_type(kind);
        told.set_metric(metrics);
        told
    }
}

impl Collector for PoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // One pass: all values come from one snapshot, and from the histograms that it was made of.
        let (seen, latencies) = Snapshot::with_latencies(&self.inner);
        families(&self.inner)
            .map(|family| self.family(family, &seen, &latencies))
            .collect()
    }
}
