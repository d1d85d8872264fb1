//! A message that this process holds, and all of them.
//!
//! A lease begins with the fetch, is renewed by the beat, and ends with the settlement: the server's
//! answer to an ack, or the insight that it ran out. The ledger holds exactly the leases between the
//! two, whatever their jobs do meanwhile; so the beat covers queue time and ack time too.

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
    /// This process's own number. The stream's is not unique: a message whose lease was lost may come
    /// here again while its first job still runs.
    pub(crate) id: u64,
    pub(crate) message: Message,
    /// Where acks go.
    pub(crate) reply: Subject,
    pub(crate) sequence: u64,
    /// How often the message was delivered, this time included.
    pub(crate) delivered: u64,
    renewed: Mutex<Stamp>,
    lost: AtomicBool,
    handle: Mutex<Option<JobHandle<()>>>,
}

impl Lease {
    /// The lease's age: since the server renewed it last, at the latest.
    pub(crate) fn age(&self) -> Duration {
        lock(&self.renewed).age()
    }

    /// `asked`: when the renewal that succeeded was requested.
    pub(crate) fn renew(&self, asked: Stamp) {
        *lock(&self.renewed) = asked;
    }

    /// Marks it as lost; true for the first caller only, which counts it.
    pub(crate) fn lose(&self) -> bool {
        !self.lost.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn set_handle(&self, handle: JobHandle<()>) {
        *lock(&self.handle) = Some(handle);
    }

    /// Cancels the job if it has not started. Its guard then gives the message back.
    pub(crate) fn cancel(&self) {
        // Not under the lock: the guard's drop runs in here.
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

    /// `since`: a moment when the server had not sent the message yet, so that the lease never seems
    /// younger than it is. `None` if the message did not come from a consumer.
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

    /// Waits until `enough` is true of the number of messages held.
    pub(crate) async fn wait_for(&self, mut enough: impl FnMut(usize) -> bool) {
        // The sender is part of self, so that the channel cannot be closed.
        let _ = self.held.subscribe().wait_for(|held| enough(*held)).await;
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream's sequence and the number of deliveries, from an ack subject:
///
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or with
/// `<domain>.<account>` before the stream, and maybe one token more at the end.
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
