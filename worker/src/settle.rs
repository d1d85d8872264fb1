//! The settler: says to the server how each delivery ended, until the server has answered.
//!
//! The guards' drops send it what ended. It takes all there is in one turn, and asks for all of them at
//! once: the client writes them in one go and each future waits for its own answer. A word that is not
//! answered is said again until the lease is over; at least once in any case, since a late ack is
//! accepted, and spares a second run.
//!
//! | ended | said | recorded |
//! |---|---|---|
//! | done | `ACK` | – |
//! | failed | `NAK` with a back-off; dead after `max_failures` | `failed` |
//! | poison, crashed too often | dead | – |
//! | did not start | `NAK` | `back` |
//! | did not start, lease over | nothing: another process has it | `late` |
//!
//! Dead means: published to `<stream>.dead`, with headers that say why; then `TERM`, and only when the
//! server has stored the first. A crash between the two has it published again, with the same id.
//!
//! What cannot be stored, though the lease is kept, is not lost either: its message goes back with the
//! longest back-off, and the log says why.

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

/// How long one word waits for its answer. By feel: a server under load answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many attempts, some seven seconds apart from first to last, something is wrong that a lease does
/// not end: a dead message that is too large with its headers, a stream that is full, a right that is missing.
const ATTEMPTS: u32 = 10;
/// Ends that are taken in one turn.
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
            if say(shared, &lease, AckKind::Ack).await {
                metrics.acked.inc();
                metrics.ack_seconds.observe(began.elapsed().as_secs_f64());
            }
        }
        Outcome::GivenBack => give_back(shared, &lease, None).await,
        Outcome::LeaseOver => {
            lost(shared, &lease, "its job had not started");
            // If it cannot be stored, the delivery counts as a crash: few of those are dealt with.
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
                die(shared, &lease, &why).await;
            }
            FailureKind::Unfit => {
                error!(%failure, "this machine cannot do these jobs; the worker drains");
                shared.set_unfit(failure);
                // Not at once: another worker may share what is wrong here.
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
            die(shared, &lease, &why).await;
        }
    }
    shared.ledger.settle(&lease);
}

async fn give_back(shared: &Shared, lease: &Lease, delay: Option<Duration>) {
    // Beside the word, not before it: a drain has little time.
    let record = history::record(shared, lease, history::BACK, PATIENCE);
    let (_, said) = tokio::join!(record, say(shared, lease, AckKind::Nak(delay)));
    if said {
        shared.metrics.given_back.inc();
    }
}

async fn again(shared: &Shared, lease: &Lease, failure: &Failure) {
    let failures = until_over(lease, shared.lease, ATTEMPTS, || async {
        history::record(shared, lease, history::FAILED, PATIENCE).await?;
        history::read(shared, lease, PATIENCE).await
    })
    .await;
    let Some(history) = failures else {
        return later(shared, lease, "its failure could not be recorded").await;
    };
    let failures = history.failures;
    if shared.policy.is_dead(failures) {
        let why = Death {
            reason: "failed",
            error: failure.to_string(),
            failures,
            crashes: lease.delivered.saturating_sub(history.ended),
        };
        return die(shared, lease, &why).await;
    }
    let wait = shared.policy.backoff(failures, jitter());
    warn!(
        sequence = lease.sequence, failures, ?wait, %failure,
        "the job failed, and comes again"
    );
    if say(shared, lease, AckKind::Nak(Some(wait))).await {
        shared.metrics.retried.inc();
    }
}

/// The message goes back for long.
async fn later(shared: &Shared, lease: &Lease, why: &str) {
    error!(
        sequence = lease.sequence,
        "a message goes back to the queue: {why}"
    );
    if say(shared, lease, AckKind::Nak(Some(shared.policy.backoff_max))).await {
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

async fn die(shared: &Shared, lease: &Lease, why: &Death) {
    let stored = until_over(lease, shared.lease, ATTEMPTS, || {
        let message = PublishMessage::build().payload(lease.message.payload.clone());
        let headers = headers(shared, lease, why);
        shared.store(shared.names.dead_subject(), headers, message, PATIENCE)
    })
    .await;
    if stored.is_none() {
        return later(shared, lease, "it is dead, and cannot be published as such").await;
    }
    error!(
        sequence = lease.sequence,
        reason = why.reason,
        error = why.error,
        "the message is dead: see `<stream>.dead`"
    );
    if say(shared, lease, AckKind::Term).await {
        shared.metrics.dead.inc();
    }
}

/// The message's own headers but the server's, and why it is dead.
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

/// Says the word until it is answered; whether it was.
async fn say(shared: &Shared, lease: &Lease, word: AckKind) -> bool {
    let said = until_over(lease, shared.lease, u32::MAX, || {
        let asked = Stamp::now();
        async move {
            shared.say(&lease.reply, word, PATIENCE).await?;
            lease.renew(asked);
            Ok(())
        }
    })
    .await;
    if said.is_none() {
        lost(shared, lease, "the server did not answer");
    }
    said.is_some()
}

/// Tries until it succeeds, the lease is over, or there is no more hope; once in any case.
async fn until_over<T, F>(
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
        warn!(sequence = lease.sequence, %why, "no answer from the server; once more");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    None
}

/// Counts a lease that ran out, once.
pub(crate) fn lost(shared: &Shared, lease: &Lease, what: &str) {
    if lease.lose() {
        shared.metrics.lease_lost.inc();
        warn!(
            sequence = lease.sequence,
            "a lease was lost, and the message comes again: {what}"
        );
    }
}
