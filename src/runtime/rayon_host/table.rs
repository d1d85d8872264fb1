//! The table of a pool's threads: which were started, which are workers, and which an activation goes to.
//!
//! **Every activation finds a thread.** `protocol/placement.rs` counts, under the table's lock, the threads that were started,
//! those that are workers now, and the activations that no thread has taken up. An activation starts a thread if without
//! one it would find none that is not a worker already, or only such as may be busy with a piece of some `par_iter`. When
//! every thread that may be in service was started, an activation that finds them all busy is taken up after that.
//!
//! **Spare threads** take the places of workers that are blocked in waits: one for each, as far as there are any.
//! rayon cannot be given more threads later, and should not be given more than are to run (`rayon::current_num_threads`
//! would tell jobs of them), so a spare is a rayon pool of its own, of one thread, made when it is first needed. An
//! activation that is under way in rayon when its last thread blocks is rerouted to a spare, and void when rayon gives it
//! out later. A parallel iterator in a job that happens to run there is correct, and as fast as one thread.
//! A pool that is resized beyond the range with which it was built takes spare threads for what comes on top.
//!
//! The lock is a monitor: while a thread waits for a start that it has ordered, no other enters (`start.rs`). When a thread
//! leaves the table, it is noted whether the pool is starved.

use std::{
    io, mem,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use crate::{
    protocol::{
        idle::Idle,
        placement::{Order, Placement},
        starvation::{self, PoolId},
    },
    runtime::rayon_host::{
        Help, Host, Threads,
        activation::{Activation, activation},
        start::{Start, UnstartedThread, make_unstarted},
    },
    sync::{
        Instant, MutexGuard, lock,
        rayon_core::{ThreadBuilder, ThreadPool},
        thread::JoinHandle,
    },
};

/// How long an activation may lie in rayon while there are threads that were not started: a thread that is with
/// rayon may be asleep there, and then takes it up in a tenth of that, or help a job, for as long
/// as that likes.
const ACTIVATION_PATIENCE: Duration = Duration::from_millis(1);

/// The longest pause between two tries to start a thread that the system refuses.
const PATIENCE_MAX: Duration = Duration::from_millis(500);

pub(super) struct ThreadTable {
    pool: PoolId,
    /// `None` before the pool is built and after it has stopped.
    pub(super) rayon: Option<ThreadPool>,
    /// Threads that were not started yet, in the reverse order of their indices.
    pub(super) unstarted: Vec<ThreadBuilder>,
    /// As the placement has them.
    spares: Vec<ThreadPool>,
    pub(super) handles: Vec<JoinHandle<()>>,
    /// All threads that were ever started.
    pub(super) handles_made: usize,
    /// Which thread does what.
    pub(super) placement: Placement,
    /// When the placement began to watch its activations, if it does.
    activated_at: Option<Instant>,
    /// How long after that a thread is started for it.
    patience: Duration,
    pub(super) start: Start,
    /// Whether help lies in rayon's pool, and in that of each spare thread, which no thread has taken up.
    helps: Vec<bool>,
    /// Every thread there is, or can be, is a worker that is blocked.
    is_starved: bool,
}

impl ThreadTable {
    pub(super) fn new(pool: PoolId) -> Self {
        Self {
            pool,
            rayon: None,
            unstarted: Vec::new(),
            spares: Vec::new(),
            handles: Vec::new(),
            handles_made: 0,
            placement: Placement::new(),
            activated_at: None,
            patience: ACTIVATION_PATIENCE,
            start: Start::None,
            helps: Vec::new(),
            is_starved: false,
        }
    }

    fn note_starvation(&mut self) {
        let is_starved = self.placement.is_starved();
        if is_starved != mem::replace(&mut self.is_starved, is_starved) {
            starvation::of_process().set(self.pool, is_starved);
        }
    }
}

/// The table, entered.
pub(super) struct TableGuard<'a> {
    pub(super) threads: &'a Threads,
    /// Always there: it is given to the condition variable while its thread waits.
    pub(super) table: Option<MutexGuard<'a, ThreadTable>>,
}

impl Deref for TableGuard<'_> {
    type Target = ThreadTable;

    fn deref(&self) -> &ThreadTable {
        self.table.as_ref().unwrap_or_else(|| unreachable!())
    }
}

