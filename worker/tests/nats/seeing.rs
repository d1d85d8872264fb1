//! Metrics, health and the table.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use adaptive_pool::Pool;
use adaptive_pool_worker::Worker;
use prometheus::{Registry, TextEncoder, core::Collector};

use crate::{
    server::Server,
    support::{is_empty, publish, until, until_queue, watched},
};

#[test]
fn one_registry_has_the_pools_metrics_and_the_workers() {
    watched(Duration::from_secs(60), || async {
        let Some(mut server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, (0..20).map(|number| format!("job-{number}"))).await;
        let pool = Pool::builder()
            .workers(2)
            .capacity(2)
            .name("ingest")
            .build();
        let pool = Arc::new(pool.unwrap());
        let worker = Worker::builder(Arc::clone(&pool), server.client().await)
            .lease(Duration::from_secs(1))
            .handler(|_| Ok(()))
            .build()
            .await
            .unwrap();
        let registry = Registry::new();
        registry.register(Box::new(pool.collector())).unwrap();
        registry
            .register(Box::new(worker.collector().unwrap()))
            .unwrap();
        let health = worker.health();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let work = tokio::spawn(worker.run(async { drop(stopped.await) }));
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == 20
        })
        .await;
        let status = queue.status("workers").await.unwrap();
        assert_eq!(status.workers.len(), 1);
        assert_eq!(status.workers[0].acked, 20);
        assert_eq!(status.workers[0].pool, "ingest");
        health.check().unwrap();

        let scrape = || {
            TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        let text = scrape();
        for line in [
            "adaptive_pool_jobs_completed_total{pool=\"ingest\"} 20",
            "adaptive_pool_nats_fetched_total{pool=\"ingest\"} 20",
            "adaptive_pool_nats_acked_total{pool=\"ingest\"} 20",
            "adaptive_pool_nats_dead_total{pool=\"ingest\"} 0",
            "adaptive_pool_nats_retried_total{pool=\"ingest\"} 0",
            "adaptive_pool_nats_given_back_total{pool=\"ingest\"} 0",
            "adaptive_pool_nats_lease_lost_total{pool=\"ingest\"} 0",
            "adaptive_pool_nats_in_flight{pool=\"ingest\"} 0",
            "adaptive_pool_nats_engine_up{pool=\"ingest\"} 1",
            "adaptive_pool_nats_ack_seconds_count{pool=\"ingest\"} 20",
            "adaptive_pool_nats_lease_age_seconds{pool=\"ingest\"} 0",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert!(text.contains("adaptive_pool_nats_fetch_seconds_bucket"));
        assert!(text.contains("adaptive_pool_nats_queue_depth{pool=\"ingest\"}"));

        server.kill();
        until("the health check says so", || health.check().is_err());
        assert!(health.check().unwrap_err().contains("not connected"));
        assert!(scrape().contains("adaptive_pool_nats_engine_up{pool=\"ingest\"} 0"));
        stop.send(()).unwrap();
        // A drain ends without a server too.
        work.await.unwrap().unwrap();
    });
}

/// The names of a worker's metrics.
async fn all_metrics(server: &Server) -> BTreeSet<String> {
    let pool = Arc::new(Pool::builder().workers(1).build().unwrap());
    let worker = Worker::builder(pool, server.client().await).handler(|_| Ok(()));
    let worker = worker.build().await.unwrap();
    let collector = worker.collector().unwrap();
    let names = collector
        .desc()
        .into_iter()
        .map(|desc| desc.fq_name.clone());
    names.collect()
}

/// All words of `text` that have the form of such a name.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("adaptive_pool_nats_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned())
        .collect()
}

#[test]
fn the_docs_and_the_dashboard_name_every_metric_and_no_other() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        server.queue().await;
        let all = all_metrics(&server).await;
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        for file in ["machines.md", "grafana.json"] {
            let text = fs::read_to_string(docs.join(file)).unwrap();
            assert_eq!(metrics_in(&text), all, "in {file}");
        }
    });
}
