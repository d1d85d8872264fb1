//! The beat: keeps the leases of the messages that are held.
//!
//! Every third of a lease it asks the server to renew each lease of the ledger, by the message's own
//! ack subject, and waits for the answer. So one beat may be lost at least. It never renews by owner: a message
//! whose delivery never arrived here would be kept from everybody for ever.
//!
//! A lease that was not renewed in its whole time is lost: from then on the beat leaves it alone, since
//! another process may have the message, and that one's lease is not ours to keep.

use std::sync::Arc;

use async_nats::jetstream::AckKind;
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use crate::{lease::Lease, settle, shared::Shared, stamp::Stamp};

/// Beats in a lease.
const BEATS: u32 = 3;

pub(crate) async fn run(shared: Arc<Shared>) {
    let period = shared.lease / BEATS;
    let mut ticks = interval(period);
    // After a sleep of the machine one beat is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let leases = shared.ledger.all();
        // A message that has just come needs none yet.
        let due = leases.iter().filter(|lease| lease.age() >= period / 4);
        join_all(due.map(|lease| renew(&shared, lease))).await;
    }
}

async fn renew(shared: &Shared, lease: &Lease) {
    if lease.age() >= shared.lease {
        return settle::lost(shared, lease, "the server did not renew it in time");
    }
    let asked = Stamp::now();
    let patience = shared.lease / (2 * BEATS);
    match shared.say(&lease.reply, AckKind::Progress, patience).await {
        Ok(()) => lease.renew(asked),
        Err(error) => {
            tracing::warn!(
                sequence = lease.sequence,
                why = error.0,
                "a beat had no answer"
            );
        }
    }
}
