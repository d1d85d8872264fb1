//! The fetcher: places first, then as many messages.
//!
//! A turn:
//!
//! 1. Reserve a place of the pool. If the pool has many, wait a short time for a quarter of them: a
//!    fetch of one message costs as much as a fetch of ten. Then take all that are free, up to a
//!    batch.
//! 2. Fetch as many messages, without waiting. Each becomes a lease and a job as it arrives.
//! 3. If there were none, return all places but one, and wait for a message with that one. So an
//!    idle worker holds one place of a pool that others share.
//!
//! So each message has its place, and none is refused. A process holds what its pool may queue,
//! what its workers run, and what waits for its ack (at most [`SLACK`]).
//!
//! A message that has crashed often runs alone (see [`poison`](crate::poison)). The fetcher keeps
//! it and its place until everything else is settled, submits it, and fetches again once it is
//! settled too.
//!
//! On a stop the fetcher first ends the subscription, and the server confirms that. What it brought
//! until then is given back. Only then does the worker cancel what has not started.

use std::{sync::Arc, time::Duration};

use adaptive_pool::Permit;
use async_nats::{Message, jetstream::consumer::PullConsumer};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info_span, warn};

use crate::{
    error::Error,
    guard::{Guard, Outcome},
    history,
    lease::Lease,
    poison::{self, Verdict},
    pull::{Answer, Pull},
    shared::Shared,
    stamp::Stamp,
};

/// The most messages that are done and wait for the answer to their acks. By feel: it bounds them
/// when the server answers slowly.
const SLACK: usize = 1024;
/// The part of the pool's places that a fetch waits for. The others hold enough jobs meanwhile.
const FEW: usize = 4;
/// The longest time of that wait. Longer jobs do not benefit from a longer one.
const SOON: Duration = Duration::from_millis(5);
/// Between two attempts while there is no connection, or the server is starting.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the read of a history may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// When fetches have failed for longer, the fetcher asks whether the consumer still exists. A
/// consumer that does not exist answers no fetch.
const GONE: Duration = Duration::from_secs(5);

pub(crate) async fn run(shared: Arc<Shared>, consumer: PullConsumer) -> Result<(), Error> {
    let Some(mut pull) = subscribe(&shared, &consumer).await else {
        return Ok(());
    };
    let mut failing: Option<Instant> = None;
    let outcome = loop {
        let turn = turn(&shared, &mut pull);
        let turn = tokio::select! {
            biased;
            () = shared.stop.begun() => break Ok(()),
            turn = turn => turn,
        };
        match turn {
            Turn::Fine => {
                failing = None;
                continue;
            }
            Turn::Closed => break Err(Error::PoolClosed),
            Turn::NoResponders => {}
            Turn::Broken(why) => {
                warn!(%why, "a fetch failed; trying again");
                let (renewed, late) = pull.renew().await;
                give_back(&shared, late);
                pull = match renewed {
                    Ok(pull) => pull,
                    Err(_) => match subscribe(&shared, &consumer).await {
                        Some(pull) => pull,
                        None => return Ok(()),
                    },
                };
            }
        }
        let since = *failing.get_or_insert_with(Instant::now);
        if since.elapsed() >= GONE {
            if let Err(gone) = find_consumer(&shared, &consumer).await {
                break Err(gone);
            }
            failing = None;
        }
        sleep(PAUSE).await;
    };
    give_back(&shared, pull.close().await);
    outcome
}

/// Subscribes, and repeats that until it succeeds; `None` on a stop.
async fn subscribe(shared: &Shared, consumer: &PullConsumer) -> Option<Pull> {
    while !shared.stop.is_stopping() {
        if let Ok(pull) = Pull::new(&shared.client, consumer).await {
            return Some(pull);
        }
        sleep(PAUSE).await;
    }
    None
}

/// Fails if the server answers that the consumer is gone.
async fn find_consumer(shared: &Shared, consumer: &PullConsumer) -> Result<(), Error> {
    use async_nats::jetstream::context::ConsumerInfoErrorKind as Kind;
    let names = &shared.names;
    match timeout(PATIENCE, consumer.get_info()).await {
        Ok(Err(error)) if error.kind() == Kind::NotFound => Err(Error::Consumer {
            stream: names.stream.clone(),
            consumer: names.consumer.clone(),
            why: String::from(
                "it was removed while workers used it; start them again, and it is created",
            ),
        }),
        Ok(Err(error)) if error.kind() == Kind::StreamNotFound => Err(Error::NoStream {
            stream: names.stream.clone(),
        }),
        _ => Ok(()),
    }
}

/// How a turn ended.
enum Turn {
    Fine,
    /// The pool is closed.
    Closed,
    /// No server answers fetches.
    NoResponders,
    /// The subscription has to be replaced.
    Broken(String),
}

