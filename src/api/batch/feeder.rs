//! The feeder of a batch, which puts items into chunks: the larger the backlog, the larger the
//! chunk.

use std::sync::Arc;

use super::{
    state::{Batch, ChunkOf, Item, Types, Work},
    task::Task,
};
use crate::{
    protocol::chunk::{Chunk, MOST},
    runtime::{inner::Inner, span::Origin},
};

/// Puts the items of a batch into the queue, one by one.
pub(super) struct Feeder<'p, B: Types> {
    pub(super) inner: &'p Inner,
    pub(super) batch: Arc<Batch<B>>,
    /// The last chunk, while it may take more items.
    open: Option<ChunkOf<B>>,
    /// How many items the next chunk has room for. It doubles when a chunk becomes full before it
    /// is begun. It is halved when a chunk is begun before it was half full. So slow items get
    /// chunks of their own.
    room: usize,
}

impl<'p, B: Types> Feeder<'p, B> {
    pub(super) fn new(inner: &'p Inner, home: B::Home, f: B::Function) -> Self {
        Self {
            inner,
            batch: Batch::new(inner, home, f),
            open: None,
            room: 1,
        }
    }

    /// Ends the open chunk: the next item goes into another one.
    pub(super) fn end_chunk(&mut self) {
        self.open = None;
    }

    /// Puts an item that has a place into the queue; `origin` is the present span. Returns its
    /// chunk, if that is a new one.
    #[inline]
    pub(super) fn put<'a>(&mut self, origin: Origin, item: B::Item) -> Option<ChunkOf<B>>
    where
        B: Work<'a>,
    {
        let mut item = Item {
            since: self.inner.timing.stamp(),
            origin,
            item,
        };
        if let Some(open) = &self.open {
            // SAFETY: there is one feeder.
            match unsafe { open.put(item) } {
                Ok(()) => {
                    self.batch.places.put();
                    self.inner.place_taken();
                    return None;
                }
                Err(refused) => item = refused,
            }
            if open.is_full() {
                self.room = (2 * self.room).min(MOST);
            } else if 2 * open.len() < self.room {
                self.room /= 2;
            }
        }
        Some(self.put_into_next(item))
    }

    fn put_into_next<'a>(&mut self, item: Item<B::Item>) -> ChunkOf<B>
    where
        B: Work<'a>,
    {
        let chunk = Arc::new(Chunk::new(self.room));
        // SAFETY: there is one feeder.
        let put = unsafe { chunk.put(item) };
        debug_assert!(put.is_ok(), "a new chunk is open and has room");
        self.batch.places.put();
        self.open = Some(Arc::clone(&chunk));
        if self.batch.bring(&chunk) {
            Task::push(self.inner, &self.batch);
        } else {
            self.inner.place_taken();
        }
        chunk
    }
}
