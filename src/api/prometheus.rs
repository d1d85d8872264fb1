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

const fn family(name: &'static str, help: &'static str, kind: Kind) -> Family {
    Family { name, help, kind }
}

/// The upper bounds of the histograms' buckets, in ns: 1, 2.5 and 5 times each power of ten, from 1
/// us to 100 s. Neighbours differ by a factor of 2.5 at most, which bounds the error of an
/// interpolated quantile.
///
/// A record counts with the middle of its bucket in the finer histogram, so each bound is exact to
/// 1/64.
const BOUNDS: [u64; 25] = {
    let mut bounds = [0; 25];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = [1_000, 2_500, 5_000][at % 3] * 10_u64.pow(at as u32 / 3);
        at += 1;
    }
    bounds
};

const NANOS_PER_SECOND: f64 = 1e9;

static FAMILIES: &[Family] = &[
    family(
        "adaptive_pool_queue_depth",
        "Places of the queue that are taken.",
        Kind::Gauge(|seen| seen.depth),
    ),
    family(
        "adaptive_pool_queue_capacity",
        "Places of the queue.",
        Kind::Gauge(|seen| seen.capacity),
    ),
    family(
        "adaptive_pool_waiting_submitters",
        "Submitters that wait for a place in the queue.",
        Kind::Gauge(|seen| seen.waiting_submitters),
    ),
    family(
        "adaptive_pool_workers_in_service",
        "Workers that run jobs or look for them.",
        Kind::Gauge(|seen| seen.workers_in_service),
    ),
    family(
        "adaptive_pool_workers_busy",
        "Threads that run a job, or wait inside one.",
        Kind::Gauge(|seen| seen.workers_busy),
    ),
    family(
        "adaptive_pool_workers_idle",
        "Workers in service without a job.",
        Kind::Gauge(|seen| seen.workers_idle),
    ),
    family(
        "adaptive_pool_workers_parked",
        "Workers that were in service before, and are parked now.",
        Kind::Gauge(|seen| seen.workers_parked),
    ),
    family(
        "adaptive_pool_threads",
        "Threads that were started and have not ended.",
        Kind::Gauge(|seen| seen.threads),
    ),
    family(
        "adaptive_pool_jobs_submitted_total",
        "Jobs submitted: admitted or rejected.",
        Kind::Counter(|seen| seen.submitted),
    ),
    family(
        "adaptive_pool_jobs_admitted_total",
        "Jobs admitted.",
        Kind::Counter(|seen| seen.admitted),
    ),
    family(
        "adaptive_pool_jobs_rejected_total",
        "Jobs rejected, by reason.",
        Kind::CounterByReason(|seen| {
            [
                ("closed", seen.rejected_closed),
                ("full", seen.rejected_full),
                ("timed_out", seen.rejected_timed_out),
            ]
        }),
    ),
    family(
        "adaptive_pool_jobs_started_total",
        "Jobs started.",
        Kind::Counter(|seen| seen.started),
    ),
    family(
        "adaptive_pool_jobs_completed_total",
        "Jobs that returned.",
        Kind::Counter(|seen| seen.completed),
    ),
    family(
        "adaptive_pool_jobs_panicked_total",
        "Jobs that panicked.",
        Kind::Counter(|seen| seen.panicked),
    ),
    family(
        "adaptive_pool_jobs_cancelled_total",
        "Jobs cancelled by their handle before they started.",
        Kind::Counter(|seen| seen.cancelled),
    ),
    family(
        "adaptive_pool_jobs_dropped_total",
        "Jobs dropped by a shutdown before they started.",
        Kind::Counter(|seen| seen.dropped),
    ),
    family(
        "adaptive_pool_jobs_inlined_total",
        "Jobs run at once on the submitter's stack.",
        Kind::Counter(|seen| seen.inlined),
    ),
    family(
        "adaptive_pool_jobs_overdrawn_total",
        "Jobs queued over the capacity.",
        Kind::Counter(|seen| seen.overdrawn),
    ),
    family(
        "adaptive_pool_overdrawn_jobs",
        "Jobs over the capacity that are queued now.",
        Kind::Gauge(|seen| seen.overdrawn_now),
    ),
    family(
        "adaptive_pool_steals_total",
        "Batches of jobs taken from another worker.",
        Kind::Counter(|seen| seen.steals),
    ),
    family(
        "adaptive_pool_scale_ups_total",
        "Times that workers were added.",
        Kind::Counter(|seen| seen.scale_ups),
    ),
    family(
        "adaptive_pool_parks_total",
        "Workers parked, over time.",
        Kind::Counter(|seen| seen.parks),
    ),
    family(
        "adaptive_pool_thread_start_failures_total",
        "Threads that the operating system failed to start.",
        Kind::Counter(|seen| seen.thread_start_failures),
    ),
    family(
        "adaptive_pool_admission_wait_seconds",
        "Time to get a place in the queue; zero if one was free.",
        Kind::Histogram(|latencies| &latencies.admission_wait),
    ),
    family(
        "adaptive_pool_queue_wait_seconds",
        "Time from admission to the start of a job. Sampled while jobs are short.",
        Kind::Histogram(|latencies| &latencies.jobs.queue_wait),
    ),
    family(
        "adaptive_pool_job_run_seconds",
        "Run time of a job, even if it panicked. Sampled while jobs are short.",
        Kind::Histogram(|latencies| &latencies.jobs.run_time),
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

    /// Returns a metric without a value, with its labels in the order of their names.
    fn metric(&self, reason: Option<&str>) -> Metric {
        let pair = |name: &str, value: &str| {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value.into());
            pair
        };
        let mut labels = vec![pair(POOL, &self.inner.settings.name)];
        labels.extend(reason.map(|reason| pair(REASON, reason)));
        Metric::from_label(labels)
    }

    fn gauge(&self, value: u64) -> Metric {
        let mut gauge = Gauge::default();
        gauge.set_value(value as f64);
        let mut metric = self.metric(None);
        metric.set_gauge(gauge);
        metric
    }

    fn counter(&self, reason: Option<&str>, value: u64) -> Metric {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = self.metric(reason);
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
        let mut metric = self.metric(None);
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
