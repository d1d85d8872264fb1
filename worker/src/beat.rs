//! The beat: renews the leases of the messages that this process holds.
//!
//! Every third of a lease it sends `Progress` for each lease of the ledger, to the message's own
//! ack subject, and waits for the answer. So one beat may be lost. It never renews by owner: a
//! message whose delivery was lost on the way would be kept from every worker forever.
//!
//! A lease that was not renewed within its length is lost. The beat then leaves it alone: another
//! process may have the message, and that lease is not ours to renew.

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
    // One beat is enough after the machine has slept.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let leases = shared.ledger.all();
        // A message that has just come needs no beat yet.
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
    match shared
        .acknowledge(&lease.reply, AckKind::Progress, patience)
        .await
    {
        Ok(()) => lease.renew(asked),
        Err(error) => {
            tracing::warn!(
                sequence = lease.sequence,
                why = error.0,
                "a beat was not answered"
            );
        }
    }
}
