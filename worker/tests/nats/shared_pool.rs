//! A pool that the worker shares with others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use adaptive_pool::Pool;
use adaptive_pool_worker::{Error, Worker};

use crate::{
    server::Server,
    support::{is_empty, publish, until, until_queue, watched},
};

#[test]
fn local_submitters_and_the_stream_share_a_pool_and_both_get_on() {
    const JOBS: u64 = 500;
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, (0..JOBS).map(|number| format!("job-{number}"))).await;
        let pool = Arc::new(Pool::builder().workers(2).capacity(8).build().unwrap());
        let stop_local = Arc::new(AtomicBool::new(false));
        let local = Arc::new(AtomicU64::new(0));
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                let (pool, stop, local) = (
                    Arc::clone(&pool),
                    Arc::clone(&stop_local),
                    Arc::clone(&local),
                );
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let local = Arc::clone(&local);
                        let spawned = pool.spawn(move || {
                            local.fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(spawned.is_ok());
                    }
                })
            })
            .collect();
        let worker = Worker::builder(Arc::clone(&pool), server.client().await)
            .handler(|_| Ok(()))
            .build()
            .await
            .unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let work = tokio::spawn(worker.run(async { drop(stopped.await) }));
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == JOBS
        })
        .await;
        // An idle worker holds one place, and leaves the rest to others.
        let before = local.load(Ordering::Relaxed);
        until("local jobs go on", || {
            local.load(Ordering::Relaxed) > before + 1000
        });
        stop.send(()).unwrap();
        let report = work.await.unwrap().unwrap();
        assert_eq!(report.status.acked, JOBS);
        assert_eq!(report.left, 0);
        stop_local.store(true, Ordering::Relaxed);
        for submitter in submitters {
            submitter.join().unwrap();
        }
        assert_eq!(pool.shutdown().panicked, 0);
    });
}

#[test]
fn a_pool_that_is_closed_ends_the_worker_and_gives_its_messages_back() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        let pool = Arc::new(Pool::builder().workers(1).capacity(4).build().unwrap());
        let worker = Worker::builder(Arc::clone(&pool), server.client().await)
            .handler(|_| Ok(()))
            .build()
            .await
            .unwrap();
        pool.close();
        let ended = worker.run(std::future::pending()).await;
        assert!(matches!(ended, Err(Error::PoolClosed)), "{ended:?}");
        publish(&queue, [String::from("job")]).await;
        until_queue(&queue, "it waits", |seen| seen.waiting == 1).await;
    });
}
