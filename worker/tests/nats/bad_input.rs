//! Each bad input has an error that names what to do, and none loses a message.

use std::{sync::Arc, time::Duration};

use adaptive_pool::Pool;
use adaptive_pool_worker::{Error, Failure, Queue, Worker, async_nats::ConnectOptions, connect};

use crate::{
    server::Server,
    support::{is_empty, publish, until_queue, watched},
};

fn says(error: &Error, what_to_do: &str) {
    let text = error.to_string();
    assert!(text.contains(what_to_do), "{text}");
}

fn pool() -> Arc<Pool> {
    Arc::new(Pool::builder().workers(1).capacity(1).build().unwrap())
}

#[test]
fn a_server_that_is_not_there_is_named() {
    watched(Duration::from_secs(60), || async {
        // A port without a listener.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", port.local_addr().unwrap());
        drop(port);
        let error = connect(&url, ConnectOptions::new()).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        says(&error, &url);
        says(&error, "nats-server -js");
    });
}

#[test]
fn wrong_credentials_are_named() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::start(&["-js", "--user", "worker", "--pass", "right"]) else {
            return;
        };
        let options = |pass: &str| {
            ConnectOptions::new().user_and_password(String::from("worker"), pass.to_owned())
        };
        let error = connect(&server.url(), options("wrong")).await.unwrap_err();
        assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
        says(&error, "check user, password");
        let client = connect(&server.url(), options("right")).await.unwrap();
        Queue::create(&client, "jobs", 1).await.unwrap();
    });
}

#[test]
fn a_missing_stream_and_a_server_without_jetstream_are_named() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let worker = Worker::builder(pool(), server.client().await);
        let error = worker.handler(|_| Ok(())).build().await.unwrap_err();
        assert!(matches!(error, Error::NoStream { .. }), "{error:?}");
        says(&error, "batch_worker enqueue --stream jobs");

        let plain = Server::start(&[]).unwrap();
        let error = Queue::create(&plain.client().await, "jobs", 1)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NoJetStream), "{error:?}");
        says(&error, "nats-server -js");
    });
}

#[test]
fn options_that_cannot_be_are_named() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        server.queue().await;
        let client = server.client().await;
        let worker = || Worker::builder(pool(), client.clone()).handler(|_| Ok(()));
        let short = worker().lease(Duration::from_millis(1)).build().await;
        says(&short.unwrap_err(), "lease = 1ms: at least 300 ms");
        let none = worker().batch(0).build().await;
        says(&none.unwrap_err(), "batch = 0");
        let name = worker().stream("a.b").build().await;
        says(&name.unwrap_err(), "letters, digits");
        let idle = Worker::builder(pool(), client.clone()).build().await;
        says(&idle.unwrap_err(), "handler");
    });
}

#[test]
fn a_message_that_does_not_parse_is_dead_at_once_and_kept() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        queue.publish("odd", b"\xff\xfe").await.unwrap();
        publish(&queue, [String::from("fine")]).await;
        let worker = Worker::builder(pool(), server.client().await).handler(|job| {
            std::str::from_utf8(job.payload()).map_err(Failure::poison)?;
            Ok(())
        });
        let worker = worker.build().await.unwrap();
        let work = tokio::spawn(worker.run(std::future::pending()));
        until_queue(&queue, "one is done and one dead", |seen| {
            is_empty(seen) && seen.dead == 1 && seen.done == 1
        })
        .await;
        work.abort();
        let dead = queue.next_dead(0).await.unwrap().unwrap();
        assert_eq!(dead.reason, "poison");
        assert_eq!(dead.payload, b"\xff\xfe");
        assert!(dead.error.contains("utf-8"), "{}", dead.error);
    });
}

