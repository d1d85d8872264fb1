//! The thread table: which threads are started, which are workers, and where an activation goes.
//!
//! **Every activation finds a thread.** `protocol/placement.rs` counts, under the table's lock, the
//! started threads, the workers among them, and the activations that no thread has taken up.
//! Without a start, an activation might find only workers, or threads that may be busy with part of
//! some `par_iter`. Then it starts a thread. When every thread that may be in service is started,
//! an activation that finds them all busy is taken up later.
//!
//! **Spare threads** replace workers that are blocked in waits: one for each, up to a maximum.
//! rayon cannot grow a pool later. A pool should not be wider than the number of its running
//! threads either, since `rayon::current_num_threads` shows the width to jobs. So a spare thread is
//! a rayon pool of its own, of one thread, made on first use. When the last thread of a rayon pool
//! blocks, an activation on its way there is rerouted to a spare thread. It is void when rayon runs
//! it later. A parallel iterator in a job on a spare thread is correct, and as fast as one thread.
//! If a resize exceeds the width with which the pool was built, spare threads serve the rest.
//!
//! The lock is a monitor: while a thread waits for a start that it has ordered, no other thread
//! enters (`start.rs`). A thread that leaves the table records whether the pool is starved.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use crate::{
    protocol::{
        idle::Idle,
        placement::Placement,
        starvation::{self, PoolId},
    },
    runtime::rayon_host::{
        Help, Host, Threads,
        activation::{Activation, activation},
        start::Start,
    },
    sync::{
        Instant, MutexGuard, lock,
        rayon_core::{ThreadBuilder, ThreadPool},
        thread::JoinHandle,
    },
    tuning::RECHECK,
};

pub(super) struct ThreadTable {
    pool: PoolId,
    /// `None` before the pool is built and after it has stopped.
    pub(super) rayon: Option<ThreadPool>,
    /// Threads that are not started yet, in the reverse order of their indices.
    pub(super) unstarted: Vec<ThreadBuilder>,
    /// The pools of the spare threads, in the placement's order.
    pub(super) spares: Vec<ThreadPool>,
    pub(super) handles: Vec<JoinHandle<()>>,
    /// The number of threads that were ever started.
    pub(super) handles_made: usize,
    /// The state of every thread.
    pub(super) placement: Placement,
    /// When the placement began to watch its activations, if it does.
    pub(super) activated_at: Option<Instant>,
    /// The time after `activated_at` at which a thread is started.
    pub(super) patience: Duration,
    pub(super) start: Start,
    /// For rayon's pool and that of each spare thread: whether help is queued there.
    helps: Vec<bool>,
    /// Whether every thread that exists or can be started is a blocked worker.
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
            patience: RECHECK,
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
    /// `None` only while the condition variable has the guard.
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

/// Counts of started threads.
pub(crate) struct Started {
    pub(crate) all: usize,
    pub(crate) main: usize,
    pub(crate) spare: usize,
}

impl Threads {
    /// Enters the table. Blocks while a thread waits for a start that is under way.
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

    /// Sets the maximal number of workers in service.
    pub(crate) fn set_max<H: Host>(&self, host: &Arc<H>, max: usize) {
        let mut table = self.enter();
        table.placement.set_max(max);
        table.reroute(host);
    }

    /// Records that a worker is about to block in a wait.
    pub(super) fn block(&self) {
        self.enter().placement.block();
    }

    /// Records that a worker has ended its wait.
    pub(super) fn unblock(&self) {
        self.enter().placement.unblock();
    }

    /// Reroutes activations after a thread that is about to block has left service. An activation
    /// may have no thread to wait for but this one. Then a spare thread answers it.
    pub(super) fn reroute<H: Host>(&self, host: &Arc<H>) {
        self.enter().reroute(host);
    }

