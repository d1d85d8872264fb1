//! One running pool: its jobs, its queues, its threads, and their waits.

#![cfg(not(loom))]

pub(crate) mod context;
pub(crate) mod controller;
pub(crate) mod foreign_stack;
pub(crate) mod inner;
pub(crate) mod job;
pub(crate) mod life;
pub(crate) mod lifecycle;
pub(crate) mod queue;
pub(crate) mod rayon_host;
pub(crate) mod resident;
pub(crate) mod scaler;
pub(crate) mod span;
pub(crate) mod stack;
pub(crate) mod turn;
pub(crate) mod wait;
mod wake_up;
pub(crate) mod worker;
