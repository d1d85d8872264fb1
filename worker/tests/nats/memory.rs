//! Memory is flat, however many messages are queued, and whatever the jobs allocate.

use std::time::Duration;

use crate::{
    child::Settings,
    server::Server,
    support::{is_empty, publish, until_queue_for, watched},
};

#[test]
fn memory_does_not_grow_with_the_queue() {
    let jobs: u64 = std::env::var("MEMORY_JOBS").map_or(4_000, |text| text.parse().unwrap());
    let longest = Duration::from_secs(120 + jobs / 200);
    watched(longest, || async move {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(
            &queue,
            (0..jobs).map(|number| format!("allocate 0 job-{number}")),
        )
        .await;
        let settings = Settings::new(&server, Duration::from_secs(30));
        let process = settings.start();
        until_queue_for(longest, &queue, "a tenth is done", |seen| {
            seen.done >= jobs / 10
        })
        .await;
        let early = process.peak_memory();
        // More than `jobs` if a publish was repeated after the server had forgotten its id.
        until_queue_for(longest, &queue, "all are done", |seen| {
            is_empty(seen) && seen.done >= jobs && seen.dead == 0
        })
        .await;
        let late = process.peak_memory();
        println!(
            "{jobs} jobs of 500 kB: at most {:.1} MB after a tenth, {:.1} MB after all",
            early as f64 / 1e6,
            late as f64 / 1e6
        );
        // All jobs together allocate 500 kB times their number: 2 GB in the short form.
        assert!(late < 100_000_000, "{late} bytes");
        assert!(late < early + 20_000_000, "{early} bytes, then {late}");
    });
}
