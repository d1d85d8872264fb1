//! The end of a batch where items come in: chunk by chunk, as large as the backlog makes them.

use std::sync::Arc;

use super::shared::{ChunkOf, ChunkTask, Home, Item, Shared};
use crate::{
    metrics::Stamps,
    protocol::{
        admission::Refusal,
        chunk::{Chunk, MOST},
    },
    runtime::{inner::Inner, span::Origin},
};

/// What puts the items of a batch into the queue, one by one.
pub(super) struct Producer<'p, H, T, F, R> {
    pub(super) inner: &'p Inner,
    pub(super) home: H,
    pub(super) shared: Arc<Shared<T, F, R>>,
    /// The last chunk, as long as it may take more.
    open: Option<ChunkOf<T, R>>,
    /// How many items the next chunk has room for. It doubles when one gets full before anybody comes to it,
    /// and is halved when one is begun before it was half full: so slow items get chunks of their own.
    room: usize,
    stamps: Stamps,
}

impl<'p, H, T, F, R> Producer<'p, H, T, F, R> {
    pub(super) fn new(inner: &'p Inner, home: H, f: F) -> Self {
        Self {
            inner,
            home,
            shared: Shared::new(inner, f),
            open: None,
            room: 1,
            stamps: Stamps::default(),
        }
    }

    /// A place, if there is one. A place that was taken is for [`put`](Self::put), and nothing of the user's is called
    /// in between.
    #[inline]
    pub(super) fn try_place(&self) -> Result<(), Refusal> {
        self.inner.admission.try_acquire()
    }

    /// What comes next goes into another chunk.
    pub(super) fn end_chunk(&mut self) {
        self.open = None;
    }

    /// Puts an item into the queue that has a place; `origin` is the present span. Returns the
    /// chunk that it is in, if that is a new one.
    #[inline]
    pub(super) fn put<'a>(&mut self, origin: Origin, item: T) -> Option<ChunkOf<T, R>>
    where
        H: Home<'a>,
        T: Send + 'a,
        F: Fn(T) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        let are_short = self.shared.are_short();
        let mut item = Item {
            since: self.inner.timing.stamp_item(&mut self.stamps, are_short),
            origin,
            item,
        };
        if let Some(open) = &self.open {
            // SAFETY: there is one producer.
            match unsafe { open.put(item) } {
                Ok(()) => {
                    self.shared.places.put();
                    self.inner.place_taken();
                    return None;
                }
                Err(refused) => item = refused,
            }
            self.room = if open.is_full() {
                (2 * self.room).min(MOST)
            } else if 2 * open.len() < self.room {
                self.room / 2
            } else {
                self.room
            };
        }
        Some(self.put_into_next(item))
    }

    fn put_into_next<'a>(&mut self, item: Item<T>) -> ChunkOf<T, R>
    where
        H: Home<'a>,
        T: Send + 'a,
        F: Fn(T) -> R + Send + Sync + 'a,
        R: Send + 'a,
    {
        let chunk = Arc::new(Chunk::new(self.room, self.inner.fences));
        // SAFETY: there is one producer.
        let put = unsafe { chunk.put(item) };
        debug_assert!(put.is_ok(), "a new chunk is open and has room");
        self.shared.places.put();
        self.open = Some(Arc::clone(&chunk));
        if self.shared.bring(&chunk) {
            ChunkTask::push(self.inner, self.home, &self.shared);
        } else {
            self.inner.place_taken();
        }
        chunk
    }
}
