//! The rayon-core pool under ours: its threads, started when first needed, joined at the end.
//!
//! rayon builds all its threads at once and hands each to a *spawn handler*. Ours keeps them, so
//! that the system's thread is started later, or never. A *call* is a rayon job that turns the
//! thread that takes it up into a worker, until the worker leaves again: see `worker.rs`.
//!
//! **Every call finds a thread.** Under one lock are counted the threads that were started, those
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
    sync::{Arc, Mutex},
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::{
    error::BuildError,
    inner::Inner,
    mail, stuck,
    sync::lock,
    unwind::drop_payload,
    worker::{self, Errand},
};

/// What a thread needs to become the pool's.
pub(crate) struct Recruit {
    builder: ThreadBuilder,
    seat: worker::Seat,
}

pub(crate) struct Threads {
    staff: Mutex<Staff>,
}

struct Staff {
    /// `None` before the pool is built and after it has stopped.
    rayon: Option<ThreadPool>,
    /// Threads that were not started yet; the next one is at the end.
    recruits: Vec<Recruit>,
    spares: Vec<Spare>,
    /// The seats of spare threads that were not made yet.
    spare_seats: Vec<worker::Seat>,
    handles: Vec<JoinHandle<()>>,
    /// All threads that were ever started.
    handles_made: usize,
    /// Of the threads that are not spare: how many were started, how many are workers, or run a part of
    /// a broadcast or block while they are with rayon, and how many
    /// calls to them were not taken up.
    started: usize,
    working: usize,
    called: usize,
    /// When a call was sent that may be late, of those that were not taken up.
    called_at: Option<Instant>,
    /// Threads that are no workers: at most one.
    keepers: usize,
    /// Of the calls that rayon still has, how many were answered by spare threads meanwhile, or by
    /// workers that came back from a wait.
    void: usize,
    /// Threads that are blocked in waits, as workers or with rayon.
    blocked: usize,
    /// The system refused the last thread that was to be started.
    refused: bool,
    /// Every thread there is, or can be, is a worker that is blocked: see `stuck.rs`.
    stuck: bool,
}

