//! Waits between pools. A worker of one pool that waits for another pool's job counts on that pool
//! to have a thread for it. If all its threads are blocked in waits themselves, maybe for the very
//! pool that the waiting worker belongs to, it has none: it is *starved*. Then the waiting worker
//! does the work itself, as it would in its own pool. The list of starved pools is in
//! `protocol/starvation`.

use crate::{
    protocol::starvation::{self, PoolId},
    runtime::{inner::Inner, worker},
};

/// A wait of the calling thread for a pool. If it is another pool's thread, it is unparked when the
/// pool is starved.
pub(crate) struct Watch(Option<starvation::Watch<'static>>);

impl Watch {
    pub(crate) fn new(pool: *const Inner) -> Self {
        let is_worker = worker::is_of_another(pool);
        Self(is_worker.then(|| starvation::of_process().watch(PoolId::of(pool))))
    }

    /// Whether the calling thread has to do itself what it waits for.
    pub(crate) fn is_starved(&self) -> bool {
        self.0.as_ref().is_some_and(starvation::Watch::is_starved)
    }
}