impl DerefMut for TableGuard<'_> {
    fn deref_mut(&mut self) -> &mut ThreadTable {
        self.table.as_mut().unwrap_or_else(|| unreachable!())
    }
}

impl Drop for TableGuard<'_> {
    fn drop(&mut self) {
        self.note_starvation();
    }
}

/// A count of threads.
pub(crate) struct Started {
    pub(crate) all: usize,
    pub(crate) main: usize,
    pub(crate) spare: usize,
}

impl Threads {
    /// Enters the table, when no start is under way that a thread waits for.
    pub(super) fn enter(&self) -> TableGuard<'_> {
        let mut table = lock(&self.table);
        loop {
            table = match table.start {
                Start::None => {
                    return TableGuard {
                        threads: self,
                        table: Some(table),
                    };
                }
                Start::Ordered(..) if self.is_timer_here() => self.carry_out_start(table),
                _ => self.wait(table),
            }
        }
    }

    /// Makes a worker of a thread that is with rayon, or of a new one.
    pub(crate) fn activate<H: Host>(&self, host: &Arc<H>) {
        let after = self.enter().activate(host);
        after.follow(&**host);
    }

    /// Starts a thread for an activation that no thread has taken up for so long: the threads that are with rayon are
    /// busy there, or the system had refused one. If there is an activation that is younger, or the system refuses again,
    /// returns after what time to come again.
    pub(crate) fn start_for_late_activation<H: Host>(&self, host: &Arc<H>) -> Option<Duration> {
        let mut table = self.enter();
        if !table.placement.is_watched() {
            return None;
        }
        let left = table.patience.saturating_sub(table.activated_at?.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        let order = table.placement.start_for_late_activation();
        if table.carry_out(host, order) {
            return None;
        }
        table.placement.stays_late();
        table.activated_at = Some(Instant::now());
        table.patience = PATIENCE_MAX.min(table.patience * 2);
        Some(table.patience)
    }

    /// How many workers may be in service from now on.
    pub(crate) fn set_max<H: Host>(&self, host: &Arc<H>, max: usize) {
        let mut table = self.enter();
        table.placement.set_max(max);
        table.reroute(host);
    }

    /// A worker is about to block in a wait.
    pub(super) fn block(&self) {
        self.enter().placement.block();
    }

    /// A worker is through with its wait.
    pub(super) fn unblock(&self) {
        self.enter().placement.unblock();
    }

    /// A thread that is about to block has left service. An activation that waits for a thread to come back to
    /// rayon may have no other to come than this one: then a spare thread answers it.
    pub(super) fn reroute<H: Host>(&self, host: &Arc<H>) {
        self.enter().reroute(host);
    }

    /// As `block`, for a thread, of this index, that is with rayon: it takes up no activation
    /// meanwhile. `is_counted` says that it is counted as busy already. Returns whether it is to be counted
    /// as free again by `unblock_aside`.
    pub(super) fn block_aside<H: Host>(
        &self,
        host: &Arc<H>,
        index: usize,
        is_counted: bool,
    ) -> bool {
        let mut table = self.enter();
        let aside = table.placement.block_aside(index, is_counted);
        let after = aside.is_voided.then(|| table.activate(host));
        drop(table);
        if let Some(after) = after {
            after.follow(&**host);
        }
        aside.counts
    }

    /// See `block_aside`.
    pub(super) fn unblock_aside<H: Host>(&self, host: &Arc<H>, index: usize, counts: bool) {
        let mut table = self.enter();
        table.placement.unblock_aside(index, counts);
        table.reroute(host);
    }

    /// A worker came back from a wait, and all places are taken. If an activation for one of them lies in rayon, it
    /// fills that place, and `recheck` has to follow: that activation kept others from being sent. Otherwise it
    /// is one too many.
    #[must_use]
    pub(super) fn come_back(&self, idle: &Idle) -> bool {
        self.enter().placement.come_back(idle)
    }

    /// A worker, of this index, leaves for the excess, which it has taken; unless an activation lies in rayon, whose
    /// place it fills: then `recheck` has to follow. Returns whether it leaves.
    #[must_use]
    pub(crate) fn leave_as_excess(&self, idle: &Idle, index: usize) -> bool {
        self.enter().placement.leave_as_excess(idle, index)
    }

    /// The calling thread, of this index, becomes a worker, by an activation. False if that was answered already.
    pub(super) fn begin_work(&self, index: usize) -> bool {
        self.enter().placement.begin_work(index)
    }

    /// The pool has stopped, and the calling worker, of this index, goes back to rayon.
    pub(crate) fn end_work(&self, index: usize) {
        self.enter().placement.end_work(index);
    }

    /// The calling worker, of this index, goes back to rayon for good, unless a waker is about to notify it: under the
    /// lock, so that no activation comes between that and the counts.
    pub(crate) fn go_to_rayon(&self, idle: &Idle, index: usize) -> bool {
        self.enter().placement.go_to_rayon(idle, index)
    }

    /// A thread that is with rayon is busy there with something of ours, and takes up no activation meanwhile. It
    /// may be the one that an activation under way was meant for.
    pub(super) fn begin_aside<H: Host>(&self, host: &Arc<H>) {
        let mut table = self.enter();
        table.placement.begin_aside();
        table.reroute(host);
    }

    pub(super) fn end_aside(&self) {
        self.enter().placement.end_aside();
    }

    /// An activation that rayon gave to the thread of this index ends here if it, or another one, was answered already.
    pub(super) fn take_if_void(&self, index: usize) -> bool {
        self.enter().placement.take_if_void(index)
    }

    /// An activation is answered by a thread, of this index, that waits inside rayon, and becomes no worker. False if it
    /// was answered already.
    pub(super) fn take_activation<H: Host>(&self, host: &Arc<H>, index: usize) -> bool {
        let mut table = self.enter();
        let is_taken = table.placement.take_activation(index);
        table.reroute(host);
        is_taken
    }

    /// Starts every thread that is not spare, and has each run `task` when it is next in rayon's hands, if there is `room`
    /// for that on so many threads. False if that cannot be.
    pub(super) fn broadcast<H: Host>(
        &self,
        host: &Arc<H>,
        room: impl FnOnce(usize) -> bool,
        task: impl Fn() + Send + Sync + 'static,
    ) -> bool {
        let mut table = self.enter();
        while table.placement.can_start() {
            if table.start_next(host).is_err() {
                return false;
            }
        }
        let Some(rayon) = &table.rayon else {
            return false;
        };
        let has_room = room(table.placement.started());
        if has_room {
            rayon.spawn_broadcast(move |_| task());
        }
        has_room
    }

    /// Spawns as many tasks into rayon as it has threads.
    pub(super) fn spawn_for_each<T: FnOnce() + Send + 'static>(&self, task: impl Fn() -> T) {
        let table = self.enter();
        if let Some(rayon) = &table.rayon {
            (0..table.placement.started()).for_each(|_| rayon.spawn(task()));
        }
    }

    /// Jobs wait in vain: sends help to all that may wait inside rayon, unless some lies there.
    pub(crate) fn send_help<H: Host>(&self, host: &Arc<H>, help: Help) {
        let mut table = self.enter();
        let table = &mut *table;
        let Some(rayon) = &table.rayon else {
            return;
        };
        table.helps.resize(1 + table.spares.len(), false);
        let pools = std::iter::once(rayon).chain(&table.spares);
        for (pool, lies) in pools.zip(&mut table.helps) {
            if !mem::replace(lies, true) {
                pool.spawn(activation(Arc::clone(host), Activation::help(help)));
            }
        }
    }

    /// The thread of this index is about to send help to itself. False if some lies in its pool.
    pub(super) fn begin_help(&self, index: usize) -> bool {
        let mut table = self.enter();
        let lies = table.helps.get_mut(self.rayon_pool_of(index));
        lies.is_some_and(|lies| !mem::replace(lies, true))
    }

    /// The thread of this index has taken up help.
    pub(super) fn take_help(&self, index: usize) {
        if let Some(lies) = self.enter().helps.get_mut(self.rayon_pool_of(index)) {
            *lies = false;
        }
    }

    /// The number of the rayon pool of the thread of this index: the main one is the first.
    fn rayon_pool_of(&self, index: usize) -> usize {
        index
            .checked_sub(self.settings.main)
            .map_or(0, |spare| spare + 1)
    }

    /// Lets every thread end that has nothing left to do. No activation succeeds after it.
    pub(crate) fn stop(&self) {
        let mut table = self.enter();
        table.placement.close();
        let rayon = table.rayon.take();
        let unstarted = mem::take(&mut table.unstarted);
        let spares = mem::take(&mut table.spares);
        drop(table);
        self.unpark_timer();
        // Dropping rayon's pools tells their threads to end, and waits for nothing.
        drop((rayon, spares, unstarted));
    }

    /// Waits for the end of every thread. To be called after `stop`, and not by one of them.
    pub(crate) fn join(&self) {
        let handles = mem::take(&mut self.enter().handles);
        for handle in handles {
            // A thread of ours does not panic; if it did, there would be nothing to do about it.
            let _ = handle.join();
        }
    }

    /// All threads that were ever started, and how many of them are main and spare ones.
    pub(crate) fn started(&self) -> Started {
        let table = self.enter();
        let main = table.placement.started();
        let timer = usize::from(self.timer.get().is_some());
        Started {
            all: table.handles_made,
            main,
            spare: table.handles_made - main - timer,
        }
    }
}

