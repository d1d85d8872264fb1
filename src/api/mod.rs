//! The interface that users call.

#![cfg(not(loom))]

mod admit;
mod batch;
mod broadcast;
mod builder;
mod handle;
mod join;
mod permit;
mod pool;
#[cfg(feature = "prometheus")]
mod prometheus;
mod scope;
mod snapshot;
mod submit;
#[cfg(all(test, not(any(miri, shuttle))))]
mod tests;

pub use self::{
    batch::{IteratorExt, Map, MapUnordered, ScopedMap, ScopedMapUnordered},
    broadcast::BroadcastContext,
    builder::{PoolBuilder, Workers},
    handle::JobHandle,
    permit::Permit,
    pool::Pool,
    scope::Scope,
    submit::Admit,
};
