//! The mailboxes of a pool's threads, and where a thread reads: see `broadcast.rs` for the protocol.

use std::{collections::VecDeque, mem, sync::Arc};

use crossbeam_utils::CachePadded;

use crate::{
    runtime::worker::{self, Current},
    sync::{
        AtomicBool, AtomicUsize, Mutex, Ordering, lock,
        rayon_core::{self, Yield},
        slots::Slots,
        thread::{self, Thread},
    },
};

/// How many probes may lie in the queue of a thread that does not come to take them. Each is some words
/// there, and an allocation that all threads share. By feel.
const MAX_PROBES: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// With how many of them a thread that reads in its loop takes them out.
const PROBES_TO_SWEEP: usize = if cfg!(shuttle) { 1 } else { 16 };

/// One broadcast, as its messages know it.
pub(crate) struct Delivery {
    /// Letters that are not gone.
    pub(crate) left: AtomicUsize,
    /// Whether a thread has to be probed again.
    pub(crate) missed: AtomicBool,
    pub(crate) inside: bool,
    caller: Thread,
}

impl Delivery {
    /// A broadcast of the calling thread. `inside` says that it is some pool's.
    pub(crate) fn new(inside: bool) -> Self {
        Self {
            left: AtomicUsize::new(0),
            missed: AtomicBool::new(false),
            inside,
            caller: thread::current(),
        }
    }
}

/// What a thread is to run: the part of this index.
pub(crate) type Part<'a> = dyn Fn(usize) + Sync + 'a;

/// A part on its way.
pub(crate) struct Message {
    part: *const Part<'static>,
    delivery: Arc<Delivery>,
}

// SAFETY: the part is Sync, and lives until its messages are gone.
unsafe impl Send for Message {}

impl Message {
    pub(crate) fn new(delivery: &Arc<Delivery>, part: *const Part<'static>) -> Self {
        // Relaxed: the caller itself counts, and it alone waits for zero.
        delivery.left.fetch_add(1, Ordering::Relaxed);
        Self {
            part,
            delivery: Arc::clone(delivery),
        }
    }

    /// Runs the part of the calling thread, of this index.
    fn open(self, index: usize) {
        // SAFETY: the caller waits until this message is dropped.
        let part = unsafe { &*self.part };
        part(index);
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // Release: who sees it gone sees what the part did. The delivery is ours, and may be used after.
        if self.delivery.left.fetch_sub(1, Ordering::Release) == 1 {
            self.delivery.caller.unpark();
        }
    }
}

/// The mailboxes of a pool.
pub(crate) struct Inboxes {
    pub(crate) boxes: Slots<CachePadded<Inbox>>,
}

#[derive(Default)]
pub(crate) struct Inbox {
    unread: AtomicBool,
    probes: AtomicUsize,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    messages: VecDeque<Message>,
    /// Where the thread is.
    in_loop: bool,
    blocked: bool,
    gone: bool,
}

/// What became of a message.
#[must_use]
pub(crate) enum Put {
    /// It was declined at once.
    Refused,
    InLoop,
    WithRayon,
}

impl Inbox {
    pub(crate) fn put(&self, message: Message) -> Put {
        let mut contents = lock(&self.contents);
        if contents.gone || contents.blocked && message.delivery.inside {
            drop(contents);
            return Put::Refused;
        }
        contents.messages.push_back(message);
        self.unread.store(true, Ordering::Relaxed);
        if contents.in_loop {
            Put::InLoop
        } else {
            Put::WithRayon
        }
    }

    fn take(&self) -> Option<Message> {
        let mut contents = lock(&self.contents);
        let message = contents.messages.pop_front();
        self.unread
            .store(!contents.messages.is_empty(), Ordering::Relaxed);
        message
    }

    /// Declines these messages, after `change`.
    fn decline(&self, change: impl FnOnce(&mut Contents), these: impl Fn(&Message) -> bool) {
        let mut contents = lock(&self.contents);
        change(&mut contents);
        if contents.messages.is_empty() {
            return;
        }
        let messages = mem::take(&mut contents.messages);
        let (declined, kept): (VecDeque<_>, VecDeque<_>) = messages.into_iter().partition(these);
        self.unread.store(!kept.is_empty(), Ordering::Relaxed);
        contents.messages = kept;
        drop(contents);
        drop(declined);
    }

    /// Takes back the message of this delivery.
    pub(crate) fn withdraw(&self, delivery: &Arc<Delivery>) {
        self.decline(|_| (), |message| Arc::ptr_eq(&message.delivery, delivery));
    }

    /// Whether a message of this delivery lies here, and its thread may not know.
    pub(crate) fn is_unaware(&self, delivery: &Arc<Delivery>) -> bool {
        let contents = lock(&self.contents);
        let of_call = |message: &Message| Arc::ptr_eq(&message.delivery, delivery);
        // One in its loop comes back to it; but not as long as it waits for who is inside.
        let is_reached = contents.in_loop && !delivery.inside || self.is_probed();
        contents.messages.iter().any(of_call) && !is_reached
    }

    /// To be asked after a message was put.
    pub(crate) fn is_probed(&self) -> bool {
        self.probes.load(Ordering::Relaxed) > 0
    }
}

impl Inboxes {
    /// For a pool whose threads below this index are not spare. The boxes of spare ones remain empty.
    pub(crate) fn new(first_spare: usize) -> Self {
        Self {
            boxes: Slots::new(first_spare),
        }
    }

    /// The boxes of the threads below this index, which were started.
    pub(crate) fn boxes_below(&self, threads: usize) -> impl Iterator<Item = &Inbox> {
        (0..threads).map(|index| &*self.boxes[index])
    }

