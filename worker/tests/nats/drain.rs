//! SIGTERM: what has not started goes back at once, running jobs end, exit code 0.

use std::time::{Duration, Instant};

use crate::{
    child::{Settings, check_outputs, duplicates, runs},
    server::Server,
    support::{is_empty, publish, until, until_queue, watched},
};

#[test]
fn a_drain_with_a_hundred_in_flight_takes_less_than_a_second() {
    const JOBS: u64 = 150;
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        let names = || (0..JOBS).map(|number| format!("job-{number}"));
        publish(&queue, names().map(|name| format!("sleep 100 {name}"))).await;
        // A lease longer than this test.
        let mut settings = Settings::new(&server, Duration::from_secs(600));
        settings.capacity = 98;
        let mut first = settings.start();
        until_queue(&queue, "a hundred are in flight", |seen| {
            seen.in_flight == 100
        })
        .await;
        until("some run", || runs(server.folder()).len() >= 2);

        let began = Instant::now();
        first.signal(libc::SIGTERM);
        until("it ends", || first.ended().is_some());
        let took = began.elapsed();
        println!("the drain took {took:?}");
        assert_eq!(first.ended(), Some(Some(0)));
        assert!(took < Duration::from_secs(1), "the drain took {took:?}");

        let status = queue.status("workers").await.unwrap();
        assert_eq!(status.done, runs(server.folder()).len() as u64);
        let _second = settings.start();
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == JOBS
        })
        .await;
        check_outputs(server.folder(), names());
        assert_eq!(duplicates(server.folder()), 0);
    });
}
