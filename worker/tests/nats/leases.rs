//! The beat renews leases; an expired lease is given up.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adaptive_pool::Pool;
use adaptive_pool_worker::Worker;

use crate::{
    child::{Settings, check_outputs, duplicates, runs},
    server::Server,
    support::{is_empty, publish, until, until_queue, watched},
};

#[test]
fn jobs_of_five_leases_run_once() {
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        let names = || (0..6).map(|number| format!("long-{number}"));
        publish(&queue, names().map(|name| format!("sleep 5000 {name}"))).await;
        let settings = Settings::new(&server, Duration::from_secs(1));
        // In each process two run and two wait: the beat renews these too.
        let _processes: Vec<_> = (0..2).map(|_| settings.start()).collect();
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == 6
        })
        .await;
        check_outputs(server.folder(), names());
        assert_eq!(duplicates(server.folder()), 0);
    });
}

/// Two processes, one of which is stopped while it holds four messages.
#[test]
fn a_process_that_stands_still_past_its_lease_gives_up_what_has_not_started() {
    const JOBS: u64 = 60;
    const LEASE: Duration = Duration::from_secs(1);
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        let names = || (0..JOBS).map(|number| format!("job-{number}"));
        publish(&queue, names().map(|name| format!("sleep 200 {name}"))).await;
        let settings = Settings::new(&server, LEASE);
        let stands = settings.start();
        until("it runs some", || runs(server.folder()).len() >= 2);
        stands.signal(libc::SIGSTOP);
        let _other = settings.start();
        // The other one does all jobs, also those that the first one holds.
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == JOBS
        })
        .await;
        stands.signal(libc::SIGCONT);
        until_queue(&queue, "it says that it lost leases", |seen| {
            let lost = seen
                .workers
                .iter()
                .find(|worker| worker.pid == stands.pid());
            lost.is_some_and(|worker| worker.lease_lost > 0 && worker.in_flight == 0)
        })
        .await;
        check_outputs(server.folder(), names());
        // Only what ran when it stopped can have run twice.
        let twice = duplicates(server.folder());
        assert!(twice <= settings.workers as u64, "{twice} ran twice");
    });
}

/// All jobs end while the server is stopped, and all acks are due when it continues.
#[test]
fn an_ack_storm_after_the_server_stood_still_repeats_nothing() {
    const JOBS: u64 = 200;
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, (0..JOBS).map(|number| format!("job-{number}"))).await;
        let pool = Pool::builder().workers(2).capacity(JOBS as usize).build();
        let pool = Arc::new(pool.unwrap());
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let runs = Arc::new(AtomicU64::new(0));
        let worker = {
            let (gate, runs) = (Arc::clone(&gate), Arc::clone(&runs));
            Worker::builder(pool, server.client().await)
                .lease(Duration::from_secs(30))
                .handler(move |_| {
                    let open = gate.0.lock().unwrap();
                    drop(gate.1.wait_while(open, |open| !*open).unwrap());
                    runs.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                })
        };
        let worker = worker.build().await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let work = tokio::spawn(worker.run(async { drop(stopped.await) }));
        until_queue(&queue, "all are held", |seen| seen.in_flight == JOBS).await;
        server.stop();
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        until("all have run", || runs.load(Ordering::Relaxed) == JOBS);
        server.go_on();
        until_queue(&queue, "all are acked", is_empty).await;
        stop.send(()).unwrap();
        let report = work.await.unwrap().unwrap();
        assert_eq!(report.status.acked, JOBS);
        assert_eq!(report.status.lease_lost, 0);
        assert_eq!(runs.load(Ordering::Relaxed), JOBS);
    });
}
