//! The settler: reports to the server how each delivery ended, until the server answers.
//!
//! The guards' drops send it what ended. It takes all of them in one turn and sends all acks at
//! once: the client writes them together, and each future waits for its own answer. An ack without
//! an answer is repeated until the lease expires. It is sent at least once in any case: the server
//! accepts a late ack, which saves a second run.
//!
//! | ended | sent | recorded |
//! |---|---|---|
//! | done | `ACK` | – |
//! | failed | `NAK` with a backoff; dead after `max_failures` | `failed` |
//! | poison, crashed too often | dead | – |
//! | did not start | `NAK` | `back` |
//! | did not start, lease expired | nothing: another process has it | `late` |
//!
//! Dead means: published to `<stream>.dead` with headers that give the reason; then, once the
//! server has stored it, `TERM`. After a crash between the two it is published again, with the same
//! id.
//!
//! If a record or a dead message cannot be stored while the lease lasts, the message goes back with
//! the longest backoff, and the log has the reason.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap, HeaderValue,
    header::NATS_MESSAGE_ID,
    jetstream::{AckKind, message::PublishMessage},
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};
use tracing::{error, warn};

use crate::{
    failure::{Failure, FailureKind},
    guard::{Ended, Outcome},
    history,
    lease::Lease,
    names,
    poison::jitter,
    shared::{NoAnswer, Shared},
    stamp::Stamp,
};

/// How long one ack waits for its answer. By feel: a server under load answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Attempts within some seven seconds. What still fails then does not end with the lease: a dead
/// message that is too large with its headers, a stream that is full, a permission that is missing.
const ATTEMPTS: u32 = 10;
/// The most ends of one turn.
const TURN: usize = 256;

pub(crate) async fn run(shared: Arc<Shared>, mut ends: UnboundedReceiver<Ended>) {
    let mut settling = FuturesUnordered::new();
    let mut turn = Vec::with_capacity(TURN);
    loop {
        tokio::select! {
            taken = ends.recv_many(&mut turn, TURN) => {
                if taken == 0 {
                    return;
                }
                settling.extend(turn.drain(..).map(|ended| settle(&shared, ended)));
            }
            Some(()) = settling.next(), if !settling.is_empty() => {}
        }
    }
}

async fn settle(shared: &Shared, ended: Ended) {
    let Ended { lease, outcome } = ended;
    let metrics = &shared.metrics;
    match outcome {
        Outcome::Done => {
            let began = Instant::now();
            if acknowledge(shared, &lease, AckKind::Ack).await {
                metrics.acked.inc();
                metrics.ack_seconds.observe(began.elapsed().as_secs_f64());
            }
        }
        Outcome::GivenBack => give_back(shared, &lease, None).await,
        Outcome::LeaseOver => {
            lost(shared, &lease, "its job had not started");
            // Without its record the delivery counts as a crash, of which some are allowed.
            let _ = history::record(shared, &lease, history::LATE, PATIENCE).await;
        }
        Outcome::Failed(failure) => match failure.kind {
            FailureKind::Again => again(shared, &lease, &failure).await,
            FailureKind::Poison => {
                let why = Death {
                    reason: "poison",
                    error: failure.to_string(),
                    failures: 1,
                    crashes: 0,
                };
                bury(shared, &lease, &why).await;
            }
            FailureKind::Unfit => {
                error!(%failure, "this machine cannot do these jobs; the worker drains");
                shared.stop.set_unfit(failure);
                // Delayed: another worker on this machine may fail in the same way.
                give_back(shared, &lease, Some(Duration::from_secs(1))).await;
            }
        },
        Outcome::Crashed(crashes) => {
            let why = Death {
                reason: "crashed",
                error: format!(
                    "{crashes} deliveries never ended: each time the process died, or its lease ran out"
                ),
                failures: 0,
                crashes,
            };
            bury(shared, &lease, &why).await;
        }
    }
    shared.ledger.settle(&lease);
}

async fn give_back(shared: &Shared, lease: &Lease, delay: Option<Duration>) {
    // Beside the ack, not before it: a drain has little time.
    let record = history::record(shared, lease, history::BACK, PATIENCE);
    let (_, answered) = tokio::join!(record, acknowledge(shared, lease, AckKind::Nak(delay)));
    if answered {
        shared.metrics.given_back.inc();
    }
}

