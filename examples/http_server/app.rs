//! The state shared by the handlers, and the routes.

use std::{sync::Arc, time::Duration};

use adaptive_pool::Pool;
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::{get, post},
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use tokio::sync::Semaphore;

use crate::{args::Args, history::History, jobs, stats};

/// A single file: the page requests nothing from other origins.
const PAGE: &str = include_str!("dashboard.html");
const PAGE_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The outcomes of a POST, for the metrics: `refusal.rs` has most of them.
pub const ANSWERS: [&str; 9] = [
    "done",
    "overload",
    "too_many",
    "draining",
    "bad_request",
    "too_large",
    "slow",
    "failed",
    "gone",
];

pub struct App {
    pub pool: Pool,
    pub registry: Registry,
    pub history: History,
    /// A permit for each body in memory, or for its response.
    pub held: Arc<Semaphore>,
    pub admission_timeout: Duration,
    pub max_bytes: usize,
    pub answers: IntCounterVec,
    pub bytes_in: IntCounter,
    pub bytes_out: IntCounter,
}

impl App {
    pub fn new(pool: Pool, args: &Args) -> prometheus::Result<Self> {
        let answers = IntCounterVec::new(
            Opts::new(
                "http_server_answers_total",
                "POST requests to /jobs, by outcome.",
            ),
            &["answer"],
        )?;
        for answer in ANSWERS {
            answers.with_label_values(&[answer]);
        }
        let bytes_in = IntCounter::new(
            "http_server_received_bytes_total",
            "Bytes that were hashed and compressed.",
        )?;
        let bytes_out = IntCounter::new(
            "http_server_compressed_bytes_total",
            "Bytes that they were compressed to.",
        )?;
        let registry = Registry::new();
        registry.register(Box::new(pool.collector()))?;
        registry.register(Box::new(answers.clone()))?;
        registry.register(Box::new(bytes_in.clone()))?;
        registry.register(Box::new(bytes_out.clone()))?;
        Ok(Self {
            pool,
            registry,
            history: History::new(),
            held: Arc::new(Semaphore::new(args.max_requests as usize)),
            admission_timeout: args.admission_timeout,
            max_bytes: args.max_bytes,
            answers,
            bytes_in,
            bytes_out,
        })
    }

    pub fn answered(&self, answer: &str) {
        self.answers.with_label_values(&[answer]).inc();
    }

    pub fn sent(&self, input: usize, output: usize) {
        self.bytes_in.inc_by(input as u64);
        self.bytes_out.inc_by(output as u64);
    }
}

pub fn router(app: Arc<App>) -> Router {
    let jobs = post(jobs::post).layer(DefaultBodyLimit::max(app.max_bytes));
    Router::new()
        .route("/", get(page))
        .route("/jobs", jobs)
        .route("/metrics", get(metrics))
        .route("/stats", get(stats::get))
        .route("/healthz", get(health))
        .with_state(app)
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE))
}

async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, StatusCode> {
    let text = TextEncoder::new()
        .encode_to_string(&app.registry.gather())
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

async fn health(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.pool.is_closed() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}
