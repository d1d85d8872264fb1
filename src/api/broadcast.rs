//! Broadcast: every thread of the pool runs one function once.
//!
//! # The protocol
//!
//! The caller puts one *message* into the *inbox* of each thread that it wants to reach, and waits
//! until every message is gone. A message is gone when it was run, or *declined*, which means
//! dropped. Both end in its drop, so each message is counted once. Messages point into the caller's
//! frame, so the caller does not leave that frame earlier.
//!
//! **Recipients.** The threads that were started and are not spare, as counted when the broadcast
//! begins. A broadcast comes from *inside* if its caller is a thread of the pool, which then runs
//! its own part in place. It also comes from inside if its caller is a thread of another pool, for
//! which a thread of this one may be waiting.
//!
//! **Where a thread reads its inbox.** Between two jobs, at the base of its loop; and when it is
//! with rayon, at the base of rayon's loop. Never on top of a job or of a waiting frame (R3).
//!
//! | word | written by | read by |
//! |---|---|---|
//! | the messages, and where the thread is | any thread, under the inbox's lock | the same |
//! | `unread` | with the messages, under that lock | the owner between jobs, without it |
//! | `probes` | a prober, before it probes; the owner, when the probe arrives | a sender, after it has put a message |
//! | `Delivery::left` | the caller, before it puts a message; a message's drop | the caller |
//! | `Delivery::missed` | an owner that cannot read now; the caller clears it | the caller |
//!
//! **Why no message is forgotten.** A thread *in its loop* reads `unread` after each job. Before it
//! parks, it joins the list of idle workers, and then checks `unread`. The sender puts its message,
//! and then notifies the thread if it is in that list
//! ([`Idle::wake_this`](crate::protocol::idle::Idle::wake_this)). Both take the list's lock: the
//! later of the two sees the earlier. A thread that leaves its loop records that under the inbox's
//! lock, and then reads once more.
//!
//! A thread *with rayon* is probed: `spawn_broadcast` puts a tiny closure into each rayon thread's
//! own queue, and wakes the thread. There the closure checks the inbox, under the lock. No probe is
//! sent while one is on its way. The thread counts a probe as arrived before it takes the lock. So
//! if a sender sees `probes` above zero after its put, this probe will find the message. A probe
//! may be taken wherever rayon waits. To find out whether this is the base, it spawns a `WaitProbe`
//! onto its own rayon queue. That one takes the way of an activation, for which the depth of the
//! base is known (see `rayon_host/thread.rs`). If another thread steals the `WaitProbe`, the thief
//! probes once more.
//!
//! rayon's threads do not end while one of them has such a closure in its queue. A thread that was
//! never started would keep it for ever. So all threads of the pool are started before the first
//! probe. The new ones get no message of this broadcast. If the system gives no thread, a caller
//! inside takes its messages back. A caller outside spawns ordinary rayon jobs that probe, one for
//! each thread, and repeats that as described below: each try may reach another thread.
//!
//! **Why nothing deadlocks.** A thread that waits in a job may wait for the very job that
//! broadcasts. So no broadcast from inside waits for a waiting thread. A thread declines messages
//! from inside when it begins to block
//! ([`Inbox::begin_to_block`](crate::protocol::inbox::Inbox::begin_to_block)), and refuses them
//! while it is blocked. It also declines them when a probe finds it in a wait of rayon. A caller
//! inside probes all threads that have not read after a short while, since they may be in such a
//! wait. It blocks like any worker, so two broadcasts that meet decline each other's messages. All
//! other threads run, and read their inboxes when their job ends.
//!
//! A broadcast from outside waits for all of them. A probe may find a thread at a wait of rayon,
//! within a piece of rayon's work that it took from rayon's base. No event marks the end of that
//! piece. So the probe marks the delivery as *missed*, and the caller probes again, after pauses
//! that double. Nothing else here polls, and it does so on the thread of a caller that waits
//! anyway.
//!
//! **How many probes are queued.** A thread that reads in its loop takes them out when there are
//! some. A blocked thread cannot. When a thread has `MAX_PROBES` of them, no thread is probed any
//! more. A caller outside then tries again later, as if the system gave no thread, and a caller
//! inside takes its messages back.
//!
//! **The end.** Reading is no job, so the pool can stop meanwhile. But its threads do not end
//! before they have left their loops, or rayon's with all its probes. Then they close their
//! inboxes, and decline what came too late.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    thread,
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
        wait::{Assisted, Spin, Waited, wait_until},
        worker,
    },
    sync::{
        Instant, Mutex, Rank, lock,
        unwind::{drop_payload, quietly},
    },
    tuning::{RECHECK, RECHECK_MAX},
};