    /// Whether the thread of this index has something to read. For that thread, in its loop.
    #[inline]
    pub(crate) fn has_messages(&self, index: usize) -> bool {
        self.boxes[index].unread.load(Ordering::Relaxed)
    }

    /// As `has_messages`, where the lock is what makes it true.
    fn check(&self, index: usize) -> bool {
        !lock(&self.boxes[index].contents).messages.is_empty()
    }

    /// The calling thread, of this index, is in its loop from now on, or not any more. In the second case it
    /// has to read afterwards.
    pub(crate) fn set_in_loop(&self, index: usize, in_loop: bool) {
        lock(&self.boxes[index].contents).in_loop = in_loop;
    }

    /// The calling thread, of this index, is about to block: nobody inside may wait for it.
    pub(crate) fn begin_to_block(&self, index: usize) {
        let blocked = |contents: &mut Contents| contents.blocked = true;
        self.boxes[index].decline(blocked, |message| message.delivery.inside);
    }

    pub(crate) fn end_blocking(&self, index: usize) {
        lock(&self.boxes[index].contents).blocked = false;
    }

    /// The calling thread, of this index, has left rayon, and is about to end.
    pub(crate) fn close(&self, index: usize) {
        self.boxes[index].decline(|contents| contents.gone = true, |_| true);
    }

    /// A thread waits in one of rayon's waits.
    fn found_waiting(&self, index: usize) {
        self.boxes[index].decline(|_| (), |message| message.delivery.inside);
    }

    /// A thread is with rayon, and cannot read now; nothing will tell it when it can.
    fn missed(&self, index: usize) {
        self.found_waiting(index);
        for message in &lock(&self.boxes[index].contents).messages {
            message.delivery.missed.store(true, Ordering::Release);
            message.delivery.caller.unpark();
        }
    }

    /// Whether a worker is in its loop.
    #[cfg(test)]
    pub(crate) fn is_any_in_loop(&self, threads: usize) -> bool {
        let mut boxes = self.boxes_below(threads);
        boxes.any(|one| lock(&one.contents).in_loop)
    }

    /// Counts a probe for every thread of rayon's pool, if none has too many. Under the table's lock.
    pub(crate) fn count_probes(&self, threads: usize) -> bool {
        let probes = || self.boxes_below(threads).map(|one| &one.probes);
        if probes().any(|probes| probes.load(Ordering::Relaxed) >= MAX_PROBES) {
            return false;
        }
        for probes in probes() {
            probes.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// Runs the parts that wait for the calling thread, at the base of its loop.
#[cold]
pub(crate) fn read_in_loop(current: &Current) {
    let (post, index) = (&current.inner().post, current.index());
    let inbox = &post.boxes[index];
    // No more tries than probes: if jobs wait, giving way sends a delivery, which may come to lie on top of them,
    // and be all that a try takes out. The jobs are not run meanwhile.
    for _ in 0..=inbox.probes.load(Ordering::Relaxed) {
        while let Some(message) = inbox.take() {
            current.clear_steal_origin();
            message.open(index);
        }
        // One rayon_turn each, so that none of them looks as if it waited.
        if inbox.probes.load(Ordering::Relaxed) < PROBES_TO_SWEEP
            || current.give_way(rayon_core::yield_local) != Some(Yield::Executed)
        {
            return;
        }
    }
}

/// The same for a thread that is with rayon, at the base there.
pub(crate) fn read_beside_loop(current: &Current) {
    let (inner, index) = (current.inner(), current.index());
    if !inner.post.check(index) {
        return;
    }
    current.run_aside(|| {
        while let Some(message) = inner.post.boxes[index].take() {
            message.open(index);
        }
    });
}

/// What a probe does on its thread.
pub(crate) fn take_probe() {
    // Only threads of the pool run what is spawned into its rayon pool.
    let Some(current) = worker::current() else {
        return;
    };
    // Before the check: see the head of this file. The lock orders it.
    let inbox = &current.inner().post.boxes[current.index()];
    inbox.probes.fetch_sub(1, Ordering::Relaxed);
    probe_wait(current);
}

/// What is asked by [`Threads::probe_some`](crate::runtime::rayon_host::threads::Threads::probe_some).
pub(crate) fn take_uncounted_probe() {
    if let Some(current) = worker::current() {
        probe_wait(current);
    }
}

/// A thread was found awake in rayon, and does not know at which of its waits.
fn probe_wait(current: &Current) {
    let (inner, index) = (current.inner(), current.index());
    if !inner.post.check(index) {
        return;
    }
    if current.is_in_job() {
        inner.post.found_waiting(index);
        return;
    }
    let check = WaitProbe {
        index,
        rayon_turn: current.rayon_turn(),
    };
    rayon_core::spawn(worker::call(inner.me(), worker::Activation::Probe(check)));
}

/// Sent by a thread to itself: it is run by the same wait of rayon as what sent it.
#[derive(Clone, Copy)]
pub(crate) struct WaitProbe {
    index: usize,
    /// Which of rayon's gifts the thread was running, if it was.
    rayon_turn: usize,
}

impl WaitProbe {
    /// `at_base` says that the calling thread has this from rayon's main loop.
    pub(crate) fn answer(self, current: &Current, at_base: bool) {
        let inner = current.inner();
        if self.index != current.index() {
            // Stolen.
            if inner.post.check(self.index) && !inner.threads.probe(&inner.me()) {
                inner.post.missed(self.index);
            }
        } else if at_base {
            read_beside_loop(current);
        } else if current.is_with_rayon() {
            inner.post.missed(self.index);
        } else if current.rayon_turn() == self.rayon_turn {
            // The rayon_turn itself waits, or it would have ended.
            inner.post.found_waiting(self.index);
        } else {
            probe_wait(current);
        }
    }
}
