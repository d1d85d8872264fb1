//! GET /stats: the data of the page, as JSON.

use std::{collections::BTreeMap, sync::Arc};

use adaptive_pool::LatencySummary;
use axum::{
    extract::{Query, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    history::{self, Sample},
};

#[derive(Deserialize)]
pub struct Options {
    /// Only samples after the one with this number.
    #[serde(default)]
    after: u64,
}

#[derive(Serialize)]
struct Stats<'a> {
    pool: &'static str,
    draining: bool,
    uptime_ms: u64,
    admission_timeout_ms: f64,
    max_bytes: usize,
    /// The bounds of each histogram, in seconds.
    bounds: BTreeMap<String, Vec<f64>>,
    samples: Vec<&'a Sample>,
    /// Since the start.
    latencies: [Latency; 3],
}

#[derive(Serialize)]
struct Latency {
    name: &'static str,
    count: u64,
    /// The mean, p50, p90, p99, p99.9, and the maximum.
    seconds: [f64; 6],
}

impl Latency {
    fn new(name: &'static str, summary: &LatencySummary) -> Self {
        let times = [
            summary.mean,
            summary.p50,
            summary.p90,
            summary.p99,
            summary.p999,
            summary.max,
        ];
        Self {
            name,
            count: summary.count,
            seconds: times.map(|time| time.as_secs_f64()),
        }
    }
}

pub async fn get(
    State(app): State<Arc<App>>,
    Query(options): Query<Options>,
) -> Result<impl IntoResponse, StatusCode> {
    let samples = app.history.after(options.after);
    let seen = app.pool.metrics();
    let stats = Stats {
        pool: crate::POOL,
        draining: app.pool.is_closed(),
        uptime_ms: app.history.uptime().as_millis() as u64,
        admission_timeout_ms: app.admission_timeout.as_secs_f64() * 1e3,
        max_bytes: app.max_bytes,
        bounds: history::histograms(&app)
            .map(|(name, histogram)| {
                let buckets = histogram.get_bucket().iter();
                (name, buckets.map(|bucket| bucket.upper_bound()).collect())
            })
            .collect(),
        samples: samples.iter().map(|sample| &**sample).collect(),
        latencies: [
            Latency::new("wait for a place", &seen.admission_wait),
            Latency::new("wait in the queue", &seen.queue_wait),
            Latency::new("run time", &seen.run_time),
        ],
    };
    let text = serde_json::to_string(&stats).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text))
}
