//! The inbox of a thread: messages that only this thread may run, between two jobs or at the base
//! of rayon's loop.
//!
//! # The protocol
//!
//! The sender of a *delivery* puts one *message* into each inbox and waits until all of them are
//! gone. A message is gone when it was run, or *declined*, which means dropped. Both end in its
//! drop, so each is counted once.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | the messages, and the state of the owner | any thread, under the inbox's lock | the same |
//! | `unread` | with the messages, under that lock | the owner between jobs, without it |
//! | `probes` | a prober, before it probes; the owner, at the arrival | a sender, after its put |
//! | `Delivery::left` | the sender, before it puts a message; a message's drop | the sender |
//! | `Delivery::missed` | an owner that cannot read now; the sender takes it back | the sender |
//!
//! **Why no message is forgotten.**
//! - An owner *in its loop* reads `unread` after each job. Before it parks, it joins the list of
//!   idle workers, and then checks `unread`. The sender puts the message, and then notifies the
//!   owner if it is in that list. Both take the list's lock, and the later of the two observes the
//!   earlier.
//! - An owner that leaves its loop records that under the inbox's lock. There it also observes
//!   whether messages are left to read.
//! - An owner *in rayon* has to be probed. A probe is counted before it is sent, and counted as
//!   arrived before it takes the lock to check for messages. So if a sender finds a probe counted
//!   after its put, that probe finds the message.

#[cfg(all(test, loom))]
mod model;

use std::{collections::VecDeque, mem, sync::Arc};

use crate::{
    protocol::idle::Idle,
    sync::{
        AtomicBool, AtomicUsize, Mutex, Ordering, Rank, lock,
        thread::{self, Thread},
    },
};

/// One broadcast, as its messages refer to it.
pub(crate) struct Delivery {
    /// The number of messages that are not gone.
    left: AtomicUsize,
    /// Whether a thread has to be probed again.
    missed: AtomicBool,
    /// Whether the sender is a thread of any pool.
    inside: bool,
    sender: Thread,
}

impl Delivery {
    /// Makes a delivery of the calling thread. `inside`: that is a thread of any pool.
    pub(crate) fn new(inside: bool) -> Self {
        Self {
            left: AtomicUsize::new(0),
            missed: AtomicBool::new(false),
            inside,
            sender: thread::current(),
        }
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Whether every message is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    pub(crate) fn is_missed(&self) -> bool {
        self.missed.load(Ordering::Acquire)
    }

    pub(crate) fn set_missed(&self, missed: bool) {
        self.missed.store(missed, Ordering::Release);
    }
}

/// The closure that each thread runs, with its index.
pub(crate) type Part<'a> = dyn Fn(usize) + Sync + 'a;

/// A part on its way to one thread.
pub(crate) struct Message {
    part: *const Part<'static>,
    delivery: Arc<Delivery>,
}

// SAFETY: the part is Sync, and lives until its messages are gone.
unsafe impl Send for Message {}

impl Message {
    /// # Safety
    /// The part lives until the delivery is over.
    pub(crate) unsafe fn new(delivery: &Arc<Delivery>, part: *const Part<'static>) -> Self {
        // Relaxed: only the sender counts up, and only the sender waits for zero.
        delivery.left.fetch_add(1, Ordering::Relaxed);
        Self {
            part,
            delivery: Arc::clone(delivery),
        }
    }

    /// Runs the part of the calling thread `index`.
    pub(crate) fn open(self, index: usize) {
        // SAFETY: the delivery is not over before this message is dropped.
        let part = unsafe { &*self.part };
        part(index);
    }

    fn is_of(&self, delivery: &Arc<Delivery>) -> bool {
        Arc::ptr_eq(&self.delivery, delivery)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let release = if mutant!("inbox_relaxed_gone") {
            Ordering::Relaxed
        } else {
            // Pairs with `is_over`: a sender that sees the message gone sees what the part did.
            Ordering::Release
        };
        // The message holds a reference to the delivery, so it exists after the count.
        if self.delivery.left.fetch_sub(1, release) == 1 {
            self.delivery.sender.unpark();
        }
    }
}

pub(crate) struct Inbox {
    unread: AtomicBool,
    /// The number of probes that were counted and have not arrived.
    probes: AtomicUsize,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    messages: VecDeque<Message>,
    /// Whether the owner is in its worker's loop.
    in_loop: bool,
    is_blocked: bool,
    is_gone: bool,
}

/// The outcome of a put.
#[must_use]
pub(crate) enum Put {
    /// The message was declined at once.
    Declined,
    /// The owner is in its loop: it has to be notified if it is idle.
    InLoop,
    /// The owner has to be probed.
    WithRayon,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            unread: AtomicBool::new(false),
            probes: AtomicUsize::new(0),
            contents: Mutex::new(Rank::Inbox, Contents::default()),
        }
    }
}