    /// As `block`, for the thread `index`, which is in rayon: it takes up no activation meanwhile.
    /// `is_counted`: it is counted as busy already. Returns whether `unblock_aside` has to count it
    /// as free again.
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
            host.after_activation(after);
        }
        aside.counts
    }

    /// The counterpart of `block_aside`.
    pub(super) fn unblock_aside<H: Host>(&self, host: &Arc<H>, index: usize, counts: bool) {
        let mut table = self.enter();
        table.placement.unblock_aside(index, counts);
        table.reroute(host);
    }

    /// Accounts for a worker that came back from a wait when all places are taken. If an activation
    /// for one of them is in rayon, the worker fills that place. The caller then has to `recheck`,
    /// since that activation kept others from being sent. Otherwise the worker becomes the excess.
    #[must_use]
    pub(crate) fn come_back(&self, idle: &Idle) -> bool {
        self.enter().placement.come_back(idle)
    }

    /// Lets the worker `index` leave for the excess, which it has taken. If an activation is in
    /// rayon, the worker fills its place instead, and the caller has to `recheck`. Returns whether
    /// the worker leaves.
    #[must_use]
    pub(crate) fn leave_as_excess(&self, idle: &Idle, index: usize) -> bool {
        self.enter().placement.leave_as_excess(idle, index)
    }

    /// Makes the calling thread `index` a worker, by an activation. Returns false if the activation
    /// was answered already.
    pub(super) fn begin_work(&self, index: usize) -> bool {
        self.enter().placement.begin_work(index)
    }

    /// Returns the calling worker `index` to rayon, after the pool has stopped.
    pub(crate) fn end_work(&self, index: usize) {
        self.enter().placement.end_work(index);
    }

    /// Returns the calling worker `index` to rayon, unless a waker is about to notify it. The lock
    /// keeps activations from coming between this and the counts.
    pub(crate) fn go_to_rayon(&self, idle: &Idle, index: usize) -> bool {
        self.enter().placement.go_to_rayon(idle, index)
    }

    /// Counts a thread in rayon as busy with work of the pool: it takes up no activation meanwhile.
    /// An activation under way may have been meant for it, so this reroutes.
    pub(super) fn begin_aside<H: Host>(&self, host: &Arc<H>) {
        let mut table = self.enter();
        table.placement.begin_aside();
        table.reroute(host);
    }

    pub(super) fn end_aside(&self) {
        self.enter().placement.end_aside();
    }

    /// Takes the activation that rayon gave to the thread `index` if it is void: it, or another one
    /// in its place, was answered already, or the pool has stopped.
    pub(super) fn take_if_void(&self, index: usize) -> bool {
        let placement = &mut self.enter().placement;
        placement.take_if_void(index) || !placement.is_open() && placement.take_activation(index)
    }

    /// Answers an activation on the thread `index`, which waits inside rayon and becomes no worker.
    /// Returns false if it was answered already.
    pub(super) fn take_activation<H: Host>(&self, host: &Arc<H>, index: usize) -> bool {
        let mut table = self.enter();
        let is_taken = table.placement.take_activation(index);
        table.reroute(host);
        is_taken
    }

    /// Starts every thread that is not spare, and makes each run `task` when rayon runs it next.
    /// Checks first that `room` accepts that number of threads. Returns false if any of this fails.
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

    /// Spawns one task into rayon for each started thread.
    pub(super) fn spawn_for_each<T: FnOnce() + Send + 'static>(&self, task: impl Fn() -> T) {
        let table = self.enter();
        if let Some(rayon) = &table.rayon {
            (0..table.placement.started()).for_each(|_| rayon.spawn(task()));
        }
    }

    /// Sends help into each rayon pool that has none queued, for the threads that may wait inside
    /// rayon.
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

    /// Records that the thread `index` is about to send help to itself. Returns false if help is
    /// already queued in its pool.
    pub(super) fn begin_help(&self, index: usize) -> bool {
        let mut table = self.enter();
        let lies = table.helps.get_mut(self.rayon_pool_of(index));
        lies.is_some_and(|lies| !mem::replace(lies, true))
    }

    /// Records that the thread `index` has taken up help.
    pub(super) fn take_help(&self, index: usize) {
        if let Some(lies) = self.enter().helps.get_mut(self.rayon_pool_of(index)) {
            *lies = false;
        }
    }

    /// Returns the number of the rayon pool of the thread `index`; the main pool is number 0.
    fn rayon_pool_of(&self, index: usize) -> usize {
        index
            .checked_sub(self.settings.main)
            .map_or(0, |spare| spare + 1)
    }

    /// Lets every thread without work end. No activation succeeds afterwards.
    pub(crate) fn stop(&self) {
        let mut table = self.enter();
        table.placement.close();
        let rayon = table.rayon.take();
        let unstarted = mem::take(&mut table.unstarted);
        let spares = mem::take(&mut table.spares);
        drop(table);
        self.unpark_timer();
        // Dropping rayon's pools makes their threads end, and does not block.
        drop((rayon, spares, unstarted));
    }

    /// Blocks until every thread has ended. Must be called after `stop`, and not by one of the
    /// threads.
    pub(crate) fn join(&self) {
        let handles = mem::take(&mut self.enter().handles);
        for handle in handles {
            // A thread of the pool does not panic; if it did, no action would help here.
            let _ = handle.join();
        }
    }

    /// Returns the number of threads that were ever started: all, main and spare.
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