impl Delivery {
    /// Sends a part to every thread whose index is below `threads`, except the caller's own.
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
            // If it fails, the wait tries again.
            inner.threads.probe(&inner.me());
        }
    }
}

/// The condition that every message of a broadcast is gone. Each message has the caller's delivery.
struct Delivered<'a> {
    delivery: Arc<Delivery>,
    inner: &'a Inner,
    threads: usize,
    /// Whether the caller has probed the threads, which it does when it is about to park.
    is_probed: Cell<bool>,
    /// When the caller probes threads that missed the probe again.
    again_at: Cell<Option<Instant>>,
    /// How long after the miss that is.
    pause: Cell<Duration>,
}

impl Delivered<'_> {
    /// Probes the threads that may not know of their message. If that fails, takes the messages
    /// back, or marks the delivery for another try.
    fn probe(&self) {
        let (delivery, inner) = (&self.delivery, self.inner);
        let inboxes = inner.threads.inboxes_below(self.threads);
        let mut unaware = inboxes.filter(|one| one.is_unaware(delivery)).peekable();
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

    /// Probes the threads once, and again as long as one of them has missed the probe.
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
            self.pause.set(RECHECK_MAX.min(pause * 2));
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
        let mut assist = || Assisted::Nothing;
        let waited = wait_until(self.inner, &[&*self], &mut assist, Spin::Backoff, None);
        debug_assert_eq!(waited, Waited::Met);
    }
}

impl Inner {
    /// Makes the threads whose index is below `threads` run their parts, and waits for them. No
    /// part unwinds.
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
        // SAFETY: only the lifetime differs, and `delivered` keeps this frame until no message has
        // the pointer.
        let lasting = unsafe { mem::transmute::<&Part<'_>, &Part<'static>>(part) };
        // SAFETY: as above.
        unsafe { delivered.delivery.send(self, lasting, threads) };
        if let Some(own) = own.filter(|&own| own < threads) {
            part(own);
        }
    }
}

/// The argument of a part of a broadcast. See [`Pool::broadcast`].
pub struct BroadcastContext<'a> {
    index: usize,
    num_threads: usize,
    /// Not Send: it describes the thread that runs the part.
    marker: PhantomData<&'a mut dyn Fn()>,
}

impl BroadcastContext<'_> {
    /// Returns the index of the thread that runs this part. The thread's name ends with it.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns how many threads had been started when the broadcast began, without spare ones.
    /// Every index is below it. Fewer threads may take part in a broadcast from inside a job.
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
    /// It reaches the threads that are already started: with `workers(2..=8)` that may be two of
    /// them. Spare threads, which take the places of blocked workers, are left out. Each thread
    /// runs its part between two jobs, before those that wait in the queue. A broadcast is no job:
    /// it needs no place, never waits for one, and no counter includes it.
    ///
    /// **From outside** it blocks until all of them have run their part. That includes threads that
    /// are in the middle of a job, however long that takes. So no job of the pool may wait for the
    /// calling thread.
    ///
    /// **From inside a job** the calling thread runs its part at once, in place, and then blocks
    /// until the others have run theirs. A thread that is waiting, or begins to wait before it has
    /// reached its part, is left out: it may be waiting for this very job. It may wait for a scope,
    /// a join, a handle, an admission, rayon's work, or another broadcast. So there may be fewer
    /// results than threads. A thread of another pool does the same, but has no part of its own.
    ///
    /// **A closed pool** still runs broadcasts, as long as it has its threads. After the end
    /// nothing runs, and the result is empty; while the pool ends, threads that have ended are left
    /// out. A shutdown waits for the parts that have begun.
    ///
    /// A thread that is asleep in rayon is woken through rayon. For that, a pool with a range of
    /// workers starts the threads that it had not started yet; they do not take part this time. If
    /// the system gives none, a broadcast from inside leaves out those that are asleep. It may also
    /// do so after a thousand broadcasts during which some thread was blocked all the time.
    ///
    /// # Panics
    /// With the panic of the part with the lowest index among those that panicked, when all parts
    /// have ended.
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
        let outcomes = Mutex::new(Rank::Outcomes, Vec::with_capacity(threads));
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
        collect(outcomes.into_inner())
    }
}

/// Returns the results in the order of their indices, or resumes the first panic in that order.
fn collect<R>(mut outcomes: Vec<(usize, thread::Result<R>)>) -> Vec<R> {
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