struct Spare {
    rayon: ThreadPool,
    /// It is a worker, or was called to be one.
    called: bool,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            staff: Mutex::new(Staff {
                rayon: None,
                recruits: Vec::new(),
                spares: Vec::new(),
                spare_seats: Vec::new(),
                handles: Vec::new(),
                handles_made: 0,
                started: 0,
                working: 0,
                called: 0,
                called_at: None,
                keepers: 0,
                void: 0,
                blocked: 0,
                refused: false,
                stuck: false,
            }),
        }
    }

    /// Makes the rayon pool, and starts its first `at_once` threads.
    ///
    /// # Errors
    /// If not even one of these can be started.
    pub(crate) fn build(
        &self,
        inner: &Arc<Inner>,
        mut seats: Vec<worker::Seat>,
        at_once: usize,
    ) -> Result<(), BuildError> {
        let failed = |index| move |source| BuildError::Thread { index, source };
        let spare_seats = seats.split_off(inner.settings.workers_max);
        let (rayon, mut recruits) = recruit(inner, seats).map_err(failed(0))?;
        recruits.reverse();

        let mut staff = lock(&self.staff);
        staff.rayon = Some(rayon);
        staff.recruits = recruits;
        staff.spare_seats = spare_seats;
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
        if staff.rayon.is_none() {
            return;
        }
        let limit = main_limit(inner);
        let wanting = staff.started - staff.working <= staff.called;
        if wanting && staff.started < limit {
            // If there is none to be had, the call waits for one that is there.
            let _ = staff.start_next(inner);
        } else if wanting && staff.call_spare(inner) {
            staff.look_if_stuck(inner);
            return;
        } else if wanting && inner.sleep.take_surplus() {
            // Somebody runs without a place, who came back from a wait after the call was sent.
            inner.sleep.call_voided();
            return;
        }
        staff.look_if_stuck(inner);
        // If there is no thread for it, it waits for one that comes back to rayon.
        if let Some(rayon) = &staff.rayon {
            rayon.spawn(worker::call(Arc::clone(inner), Errand::Work(None)));
            staff.called += 1;
        }
        let maybe_late = !wanting && staff.working > 0 && staff.started < limit;
        if maybe_late {
            staff.called_at.get_or_insert_with(Instant::now);
        }
        drop(staff);
        if maybe_late {
            inner.scaler.watch_call(inner);
        }
    }

    /// Starts a thread for a call that nobody has taken up for so long: the threads that are with rayon are
    /// busy there. If there is a call that is younger, returns for how long it still may lie there.
    pub(crate) fn start_for_late_call(
        &self,
        inner: &Arc<Inner>,
        patience: Duration,
    ) -> Option<Duration> {
        let mut staff = lock(&self.staff);
        let left = patience.saturating_sub(staff.called_at?.elapsed());
        let limit = main_limit(inner);
        if staff.called == 0 || staff.started >= limit {
            staff.called_at = None;
            return None;
        }
        if !left.is_zero() {
            return Some(left);
        }
        staff.called_at = None;
        let _ = staff.start_next(inner);
        staff.look_if_stuck(inner);
        None
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
        let started = std::thread::Builder::new().name(name).spawn(move || {
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
        staff.blocked += 1;
        staff.look_if_stuck(inner);
    }

    /// A worker that is about to block has left service. A call that waits for a thread to come back to
    /// rayon may have no other to come than this one: then a spare thread answers it.
    pub(crate) fn reroute(&self, inner: &Arc<Inner>) {
        let mut staff = lock(&self.staff);
        while staff.called > 0 && staff.working >= staff.started && staff.call_spare(inner) {
            staff.void_call();
        }
        staff.look_if_stuck(inner);
    }

    /// As `block` and `reroute`, for a thread, of this index, that is with rayon: it takes up no call
    /// meanwhile. `is_counted` says that it is counted as busy already. Returns whether it is to be counted
    /// as free again by `unblock_aside`.
    pub(crate) fn block_aside(&self, inner: &Arc<Inner>, index: usize, is_counted: bool) -> bool {
        let mut staff = lock(&self.staff);
        staff.blocked += 1;
        let counts = !is_counted && staff.begin_aside(inner, index);
        while staff.called > 0 && staff.called + staff.working > staff.started {
            if staff.recruits.is_empty() {
                if !staff.call_spare(inner) {
                    break;
                }
                staff.void_call();
            } else if staff.start_next(inner).is_err() {
                break;
            }
        }
        staff.look_if_stuck(inner);
        counts
    }

    /// See `block_aside`.
    pub(crate) fn unblock_aside(&self, inner: &Inner, index: usize, counts: bool) {
        let mut staff = lock(&self.staff);
        staff.blocked -= 1;
        if counts {
            staff.end_work(inner, index);
        } else {
            staff.look_if_stuck(inner);
        }
    }

    /// A worker came back from a wait, and all places are taken. If a call for one of them lies in rayon, it
    /// fills that place, and `look_again` has to follow: that call kept others from being sent. Otherwise it
    /// is one too many.
    #[must_use]
    pub(crate) fn come_back(&self, inner: &Inner) -> bool {
        let mut staff = lock(&self.staff);
        let voided = staff.void_call();
        if voided {
            inner.sleep.call_voided();
        } else {
            inner.sleep.add_surplus();
        }
        voided
    }

    /// A worker, of this index, leaves for the surplus, which it has taken; unless a call lies in rayon, whose
    /// place it fills. Returns whether it leaves.
    pub(crate) fn leave_as_surplus(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = lock(&self.staff);
        if staff.void_call() {
            inner.sleep.call_voided();
            return false;
        }
        staff.end_work(inner, index);
        true
    }

    /// A call that rayon gave out ends here if it, or another one, was answered already.
    pub(crate) fn take_if_void(&self) -> bool {
        let mut staff = lock(&self.staff);
        let is_void = staff.void > 0;
        staff.void -= usize::from(is_void);
        is_void
    }

    /// See `block`.
    pub(crate) fn unblock(&self, inner: &Inner) {
        let mut staff = lock(&self.staff);
        staff.blocked -= 1;
        staff.look_if_stuck(inner);
    }

    /// The calling thread, of this index, becomes a worker, by a call. False if that was answered already.
    pub(crate) fn begin_work(&self, inner: &Inner, index: usize) -> bool {
        // A spare thread was told so when it was called, and by nobody but its own rayon pool.
        if index < inner.settings.workers_max {
            let mut staff = lock(&self.staff);
            if !staff.take_call() {
                return false;
            }
            staff.working += 1;
            staff.look_if_stuck(inner);
        }
        true
    }

    /// The pool has stopped, and the calling thread, of this index, goes back to rayon.
    pub(crate) fn end_work(&self, inner: &Inner, index: usize) {
        lock(&self.staff).end_work(inner, index);
    }

    /// The calling thread, of this index, falls asleep and goes back to rayon, unless somebody is about to
    /// rouse it: under the lock, so that no call comes between that and the books.
    pub(crate) fn fall_asleep(&self, inner: &Inner, index: usize) -> bool {
        let mut staff = lock(&self.staff);
        if !inner.sleep.fall_asleep(index) {
            return false;
        }
        staff.end_work(inner, index);
        // Now there is a thread to be called, and calls that found none would keep others from being sent.
        while staff.void_call() {
            inner.sleep.call_put_back();
        }
        inner.sleep.settle_surplus();
        true
    }

    /// A thread that is with rayon is busy there with something of ours, and takes up no call meanwhile. It
    /// may be the one that a call under way was meant for.
    pub(crate) fn begin_errand(&self, inner: &Arc<Inner>) {
        let mut staff = lock(&self.staff);
        staff.working += 1;
        let missing = staff.called + staff.working > staff.started;
        if missing && !staff.recruits.is_empty() {
            let _ = staff.start_next(inner);
        }
    }

    pub(crate) fn end_errand(&self) {
        lock(&self.staff).working -= 1;
    }

    /// Has every thread that is not spare look at its mail when it is next in rayon's hands: see
    /// `broadcast.rs`. Starts those that were not started. False if that cannot be.
    pub(crate) fn nudge(&self, inner: &Arc<Inner>) -> bool {
        let mut staff = lock(&self.staff);
        while staff.rayon.is_some() && !staff.recruits.is_empty() {
            if staff.start_next(inner).is_err() {
                return false;
            }
        }
        let Some(rayon) = &staff.rayon else {
            return false;
        };
        if !inner.post.count_nudges(staff.started) {
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
            for _ in 0..staff.started {
                rayon.spawn(mail::take_question);
            }
        }
    }

    /// A call is answered by a thread that waits inside rayon, which a spare never does when it is
    /// called. False if it was answered already.
    pub(crate) fn take_call(&self) -> bool {
        lock(&self.staff).take_call()
    }

    /// Lets every thread end that has nothing left to do. No call succeeds after it.
    pub(crate) fn stop(&self, inner: &Inner) {
        let mut staff = lock(&self.staff);
        let rayon = staff.rayon.take();
        staff.look_if_stuck(inner);
        let recruits = mem::take(&mut staff.recruits);
        let spares = mem::take(&mut staff.spares);
        staff.spare_seats.clear();
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
            main: staff.started,
            spare: staff.handles_made - staff.started - staff.keepers,
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

/// How many of the threads that are not spare may be started by now.
fn main_limit(inner: &Inner) -> usize {
    inner.scaler.max().min(inner.settings.workers_max)
}

/// Makes a rayon pool with these seats, of which no thread is started yet.
fn recruit(inner: &Arc<Inner>, seats: Vec<worker::Seat>) -> io::Result<(ThreadPool, Vec<Recruit>)> {
    let mut builders = Vec::with_capacity(seats.len());
    // The panics of `rayon::spawn` in a job have nobody else to go to.
    let weak = Arc::downgrade(inner);
    let rayon = ThreadPoolBuilder::new()
        .num_threads(seats.len())
        .panic_handler(move |payload| match weak.upgrade() {
            Some(inner) => inner.handle_panic(payload),
            None => drop_payload(payload),
        })
        .spawn_handler(|builder| {
            builders.push(builder);
            Ok(())
        })
        .build()
        .map_err(io::Error::other)?;
    let recruits = builders
        .into_iter()
        .zip(seats)
        .map(|(builder, seat)| Recruit { builder, seat })
        .collect();
    Ok((rayon, recruits))
}

impl Staff {
    /// A call that rayon gave out ends. False if it was answered already: which of those it is does not
    /// matter.
    fn take_call(&mut self) -> bool {
        let is_void = self.void > 0;
        if is_void {
            self.void -= 1;
        } else {
            self.called -= 1;
            self.called_at = self.called_at.filter(|_| self.called > 0);
        }
        !is_void
    }

    /// Takes back a call that lies in rayon. False if there is none.
    fn void_call(&mut self) -> bool {
        let is_called = self.called > 0;
        if is_called {
            self.called -= 1;
            self.void += 1;
        }
        is_called
    }

    /// A thread, of this index, that is with rayon takes up no call from now on. False if it would have
    /// taken up none anyway: a spare that has one to come back to.
    fn begin_aside(&mut self, inner: &Inner, index: usize) -> bool {
        match index.checked_sub(inner.settings.workers_max) {
            None => {
                self.working += 1;
                true
            }
            // It is not there any more if the pool has stopped.
            Some(spare) => {
                let spare = self.spares.get_mut(spare);
                spare.is_some_and(|spare| !mem::replace(&mut spare.called, true))
            }
        }
    }

    /// A worker, of this index, goes back to rayon.
    fn end_work(&mut self, inner: &Inner, index: usize) {
        match index.checked_sub(inner.settings.workers_max) {
            None => self.working -= 1,
            // It is not there any more if the pool has stopped.
            Some(spare) => {
                if let Some(spare) = self.spares.get_mut(spare) {
                    spare.called = false;
                }
            }
        }
        self.look_if_stuck(inner);
    }

    /// To be called after each change of what it looks at.
    fn look_if_stuck(&mut self, inner: &Inner) {
        let all_called = self.spares.iter().all(|spare| spare.called);
        let all_work = self.working == self.started && all_called;
        let limit = main_limit(inner);
        let started = self.started >= limit && self.spare_seats.is_empty();
        let stuck = all_work
            && self.blocked == self.working + self.spares.len()
            && (started || self.refused)
            && self.rayon.is_some();
        if stuck != self.stuck {
            self.stuck = stuck;
            stuck::set(inner, stuck);
        }
    }

    /// Starts the next thread that is not spare.
    fn start_next(&mut self, inner: &Arc<Inner>) -> io::Result<()> {
        let Some(recruit) = self.recruits.pop() else {
            return Err(io::Error::other("every thread was started"));
        };
        self.start(inner, recruit, |staff, recruit| {
            staff.recruits.push(recruit)
        })?;
        self.started += 1;
        Ok(())
    }

    /// Makes a worker of a spare thread, as long as there are no more of them than blocked workers, and
    /// than the range was widened by after the pool was built. Returns whether it did.
    fn call_spare(&mut self, inner: &Arc<Inner>) -> bool {
        let called = self.spares.iter().filter(|spare| spare.called).count();
        let added = inner
            .scaler
            .max()
            .saturating_sub(inner.settings.workers_max);
        if called >= self.blocked + added || self.rayon.is_none() {
            return false;
        }
        let idle = self.spares.iter_mut().find(|spare| !spare.called);
        if let Some(spare) = idle {
            spare.called = true;
            let errand = Errand::Work(None);
            spare.rayon.spawn(worker::call(Arc::clone(inner), errand));
            return true;
        }
        // From the front: the seat's index says which of `spares` it is.
        if self.spare_seats.is_empty() {
            return false;
        }
        let seat = self.spare_seats.remove(0);
        let Ok((rayon, mut recruits)) = recruit(inner, vec![seat]) else {
            return false;
        };
        let Some(recruit) = recruits.pop() else {
            return false;
        };
        let started = self.start(inner, recruit, |staff, recruit| {
            staff.spare_seats.insert(0, recruit.seat);
        });
        if started.is_err() {
            return false;
        }
        rayon.spawn(worker::call(Arc::clone(inner), Errand::Work(None)));
        self.spares.push(Spare {
            rayon,
            called: true,
        });
        true
    }

    /// Starts a thread; or puts the recruit back, and counts the failure.
    fn start(
        &mut self,
        inner: &Arc<Inner>,
        recruit: Recruit,
        put_back: impl FnOnce(&mut Self, Recruit),
    ) -> io::Result<()> {
        let name = format!("{}-{}", inner.settings.name, recruit.seat.index);
        let mut builder = std::thread::Builder::new().name(name);
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
        self.refused = started.is_err();
        match started {
            Ok(handle) => {
                self.handles.push(handle);
                self.handles_made += 1;
                Ok(())
            }
            Err(error) => {
                inner.recorder.thread_start_failed();
                if let Some(recruit) = lock(&parcel).take() {
                    put_back(self, recruit);
                }
                Err(error)
            }
        }
    }
}

impl Recruit {
    /// The life of one thread.
    fn serve(self, inner: Arc<Inner>) {
        let Self { builder, seat } = self;
        let index = seat.index;
        let run_hook = |hook: &Option<Box<dyn Fn(usize) + Send + Sync>>| {
            if let Some(hook) = hook {
                let ran = panic::catch_unwind(AssertUnwindSafe(|| hook(index)));
                if let Err(payload) = ran {
                    inner.handle_panic(payload);
                }
            }
        };
        inner.timing.enroll(index);
        worker::with_seat(&inner, seat, || {
            run_hook(&inner.hooks.start);
            builder.run();
            inner.post.close(index);
            run_hook(&inner.hooks.exit);
        });
        inner.life.thread_exited(true);
    }
}
