//! Jobs from NATS JetStream on an [`adaptive_pool::Pool`]: many machines, one queue.
//!
//! One machine is one process with one pool. When one machine is not enough, jobs come from a
//! JetStream stream, and each machine pulls as many as its pool has places for. This crate is the
//! part between the two: a loop that fetches, an ack for each job, and the handling of what dies.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use adaptive_pool::Pool;
//! use adaptive_pool_worker::{Failure, Job, Queue, Worker, connect};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = connect("nats://127.0.0.1:4222", Default::default()).await?;
//! let queue = Queue::create(&client, "thumbnails", 1).await?;
//! queue.publish("image-17", "image-17").await?; // any process, any machine
//!
//! let pool = Arc::new(Pool::builder().workers(4).capacity(4).name("thumbnails").build()?);
//! let worker = Worker::builder(Arc::clone(&pool), client)
//!     .stream("thumbnails")
//!     .handler(|job: &Job<'_>| {
//!         let name = std::str::from_utf8(job.payload()).map_err(Failure::poison)?;
//!         println!("{name}, delivery {}", job.delivery());
//!         Ok(())
//!     })
//!     .build()
//!     .await?;
//! let report = worker.run(tokio::time::sleep(Duration::from_secs(60))).await?;
//! println!("{} done", report.status.acked);
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol
//!
//! **At least once.** A job runs once, unless a process, a machine or the network dies at the wrong
//! moment. Then it may run again, also while its first run goes on. So effects are idempotent: a
//! job writes under a name that follows from its input, to a temporary name first, syncs, and
//! renames. JetStream accepts the ack of an expired lease, so it cannot keep two holders apart.
//!
//! **Places first.** The fetcher reserves places of the pool, then fetches as many messages. A
//! process thus holds what its pool may queue plus what its workers run. The rest stays with the
//! server, for others, and no message is fetched that has to be refused.
//!
//! **The lease** belongs to the ledger, from the fetch to the server's answer to the last ack. Its
//! length is the consumer's `ack_wait`. The *beat* renews each lease of the ledger every third of
//! that length. It renews message by message, never by owner: a message whose delivery was lost on
//! the way would be kept alive forever. A job that finds its lease expired does not start: the
//! machine has slept, and another one has the message.
//!
//! **The guard** belongs to the job. Its drop reports to the *settler* how the job ended: done,
//! failed, or not started. Cancellation, a pool's shutdown and panics need no code of their own.
//!
//! **The ack** belongs to the settler. It follows the job, and is repeated until the server answers
//! or the lease expires.
//!
//! **Failures and crashes.** A job that panics or returns an error comes again after a backoff;
//! after five failures it is dead. A message that is delivered 25 times and never ends, because it
//! ends its process each time, is dead too; from its third crash on it runs alone, and takes no
//! other message along. Dead messages go to the stream `<stream>-dead`, with headers that give the
//! reason; [`Queue::next_dead`] reads them, and [`Queue::revive`] puts them back. The consumer's
//! own limit of deliveries is off: it counts kills and drains too, and a message past it stays in
//! the stream without a notice.
//!
//! **The stop.** First no more fetches; then what has not started is given back; then running jobs
//! end and are acked; then the beat stops.
//!
//! # Observing it
//!
//! [`Worker::collector`] has the worker's metrics, for the registry of [`Pool::collector`]. Each
//! job runs in a `tracing` span `job` with its stream, sequence, delivery and the header
//! `traceparent`. [`Queue::status`] asks the server and all workers.
//!
//! [`Pool::collector`]: adaptive_pool::Pool::collector

mod beat;
mod builder;
mod connect;
mod dead;
mod error;
mod failure;
mod fetch;
mod guard;
mod history;
mod job;
mod lease;
mod metrics;
mod names;
mod poison;
mod presence;
mod pull;
mod queue;
mod settle;
mod shared;
mod stamp;
mod stop;
mod worker;

pub use async_nats;

pub use self::{
    builder::Builder,
    connect::connect,
    dead::DeadMessage,
    error::Error,
    failure::Failure,
    job::Job,
    presence::WorkerStatus,
    queue::{Published, Queue, QueueStatus},
    worker::{Health, Report, Worker},
};

/// The headers of dead messages.
pub mod headers {
    pub use crate::names::{CRASHES, DELIVERIES, ERROR, FAILURES, ID, REASON, SEQUENCE, SUBJECT};
}
