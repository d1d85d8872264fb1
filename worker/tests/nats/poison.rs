//! Messages that no process can do: each ends up dead, and harms no other.

use std::time::{Duration, Instant};

use adaptive_pool_worker::Queue;

use crate::{
    child::{Settings, check_outputs, runs},
    server::Server,
    support::{is_empty, publish, until_queue, until_queue_for, watched},
};

const JOBS: u64 = 40;

fn names() -> impl Iterator<Item = String> {
    (0..JOBS).map(|number| format!("good-{number}"))
}

/// Publishes a poison among good jobs.
async fn fill(queue: &Queue, poison: &str) {
    let good = names().map(|name| format!("sleep 5 {name}"));
    let mut jobs: Vec<String> = good.collect();
    jobs.insert(5, String::from(poison));
    for job in jobs {
        publish(queue, [job]).await;
    }
}

#[test]
fn a_job_that_panics_is_dead_after_five_times() {
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        fill(&queue, "panic 0 bad").await;
        let settings = Settings::new(&server, Duration::from_secs(30));
        // Failures count across processes.
        let _processes: Vec<_> = (0..3).map(|_| settings.start()).collect();
        until_queue(&queue, "all are done or dead", |seen| {
            is_empty(seen) && seen.dead == 1
        })
        .await;
        check_outputs(server.folder(), names());
        assert_eq!(runs(server.folder())["bad"], 5);
        let dead = queue.next_dead(0).await.unwrap().unwrap();
        assert_eq!(dead.reason, "failed");
        assert_eq!((dead.failures, dead.deliveries, dead.crashes), (5, 5, 0));
        assert_eq!(dead.payload, b"panic 0 bad");
        assert_eq!(dead.id.as_deref(), Some("panic 0 bad"));
        assert!(dead.error.contains("on purpose"), "{}", dead.error);

        // Revived, it is a new message, and dies again.
        assert!(queue.revive(dead.number).await.unwrap());
        assert!(!queue.revive(dead.number).await.unwrap());
        until_queue(&queue, "it is dead again", |seen| {
            is_empty(seen) && seen.dead == 1
        })
        .await;
        assert_eq!(runs(server.folder())["bad"], 10);
    });
}

#[test]
fn a_job_that_ends_its_process_is_dead_and_takes_no_other_along() {
    const CRASHES: u64 = 6;
    watched(Duration::from_secs(150), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        fill(&queue, "abort 0 bad").await;
        let mut settings = Settings::new(&server, Duration::from_secs(1));
        settings.max_crashes = CRASHES;
        let mut processes: Vec<_> = (0..2).map(|_| settings.start()).collect();
        until_queue_for(
            Duration::from_secs(120),
            &queue,
            "all are done or dead",
            |seen| {
                // The part of a supervisor.
                for process in &mut processes {
                    if process.ended().is_some() {
                        *process = settings.start();
                    }
                }
                is_empty(seen) && seen.dead == 1
            },
        )
        .await;
        check_outputs(server.folder(), names());
        assert_eq!(runs(server.folder())["bad"], CRASHES);
        let dead = queue.next_dead(0).await.unwrap().unwrap();
        assert_eq!(dead.reason, "crashed");
        assert_eq!((dead.crashes, dead.failures), (CRASHES, 0));
        assert_eq!(dead.payload, b"abort 0 bad");
        // Its neighbours ran few times more.
        for (name, times) in runs(server.folder()) {
            assert!(name == "bad" || times <= 4, "{name} ran {times} times");
        }
    });
}

/// The poison starts first each time, so the others of its fetch crash as often, until it runs
/// alone.
#[test]
fn what_is_always_fetched_together_with_a_poison_is_done_all_the_same() {
    const CRASHES: u64 = 6;
    watched(Duration::from_secs(150), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        let names = || (0..8).map(|number| format!("good-{number}"));
        let mut jobs = vec![String::from("abort 0 bad")];
        jobs.extend(names().map(|name| format!("sleep 5 {name}")));
        for job in jobs {
            publish(&queue, [job]).await;
        }
        let mut settings = Settings::new(&server, Duration::from_secs(1));
        settings.max_crashes = CRASHES;
        settings.workers = 1;
        settings.capacity = 16;
        let mut process = settings.start();
        let mut ended: Option<Instant> = None;
        let longest = Duration::from_secs(120);
        until_queue_for(longest, &queue, "all are done or dead", |seen| {
            // Only once all leases have expired: a waiting process would get the first message
            // alone.
            let over = Duration::from_millis(1500);
            if process.ended().is_some() && ended.get_or_insert_with(Instant::now).elapsed() > over
            {
                process = settings.start();
                ended = None;
            }
            is_empty(seen) && seen.dead + seen.done == 9
        })
        .await;
        check_outputs(server.folder(), names());
        let dead = queue.next_dead(0).await.unwrap().unwrap();
        assert_eq!(dead.payload, b"abort 0 bad");
        assert_eq!(queue.next_dead(dead.number + 1).await.unwrap(), None);
    });
}