/// Cancel-safe: its places return to the pool, and what it has fetched is in the ledger.
async fn turn(shared: &Arc<Shared>, pull: &mut Pull) -> Turn {
    if !shared.is_connected() {
        sleep(PAUSE).await;
        return Turn::Fine;
    }
    let most = shared.capacity.saturating_add(SLACK);
    shared.ledger.wait_for(|held| held < most).await;
    let Ok(first) = shared.pool.reserve_async().await else {
        return Turn::Closed;
    };
    let mut places = vec![first];
    let few = (shared.capacity / FEW).min(shared.batch);
    let soon = Instant::now() + SOON;
    while places.len() < few {
        match timeout_at(soon, shared.pool.reserve_async()).await {
            Ok(Ok(place)) => places.push(place),
            Ok(Err(_)) => return Turn::Closed,
            Err(_) => break,
        }
    }
    while places.len() < shared.batch {
        match shared.pool.try_reserve() {
            Ok(place) => places.push(place),
            Err(_) => break,
        }
    }

    let began = Instant::now();
    let mut fetched = 0;
    let mut suspects = Vec::new();
    if let Err(why) = pull.no_wait(places.len()).await {
        return Turn::Broken(why);
    }
    let mut polling = false;
    loop {
        match pull.next().await {
            Answer::Message(message, since) => {
                // At most as many messages come as were requested.
                let Some(place) = places.pop() else {
                    return Turn::Broken(String::from("more messages than were requested"));
                };
                fetched += 1;
                shared.metrics.fetched.inc();
                let Some(lease) = shared.ledger.enter(*message, since) else {
                    warn!("skipping a message that comes from no consumer");
                    continue;
                };
                let mut keep = Kept::new(shared, lease);
                match keep.verdict().await {
                    Verdict::Run => submit(keep, place),
                    Verdict::Dead => drop(keep),
                    Verdict::RunAlone => suspects.push((keep, place)),
                }
            }
            Answer::End => {
                shared.answers.record();
                if fetched > 0 || polling {
                    break;
                }
                places.truncate(1);
                polling = true;
                if let Err(why) = pull.long_poll().await {
                    return Turn::Broken(why);
                }
            }
            Answer::NoResponders => return Turn::NoResponders,
            Answer::Broken(why) => return Turn::Broken(why),
        }
    }
    if !polling {
        shared
            .metrics
            .fetch_seconds
            .observe(began.elapsed().as_secs_f64());
    }
    drop(places);
    run_alone(shared, suspects).await;
    Turn::Fine
}

/// A fetched message without a job. Its drop gives it back.
struct Kept {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    guard: Option<Guard>,
}

impl Kept {
    fn new(shared: &Arc<Shared>, lease: Arc<Lease>) -> Self {
        let guard = Guard::new(shared, Arc::clone(&lease));
        Self {
            shared: Arc::clone(shared),
            lease,
            guard: Some(guard),
        }
    }

    /// Reads the history of a message that was delivered often, and only then.
    async fn verdict(&mut self) -> Verdict {
        let policy = &self.shared.policy;
        let lease = &self.lease;
        if lease.delivered <= poison::SUSPECT.min(policy.max_crashes) {
            return Verdict::Run;
        }
        let Ok(history) = history::read(&self.shared, lease, PATIENCE).await else {
            // Its history is unknown: it may be a poison, and must not be dropped.
            return Verdict::RunAlone;
        };
        let crashes = history.crashes(lease.delivered);
        let verdict = policy.on_fetch(crashes);
        if verdict == Verdict::Dead
            && let Some(guard) = self.guard.take()
        {
            guard.end(Outcome::Crashed(crashes));
        }
        verdict
    }
}

fn submit(mut kept: Kept, place: Permit<'_>) {
    let Some(guard) = kept.guard.take() else {
        return;
    };
    let lease = &kept.lease;
    let parent = lease
        .message
        .headers
        .as_ref()
        .and_then(|headers| headers.get("traceparent"))
        .map(|value| value.as_str());
    let span = info_span!(
        "job",
        stream = kept.shared.names.stream,
        sequence = lease.sequence,
        delivery = lease.delivered,
        traceparent = parent,
    );
    // The pool runs a job in the span of its submission.
    let handle = span.in_scope(|| place.submit(move || guard.run()));
    lease.set_handle(handle);
}

/// Runs the suspects one after the other, while nothing else is held.
async fn run_alone(shared: &Arc<Shared>, mut suspects: Vec<(Kept, Permit<'_>)>) {
    while let Some((suspect, place)) = suspects.pop() {
        let others = suspects.len() + 1;
        shared.ledger.wait_for(|held| held <= others).await;
        let sequence = suspect.lease.sequence;
        warn!(
            sequence,
            "a message that may have ended its processes runs alone"
        );
        submit(suspect, place);
        shared.ledger.wait_for(|held| held < others).await;
    }
}

fn give_back(shared: &Arc<Shared>, late: Vec<(Message, Stamp)>) {
    for (message, since) in late {
        if let Some(lease) = shared.ledger.enter(message, since) {
            shared.metrics.fetched.inc();
            drop(Guard::new(shared, lease));
        }
    }
}
