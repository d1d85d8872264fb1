//! The rayon-core pool under ours: its threads, started when first needed, joined at the end.
//!
//! rayon builds all its threads at once and hands each to a *spawn handler*. Ours keeps them, so
//! that the system's thread is started later, or never. A *call* is a rayon job that turns the
//! thread that takes it up into a worker, until the worker leaves again: see `worker.rs`.
//!
//! **Every call finds a thread.** Under one lock are counted, by `placement.rs`, the threads that were started, those
//! that are workers now, and the calls that nobody has taken up. A call starts a thread if without
//! one it would find none that is not a worker already, or only such as may be busy with a piece of
//! somebody's `par_iter`. When every thread that may be in service was started, a call that finds
//! them all busy is taken up after that.
//!
//! **Spare threads** take the places of workers that are blocked in waits: one for each, as far as
//! there are any. rayon cannot be given more threads later, and should not be given more than are to
//! run (`rayon::current_num_threads` would tell jobs of them), so a spare is a rayon pool of its own,
//! of one thread, made when it is first needed. A call that is under way in rayon when its last thread
//! blocks is rerouted to a spare, and void when rayon gives it out later. A parallel iterator in a job that happens to run there
//! is correct, and as fast as one thread. A pool that is resized beyond the range with which it was built takes
//! spare threads for what comes on top.
//!
//! # The timer
//!
//! A thread inherits from the one that starts it: cores, signal mask, priority, and all else that pthreads(7) lists. So that
//! every thread of a pool is as the one that called `build`, that one starts the minimum of workers and one small thread
//! more, the *timer*, and the timer starts all threads that come later. It also keeps the scaling's time
//! (`scaler.rs`). It sleeps until a start is ordered, or until the one moment that it was told.
//!
//! **A start is waited for**: the placement's next order depends on its outcome. The table's lock is a monitor. A thread
//! that wants a start leaves the order in `ThreadTable::start`, unparks the timer, and waits, with the lock given back. Until it
//! has taken the outcome nobody else enters, so the placement sees one decision after the other. The timer takes the
//! order out under the lock, starts the thread without it, and leaves the outcome. When the timer itself wants to enter, it
//! first carries out what is ordered: the thread that waits for it keeps it out otherwise. So nothing that the timer
//! waits for elsewhere may be held by a thread that enters. It ends when it finds the table closed and nothing ordered;
//! after that nothing can be ordered. So no start waits for a timer that is gone.

use std::{
    cell::Cell,
    io, mem,
    ops::{Deref, DerefMut},
    panic::{self, AssertUnwindSafe},
    ptr,
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};

use crate::{
    error::BuildError,
    protocol::placement::{Order, Placement},
    runtime::{
        inner::Inner,
        rayon_host::inbox,
        wait::starvation,
        worker::{self, Activation},
    },
    sync::{
        Condvar, Instant, Mutex, MutexGuard,
        backoff::Clock,
        lock,
        rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder},
        thread::{self, JoinHandle, Thread},
        thread_local,
        unwind::drop_payload,
    },
};

/// How long a call may lie in rayon while there are threads that were not started: a thread that is with
/// rayon may be asleep there, and then takes it up in a tenth of that, or help a job, for as long
/// as that likes.
pub(crate) const ACTIVATION_PATIENCE: Duration = Duration::from_millis(1);

/// The longest pause between two tries to start a thread that the system refuses.
const PATIENCE_MAX: Duration = Duration::from_millis(500);

/// The timer's stack. It runs no code of the user's.
const TIMER_STACK: usize = 128 * 1024;

/// How much of a thread's name the system keeps, on Linux.
const NAME_BYTES: usize = 15;

/// What a thread needs to become the pool's.
struct UnstartedThread {
    builder: ThreadBuilder,
    index: usize,
}

pub(crate) struct Threads {
    table: Mutex<ThreadTable>,
    /// `ThreadTable::start` has changed.
    changed: Condvar,
    /// From the end of the build on.
    timer: OnceLock<Thread>,
}

/// A start that another thread than the timer wants.
enum Start {
    /// There is none: who wants to enter may.
    None,
    Ordered(thread::Builder, Box<dyn FnOnce() + Send>),
    UnderWay,
    Done(io::Result<JoinHandle<()>>),
}

thread_local! {
    /// Where the calling thread is the timer: an address, not to be followed.
    static TIMER_OF: Cell<*const Threads> = const { Cell::new(ptr::null()) };
}

