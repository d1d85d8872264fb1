//! A sample for each second of the last minutes, shown by a newly opened page.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus::{core::Collector, proto::Histogram};
use serde::Serialize;

use crate::app::{ANSWERS, App};

const EVERY: Duration = Duration::from_secs(1);
/// Three minutes.
const SAMPLES: usize = 180;

/// The current counters and gauges.
#[derive(Serialize)]
pub struct Sample {
    /// Counted from the server's start: a unique number for each sample.
    pub number: u64,
    pub time_ms: u64,
    pub depth: u64,
    pub capacity: u64,
    pub waiting: u64,
    pub in_service: u64,
    pub busy: u64,
    pub idle: u64,
    pub parked: u64,
    pub admitted: u64,
    pub completed: u64,
    pub panicked: u64,
    pub cancelled: u64,
    pub dropped: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub answers: BTreeMap<&'static str, u64>,
    /// The number of records in each histogram up to each of its bounds; the last number is the
    /// total.
    pub buckets: BTreeMap<String, Vec<u64>>,
}

pub struct History {
    start: Instant,
    samples: Mutex<VecDeque<Arc<Sample>>>,
}

impl History {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            samples: Mutex::new(VecDeque::new()),
        }
    }

    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// The samples after this one.
    pub fn after(&self, number: u64) -> Vec<Arc<Sample>> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let later = samples.iter().filter(|sample| sample.number > number);
        later.cloned().collect()
    }

    fn push(&self, mut sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        sample.number = samples.back().map_or(1, |last| last.number + 1);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Arc::new(sample));
    }
}

/// Takes a sample each second while the server exists.
///
/// On a thread of its own: the end of a job wakes the server's thread. At that moment workers would
/// appear idle far too often, each between two jobs.
pub fn keep(app: &Arc<App>) -> io::Result<()> {
    let app = Arc::downgrade(app);
    let sampler = thread::Builder::new().name("history".into());
    sampler.spawn(move || {
        while let Some(app) = app.upgrade() {
            app.history.push(sample(&app));
            drop(app);
            thread::sleep(EVERY);
        }
    })?;
    Ok(())
}

fn sample(app: &App) -> Sample {
    let seen = app.pool.metrics();
    Sample {
        number: 0,
        time_ms: app.history.uptime().as_millis() as u64,
        depth: seen.depth,
        capacity: seen.capacity,
        waiting: seen.waiting_submitters,
        in_service: seen.workers_in_service,
        busy: seen.workers_busy,
        idle: seen.workers_idle,
        parked: seen.workers_parked,
        admitted: seen.admitted,
        completed: seen.completed,
        panicked: seen.panicked,
        cancelled: seen.cancelled,
        dropped: seen.dropped,
        bytes_in: app.bytes_in.get(),
        bytes_out: app.bytes_out.get(),
        answers: ANSWERS
            .map(|answer| (answer, app.answers.with_label_values(&[answer]).get()))
            .into(),
        buckets: histograms(app)
            .map(|(name, histogram)| {
                let within = histogram.get_bucket().iter();
                let mut counts: Vec<u64> = within.map(|bucket| bucket.cumulative_count()).collect();
                counts.push(histogram.get_sample_count());
                (name, counts)
            })
            .collect(),
    }
}

/// The pool's histograms. A snapshot has percentiles since the start. Recent latencies are the
/// difference of two histograms.
pub fn histograms(app: &App) -> impl Iterator<Item = (String, Histogram)> {
    let families = app.pool.collector().collect().into_iter();
    families
        .filter(|family| family.name().ends_with("_seconds"))
        .filter_map(|family| {
            let metric = family.get_metric().first()?;
            Some((
                family.name().into(),
                Histogram::clone(metric.get_histogram()),
            ))
        })
}
