//! Processes and servers that die: no message is lost, and the second runs are bounded.

use std::time::{Duration, Instant};

use crate::{
    child::{Settings, check_outputs, duplicates, ended_twice, runs},
    server::Server,
    support::{is_empty, publish, until, until_queue, until_queue_for, watched},
};

const LEASE: Duration = Duration::from_secs(2);

fn names(jobs: u64) -> impl Iterator<Item = String> {
    (0..jobs).map(|number| format!("job-{number}"))
}

/// Three processes, one of which is killed every half a second, and started again.
#[test]
fn kill_storm_loses_nothing_and_bounds_what_runs_twice() {
    let jobs = std::env::var("STORM_JOBS").map_or(1000, |text| text.parse().unwrap());
    let longest = Duration::from_secs(120 + jobs / 10);
    watched(longest, || async move {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, names(jobs).map(|name| format!("sleep 20 {name}"))).await;
        let settings = Settings::new(&server, LEASE);
        let mut processes: Vec<_> = (0..3).map(|_| settings.start()).collect();
        let began = Instant::now();
        let mut kills: u64 = 0;
        // The kill of a process that has not fetched yet is harmless.
        until_queue(&queue, "all processes work", |seen| seen.workers.len() == 3).await;
        loop {
            let turn = Instant::now();
            let status = queue.status("workers").await.unwrap();
            if is_empty(&status) {
                break;
            }
            assert!(
                began.elapsed() < longest - Duration::from_secs(20),
                "{status:#?}"
            );
            let victim = usize::try_from(kills).unwrap() % processes.len();
            processes.remove(victim).kill();
            processes.insert(victim, settings.start());
            kills += 1;
            let rest = Duration::from_millis(500).saturating_sub(turn.elapsed());
            tokio::time::sleep(rest).await;
        }
        let twice = duplicates(server.folder());
        println!(
            "{jobs} jobs, {kills} kills, lost 0, {twice} started twice, {} ended twice, {:.1} s",
            ended_twice(server.folder()),
            began.elapsed().as_secs_f64()
        );
        check_outputs(server.folder(), names(jobs));
        let status = queue.status("workers").await.unwrap();
        assert_eq!((status.done, status.dead), (jobs, 0));
        let bound = kills * (settings.capacity + settings.workers) as u64;
        assert!(twice <= bound, "{twice} ran twice, with {kills} kills");
    });
}

#[test]
fn a_server_that_is_killed_and_comes_back_loses_nothing() {
    const JOBS: u64 = 300;
    watched(Duration::from_secs(120), || async {
        let Some(mut server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, names(JOBS).map(|name| format!("sleep 10 {name}"))).await;
        let settings = Settings::new(&server, LEASE);
        let _processes: Vec<_> = (0..2).map(|_| settings.start()).collect();
        until("some jobs are done", || runs(server.folder()).len() > 50);
        server.kill();
        let before = runs(server.folder()).len() as u64;
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.restart();
        until_queue(&queue, "all jobs are done", |seen| {
            is_empty(seen) && seen.done == JOBS
        })
        .await;
        check_outputs(server.folder(), names(JOBS));
        let twice = duplicates(server.folder());
        println!("{twice} of {before} ran twice");
        // The server writes acks to disk a moment later: the last ones before the kill are lost.
        assert!(twice <= before + 2 * 4, "{twice} ran twice");
    });
}

#[test]
fn a_server_that_stands_still_for_two_leases_loses_nothing() {
    const JOBS: u64 = 300;
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, names(JOBS).map(|name| format!("sleep 10 {name}"))).await;
        let settings = Settings::new(&server, LEASE);
        let _processes: Vec<_> = (0..2).map(|_| settings.start()).collect();
        until("some jobs are done", || runs(server.folder()).len() > 50);
        server.stop();
        // Time has to pass, and no event marks it.
        tokio::time::sleep(2 * LEASE).await;
        server.go_on();
        until_queue_for(
            Duration::from_secs(90),
            &queue,
            "all jobs are done",
            |seen| is_empty(seen) && seen.done == JOBS,
        )
        .await;
        check_outputs(server.folder(), names(JOBS));
        let twice = duplicates(server.folder());
        assert!(twice <= 2 * 4, "{twice} ran twice");
    });
}