impl Inbox {
    pub(crate) fn put(&self, message: Message) -> Put {
        let mut contents = lock(&self.contents);
        if contents.is_gone || contents.is_blocked && message.delivery.inside {
            drop(contents);
            return Put::Declined;
        }
        contents.messages.push_back(message);
        self.unread.store(true, Ordering::Relaxed);
        if contents.in_loop {
            Put::InLoop
        } else {
            Put::WithRayon
        }
    }

    pub(crate) fn take(&self) -> Option<Message> {
        let mut contents = lock(&self.contents);
        let message = contents.messages.pop_front();
        self.unread
            .store(!contents.messages.is_empty(), Ordering::Relaxed);
        message
    }

    /// Declines the messages for which `these` holds, after `change`.
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
        self.decline(|_| (), |message| message.is_of(delivery));
    }

    /// Whether a message of this delivery is in the inbox, and the owner may not notice it.
    pub(crate) fn is_unaware(&self, delivery: &Arc<Delivery>) -> bool {
        let contents = lock(&self.contents);
        // An owner in its loop checks its inbox again, unless it waits for a sender that is a
        // pool's thread.
        let is_reached = contents.in_loop && !delivery.inside || self.is_probed();
        contents.messages.iter().any(|one| one.is_of(delivery)) && !is_reached
    }

    /// Whether there may be a message, for the owner in its loop.
    #[inline]
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether there is a message. Exact; takes the lock.
    pub(crate) fn has_messages(&self) -> bool {
        !lock(&self.contents).messages.is_empty()
    }

    /// Notifies the owner if it has a message. The owner, of index `index`, has joined the list of
    /// idle workers, and is about to park.
    pub(crate) fn check_before_park(&self, idle: &Idle, index: usize) {
        // Pairs with `wake_this` after a put, by the list's lock: we see the message, or the sender
        // finds us in the list.
        if self.is_unread() && !mutant!("inbox_park_blind") {
            idle.wake_this(index);
        }
    }

    pub(crate) fn enter_loop(&self) {
        lock(&self.contents).in_loop = true;
    }

    /// Records that the owner leaves its loop. Returns whether it has messages to read afterwards.
    #[must_use]
    pub(crate) fn leave_loop(&self) -> bool {
        let before = mutant!("inbox_leave_blind").then(|| self.has_messages());
        let mut contents = lock(&self.contents);
        contents.in_loop = false;
        before.unwrap_or(!contents.messages.is_empty())
    }

    /// Records that the owner is about to block, and declines messages of senders inside: none may
    /// wait for it.
    pub(crate) fn begin_to_block(&self) {
        let block = |contents: &mut Contents| contents.is_blocked = true;
        self.decline(block, |message| message.delivery.inside);
    }

    pub(crate) fn end_blocking(&self) {
        lock(&self.contents).is_blocked = false;
    }

    /// Declines all messages: the owner has left rayon, and is about to end.
    pub(crate) fn close(&self) {
        self.decline(|contents| contents.is_gone = true, |_| true);
    }

    /// Declines messages of senders inside: the owner is in one of rayon's waits.
    pub(crate) fn decline_inside(&self) {
        self.decline(|_| (), |message| message.delivery.inside);
    }

    /// Records that the owner, in rayon, cannot read now, and gets no notice when it can. Its
    /// senders have to probe it again.
    pub(crate) fn miss(&self) {
        self.decline_inside();
        for message in &lock(&self.contents).messages {
            message.delivery.set_missed(true);
            message.delivery.sender.unpark();
        }
    }

    /// Returns the number of probes on their way. If it is above zero after a put, such a probe
    /// finds the message.
    pub(crate) fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.probes() > 0
    }

    /// Counts a probe that is about to be sent.
    pub(crate) fn count_probe(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a probe as arrived. Returns whether there are messages.
    pub(crate) fn take_probe(&self) -> bool {
        // This precedes the check, and the lock orders it: a sender that still sees the probe
        // counted has put its message before.
        let late = mutant!("inbox_probe_late").then(|| self.has_messages());
        self.probes.fetch_sub(1, Ordering::Relaxed);
        late.unwrap_or_else(|| self.has_messages())
    }

    /// Whether the owner is in its loop.
    #[cfg(test)]
    pub(crate) fn is_in_loop(&self) -> bool {
        lock(&self.contents).in_loop
    }
}