async fn again(shared: &Shared, lease: &Lease, failure: &Failure) {
    let failures = until_expired(lease, shared.lease, ATTEMPTS, || async {
        history::record(shared, lease, history::FAILED, PATIENCE).await?;
        history::read(shared, lease, PATIENCE).await
    })
    .await;
    let Some(history) = failures else {
        return postpone(shared, lease, "its failure could not be recorded").await;
    };
    let failures = history.failures;
    if shared.policy.is_dead(failures) {
        let why = Death {
            reason: "failed",
            error: failure.to_string(),
            failures,
            crashes: lease.delivered.saturating_sub(history.ended),
        };
        return bury(shared, lease, &why).await;
    }
    let wait = shared.policy.backoff(failures, jitter());
    warn!(
        sequence = lease.sequence, failures, ?wait, %failure,
        "a job failed, and comes again"
    );
    if acknowledge(shared, lease, AckKind::Nak(Some(wait))).await {
        shared.metrics.retried.inc();
    }
}

/// Gives the message back with the longest backoff.
async fn postpone(shared: &Shared, lease: &Lease, why: &str) {
    error!(
        sequence = lease.sequence,
        "a message goes back to the queue: {why}"
    );
    if acknowledge(shared, lease, AckKind::Nak(Some(shared.policy.backoff_max))).await {
        shared.metrics.retried.inc();
    }
}

/// Why a message is dead.
struct Death {
    reason: &'static str,
    error: String,
    failures: u64,
    crashes: u64,
}

async fn bury(shared: &Shared, lease: &Lease, why: &Death) {
    let stored = until_expired(lease, shared.lease, ATTEMPTS, || {
        let message = PublishMessage::build().payload(lease.message.payload.clone());
        let headers = headers(shared, lease, why);
        shared.store(shared.names.dead_subject(), headers, message, PATIENCE)
    })
    .await;
    if stored.is_none() {
        return postpone(shared, lease, "it is dead, and cannot be published as such").await;
    }
    error!(
        sequence = lease.sequence,
        reason = why.reason,
        error = why.error,
        "a message is dead: see `batch_worker dead`, or the stream `<stream>-dead`"
    );
    if acknowledge(shared, lease, AckKind::Term).await {
        shared.metrics.dead.inc();
    }
}

/// The message's own headers, without the server's, and the reason of its death.
fn headers(shared: &Shared, lease: &Lease, why: &Death) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let own = lease.message.headers.iter().flat_map(HeaderMap::iter);
    for (name, values) in own {
        let text: &str = name.as_ref();
        if text.starts_with("Nats-") {
            if text.eq_ignore_ascii_case("Nats-Msg-Id")
                && let Some(id) = values.first()
            {
                headers.insert(names::ID, id.clone());
            }
            continue;
        }
        for value in values {
            headers.append(name.clone(), value.clone());
        }
    }
    let names = &shared.names;
    let id = format!("dead:{}:{}", names.created, lease.sequence);
    headers.insert(NATS_MESSAGE_ID, id.as_str());
    headers.insert(names::REASON, why.reason);
    headers.insert(names::ERROR, names::header_text(&why.error).as_str());
    headers.insert(names::DELIVERIES, HeaderValue::from(lease.delivered));
    headers.insert(names::FAILURES, HeaderValue::from(why.failures));
    headers.insert(names::CRASHES, HeaderValue::from(why.crashes));
    headers.insert(
        names::SUBJECT,
        names::header_text(&lease.message.subject).as_str(),
    );
    headers.insert(names::SEQUENCE, HeaderValue::from(lease.sequence));
    headers
}

/// Sends `kind` until it is answered, or the lease expires. Returns whether it was answered.
async fn acknowledge(shared: &Shared, lease: &Lease, kind: AckKind) -> bool {
    let answered = until_expired(lease, shared.lease, u32::MAX, || {
        let asked = Stamp::now();
        async move {
            shared.acknowledge(&lease.reply, kind, PATIENCE).await?;
            lease.renew(asked);
            Ok(())
        }
    })
    .await;
    if answered.is_none() {
        lost(shared, lease, "the server did not answer");
    }
    answered.is_some()
}

/// Repeats `attempt` until it succeeds, the lease expires, or `attempts` are used up; at least
/// once.
async fn until_expired<T, F>(
    lease: &Lease,
    longest: Duration,
    attempts: u32,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, NoAnswer>>,
{
    let mut pause = PAUSE;
    for _ in 0..attempts {
        let NoAnswer(why) = match attempt().await {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if lease.age() >= longest {
            return None;
        }
        warn!(sequence = lease.sequence, %why, "no answer from the server; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    None
}

/// Counts an expired lease, once.
pub(crate) fn lost(shared: &Shared, lease: &Lease, what: &str) {
    if lease.lose() {
        shared.metrics.lease_lost.inc();
        warn!(
            sequence = lease.sequence,
            "a lease expired, and its message comes again: {what}"
        );
    }
}
