//! Waits between pools: how a worker of one pool waits for another pool's job.
//!
//! Such a wait relies on a thread of the other pool. If all threads of that pool are blocked in
//! waits, maybe for the very pool of the waiting worker, it is *starved*. Then the waiting worker
//! runs the job itself, as it would in its own pool. The list of starved pools is in
//! `protocol/starvation`.

use crate::{
    protocol::starvation::{self, PoolId},
    runtime::{inner::Inner, worker},
};

/// A wait of the calling thread for a pool. If the thread is another pool's, it is unparked when
/// the pool is starved.
pub(crate) struct Watch(Option<starvation::Watch<'static>>);

impl Watch {
    pub(crate) fn new(pool: *const Inner) -> Self {
        let is_worker = worker::is_of_another(pool);
        Self(is_worker.then(|| starvation::of_process().watch(PoolId::of(pool))))
    }

    /// Whether the calling thread has to run the awaited job itself.
    pub(crate) fn is_starved(&self) -> bool {
        self.0.as_ref().is_some_and(starvation::Watch::is_starved)
    }
}
