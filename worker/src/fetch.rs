//! The fetcher: places first, then as many messages.
//!
//! A turn:
//!
//! 1. Wait for a place of the pool, and for a moment for a quarter of its places if it has many: a fetch costs
//!    the same for one message and for ten. Take more if there are any, up to a batch.
//! 2. Fetch as many messages as there are places, at once. Each becomes a lease and a job as it comes.
//! 3. If there were none: give all places back but one, and wait for a message with that one. So an idle
//!    worker keeps one place from others that share the pool.
//!
//! A message thus always finds its place, and nothing can be refused. What a machine holds is what its
//! pool may queue, what its workers run, and what waits for its ack ([`SLACK`] at most).
//!
//! A message that has crashed often runs alone (see [`poison`](crate::poison)): the fetcher keeps it and
//! its place, waits until all else has been settled, lets it run, and fetches again when it has been
//! settled too.
//!
//! On a stop the subscription is ended first, and the server confirms it; what it brought until then
//! is given back. Only after that does the worker cancel what has not started.

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

/// Messages that are done, and may wait for the answer to their acks. By feel: a server that answers
/// slowly must not let them grow.
const SLACK: usize = 1024;
/// The part of the pool's places that a fetch waits for. The others hold jobs enough meanwhile.
const FEW: usize = 4;
/// For how long it does. Jobs that are longer have no use for it.
const SOON: Duration = Duration::from_millis(5);
/// Between two looks for the connection, or for a server that is starting.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a history may take to be read.
const PATIENCE: Duration = Duration::from_secs(2);
/// After fetches have failed for as long, the server is asked whether the consumer is still there. One that
/// is not there answers nothing.
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
            () = shared.stopped() => break Ok(()),
            turn = turn => turn,
        };
        match turn {
            Turn::Fine => {
                failing = None;
                continue;
            }
            Turn::Closed => break Err(Error::PoolClosed),
            Turn::Nobody => {}
            Turn::Broken(why) => {
                warn!(%why, "a fetch failed; once more");
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
            if let Err(gone) = look(&shared, &consumer).await {
                break Err(gone);
            }
            failing = None;
        }
        sleep(PAUSE).await;
    };
    give_back(&shared, pull.close().await);
    outcome
}

/// Until it succeeds; `None` on a stop.
async fn subscribe(shared: &Shared, consumer: &PullConsumer) -> Option<Pull> {
    while !shared.is_stopping() {
        if let Ok(pull) = Pull::new(&shared.client, consumer).await {
            return Some(pull);
        }
        sleep(PAUSE).await;
    }
    None
}

/// Whether the consumer is still there, if the server says so.
async fn look(shared: &Shared, consumer: &PullConsumer) -> Result<(), Error> {
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
    /// The pool takes nothing any more.
    Closed,
    /// No server listens to fetches.
    Nobody,
    /// The subscription has to be given up.
    Broken(String),
}

/// If it is dropped half way, on a stop, its places go back to the pool, and what it has fetched is in
/// the ledger.
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
    if let Err(why) = pull.at_once(places.len()).await {
        return Turn::Broken(why);
    }
    let mut patient = false;
    loop {
        match pull.next().await {
            Answer::Message(message, since) => {
                // As many as were asked for.
                let Some(place) = places.pop() else {
                    return Turn::Broken(String::from("more messages than were asked for"));
                };
                fetched += 1;
                shared.metrics.fetched.inc();
                let Some(lease) = shared.ledger.enter(*message, since) else {
                    warn!("a message that comes from no consumer; it is passed over");
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
                shared.heard();
                if fetched > 0 || patient {
                    break;
                }
                places.truncate(1);
                patient = true;
                if let Err(why) = pull.patiently().await {
                    return Turn::Broken(why);
                }
            }
            Answer::Nobody => return Turn::Nobody,
            Answer::Silence(why) => return Turn::Broken(why),
        }
    }
    if !patient {
        shared
            .metrics
            .fetch_seconds
            .observe(began.elapsed().as_secs_f64());
    }
    drop(places);
    run_alone(shared, suspects).await;
    Turn::Fine
}

/// A message that has been fetched, and has no job yet. Dropped, it is given back.
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

    /// Asks for the history of a message that was delivered often, and only then.
    async fn verdict(&mut self) -> Verdict {
        let policy = &self.shared.policy;
        let lease = &self.lease;
        if lease.delivered <= poison::SUSPECT.min(policy.max_crashes) {
            return Verdict::Run;
        }
        let Ok(history) = history::read(&self.shared, lease, PATIENCE).await else {
            // Nothing is known: it may be a poison, and may not be thrown away.
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
    // The pool runs it in the span that it is submitted in.
    let handle = span.in_scope(|| place.submit(move || guard.run()));
    lease.set_handle(handle);
}

/// One after the other, with nothing else held.
async fn run_alone(shared: &Arc<Shared>, mut suspects: Vec<(Kept, Permit<'_>)>) {
    while let Some((suspect, place)) = suspects.pop() {
        let others = suspects.len() + 1;
        shared.ledger.wait_for(|held| held <= others).await;
        let sequence = suspect.lease.sequence;
        warn!(
            sequence,
            "a message that may have ended processes runs alone"
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
