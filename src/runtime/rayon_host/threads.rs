//! The rayon-core pool under ours: its threads, started when first needed, joined at the end.
//!
//! rayon builds all its threads at once and hands each to a *spawn handler*. Ours keeps them, so
//! that the system's thread is started later, or never. A *call* is a rayon job that turns the
//! thread that takes it up into a worker, until the worker leaves again: see `worker.rs`.
//!
//! **Every call finds a thread.** Under one lock are counted, by `roster.rs`, the threads that were started, those
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
//! # The keeper
//!
//! A thread inherits from the one that starts it: cores, signal mask, priority, and all else that pthreads(7) lists. So that
//! every thread of a pool is as the one that called `build`, that one starts the minimum of workers and one small thread
//! more, the *keeper*, and the keeper starts all threads that come later. It also keeps the scaling's time
//! (`scaler.rs`). It sleeps until a start is ordered, or until the one moment that it was told.
//!
//! **A start is waited for**: the roster's next order depends on its outcome. The staff's lock is a monitor. A thread
//! that wants a start leaves the order in `Staff::start`, unparks the keeper, and waits, with the lock given back. Until it
//! has taken the outcome nobody else enters, so the roster sees one decision after the other. The keeper takes the
//! order out under the lock, starts the thread without it, and leaves the outcome. When the keeper itself wants to enter, it
//! first carries out what is ordered: the thread that waits for it keeps it out otherwise. So nothing that the keeper
//! waits for elsewhere may be held by a thread that enters. It ends when it finds the staff closed and nothing ordered;
//! after that nothing can be ordered. So no start waits for a keeper that is gone.

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
    protocol::placement::{Order, Roster},
    runtime::{
        inner::Inner,
        rayon_host::mail,
        wait::stuck,
        worker::{self, Errand},
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
pub(crate) const CALL_PATIENCE: Duration = Duration::from_millis(1);

/// The longest pause between two tries to start a thread that the system refuses.
const PATIENCE_MAX: Duration = Duration::from_millis(500);

/// The keeper's stack. It runs no code of the user's.
const KEEPER_STACK: usize = 128 * 1024;

/// How much of a thread's name the system keeps, on Linux.
const NAME_BYTES: usize = 15;

/// What a thread needs to become the pool's.
struct Recruit {
    builder: ThreadBuilder,
    index: usize,
}

pub(crate) struct Threads {
    staff: Mutex<Staff>,
    /// `Staff::start` has changed.
    changed: Condvar,
    /// From the end of the build on.
    keeper: OnceLock<Thread>,
}

/// A start that another thread than the keeper wants.
enum Start {
    /// There is none: who wants to enter may.
    None,
    Ordered(thread::Builder, Box<dyn FnOnce() + Send>),
    UnderWay,
    Done(io::Result<JoinHandle<()>>),
}

thread_local! {
    /// Where the calling thread is the keeper: an address, not to be followed.
    static KEEPS: Cell<*const Threads> = const { Cell::new(ptr::null()) };
}

struct Staff {
    /// `None` before the pool is built and after it has stopped.
    rayon: Option<ThreadPool>,
    /// Threads that were not started yet, in the reverse order of their indices.
    recruits: Vec<ThreadBuilder>,
    /// As the roster has them.
    spares: Vec<ThreadPool>,
    /// How many threads are not spare, if all are started.
    main: usize,
    handles: Vec<JoinHandle<()>>,
    /// All threads that were ever started.
    handles_made: usize,
    /// Who does what.
    roster: Roster,
    /// When the roster began to watch its calls, if it does.
    called_at: Option<Instant>,
    /// How long after that a thread is started for it.
    patience: Duration,
    start: Start,
    /// Whether help lies in rayon's pool, and in that of each spare thread, which nobody has taken up.
    helps: Vec<bool>,
    /// Every thread there is, or can be, is a worker that is blocked: see `stuck.rs`.
    stuck: bool,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            staff: Mutex::new(Staff {
                rayon: None,
                recruits: Vec::new(),
                spares: Vec::new(),
                main: 0,
                handles: Vec::new(),
                handles_made: 0,
                roster: Roster::new(),
                called_at: None,
                patience: CALL_PATIENCE,
                start: Start::None,
                helps: Vec::new(),
                stuck: false,
            }),
            changed: Condvar::new(),
            keeper: OnceLock::new(),
        }
    }

    /// Makes the rayon pool, and starts its first `at_once` threads, and the keeper.
    ///
    /// # Errors
    /// If not even one of these can be started, or the keeper cannot.
    pub(crate) fn build(&self, inner: &Arc<Inner>, at_once: usize) -> Result<(), BuildError> {
        let failed = |index| move |source| BuildError::Thread { index, source };
        let settings = &inner.settings;
        let (rayon, mut recruits) = recruit(inner, settings.workers_max).map_err(failed(0))?;
        recruits.reverse();

        let mut staff = self.enter();
        let spares = settings.spare_threads();
        staff.roster.open(recruits.len(), spares);
        staff.main = settings.workers_max;
        staff.rayon = Some(rayon);
        staff.recruits = recruits;
        let starts = || -> Result<(), BuildError> {
            for index in 0..at_once {
                match staff.start_next(inner) {
                    Err(source) if index == 0 => return Err(failed(index)(source)),
                    // There are some for the jobs; the others are tried again when they are called.
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
            // Last: a keeper that is there starts all that come after.
            staff.start_keeper(inner).map_err(failed(at_once))
        };
        let started = { starts }();
        drop(staff);
        if started.is_err() {
            self.stop(inner);
            self.join();
        }
        started
    }

    /// Enters the staff, when no start is under way that somebody waits for.
    fn enter(&self) -> Desk<'_> {
        let mut staff = lock(&self.staff);
        loop {
            staff = match staff.start {
                Start::None => {
                    return Desk {
                        threads: self,
                        staff: Some(staff),
                    };
                }
                Start::Ordered(..) if self.is_kept_here() => self.carry_out_start(staff),
                _ => self.wait(staff),
            }
        }
    }

    fn wait<'a>(&self, staff: MutexGuard<'a, Staff>) -> MutexGuard<'a, Staff> {
        let woken = self.changed.wait(staff);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the calling thread is the keeper.
    fn is_kept_here(&self) -> bool {
        ptr::eq(KEEPS.get(), self)
    }

    /// By the keeper: carries out what is ordered, if anything is.
    fn carry_out_start<'a>(&'a self, mut staff: MutexGuard<'a, Staff>) -> MutexGuard<'a, Staff> {
        match mem::replace(&mut staff.start, Start::UnderWay) {
            Start::Ordered(builder, life) => {
                drop(staff);
                let outcome = builder.spawn(life);
                staff = lock(&self.staff);
                staff.start = Start::Done(outcome);
                self.changed.notify_all();
            }
            other => staff.start = other,
        }
        staff
    }

    /// The life of the keeper.
    fn keep(&self, inner: &Inner) {
        KEEPS.set(self);
        loop {
            let staff = self.carry_out_start(lock(&self.staff));
            if !staff.roster.is_open() && matches!(staff.start, Start::None) {
                return;
            }
            drop(staff);
            // A start that was ordered since then has unparked this thread.
            inner.scaler.keep_time(inner);
        }
    }

    /// The keeper has something to do, or has to look at another moment than it was told.
    pub(crate) fn unpark_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// Makes a worker of a thread that is with rayon, or of a new one.
    pub(crate) fn call(&self, inner: &Arc<Inner>) {
        let mut staff = self.enter();
        let after = staff.call(inner);
        staff.look_if_stuck(inner);
        drop(staff);
        after.follow(inner);
    }

    /// Starts a thread for a call that nobody has taken up for so long: the threads that are with rayon are
    /// busy there, or the system had refused one. If there is a call that is younger, or the system refuses again,
    /// returns after what time to come again.
    pub(crate) fn start_for_late_call(&self, inner: &Arc<Inner>) -> Option<Duration> {
        let mut staff = self.enter();
        if !staff.roster.is_watched() {
            return None;
        }
        let left = staff.patience.saturating_sub(staff.called_at?.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        let order = staff.roster.start_for_late_call();
        let again = (!staff.carry_out(inner, order)).then(|| {
            staff.roster.stays_late();
            staff.called_at = Some(Instant::now());
            staff.patience = PATIENCE_MAX.min(staff.patience * 2);
            staff.patience
        });
        staff.look_if_stuck(inner);
        again
    }

    /// How many workers may be in service from now on.
    pub(crate) fn set_max(&self, inner: &Arc<Inner>, max: usize) {
        let mut staff = self.enter();
        staff.roster.set_max(max);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
    }

    /// A worker is about to block in a wait, or is through with it.
    pub(crate) fn block(&self, inner: &Inner) {
        let mut staff = self.enter();
        staff.roster.block();
        staff.look_if_stuck(inner);
    }

    /// A thread that is about to block has left service. A call that waits for a thread to come back to
    /// rayon may have no other to come than this one: then a spare thread answers it.
    pub(crate) fn reroute(&self, inner: &Arc<Inner>) {
        let mut staff = self.enter();
        staff.reroute(inner);
        staff.look_if_stuck(inner);
    }

    /// As `block`, for a thread, of this index, that is with rayon: it takes up no call
    /// meanwhile. `is_counted` says that it is counted as busy already. Returns whether it is to be counted
    /// as free again by `unblock_aside`.
    pub(crate) fn block_aside(&self, inner: &Arc<Inner>, index: usize, is_counted: bool) -> bool {
        let mut staff = self.enter();
        let aside = staff.roster.block_aside(index, is_counted);
        let after = aside.calls.then(|| staff.call(inner));
        staff.look_if_stuck(inner);
        drop(staff);
        if let Some(after) = after {
            after.follow(inner);
        }
        aside.counts
    }

    /// See `block_aside`.
    pub(crate) fn unblock_aside(&self, inner: &Arc<Inner>, index: usize, counts: bool) {
        let mut staff = self.enter();
        staff.roster.unblock_aside(index, counts);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
    }

    /// A worker came back from a wait, and all places are taken. If a call for one of them lies in rayon, it
    /// fills that place, and `look_again` has to follow: that call kept others from being sent. Otherwise it
    /// is one too many.
    #[must_use]
    pub(crate) fn come_back(&self, inner: &Inner) -> bool {
        self.enter().roster.come_back(&inner.sleep)
    }

    /// A worker, of this index, leaves for the surplus, which it has taken; unless a call lies in rayon, whose
    /// place it fills. Returns whether it leaves.
    pub(crate) fn leave_as_surplus(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = self.enter();
        let leaves = staff.roster.leave_as_surplus(&inner.sleep, index);
        staff.look_if_stuck(inner);
        leaves
    }

    /// A call that rayon gave to the thread of this index ends here if it, or another one, was answered already.
    pub(crate) fn take_if_void(&self, index: usize) -> bool {
        self.enter().roster.take_if_void(index)
    }

    /// See `block`.
    pub(crate) fn unblock(&self, inner: &Inner) {
        let mut staff = self.enter();
        staff.roster.unblock();
        staff.look_if_stuck(inner);
    }

    /// The calling thread, of this index, becomes a worker, by a call. False if that was answered already.
    pub(crate) fn begin_work(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = self.enter();
        let begins = staff.roster.begin_work(index);
        staff.look_if_stuck(inner);
        begins
    }

    /// The pool has stopped, and the calling thread, of this index, goes back to rayon.
    pub(crate) fn end_work(&self, inner: &Inner, index: usize) {
        let mut staff = self.enter();
        staff.roster.end_work(index);
        staff.look_if_stuck(inner);
    }

    /// The calling thread, of this index, falls asleep and goes back to rayon, unless somebody is about to
    /// rouse it: under the lock, so that no call comes between that and the books.
    pub(crate) fn fall_asleep(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = self.enter();
        let falls = staff.roster.fall_asleep(&inner.sleep, index);
        staff.look_if_stuck(inner);
        falls
    }

    /// A thread that is with rayon is busy there with something of ours, and takes up no call meanwhile. It
    /// may be the one that a call under way was meant for.
    pub(crate) fn begin_errand(&self, inner: &Arc<Inner>) {
        let mut staff = self.enter();
        staff.roster.begin_errand();
        staff.reroute(inner);
    }

    pub(crate) fn end_errand(&self) {
        self.enter().roster.end_errand();
    }

    /// Has every thread that is not spare look at its mail when it is next in rayon's hands: see
    /// `broadcast.rs`. Starts those that were not started. False if that cannot be.
    pub(crate) fn nudge(&self, inner: &Arc<Inner>) -> bool {
        let mut staff = self.enter();
        while staff.roster.can_start() {
            if staff.start_next(inner).is_err() {
                return false;
            }
        }
        let Some(rayon) = &staff.rayon else {
            return false;
        };
        if !inner.post.count_nudges(staff.roster.started()) {
            return false;
        }
        rayon.spawn_broadcast(|_| mail::take_nudge());
        true
    }

    /// Where a nudge cannot be: has as many threads look as rayon has awake or wakes for this, one of which may
    /// look several times and another not at all.
    pub(crate) fn ask_around(&self) {
        let staff = self.enter();
        if let Some(rayon) = &staff.rayon {
            for _ in 0..staff.roster.started() {
                rayon.spawn(mail::take_question);
            }
        }
    }

    /// A call is answered by a thread, of this index, that waits inside rayon, and becomes no worker. False if it
    /// was answered already.
    pub(crate) fn take_call(&self, inner: &Arc<Inner>, index: usize) -> bool {
        let mut staff = self.enter();
        let is_taken = staff.roster.take_call(index);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
        is_taken
    }

    /// Jobs wait in vain: sends help to all that may wait inside rayon, unless some lies there.
    pub(crate) fn send_help(&self, inner: &Arc<Inner>) {
        let mut staff = self.enter();
        let Some(rayon) = &staff.rayon else {
            return;
        };
        let mut helps = staff.helps.clone();
        helps.resize(1 + staff.spares.len(), false);
        for (pool, lies) in std::iter::once(rayon).chain(&staff.spares).zip(&mut helps) {
            if !mem::replace(lies, true) {
                pool.spawn(worker::call(
                    Arc::clone(inner),
                    worker::help_from_now_on(inner),
                ));
            }
        }
        staff.helps = helps;
    }

    /// The thread of this index is about to send help to itself. False if some lies in its pool.
    pub(crate) fn begin_help(&self, index: usize) -> bool {
        let mut staff = self.enter();
        let pool = staff.help_of(index);
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
        let mut staff = self.enter();
        let rayon = staff.rayon.take();
        staff.roster.close();
        staff.look_if_stuck(inner);
        let recruits = mem::take(&mut staff.recruits);
        let spares = mem::take(&mut staff.spares);
        drop(staff);
        self.unpark_keeper();
        // Dropping rayon's pools tells their threads to end, and waits for nothing.
        drop((rayon, spares, recruits));
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
        let staff = self.enter();
        let main = staff.roster.started();
        let keeper = usize::from(self.keeper.get().is_some());
        Started {
            all: staff.handles_made,
            main,
            spare: staff.handles_made - main - keeper,
        }
    }
}

