//! Broadcast: a function that every thread of the pool runs once.
//!
//! # The protocol
//!
//! The caller makes a *message* for each thread that it wants to reach, puts it into that thread's
//! *inbox*, and waits until every message is gone. A message is gone when it was run, or
//! *declined*, which means dropped: both end in its drop, so none is counted twice or forgotten.
//! Letters point into the caller's frame, which is not left before.
//!
//! **Who gets one.** The threads that were started and are not spare, as counted when the broadcast
//! begins. A broadcast is made from *inside* if its caller is a thread of the pool, which then runs
//! its own part in place, or of another pool, for which a thread of this one may be waiting.
//!
//! **Where a thread reads.** Between two jobs, at the base of its loop; and when it is with rayon,
//! at the base of rayon's loop. Never on top of a job or of a frame that waits (R3).
//!
//! | word | who writes it | who reads it |
//! |---|---|---|
//! | the messages, and where the thread is | anybody, under the box's lock | the same |
//! | `unread` | with the messages, under that lock | the thread, between jobs, without it |
//! | `probes` | grows by who probes, before it does; shrinks by the thread, when it is probed | who put a message there, after it has |
//! | `Delivery::left` | grows by the caller, before it puts a message; shrinks by the message's drop | the caller |
//! | `Delivery::missed` | set by a thread that could not read; cleared by the caller | the caller |
//!
//! **Why no message is forgotten.** A thread that is *in its loop* looks at `unread` after each
//! job. When it lies down it joins the list of idle_workers first, and then looks; who has put a
//! message there looks for it in that list, and ends its announce_idle
//! ([`Idle::wake_this`](crate::protocol::idle::Idle::wake_this)). Both take the list's lock: the
//! later of the two sees the earlier. When the thread leaves its loop it says so under the box's
//! lock, and then reads once more.
//!
//! A thread that is *with rayon* is probed: `spawn_broadcast` puts a tiny closure into each rayon
//! thread's own queue, and wakes it. There it looks into the box, under the lock. A probe is spared
//! where one is under way: who has put a message sees `probes` above zero only if that thread has
//! not looked yet, since it counts the probe as taken before it takes the lock. A probe may be
//! taken anywhere where rayon waits. To know whether this is the base, it spawns a *look* onto its
//! own rayon queue, which takes the way of a call: for that way the depth of the base is known (see
//! `rayon_host/thread.rs`). If another thread steals the look, it probes once more.
//!
//! rayon does not let its threads end while one of them has such a closure in its queue, and one
//! that was never started would have it for ever. So before the first probe all threads of the pool
//! are started. They get no message of this broadcast. If the system gives no thread, an inside
//! caller takes its messages back; one from outside spawns ordinary rayon jobs that look, as many
//! as there are threads, again and again in the way described below: each try may reach another
//! thread.
//!
//! **Why nothing deadlocks.** A thread that waits in a job may wait for the very job that
//! broadcasts. So no inside broadcast waits for one that waits: messages from inside are declined
//! when a thread begins to block
//! ([`Inbox::begin_to_block`](crate::protocol::inbox::Inbox::begin_to_block)), are
//! refused while it is blocked, and are declined when a probe finds it in a wait of rayon. A caller
//! from inside probes everybody who has not read after a short while, since they may be in such a
//! wait; and blocks itself like any worker, so two broadcasts that meet decline each other's
//! messages. All other threads run, and come to their boxes when their job ends.
//!
//! An outside broadcast waits for all of them. If a probe finds a thread at a wait of rayon, within
//! a piece of rayon's work that it took from rayon's base, nothing tells when that has ended: then
//! it says that it was *missed*, and the caller probes again, after pauses that double. That is the
//! one thing here that ticks, on the thread of a caller who waits anyway.
//!
//! **How many probes lie about.** Who reads in its loop takes them out when there are some. A
//! blocked thread cannot; when one has `NUDGES` of them nobody is probed any more: an outside
//! caller tries again later, as if the system gave no thread, and an inside one takes its messages
//! back.
//!
//! **The end.** Reading is no job: a pool can stop meanwhile, but its threads do not end before
//! they have left their loops, or rayon's with all its probes. Then they close their boxes, and
//! decline what came too late.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use crate::{
    api::pool::Pool,
    protocol::{
        inbox::{Delivery, Message, Part, Put},
        wait::Condition,
    },
    runtime::{
        inner::Inner,
        wait::{Help, Spin, Waited, wait_until},
        worker,
    },
    sync::{
        Instant, Mutex, lock,
        unwind::{drop_payload, quietly},
    },
    tuning::RECHECK,
};

