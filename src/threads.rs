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

use std::{
    io, mem,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use crate::{
    backoff::Clock,
    error::BuildError,
    inner::Inner,
    mail,
    roster::{Order, Roster},
    stuck,
    sync::{
        Instant, Mutex, lock,
        rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder},
        thread::{self, JoinHandle, Thread},
    },
    unwind::drop_payload,
    worker::{self, Errand},
};

/// How long a call may lie in rayon while there are threads that were not started: a thread that is with
/// rayon may be asleep there, and then takes it up in a tenth of that, or help a job, for as long
/// as that likes.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_millis(1);

/// The longest pause between two tries to start a thread that the system refuses.
const PATIENCE_MAX: Duration = Duration::from_millis(500);

/// What a thread needs to become the pool's.
struct Recruit {
    builder: ThreadBuilder,
    index: usize,
}

pub(crate) struct Threads {
    staff: Mutex<Staff>,
}

struct Staff {
    /// `None` before the pool is built and after it has stopped.
    rayon: Option<ThreadPool>,
    /// Threads that were not started yet, in the reverse order of their indices.
    recruits: Vec<ThreadBuilder>,
    /// As the roster has them.
    spares: Vec<ThreadPool>,
    handles: Vec<JoinHandle<()>>,
    /// All threads that were ever started.
    handles_made: usize,
    /// Who does what.
    roster: Roster,
    /// When the roster began to watch its calls, if it does.
    called_at: Option<Instant>,
    /// How long after that a thread is started for it.
    patience: Duration,
    /// Threads that are no workers: at most one.
    keepers: usize,
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
                handles: Vec::new(),
                handles_made: 0,
                roster: Roster::new(),
                called_at: None,
                patience: CALL_PATIENCE,
                keepers: 0,
                stuck: false,
            }),
        }
    }

    /// Makes the rayon pool, and starts its first `at_once` threads.
    ///
    /// # Errors
    /// If not even one of these can be started.
    pub(crate) fn build(&self, inner: &Arc<Inner>, at_once: usize) -> Result<(), BuildError> {
        let failed = |index| move |source| BuildError::Thread { index, source };
        let settings = &inner.settings;
        let (rayon, mut recruits) = recruit(inner, settings.workers_max).map_err(failed(0))?;
        recruits.reverse();

        let mut staff = lock(&self.staff);
        let spares = settings.spare_threads();
        staff.roster.open(recruits.len(), spares);
        staff.rayon = Some(rayon);
        staff.recruits = recruits;
        for index in 0..at_once {
            if let Err(source) = staff.start_next(inner) {
                if index > 0 {
                    // There are some for the jobs; the others are tried again when they are called.
                    break;
                }
                drop(staff);
                self.stop(inner);
                self.join();
                return Err(failed(index)(source));
            }
        }
        Ok(())
    }

    /// Makes a worker of a thread that is with rayon, or of a new one.
    pub(crate) fn call(&self, inner: &Arc<Inner>) {
        let mut staff = lock(&self.staff);
        let after = staff.call(inner);
        staff.look_if_stuck(inner);
        drop(staff);
        after.follow(inner);
    }

    /// Starts a thread for a call that nobody has taken up for so long: the threads that are with rayon are
    /// busy there, or the system had refused one. If there is a call that is younger, or the system refuses again,
    /// returns after what time to come again.
    pub(crate) fn start_for_late_call(&self, inner: &Arc<Inner>) -> Option<Duration> {
        let mut staff = lock(&self.staff);
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
        let mut staff = lock(&self.staff);
        staff.roster.set_max(max);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
    }

    /// Starts the thread that `keep`s the scaling's time.
    pub(crate) fn start_keeper(
        &self,
        inner: &Arc<Inner>,
        keep: impl FnOnce(&Arc<Inner>) + Send + 'static,
    ) -> Option<Thread> {
        let mut staff = lock(&self.staff);
        staff.rayon.as_ref()?;
        let name = format!("{}-keeper", inner.settings.name);
        let own = Arc::clone(inner);
        let started = thread::Builder::new().name(name).spawn(move || {
            keep(&own);
            own.life.thread_exited(false);
        });
        let Ok(handle) = started else {
            inner.recorder.thread_start_failed();
            return None;
        };
        let thread = handle.thread().clone();
        staff.handles.push(handle);
        staff.handles_made += 1;
        staff.keepers += 1;
        Some(thread)
    }

    /// A worker is about to block in a wait, or is through with it.
    pub(crate) fn block(&self, inner: &Inner) {
        let mut staff = lock(&self.staff);
        staff.roster.block();
        staff.look_if_stuck(inner);
    }

    /// A thread that is about to block has left service. A call that waits for a thread to come back to
    /// rayon may have no other to come than this one: then a spare thread answers it.
    pub(crate) fn reroute(&self, inner: &Arc<Inner>) {
        let mut staff = lock(&self.staff);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
    }

    /// As `block`, for a thread, of this index, that is with rayon: it takes up no call
    /// meanwhile. `is_counted` says that it is counted as busy already. Returns whether it is to be counted
    /// as free again by `unblock_aside`.
    pub(crate) fn block_aside(&self, inner: &Arc<Inner>, index: usize, is_counted: bool) -> bool {
        let mut staff = lock(&self.staff);
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
        let mut staff = lock(&self.staff);
        staff.roster.unblock_aside(index, counts);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
    }

    /// A worker came back from a wait, and all places are taken. If a call for one of them lies in rayon, it
    /// fills that place, and `look_again` has to follow: that call kept others from being sent. Otherwise it
    /// is one too many.
    #[must_use]
    pub(crate) fn come_back(&self, inner: &Inner) -> bool {
        lock(&self.staff).roster.come_back(&inner.sleep)
    }

    /// A worker, of this index, leaves for the surplus, which it has taken; unless a call lies in rayon, whose
    /// place it fills. Returns whether it leaves.
    pub(crate) fn leave_as_surplus(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = lock(&self.staff);
        let leaves = staff.roster.leave_as_surplus(&inner.sleep, index);
        staff.look_if_stuck(inner);
        leaves
    }

    /// A call that rayon gave to the thread of this index ends here if it, or another one, was answered already.
    pub(crate) fn take_if_void(&self, index: usize) -> bool {
        lock(&self.staff).roster.take_if_void(index)
    }

    /// See `block`.
    pub(crate) fn unblock(&self, inner: &Inner) {
        let mut staff = lock(&self.staff);
        staff.roster.unblock();
        staff.look_if_stuck(inner);
    }

    /// The calling thread, of this index, becomes a worker, by a call. False if that was answered already.
    pub(crate) fn begin_work(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = lock(&self.staff);
        let begins = staff.roster.begin_work(index);
        staff.look_if_stuck(inner);
        begins
    }

    /// The pool has stopped, and the calling thread, of this index, goes back to rayon.
    pub(crate) fn end_work(&self, inner: &Inner, index: usize) {
        let mut staff = lock(&self.staff);
        staff.roster.end_work(index);
        staff.look_if_stuck(inner);
    }

    /// The calling thread, of this index, falls asleep and goes back to rayon, unless somebody is about to
    /// rouse it: under the lock, so that no call comes between that and the books.
    pub(crate) fn fall_asleep(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = lock(&self.staff);
        let falls = staff.roster.fall_asleep(&inner.sleep, index);
        staff.look_if_stuck(inner);
        falls
    }

    /// A thread that is with rayon is busy there with something of ours, and takes up no call meanwhile. It
    /// may be the one that a call under way was meant for.
    pub(crate) fn begin_errand(&self, inner: &Arc<Inner>) {
        let mut staff = lock(&self.staff);
        staff.roster.begin_errand();
        staff.reroute(inner);
    }

    pub(crate) fn end_errand(&self) {
        lock(&self.staff).roster.end_errand();
    }

    /// Has every thread that is not spare look at its mail when it is next in rayon's hands: see
    /// `broadcast.rs`. Starts those that were not started. False if that cannot be.
    pub(crate) fn nudge(&self, inner: &Arc<Inner>) -> bool {
        let mut staff = lock(&self.staff);
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
        let staff = lock(&self.staff);
        if let Some(rayon) = &staff.rayon {
            for _ in 0..staff.roster.started() {
                rayon.spawn(mail::take_question);
            }
        }
    }

    /// A call is answered by a thread, of this index, that waits inside rayon, and becomes no worker. False if it
    /// was answered already.
    pub(crate) fn take_call(&self, inner: &Arc<Inner>, index: usize) -> bool {
        let mut staff = lock(&self.staff);
        let is_taken = staff.roster.take_call(index);
        staff.reroute(inner);
        staff.look_if_stuck(inner);
        is_taken
    }

    /// Lets every thread end that has nothing left to do. No call succeeds after it.
    pub(crate) fn stop(&self, inner: &Inner) {
        let mut staff = lock(&self.staff);
        let rayon = staff.rayon.take();
        staff.roster.close();
        staff.look_if_stuck(inner);
        let recruits = mem::take(&mut staff.recruits);
        let spares = mem::take(&mut staff.spares);
        drop(staff);
        // Dropping rayon's pools tells their threads to end, and waits for nothing.
        drop((rayon, spares, recruits));
    }

    /// Waits for the end of every thread. To be called after `stop`, and not by one of them.
    pub(crate) fn join(&self) {
        let handles = mem::take(&mut lock(&self.staff).handles);
        for handle in handles {
            // A thread of ours does not panic; if it did, there would be nothing to do about it.
            let _ = handle.join();
        }
    }

    /// All threads that were ever started, and how many of them are workers, and spare ones.
    pub(crate) fn started(&self) -> Started {
        let staff = lock(&self.staff);
        Started {
            all: staff.handles_made,
            workers: staff.handles_made - staff.keepers,
            main: staff.roster.started(),
            spare: staff.handles_made - staff.roster.started() - staff.keepers,
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
    pub(crate) workers: usize,
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

impl Staff {
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

    /// To be called after each change of the roster that can change the answer.
    fn look_if_stuck(&mut self, inner: &Inner) {
        let stuck = self.roster.is_stuck();
        if stuck != self.stuck {
            self.stuck = stuck;
            stuck::set(inner, stuck);
        }
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
        let name = format!("{}-{}", inner.settings.name, recruit.index);
        let mut builder = thread::Builder::new().name(name);
        if let Some(bytes) = inner.settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        // A thread that cannot be started takes its closure with it; what the closure needs waits
        // outside, for the next try.
        let parcel = Arc::new(Mutex::new(Some(recruit)));
        let started = {
            let parcel = Arc::clone(&parcel);
            let inner = Arc::clone(inner);
            builder.spawn(move || {
                let recruit = lock(&parcel).take();
                if let Some(recruit) = recruit {
                    recruit.serve(inner);
                }
            })
        };
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
        inner.life.thread_exited(true);
    }
}