/// What is left to do after an activation, without the table.
#[must_use]
enum AfterActivation {
    Nothing,
    /// It may be late.
    Watch,
    /// It was taken back, and kept others from being sent.
    Recheck,
}

impl AfterActivation {
    fn follow(self, host: &impl Host) {
        match self {
            Self::Nothing => {}
            Self::Watch => host.watch_activation(ACTIVATION_PATIENCE),
            Self::Recheck => host.recheck(),
        }
    }
}

impl TableGuard<'_> {
    fn activate<H: Host>(&mut self, host: &Arc<H>) -> AfterActivation {
        let was_watched = self.placement.is_watched();
        let mut after = AfterActivation::Nothing;
        let mut order = self.placement.activate(host.idle());
        while order != Order::Nothing {
            after = match order {
                Order::SendAndWatch => AfterActivation::Watch,
                Order::Recheck => AfterActivation::Recheck,
                _ => after,
            };
            let done = self.carry_out(host, order);
            order = self.placement.activate_on(order, done, host.idle());
        }
        if self.placement.is_watched() && !was_watched {
            self.activated_at = Some(Instant::now());
            self.patience = ACTIVATION_PATIENCE;
        }
        after
    }

    /// Finds threads for activations that none can take up of those that they were meant for.
    fn reroute<H: Host>(&mut self, host: &Arc<H>) {
        let mut order = self.placement.reroute();
        while order != Order::Nothing {
            let done = self.carry_out(host, order);
            order = self.placement.reroute_on(order, done);
        }
    }

    /// Does what the placement orders. False if it could not be.
    fn carry_out<H: Host>(&mut self, host: &Arc<H>, order: Order) -> bool {
        let work = || activation(Arc::clone(host), Activation::Work(None));
        match order {
            Order::Nothing | Order::Recheck => {}
            Order::Start => return self.start_next(host).is_ok(),
            Order::Send | Order::SendAndWatch => {
                if let Some(rayon) = &self.rayon {
                    rayon.spawn(work());
                }
            }
            Order::ActivateSpare(spare) => self.spares[spare].spawn(work()),
            Order::MakeSpare => return self.make_spare(host),
        }
        true
    }

    /// Starts the next thread that is not spare.
    pub(super) fn start_next<H: Host>(&mut self, host: &Arc<H>) -> io::Result<()> {
        let Some(builder) = self.unstarted.pop() else {
            return Err(io::Error::other("every thread was started"));
        };
        let index = builder.index();
        match self.start(host, UnstartedThread { builder, index }) {
            Ok(()) => {
                self.placement.thread_started();
                Ok(())
            }
            Err((error, refused)) => {
                let builder = refused.map(|refused| refused.builder);
                self.unstarted.extend(builder);
                Err(error)
            }
        }
    }

    /// Makes a spare thread, and a worker of it.
    fn make_spare<H: Host>(&mut self, host: &Arc<H>) -> bool {
        // The index says which of `spares` it is.
        let index = self.threads.settings.main + self.spares.len();
        let made = make_unstarted(host, 1);
        let Ok((rayon, Some(builder))) = made.map(|(rayon, mut made)| (rayon, made.pop())) else {
            self.placement.system_has(false);
            host.thread_refused();
            return false;
        };
        if self
            .start(host, UnstartedThread { builder, index })
            .is_err()
        {
            return false;
        }
        rayon.spawn(activation(Arc::clone(host), Activation::Work(None)));
        self.spares.push(rayon);
        self.placement.spare_made();
        true
    }
}
