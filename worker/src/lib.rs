//! Jobs from NATS JetStream, on an [`adaptive_pool::Pool`]: many machines, one queue.
//!
//! One machine is one process with one pool. When that is not enough, jobs come from a JetStream stream,
//! and each machine pulls as many as its pool has places for. This crate is what lies between the two:
//! a loop that fetches, an ack for each job, and what to do when something dies.
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
//!         println!("{name}, for the {}. time", job.delivery());
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
//! moment; then it may run again, and at the same time as its first run too. So effects are idempotent:
//! write under a name that follows from the input, to a temporary name first, sync, rename. JetStream
//! accepts the ack of a lease that is over, and so cannot tell two holders apart.
//!
//! **Places first.** The fetcher takes places of the pool, then fetches as many messages. What a process
//! holds is thus what its pool may queue plus what its workers run; the rest stays with the server, for
//! others. Nothing is fetched that has to be refused.
//!
//! **The lease** belongs to the ledger, from the fetch to the server's answer to the last word. Its length
//! is the consumer's `ack_wait`. While it is there, the *beat* renews it each third of its length: one
//! message after the other, and never all of an owner's, since a message whose delivery was lost on the
//! way would be kept by that for ever. A job looks at the age of its lease in its first line, and gives up
//! when it is over: the machine has slept, and another one has the message.
//!
//! **The guard** belongs to the job, and tells the *settler* by its drop how the job ended: done, failed,
//! or not started. Cancellation, a pool's shutdown and panics need nothing else.
//!
//! **The ack** belongs to the settler. It comes after the job, and is repeated until the server has
//! answered it or the lease is over.
//!
//! **Failures and crashes.** A job that panics or returns an error comes again after a back-off, and is
//! dead after five times. A message that was delivered 25 times and never ended, since it ends the
//! process each time, is dead too; from the third on it runs alone, so that it takes no others along. Dead
//! messages are in the stream `<stream>-dead`, with headers that say why; [`Queue::next_dead`] reads
//! them and [`Queue::revive`] puts them back. The consumer's own limit of deliveries is off: it counts
//! kills and drains too, and past it a message stays in the stream and nobody is told.
//!
//! **The stop.** No more fetches; then what has not started is given back; then what runs may end and is
//! acked; then the beat stops.
//!
//! # Seeing it
//!
//! [`Worker::collector`] has the worker's metrics, for the registry of [`Pool::collector`]. Each job runs in
//! a `tracing` span `job` with its stream, sequence, delivery and the header `traceparent`.
//! [`Queue::status`] asks the server and all workers.
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