/// What is left to do after a call.
#[must_use]
enum AfterCall {
    Nothing,
    /// It may be late.
    Watch,
    /// It was taken back, and kept others from being sent.
    LookAgain,
}

impl AfterCall {
    fn follow(self, inner: &Arc<Inner>) {
        match self {
            Self::Nothing => {}
            Self::Watch => inner.scaler.watch_call(inner),
            Self::LookAgain => {
                inner.look_again();
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
fn recruit(inner: &Arc<Inner>, threads: usize) -> io::Result<(ThreadPool, Vec<ThreadBuilder>)> {
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

/// The staff, entered.
struct Desk<'a> {
    threads: &'a Threads,
    /// Always there: it is given to the condition variable while its thread waits.
    staff: Option<MutexGuard<'a, Staff>>,
}

impl Deref for Desk<'_> {
    type Target = Staff;

    fn deref(&self) -> &Staff {
        self.staff.as_ref().unwrap_or_else(|| unreachable!())
    }
}

impl DerefMut for Desk<'_> {
    fn deref_mut(&mut self) -> &mut Staff {
        self.staff.as_mut().unwrap_or_else(|| unreachable!())
    }
}

impl Staff {
    /// Whether help lies in the pool of the thread of this index.
    fn help_of(&mut self, index: usize) -> Option<&mut bool> {
        let pool = index.checked_sub(self.main).map_or(0, |spare| spare + 1);
        self.helps.get_mut(pool)
    }

    /// To be called after each change of the roster that can change the answer.
    fn look_if_stuck(&mut self, inner: &Inner) {
        let stuck = self.roster.is_stuck();
        if stuck != self.stuck {
            self.stuck = stuck;
            stuck::set(inner, stuck);
        }
    }
}

impl Desk<'_> {
    /// Calls a thread. What is left to do needs the lock not to be held.
    fn call(&mut self, inner: &Arc<Inner>) -> AfterCall {
        let was_watched = self.roster.is_watched();
        let mut after = AfterCall::Nothing;
        let mut order = self.roster.call(&inner.sleep);
        while order != Order::Nothing {
            after = match order {
                Order::SendAndWatch => AfterCall::Watch,
                Order::LookAgain => AfterCall::LookAgain,
                _ => after,
            };
            let done = self.carry_out(inner, order);
            order = self.roster.call_on(order, done, &inner.sleep);
        }
        if self.roster.is_watched() && !was_watched {
            self.called_at = Some(Instant::now());
            self.patience = CALL_PATIENCE;
        }
        after
    }

    /// Finds threads for calls that none can take up of those that they were meant for.
    fn reroute(&mut self, inner: &Arc<Inner>) {
        let mut order = self.roster.reroute();
        while order != Order::Nothing {
            let done = self.carry_out(inner, order);
            order = self.roster.reroute_on(order, done);
        }
    }

    /// Does what the roster orders. False if it could not be.
    fn carry_out(&mut self, inner: &Arc<Inner>, order: Order) -> bool {
        let call = || worker::call(Arc::clone(inner), Errand::Work(None));
        match order {
            Order::Nothing | Order::LookAgain => {}
            Order::Start => return self.start_next(inner).is_ok(),
            Order::Send | Order::SendAndWatch => {
                if let Some(rayon) = &self.rayon {
                    rayon.spawn(call());
                }
            }
            Order::CallSpare(spare) => self.spares[spare].spawn(call()),
            Order::MakeSpare => return self.make_spare(inner),
        }
        true
    }

    /// Starts the next thread that is not spare.
    fn start_next(&mut self, inner: &Arc<Inner>) -> io::Result<()> {
        let Some(builder) = self.recruits.pop() else {
            return Err(io::Error::other("every thread was started"));
        };
        let index = builder.index();
        match self.start(inner, Recruit { builder, index }) {
            Ok(()) => {
                self.roster.thread_started();
                Ok(())
            }
            Err((error, refused)) => {
                self.recruits.extend(refused.map(|refused| refused.builder));
                Err(error)
            }
        }
    }

    /// Makes a spare thread, and a worker of it.
    fn make_spare(&mut self, inner: &Arc<Inner>) -> bool {
        // The index says which of `spares` it is.
        let index = inner.settings.workers_max + self.spares.len();
        let made = recruit(inner, 1);
        let Ok((rayon, Some(builder))) = made.map(|(rayon, mut made)| (rayon, made.pop())) else {
            self.roster.system_has(false);
            inner.recorder.thread_start_failed();
            return false;
        };
        if self.start(inner, Recruit { builder, index }).is_err() {
            return false;
        }
        rayon.spawn(worker::call(Arc::clone(inner), Errand::Work(None)));
        self.spares.push(rayon);
        self.roster.spare_made();
        true
    }

    /// Starts a thread; or gives the recruit back, and counts the failure.
    fn start(
        &mut self,
        inner: &Arc<Inner>,
        recruit: Recruit,
    ) -> Result<(), (io::Error, Option<Recruit>)> {
        let settings = &inner.settings;
        let name = name_of_thread(&settings.name, &format!("-{}", recruit.index));
        let mut builder = thread::Builder::new().name(name);
        if let Some(bytes) = settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        // A thread that cannot be started takes its closure with it; what the closure needs waits
        // outside, for the next try.
        let parcel = Arc::new(Mutex::new(Some(recruit)));
        let life = {
            let parcel = Arc::clone(&parcel);
            let inner = Arc::clone(inner);
            move || {
                let recruit = lock(&parcel).take();
                if let Some(recruit) = recruit {
                    recruit.serve(inner);
                }
            }
        };
        let started = self.start_as_builder(builder, Box::new(life));
        self.roster.system_has(started.is_ok());
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

    /// Starts a thread that is as the one that called `build`: by the keeper, or on that thread itself.
    fn start_as_builder(
        &mut self,
        builder: thread::Builder,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let threads = self.threads;
        let Some(keeper) = threads.keeper.get().filter(|_| !threads.is_kept_here()) else {
            return builder.spawn(life);
        };
        self.start = Start::Ordered(builder, life);
        keeper.unpark();
        // It may wait to enter.
        threads.changed.notify_all();
        loop {
            self.staff = self.staff.take().map(|staff| threads.wait(staff));
            match mem::replace(&mut self.start, Start::None) {
                Start::Done(outcome) => {
                    threads.changed.notify_all();
                    return outcome;
                }
                other => self.start = other,
            }
        }
    }

    /// Starts the keeper.
    fn start_keeper(&mut self, inner: &Arc<Inner>) -> io::Result<()> {
        let name = name_of_thread(&inner.settings.name, "-keeper");
        let builder = thread::Builder::new().name(name).stack_size(KEEPER_STACK);
        let own = Arc::clone(inner);
        let handle = builder.spawn(move || {
            own.threads.keep(&own);
            own.life.thread_exited();
        })?;
        // There is one build.
        let _ = self.threads.keeper.set(handle.thread().clone());
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

impl Recruit {
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
        worker::with_seat(&inner, index, || {
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
            ("adaptive", "-keeper", "adaptive-keeper"),
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
