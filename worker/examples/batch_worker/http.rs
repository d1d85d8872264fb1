//! One HTTP port: `/metrics` for Prometheus, `/healthz` for a supervisor that restarts workers.

use adaptive_pool_worker::Health;
use axum::{Router, http::StatusCode, routing::get};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;

use crate::note;

pub async fn serve(listener: TcpListener, registry: Registry, health: Health) {
    let metrics = move || {
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        async move {
            match text {
                Ok(text) => (StatusCode::OK, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
    };
    let healthz = move || {
        let health = health.check();
        async move {
            match health {
                Ok(()) => (StatusCode::OK, String::from("ok\n")),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            }
        }
    };
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz));
    if let Err(error) = axum::serve(listener, app).await {
        note(&format!("the HTTP server ended: {error}"));
    }
}
