//! Batches: a function over an iterator, whose items are pulled only as fast as admission allows.
//!
//! The consumer's thread pulls the iterator, one item ahead of the places that it has won. It holds
//! no place while it pulls, since its source may be another batch that needs one. Each item has a
//! place, and is counted as a job. But a job in the queue stands for a whole chunk of items, those
//! that have come since a thread last claimed one: see `task.rs` and `chunk.rs`. No shutdown drops
//! an item: the consumer waits for it.
//!
//! An item's way: `stream.rs` pulls it, `feeder.rs` puts it into a chunk, `task.rs` runs it,
//! `consumer.rs` takes its result.

mod consumer;
mod feeder;
mod for_each;
mod home;
mod iterator_ext;
mod iterators;
mod scoped;
mod state;
mod stream;
mod task;
mod unscoped;

pub use self::{
    iterator_ext::IteratorExt,
    iterators::{Map, MapUnordered, ScopedMap, ScopedMapUnordered},
};
