//! The worker's metrics, for the registry of the pool's.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, IntCounter, Opts,
    core::{Collector, Desc},
    proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::shared::Shared;

/// The upper bounds of the buckets: from the time of a local server to a lease.
const BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

pub(crate) struct Metrics {
    pub(crate) pool: String,
    pub(crate) fetched: IntCounter,
    pub(crate) acked: IntCounter,
    pub(crate) retried: IntCounter,
    pub(crate) dead: IntCounter,
    pub(crate) given_back: IntCounter,
    pub(crate) lease_lost: IntCounter,
    pub(crate) fetch_seconds: Histogram,
    pub(crate) ack_seconds: Histogram,
    /// The consumer's last answer; `None` before the first.
    pub(crate) depth: std::sync::Mutex<Option<u64>>,
}

impl Metrics {
    pub(crate) fn new(pool: &str) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            IntCounter::with_opts(Opts::new(full(name), help).const_label("pool", pool))
        };
        let histogram = |name: &str, help: &str| {
            let opts = HistogramOpts::new(full(name), help).const_label("pool", pool);
            Histogram::with_opts(opts.buckets(BUCKETS.to_vec()))
        };
        Ok(Self {
            pool: pool.to_owned(),
            fetched: counter("fetched_total", "Messages fetched.")?,
            acked: counter(
                "acked_total",
                "Messages done, with an ack that the server confirmed.",
            )?,
            retried: counter("retried_total", "Messages that failed, and come again.")?,
            dead: counter(
                "dead_total",
                "Messages moved to the stream of dead messages.",
            )?,
            given_back: counter(
                "given_back_total",
                "Messages given back to the server before their job started.",
            )?,
            lease_lost: counter(
                "lease_lost_total",
                "Leases that ran out before the server confirmed an ack.",
            )?,
            fetch_seconds: histogram(
                "fetch_seconds",
                "Time from a fetch to its last message, without waits for messages.",
            )?,
            ack_seconds: histogram(
                "ack_seconds",
                "Time from a job's end to the confirmation of its ack.",
            )?,
            depth: std::sync::Mutex::new(None),
        })
    }
}

fn full(name: &str) -> String {
    format!("adaptive_pool_nats_{name}")
}

/// Reads a gauge; `None` if there is no value yet.
type Read = fn(&Shared) -> Option<f64>;

/// What [`Worker::collector`](crate::Worker::collector) returns.
#[derive(Clone)]
pub(crate) struct WorkerCollector {
    shared: Arc<Shared>,
    gauges: Arc<Vec<(Desc, Read)>>,
}

impl WorkerCollector {
    pub(crate) fn new(shared: &Arc<Shared>) -> prometheus::Result<Self> {
        let gauges: [(&str, &str, Read); 4] = [
            (
                "in_flight",
                "Messages that this process holds: queued, running or waiting for their ack.",
                |shared| Some(shared.ledger.held() as f64),
            ),
            (
                "engine_up",
                "1 if the server is connected and answers, 0 otherwise.",
                |shared| Some(f64::from(u8::from(is_up(shared)))),
            ),
            (
                "lease_age_seconds",
                "Age of the oldest lease since its last renewal.",
                |shared| {
                    let leases = shared.ledger.all();
                    let oldest = leases.iter().map(|lease| lease.age()).max();
                    Some(oldest.unwrap_or_default().as_secs_f64())
                },
            ),
            (
                "queue_depth",
                "Messages of the consumer that wait or that any worker holds.",
                |shared| crate::lease::lock(&shared.metrics.depth).map(|depth| depth as f64),
            ),
        ];
        let pool = &shared.metrics.pool;
        let gauges = gauges.map(|(name, help, read)| {
            let labels = [(String::from("pool"), pool.clone())].into();
            Desc::new(full(name), help.to_owned(), Vec::new(), labels).map(|desc| (desc, read))
        });
        Ok(Self {
            shared: Arc::clone(shared),
            gauges: Arc::new(gauges.into_iter().collect::<Result<_, _>>()?),
        })
    }

    fn parts(&self) -> [&dyn Collector; 8] {
        let metrics = &self.shared.metrics;
        [
            &metrics.fetched,
            &metrics.acked,
            &metrics.retried,
            &metrics.dead,
            &metrics.given_back,
            &metrics.lease_lost,
            &metrics.fetch_seconds,
            &metrics.ack_seconds,
        ]
    }
}

impl Collector for WorkerCollector {
    fn desc(&self) -> Vec<&Desc> {
        let parts = self.parts();
        let parts = parts.into_iter().flat_map(Collector::desc);
        parts
            .chain(self.gauges.iter().map(|(desc, _)| desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let parts = self.parts();
        let mut families: Vec<_> = parts.into_iter().flat_map(Collector::collect).collect();
        for (desc, read) in self.gauges.iter() {
            let Some(value) = read(&self.shared) else {
                continue;
            };
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut label = LabelPair::default();
            label.set_name(String::from("pool"));
            label.set_value(self.shared.metrics.pool.clone());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_gauge(gauge);
            let mut family = MetricFamily::default();
            family.set_name(desc.fq_name.clone());
            family.set_help(desc.help.clone());
            family.set_field_type(MetricType::GAUGE);
            family.set_metric(vec![metric]);
            families.push(family);
        }
        families
    }
}

/// A server that is silent for longer is down: the depth alone is read every five seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// Whether the server is connected and has answered recently.
pub(crate) fn is_up(shared: &Shared) -> bool {
    shared.is_connected() && shared.answers.silence() < SILENCE
}