/// The longest pause of a caller from outside before it probes again. The first is [`RECHECK`].
const PAUSE_MAX: Duration = Duration::from_millis(256);

impl Delivery {
    /// Sends a part to every thread below this number but the caller's own.
    ///
    /// # Safety
    /// The part lives until the delivery is over.
    unsafe fn send(self: &Arc<Self>, inner: &Inner, part: *const Part<'static>, threads: usize) {
        let own = worker::index_in(inner);
        let mut unaware = false;
        for index in (0..threads).filter(|&index| Some(index) != own) {
            let inbox = inner.threads.inbox(index);
            // SAFETY: passed on to the caller.
            let message = unsafe { Message::new(self, part) };
            match inbox.put(message) {
                Put::Declined => {}
                Put::InLoop => inner.idle.wake_this(index),
                Put::WithRayon => unaware |= !inbox.is_probed(),
            }
        }
        if unaware {
            // If that cannot be, the wait tries again.
            inner.threads.probe(&inner.me());
        }
    }
}

/// That every message of a broadcast is gone: for its caller, which each message knows.
struct Delivered<'a> {
    delivery: Arc<Delivery>,
    inner: &'a Inner,
    threads: usize,
    /// Whether the threads were probed since the caller is about to park.
    is_probed: Cell<bool>,
    /// When threads that could not read are probed again.
    again_at: Cell<Option<Instant>>,
    /// How long after they were missed.
    pause: Cell<Duration>,
}

impl Delivered<'_> {
    /// Probes the threads that may not know of their message. If that cannot be, takes the messages
    /// back, or has it tried again.
    fn probe(&self) {
        let (delivery, inner) = (&self.delivery, self.inner);
        let mut unaware = inner.threads.inboxes_below(self.threads);
        let mut unaware = unaware
            .by_ref()
            .filter(|one| one.is_unaware(delivery))
            .peekable();
        if unaware.peek().is_none() || inner.threads.probe(&inner.me()) {
            return;
        }
        if delivery.is_inside() {
            unaware.for_each(|one| one.withdraw(delivery));
        } else {
            inner.threads.probe_some(&inner.me());
            delivery.set_missed(true);
        }
    }
}

impl Condition for Delivered<'_> {
    fn is_met(&self) -> bool {
        self.delivery.is_over()
    }

    /// Probes the threads once, and again as long as one of them says that it was missed.
    fn announce(&self) {
        let is_again = match self.again_at.get() {
            Some(again_at) if Instant::now() < again_at => return,
            Some(_) => true,
            None => false,
        };
        if is_again {
            self.delivery.set_missed(false);
        }
        if is_again || !self.is_probed.get() {
            self.is_probed.set(true);
            self.probe();
        }
        let is_missed = self.delivery.is_missed();
        self.again_at.set(is_missed.then(|| {
            let pause = self.pause.get();
            self.pause.set(PAUSE_MAX.min(pause * 2));
            Instant::now() + pause
        }));
    }

    fn announces_again_at(&self) -> Option<Instant> {
        self.again_at.get()
    }
}

impl Drop for Delivered<'_> {
    /// Waits, however the caller's frame is left.
    fn drop(&mut self) {
        let mut assist = || Help::Nothing;
        let waited = wait_until(self.inner, &[&*self], &mut assist, Spin::Backoff, None);
        debug_assert_eq!(waited, Waited::Met);
    }
}

impl Inner {
    /// Has the threads below this number run their parts, and waits for them. No part unwinds.
    fn run_parts(&self, part: &Part<'_>, threads: usize) {
        let own = worker::index_in(self);
        let delivered = Delivered {
            delivery: Arc::new(Delivery::new(worker::is_worker())),
            inner: self,
            threads,
            is_probed: Cell::new(false),
            again_at: Cell::new(None),
            pause: Cell::new(RECHECK),
        };
        // SAFETY: it is the same type but for the lifetime, and `delivered` does not let this frame
        // be left while there is a message that has the pointer.
        let lasting = unsafe { mem::transmute::<&Part<'_>, &Part<'static>>(part) };
        // SAFETY: as above.
        unsafe { delivered.delivery.send(self, lasting, threads) };
        if let Some(own) = own.filter(|&own| own < threads) {
            part(own);
        }
    }
}

