//! Leases: the messages that this process holds, and the ledger of all of them.
//!
//! A lease begins with the fetch, is renewed by the beat, and ends with its settlement: the server
//! answers an ack, or the lease is found expired. The ledger holds exactly the leases between the
//! two, whatever their jobs do meanwhile. So the beat covers the time in the queue and the time of
//! the ack.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adaptive_pool::JobHandle;
use async_nats::{Message, Subject};
use tokio::sync::watch;

use crate::stamp::Stamp;

#[derive(Debug)]
pub(crate) struct Lease {
    /// Unique in this process. The stream's number is not: a message whose lease was lost may come
    /// here again while its first job still runs.
    pub(crate) id: u64,
    pub(crate) message: Message,
    /// Where acks go.
    pub(crate) reply: Subject,
    pub(crate) sequence: u64,
    /// The number of deliveries, this one included.
    pub(crate) delivered: u64,
    renewed: Mutex<Stamp>,
    lost: AtomicBool,
    handle: Mutex<Option<JobHandle<()>>>,
}

impl Lease {
    /// The time since the last renewal, or more: never less than the server's own count.
    pub(crate) fn age(&self) -> Duration {
        lock(&self.renewed).age()
    }

    /// `asked`: a time before the request of the renewal that succeeded.
    pub(crate) fn renew(&self, asked: Stamp) {
        *lock(&self.renewed) = asked;
    }

    /// Marks the lease as lost. Returns true for the first call only, whose caller counts it.
    pub(crate) fn lose(&self) -> bool {
        !self.lost.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn set_handle(&self, handle: JobHandle<()>) {
        *lock(&self.handle) = Some(handle);
    }

    /// Cancels the job if it has not started. Its guard then gives the message back.
    pub(crate) fn cancel(&self) {
        // Outside the lock: the guard's drop runs inside cancel.
        let handle = lock(&self.handle).take();
        if let Some(handle) = handle {
            handle.cancel();
        }
    }
}

/// The leases of this process.
#[derive(Debug)]
pub(crate) struct Ledger {
    leases: Mutex<Leases>,
    held: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Leases {
    last_id: u64,
    map: HashMap<u64, Arc<Lease>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            leases: Mutex::default(),
            held: watch::Sender::new(0),
        }
    }

    /// `since`: a time before the server sent the message, so the lease never seems younger than it
    /// is. Returns `None` if the message does not come from a consumer.
    pub(crate) fn enter(&self, message: Message, since: Stamp) -> Option<Arc<Lease>> {
        let reply = message.reply.clone()?;
        let (sequence, delivered) = parse(&reply)?;
        let mut leases = lock(&self.leases);
        leases.last_id += 1;
        let lease = Arc::new(Lease {
            id: leases.last_id,
            message,
            reply,
            sequence,
            delivered,
            renewed: Mutex::new(since),
            lost: AtomicBool::new(false),
            handle: Mutex::new(None),
        });
        leases.map.insert(lease.id, Arc::clone(&lease));
        self.held.send_replace(leases.map.len());
        Some(lease)
    }

    pub(crate) fn settle(&self, lease: &Lease) {
        let mut leases = lock(&self.leases);
        let entry = leases.map.remove(&lease.id);
        self.held.send_replace(leases.map.len());
        drop(leases);
        drop(entry);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Lease>> {
        lock(&self.leases).map.values().cloned().collect()
    }

    pub(crate) fn held(&self) -> usize {
        *self.held.borrow()
    }

    /// Waits until `enough` holds for the number of messages held.
    pub(crate) async fn wait_for(&self, mut enough: impl FnMut(usize) -> bool) {
        // The sender is part of self, so the channel stays open.
        let _ = self.held.subscribe().wait_for(|held| enough(*held)).await;
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the stream's sequence and the number of deliveries, from an ack subject:
///
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or with
/// `<domain>.<account>` before the stream, and possibly one more token at the end.
fn parse(reply: &str) -> Option<(u64, u64)> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let rest = match tokens.len() {
        7 => &tokens[2..],
        9.. => &tokens[4..],
        _ => return None,
    };
    Some((rest[1].parse().ok()?, rest[0].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_ack_subject_are_read() {
        let old = "$JS.ACK.jobs.workers.3.17.20.1700000000000000000.5";
        assert_eq!(parse(old), Some((17, 3)));
        let new = "$JS.ACK._.hash.jobs.workers.3.17.20.1700000000000000000.5.token";
        assert_eq!(parse(new), Some((17, 3)));
        assert_eq!(parse("_INBOX.x"), None);
        assert_eq!(parse("$JS.ACK.a.b"), None);
    }
}