struct ThreadTable {
    /// `None` before the pool is built and after it has stopped.
    rayon: Option<ThreadPool>,
    /// Threads that were not started yet, in the reverse order of their indices.
    unstarted: Vec<ThreadBuilder>,
    /// As the placement has them.
    spares: Vec<ThreadPool>,
    /// How many threads are not spare, if all are started.
    main: usize,
    handles: Vec<JoinHandle<()>>,
    /// All threads that were ever started.
    handles_made: usize,
    /// Who does what.
    placement: Placement,
    /// When the placement began to watch its calls, if it does.
    activated_at: Option<Instant>,
    /// How long after that a thread is started for it.
    patience: Duration,
    start: Start,
    /// Whether help lies in rayon's pool, and in that of each spare thread, which nobody has taken up.
    helps: Vec<bool>,
    /// Every thread there is, or can be, is a worker that is blocked: see `starvation.rs`.
    starvation: bool,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::new(ThreadTable {
                rayon: None,
                unstarted: Vec::new(),
                spares: Vec::new(),
                main: 0,
                handles: Vec::new(),
                handles_made: 0,
                placement: Placement::new(),
                activated_at: None,
                patience: ACTIVATION_PATIENCE,
                start: Start::None,
                helps: Vec::new(),
                starvation: false,
            }),
            changed: Condvar::new(),
            timer: OnceLock::new(),
        }
    }

    /// Makes the rayon pool, and starts its first `at_once` threads, and the timer.
    ///
    /// # Errors
    /// If not even one of these can be started, or the timer cannot.
    pub(crate) fn build(&self, inner: &Arc<Inner>, at_once: usize) -> Result<(), BuildError> {
        let failed = |index| move |source| BuildError::Thread { index, source };
        let settings = &inner.settings;
        let (rayon, mut unstarted) =
            make_unstarted(inner, settings.workers_max).map_err(failed(0))?;
        unstarted.reverse();

        let mut table = self.enter();
        let spares = settings.spare_threads();
        table.placement.open(unstarted.len(), spares);
        table.main = settings.workers_max;
        table.rayon = Some(rayon);
        table.unstarted = unstarted;
        let starts = || -> Result<(), BuildError> {
            for index in 0..at_once {
                match table.start_next(inner) {
                    Err(source) if index == 0 => return Err(failed(index)(source)),
                    // There are some for the jobs; the others are tried again when they are called.
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
            // Last: a timer that is there starts all that come after.
            table.start_timer(inner).map_err(failed(at_once))
        };
        let started = { starts }();
        drop(table);
        if started.is_err() {
            self.stop(inner);
            self.join();
        }
        started
    }

    /// Enters the table, when no start is under way that somebody waits for.
    fn enter(&self) -> TableGuard<'_> {
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

    fn wait<'a>(&self, table: MutexGuard<'a, ThreadTable>) -> MutexGuard<'a, ThreadTable> {
        let woken = self.changed.wait(table);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the calling thread is the timer.
    fn is_timer_here(&self) -> bool {
        ptr::eq(TIMER_OF.get(), self)
    }

    /// By the timer: carries out what is ordered, if anything is.
    fn carry_out_start<'a>(
        &'a self,
        mut table: MutexGuard<'a, ThreadTable>,
    ) -> MutexGuard<'a, ThreadTable> {
        match mem::replace(&mut table.start, Start::UnderWay) {
            Start::Ordered(builder, life) => {
                drop(table);
                let outcome = builder.spawn(life);
                table = lock(&self.table);
                table.start = Start::Done(outcome);
                self.changed.notify_all();
            }
            other => table.start = other,
        }
        table
    }

    /// The life of the timer.
    fn keep(&self, inner: &Inner) {
        TIMER_OF.set(self);
        loop {
            let table = self.carry_out_start(lock(&self.table));
            if !table.placement.is_open() && matches!(table.start, Start::None) {
                return;
            }
            drop(table);
            // A start that was ordered since then has unparked this thread.
            inner.scaler.keep_time(inner);
        }
    }

    /// The timer has something to do, or has to look at another moment than it was told.
    pub(crate) fn unpark_timer(&self) {
        if let Some(timer) = self.timer.get() {
            timer.unpark();
        }
    }

    /// Makes a worker of a thread that is with rayon, or of a new one.
    pub(crate) fn call(&self, inner: &Arc<Inner>) {
        let mut table = self.enter();
        let after = table.call(inner);
        table.check_starvation(inner);
        drop(table);
        after.leapfrog(inner);
    }

    /// Starts a thread for a call that nobody has taken up for so long: the threads that are with rayon are
    /// busy there, or the system had refused one. If there is a call that is younger, or the system refuses again,
    /// returns after what time to come again.
    pub(crate) fn start_for_late_activation(&self, inner: &Arc<Inner>) -> Option<Duration> {
        let mut table = self.enter();
        if !table.placement.is_watched() {
            return None;
        }
        let left = table.patience.saturating_sub(table.activated_at?.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        let order = table.placement.start_for_late_activation();
        let again = (!table.carry_out(inner, order)).then(|| {
            table.placement.stays_late();
            table.activated_at = Some(Instant::now());
            table.patience = PATIENCE_MAX.min(table.patience * 2);
            table.patience
        });
        table.check_starvation(inner);
        again
    }

    /// How many workers may be in service from now on.
    pub(crate) fn set_max(&self, inner: &Arc<Inner>, max: usize) {
        let mut table = self.enter();
        table.placement.set_max(max);
        table.reroute(inner);
        table.check_starvation(inner);
    }

    /// A worker is about to block in a wait, or is through with it.
    pub(crate) fn block(&self, inner: &Inner) {
        let mut table = self.enter();
        table.placement.block();
        table.check_starvation(inner);
    }

    /// A thread that is about to block has left service. A call that waits for a thread to come back to
    /// rayon may have no other to come than this one: then a spare thread answers it.
    pub(crate) fn reroute(&self, inner: &Arc<Inner>) {
        let mut table = self.enter();
        table.reroute(inner);
        table.check_starvation(inner);
    }

    /// As `block`, for a thread, of this index, that is with rayon: it takes up no call
    /// meanwhile. `is_counted` says that it is counted as busy already. Returns whether it is to be counted
    /// as free again by `unblock_aside`.
    pub(crate) fn block_aside(&self, inner: &Arc<Inner>, index: usize, is_counted: bool) -> bool {
        let mut table = self.enter();
        let aside = table.placement.block_aside(index, is_counted);
        let after = aside.calls.then(|| table.call(inner));
        table.check_starvation(inner);
        drop(table);
        if let Some(after) = after {
            after.leapfrog(inner);
        }
        aside.counts
    }

    /// See `block_aside`.
    pub(crate) fn unblock_aside(&self, inner: &Arc<Inner>, index: usize, counts: bool) {
        let mut table = self.enter();
        table.placement.unblock_aside(index, counts);
        table.reroute(inner);
        table.check_starvation(inner);
    }

    /// A worker came back from a wait, and all places are taken. If a call for one of them lies in rayon, it
    /// fills that place, and `recheck` has to leapfrog: that call kept others from being sent. Otherwise it
    /// is one too many.
    #[must_use]
    pub(crate) fn come_back(&self, inner: &Inner) -> bool {
        self.enter().placement.come_back(&inner.idle)
    }

    /// A worker, of this index, leaves for the excess, which it has taken; unless a call lies in rayon, whose
    /// place it fills. Returns whether it leaves.
    pub(crate) fn leave_as_excess(&self, inner: &Inner, index: usize) -> bool {
        let mut table = self.enter();
        let leaves = table.placement.leave_as_excess(&inner.idle, index);
        table.check_starvation(inner);
        leaves
    }

    /// A call that rayon gave to the thread of this index ends here if it, or another one, was answered already.
    pub(crate) fn take_if_void(&self, index: usize) -> bool {
        self.enter().placement.take_if_void(index)
    }

    /// See `block`.
    pub(crate) fn unblock(&self, inner: &Inner) {
        let mut table = self.enter();
        table.placement.unblock();
        table.check_starvation(inner);
    }

    /// The calling thread, of this index, becomes a worker, by a call. False if that was answered already.
    pub(crate) fn begin_work(&self, inner: &Inner, index: usize) -> bool {
        let mut table = self.enter();
        let begins = table.placement.begin_work(index);
        table.check_starvation(inner);
        begins
    }

    /// The pool has stopped, and the calling thread, of this index, goes back to rayon.
    pub(crate) fn end_work(&self, inner: &Inner, index: usize) {
        let mut table = self.enter();
        table.placement.end_work(index);
        table.check_starvation(inner);
    }

    /// The calling thread, of this index, falls asleep and goes back to rayon, unless somebody is about to
    /// wake_one it: under the lock, so that no call comes between that and the slots.
    pub(crate) fn go_to_rayon(&self, inner: &Inner, index: usize) -> bool {
        let mut table = self.enter();
        let falls = table.placement.go_to_rayon(&inner.idle, index);
        table.check_starvation(inner);
        falls
    }

    /// A thread that is with rayon is busy there with something of ours, and takes up no call meanwhile. It
    /// may be the one that a call under way was meant for.
    pub(crate) fn begin_aside(&self, inner: &Arc<Inner>) {
        let mut table = self.enter();
        table.placement.begin_aside();
        table.reroute(inner);
    }

    pub(crate) fn end_aside(&self) {
        self.enter().placement.end_aside();
    }

    /// Has every thread that is not spare look at its inbox when it is next in rayon's hands: see
    /// `broadcast.rs`. Starts those that were not started. False if that cannot be.
    pub(crate) fn probe(&self, inner: &Arc<Inner>) -> bool {
        let mut table = self.enter();
        while table.placement.can_start() {
            if table.start_next(inner).is_err() {
                return false;
            }
        }
        let Some(rayon) = &table.rayon else {
            return false;
        };
        if !inner.post.count_probes(table.placement.started()) {
            return false;
        }
        rayon.spawn_broadcast(|_| inbox::take_probe());
        true
    }

    /// Where a probe cannot be: has as many threads look as rayon has awake or wakes for this, one of which may
    /// look several times and another not at all.
    pub(crate) fn probe_some(&self) {
        let table = self.enter();
        if let Some(rayon) = &table.rayon {
            for _ in 0..table.placement.started() {
                rayon.spawn(inbox::take_uncounted_probe);
            }
        }
    }

    /// A call is answered by a thread, of this index, that waits inside rayon, and becomes no worker. False if it
    /// was answered already.
    pub(crate) fn take_activation(&self, inner: &Arc<Inner>, index: usize) -> bool {
        let mut table = self.enter();
        let is_taken = table.placement.take_activation(index);
        table.reroute(inner);
        table.check_starvation(inner);
        is_taken
    }

    /// Jobs wait in vain: sends help to all that may wait inside rayon, unless some lies there.
    pub(crate) fn send_help(&self, inner: &Arc<Inner>) {
        let mut table = self.enter();
        let Some(rayon) = &table.rayon else {
            return;
        };
        let mut helps = table.helps.clone();
        helps.resize(1 + table.spares.len(), false);
        for (pool, lies) in std::iter::once(rayon).chain(&table.spares).zip(&mut helps) {
            if !mem::replace(lies, true) {
                pool.spawn(worker::call(
                    Arc::clone(inner),
                    worker::help_from_now_on(inner),
                ));
            }
        }
        table.helps = helps;
    }

    /// The thread of this index is about to send help to itself. False if some lies in its pool.
    pub(crate) fn begin_help(&self, index: usize) -> bool {
        let mut table = self.enter();
        let pool = table.help_of(index);
        pool.is_some_and(|lies| !mem::replace(lies, true))
    }

    /// The thread of this index has taken up help.
    pub(crate) fn take_help(&self, index: usize) {
        if let Some(lies) = self.enter().help_of(index) {
            *lies = false;
        }
    }

    /// Lets every thread end that has nothing left to do. No call succeeds after it.
    pub(crate) fn stop(&self, inner: &Inner) {
        let mut table = self.enter();
        let rayon = table.rayon.take();
        table.placement.close();
        table.check_starvation(inner);
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

    /// All threads that were ever started, and how many of them are workers that are not spare, and spare ones.
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

/// What is left to do after a call.
#[must_use]
enum AfterActivation {
    Nothing,
    /// It may be late.
    Watch,
    /// It was taken back, and kept others from being sent.
    Recheck,
}

impl AfterActivation {
    fn leapfrog(self, inner: &Arc<Inner>) {
        match self {
            Self::Nothing => {}
            Self::Watch => inner.scaler.watch_activation(inner),
            Self::Recheck => {
                inner.recheck();
            }
        }
    }
}

/// A count of threads.
pub(crate) struct Started {
    pub(crate) all: usize,
    pub(crate) main: usize,
    pub(crate) spare: usize,
}

/// Makes a rayon pool of so many threads, of which none is started yet.
fn make_unstarted(
    inner: &Arc<Inner>,
    threads: usize,
) -> io::Result<(ThreadPool, Vec<ThreadBuilder>)> {
    let mut builders = Vec::with_capacity(threads);
    // The panics of `rayon::spawn` in a job have nobody else to go to.
    let weak = Arc::downgrade(inner);
    let built = ThreadPoolBuilder::new()
        .num_threads(threads)
        .panic_handler(move |payload| match weak.upgrade() {
            Some(inner) => inner.handle_panic(payload),
            None => drop_payload(payload),
        })
        .spawn_handler(|builder| {
            builders.push(builder);
            Ok(())
        })
        .build();
    let rayon = built.map_err(io::Error::other)?;
    Ok((rayon, builders))
}

/// The table, entered.
struct TableGuard<'a> {
    threads: &'a Threads,
    /// Always there: it is given to the condition variable while its thread waits.
    table: Option<MutexGuard<'a, ThreadTable>>,
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

impl ThreadTable {
    /// Whether help lies in the pool of the thread of this index.
    fn help_of(&mut self, index: usize) -> Option<&mut bool> {
        let pool = index.checked_sub(self.main).map_or(0, |spare| spare + 1);
        self.helps.get_mut(pool)
    }

    /// To be called after each change of the placement that can change the answer.
    fn check_starvation(&mut self, inner: &Inner) {
        let starvation = self.placement.is_starved();
        if starvation != self.starvation {
            self.starvation = starvation;
            starvation::set(inner, starvation);
        }
    }
}

impl TableGuard<'_> {
    /// Calls a thread. What is left to do needs the lock not to be held.
    fn call(&mut self, inner: &Arc<Inner>) -> AfterActivation {
        let was_watched = self.placement.is_watched();
        let mut after = AfterActivation::Nothing;
        let mut order = self.placement.activate(&inner.idle);
        while order != Order::Nothing {
            after = match order {
                Order::SendAndWatch => AfterActivation::Watch,
                Order::Recheck => AfterActivation::Recheck,
                _ => after,
            };
            let done = self.carry_out(inner, order);
            order = self.placement.activate_on(order, done, &inner.idle);
        }
        if self.placement.is_watched() && !was_watched {
            self.activated_at = Some(Instant::now());
            self.patience = ACTIVATION_PATIENCE;
        }
        after
    }

    /// Finds threads for calls that none can take up of those that they were meant for.
    fn reroute(&mut self, inner: &Arc<Inner>) {
        let mut order = self.placement.reroute();
        while order != Order::Nothing {
            let done = self.carry_out(inner, order);
            order = self.placement.reroute_on(order, done);
        }
    }

    /// Does what the placement orders. False if it could not be.
    fn carry_out(&mut self, inner: &Arc<Inner>, order: Order) -> bool {
        let call = || worker::call(Arc::clone(inner), Activation::Work(None));
        match order {
            Order::Nothing | Order::Recheck => {}
            Order::Start => return self.start_next(inner).is_ok(),
            Order::Send | Order::SendAndWatch => {
                if let Some(rayon) = &self.rayon {
                    rayon.spawn(call());
                }
            }
            Order::ActivateSpare(spare) => self.spares[spare].spawn(call()),
            Order::MakeSpare => return self.make_spare(inner),
        }
        true
    }

    /// Starts the next thread that is not spare.
    fn start_next(&mut self, inner: &Arc<Inner>) -> io::Result<()> {
        let Some(builder) = self.unstarted.pop() else {
            return Err(io::Error::other("every thread was started"));
        };
        let index = builder.index();
        match self.start(inner, UnstartedThread { builder, index }) {
            Ok(()) => {
                self.placement.thread_started();
                Ok(())
            }
            Err((error, refused)) => {
                self.unstarted
                    .extend(refused.map(|refused| refused.builder));
                Err(error)
            }
        }
    }

    /// Makes a spare thread, and a worker of it.
    fn make_spare(&mut self, inner: &Arc<Inner>) -> bool {
        // The index says which of `spares` it is.
        let index = inner.settings.workers_max + self.spares.len();
        let made = make_unstarted(inner, 1);
        let Ok((rayon, Some(builder))) = made.map(|(rayon, mut made)| (rayon, made.pop())) else {
            self.placement.system_has(false);
            inner.recorder.thread_start_failed();
            return false;
        };
        if self
            .start(inner, UnstartedThread { builder, index })
            .is_err()
        {
            return false;
        }
        rayon.spawn(worker::call(Arc::clone(inner), Activation::Work(None)));
        self.spares.push(rayon);
        self.placement.spare_made();
        true
    }

    /// Starts a thread; or gives the make_unstarted back, and counts the failure.
    fn start(
        &mut self,
        inner: &Arc<Inner>,
        make_unstarted: UnstartedThread,
    ) -> Result<(), (io::Error, Option<UnstartedThread>)> {
        let settings = &inner.settings;
        let name = name_of_thread(&settings.name, &format!("-{}", make_unstarted.index));
        let mut builder = thread::Builder::new().name(name);
        if let Some(bytes) = settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        // A thread that cannot be started takes its closure with it; what the closure needs waits
        // outside, for the next try.
        let parcel = Arc::new(Mutex::new(Some(make_unstarted)));
        let life = {
            let parcel = Arc::clone(&parcel);
            let inner = Arc::clone(inner);
            move || {
                let make_unstarted = lock(&parcel).take();
                if let Some(make_unstarted) = make_unstarted {
                    make_unstarted.serve(inner);
                }
            }
        };
        let started = self.start_as_builder(builder, Box::new(life));
        self.placement.system_has(started.is_ok());
        match started {
            Ok(handle) => {
                self.handles.push(handle);
                self.handles_made += 1;
                Ok(())
            }
            Err(error) => {
                inner.recorder.thread_start_failed();
                let refused = lock(&parcel).take();
                Err((error, refused))
            }
        }
    }

    /// Starts a thread that is as the one that called `build`: by the timer, or on that thread itself.
    fn start_as_builder(
        &mut self,
        builder: thread::Builder,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let threads = self.threads;
        let Some(timer) = threads.timer.get().filter(|_| !threads.is_timer_here()) else {
            return builder.spawn(life);
        };
        self.start = Start::Ordered(builder, life);
        timer.unpark();
        // It may wait to enter.
        threads.changed.notify_all();
        loop {
            self.table = self.table.take().map(|table| threads.wait(table));
            match mem::replace(&mut self.start, Start::None) {
                Start::Done(outcome) => {
                    threads.changed.notify_all();
                    return outcome;
                }
                other => self.start = other,
            }
        }
    }

    /// Starts the timer.
    fn start_timer(&mut self, inner: &Arc<Inner>) -> io::Result<()> {
        let name = name_of_thread(&inner.settings.name, "-timer");
        let builder = thread::Builder::new().name(name).stack_size(TIMER_STACK);
        let own = Arc::clone(inner);
        let handle = builder.spawn(move || {
            own.threads.keep(&own);
            own.life.thread_exited();
        })?;
        // There is one build.
        let _ = self.threads.timer.set(handle.thread().clone());
        self.handles.push(handle);
        self.handles_made += 1;
        Ok(())
    }
}

/// The name of a thread: the pool's, cut where the system would cut what comes after it.
fn name_of_thread(pool: &str, suffix: &str) -> String {
    let mut room = pool.len().min(NAME_BYTES.saturating_sub(suffix.len()));
    while !pool.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{suffix}", &pool[..room])
}

impl UnstartedThread {
    /// The life of one thread.
    fn serve(self, inner: Arc<Inner>) {
        let Self { builder, index } = self;
        let run_hook = |hook: &Option<Box<dyn Fn(usize) + Send + Sync>>| {
            if let Some(hook) = hook {
                let ran = panic::catch_unwind(AssertUnwindSafe(|| hook(index)));
                if let Err(payload) = ran {
                    inner.handle_panic(payload);
                }
            }
        };
        inner.timing.enroll(index);
        let _clock = Clock::start();
        worker::with_slot(&inner, index, || {
            run_hook(&inner.hooks.start);
            builder.run();
            inner.post.close(index);
            run_hook(&inner.hooks.exit);
        });
        inner.life.thread_exited();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_before_the_number() {
        for (pool, suffix, name) in [
            ("adaptive", "-32767", "adaptive-32767"),
            ("adaptive", "-timer", "adaptive-timer"),
            ("adaptive-pool", "-9", "adaptive-pool-9"),
            ("adaptive-pool", "-10", "adaptive-poo-10"),
            // Not within a character.
            (
                "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
                "-7",
                "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}-7",
            ),
        ] {
            assert_eq!(name_of_thread(pool, suffix), name);
        }
    }
}