/// What a part of a broadcast is told. See [`Pool::broadcast`].
pub struct BroadcastContext<'a> {
    index: usize,
    num_threads: usize,
    /// Not for other threads: it says where the part runs.
    marker: PhantomData<&'a mut dyn Fn()>,
}

impl BroadcastContext<'_> {
    /// The index of the thread that runs this part. Its name ends with it.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many threads had been started when the broadcast began, spare ones left out. Every index
    /// is below it. Fewer may take part in a broadcast from inside of a job.
    #[inline]
    #[must_use]
    pub fn num_threads(&self) -> usize {
        self.num_threads
    }
}

impl fmt::Debug for BroadcastContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastContext")
            .field("index", &self.index)
            .field("num_threads", &self.num_threads)
            .finish()
    }
}

/// # Broadcasts
impl Pool {
    /// Runs `f` once on every thread of the pool, and returns the results in the order of the
    /// threads' indices.
    ///
    /// It reaches the threads that were started already: with `workers(2..=8)` that may be two of
    /// them. Spare threads, which take the places of blocked workers, are left out. Each runs its
    /// part when it is between two jobs, before those that wait in the queue. A broadcast is no
    /// job: it needs no place, never waits for one, and is in no counter.
    ///
    /// **From outside** it blocks until all of them have run it, also those that are in the middle
    /// of a job, however long that takes. So no job of the pool may wait for a thread that does
    /// this.
    ///
    /// **From inside of a job** the calling thread runs its part at once, in place, and then blocks
    /// until the others have run theirs. Those that wait then, or begin to wait before they have
    /// come to it (for a scope, a join, a handle, an admission, for rayon's work, or for another
    /// broadcast), are left out: they may be waiting for this very job. So there may be fewer
    /// results than threads. On a thread of another pool it is the same, but for the caller's own
    /// part, which it does not have.
    ///
    /// **A closed pool** still runs broadcasts, as long as it has its threads. After the end
    /// nothing is run, and the result is empty; while the pool ends, threads that have ended are
    /// left out. A shutdown waits for the parts that have begun.
    ///
    /// A thread that is asleep is woken through rayon. For that a pool with a range of workers
    /// starts the threads that it had not started yet; they do not take part this time. If the
    /// system gives none, a broadcast from inside leaves out those that are asleep. It may do so
    /// too when it is one of a thousand that were made while some thread was blocked all the time.
    ///
    /// # Panics
    /// With the panic of the part with the lowest index of those that panicked, when all parts have
    /// ended.
    ///
    /// # Examples
    /// ```
    /// let pool = adaptive_pool::Pool::builder().workers(3).build().unwrap();
    /// let squares = pool.broadcast(|context| context.index() * context.index());
    /// assert_eq!(squares, [0, 1, 4]);
    /// ```
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn(BroadcastContext<'_>) -> R + Sync,
        R: Send,
    {
        let inner = &*self.inner;
        if inner.life.is_stopped() {
            return Vec::new();
        }
        let started = inner.threads.started();
        let threads = started.main;
        let outcomes = Mutex::new(Vec::with_capacity(threads));
        let part = |index| {
            let context = BroadcastContext {
                index,
                num_threads: threads,
                marker: PhantomData,
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| f(context)));
            lock(&outcomes).push((index, outcome));
        };
        inner.run_parts(&part, threads);
        let outcomes = outcomes.into_inner();
        collect(outcomes.unwrap_or_else(PoisonError::into_inner))
    }
}

type Outcome<R> = Result<R, Box<dyn Any + Send>>;

/// The results in the order of their indices, or the first panic in that order.
fn collect<R>(mut outcomes: Vec<(usize, Outcome<R>)>) -> Vec<R> {
    outcomes.sort_unstable_by_key(|&(index, _)| index);
    let mut results = Vec::with_capacity(outcomes.len());
    let mut panic = None;
    for (_, outcome) in outcomes {
        match outcome {
            Ok(result) => results.push(result),
            Err(payload) if panic.is_none() => panic = Some(payload),
            Err(payload) => drop_payload(payload),
        }
    }
    let Some(payload) = panic else {
        return results;
    };
    for result in results {
        quietly(move || drop(result));
    }
    resume_unwind(payload)
}