#[test]
fn a_machine_that_is_unfit_gives_everything_back_and_says_why() {
    watched(Duration::from_secs(60), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        publish(&queue, (0..10).map(|number| format!("job-{number}"))).await;
        let worker = Worker::builder(pool(), server.client().await)
            .handler(|_| Err(Failure::unfit("the disk is full: make room")));
        let worker = worker.build().await.unwrap();
        let error = worker.run(std::future::pending()).await.unwrap_err();
        assert!(matches!(error, Error::Unfit { .. }), "{error:?}");
        says(&error, "make room");
        let healthy = Worker::builder(pool(), server.client().await).handler(|_| Ok(()));
        let healthy = healthy.build().await.unwrap();
        let work = tokio::spawn(healthy.run(std::future::pending()));
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == 10 && seen.dead == 0
        })
        .await;
        work.abort();
    });
}

#[test]
fn a_stream_that_is_removed_ends_the_worker_with_its_name() {
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        server.queue().await;
        let client = server.client().await;
        let worker = Worker::builder(pool(), client.clone()).handler(|_| Ok(()));
        let worker = worker.build().await.unwrap();
        let work = tokio::spawn(worker.run(std::future::pending()));
        let jetstream = adaptive_pool_worker::async_nats::jetstream::new(client);
        jetstream.delete_stream("jobs").await.unwrap();
        let error = work.await.unwrap().unwrap_err();
        says(&error, "`jobs`");
    });
}

/// The permissions that docs/machines.md lists for a worker's user.
#[test]
fn the_permissions_in_the_docs_are_enough_for_a_worker_and_a_producer() {
    const CONFIG: &str = r#"authorization { users = [
        { user: admin, password: secret }
        { user: worker, password: secret, permissions: {
            publish: ["$JS.API.>", "$JS.ACK.>", "jobs.jobs", "jobs.dead", "jobs.ended.>", "_INBOX.>",
                      "_adaptive_pool.status.>"]
            subscribe: ["_INBOX.>", "_adaptive_pool.status.>"]
        } }
    ] }"#;
    watched(Duration::from_secs(60), || async {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        std::fs::write(&config, CONFIG).unwrap();
        let Some(server) = Server::start(&["-js", "-c", config.to_str().unwrap()]) else {
            return;
        };
        let options =
            ConnectOptions::new().user_and_password("worker".to_owned(), "secret".to_owned());
        let client = connect(&server.url(), options).await.unwrap();
        let queue = Queue::create(&client, "jobs", 1).await.unwrap();
        publish(&queue, ["fine", "bad"].map(String::from)).await;
        let worker = Worker::builder(pool(), client)
            .backoff(Duration::from_millis(10), Duration::from_millis(10))
            .handler(|job| match job.payload() {
                b"bad" => Err(Failure::again("bad")),
                _ => Ok(()),
            });
        let work = tokio::spawn(worker.build().await.unwrap().run(std::future::pending()));
        until_queue(&queue, "one is done, one dead", |seen| {
            is_empty(seen) && seen.done == 1 && seen.dead == 1 && seen.workers.len() == 1
        })
        .await;
        work.abort();
    });
}

/// With the headers of a dead message it exceeds the server's limit.
#[test]
fn a_dead_message_that_cannot_be_published_goes_back_and_is_kept() {
    watched(Duration::from_secs(120), || async {
        let Some(server) = Server::jetstream() else {
            return;
        };
        let queue = server.queue().await;
        let largest = server.client().await.max_payload();
        queue
            .publish("large", vec![b'x'; largest - 100])
            .await
            .unwrap();
        let worker = Worker::builder(pool(), server.client().await)
            .backoff(Duration::from_millis(10), Duration::from_secs(600))
            .handler(|_| Err(Failure::poison("odd")));
        let worker = worker.build().await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let work = tokio::spawn(worker.run(async { drop(stopped.await) }));
        until_queue(&queue, "it went back", |seen| {
            seen.workers.iter().any(|worker| worker.retried == 1)
        })
        .await;
        stop.send(()).unwrap();
        assert_eq!(work.await.unwrap().unwrap().left, 0);
        let seen = queue.status("workers").await.unwrap();
        assert_eq!((seen.depth(), seen.dead), (1, 0));
    });
}
