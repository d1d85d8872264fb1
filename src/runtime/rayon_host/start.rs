//! How the pool's threads are started, and the timer thread.
//!
//! A thread inherits from the one that starts it: cores, signal mask, priority, and all else that pthreads(7) lists. So that
//! every thread of a pool is as the one that called `build`, that one starts the minimum of workers and one small thread
//! more, the *timer*, and the timer starts all threads that come later. It also keeps the scaling's time. It sleeps until a
//! start is ordered, or until the one moment that it was given.
//!
//! **A start is waited for**: the placement's next order depends on its outcome. A thread that wants a start leaves the
//! order in `ThreadTable::start`, unparks the timer, and waits, with the table's lock given back. Until it has
//! taken the outcome no other thread enters, so the placement sees one decision after the other. The timer takes the
//! order out under the lock, starts the thread without it, and leaves the outcome. When the timer itself wants to enter, it
//! first carries out what is ordered: the thread that waits for it keeps it out otherwise. So nothing that the timer
//! waits for elsewhere may be held by a thread that enters. It ends when it finds the table closed and nothing ordered;
//! after that nothing can be ordered. So no start waits for a timer that is gone.

use std::{
    cell::Cell,
    io, mem, ptr,
    sync::{Arc, PoisonError},
};

use crate::{
    error::BuildError,
    runtime::rayon_host::{
        Host, Threads,
        table::{TableGuard, ThreadTable},
    },
    sync::{
        Mutex, MutexGuard, lock,
        rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder},
        thread::{self, JoinHandle},
        thread_local,
        unwind::drop_payload,
    },
};

/// The timer's stack. It runs no code of the user's.
const TIMER_STACK: usize = 128 * 1024;

/// How much of a thread's name the system keeps, on Linux.
const NAME_BYTES: usize = 15;

/// What a thread needs to become the pool's.
pub(super) struct UnstartedThread {
    pub(super) builder: ThreadBuilder,
    pub(super) index: usize,
}

/// A start that another thread than the timer wants.
pub(super) enum Start {
    /// There is none: a thread may enter.
    None,
    Ordered(thread::Builder, Box<dyn FnOnce() + Send>),
    UnderWay,
    Done(io::Result<JoinHandle<()>>),
}

thread_local! {
    /// Where the calling thread is the timer: an address, not to be followed.
    static TIMER_OF: Cell<*const Threads> = const { Cell::new(ptr::null()) };
}

impl Threads {
    /// Makes the rayon pool, and starts its first `at_once` threads, and the timer.
    ///
    /// # Errors
    /// If not even one of these can be started, or the timer cannot.
    pub(crate) fn build<H: Host>(&self, host: &Arc<H>, at_once: usize) -> Result<(), BuildError> {
        let failed = |index| move |source| BuildError::Thread { index, source };
        let (rayon, mut unstarted) = make_unstarted(host, self.settings.main).map_err(failed(0))?;
        unstarted.reverse();

        let mut table = self.enter();
        table.placement.open(unstarted.len(), self.settings.spare);
        table.rayon = Some(rayon);
        table.unstarted = unstarted;
        let starts = || -> Result<(), BuildError> {
            for index in 0..at_once {
                match table.start_next(host) {
                    Err(source) if index == 0 => return Err(failed(index)(source)),
                    // There are some for the jobs; the others are tried again when they are activated.
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
            // Last: a timer that is there starts all that come after.
            table.start_timer(host).map_err(failed(at_once))
        };
        let started = { starts }();
        drop(table);
        if started.is_err() {
            self.stop();
            self.join();
        }
        started
    }

    pub(super) fn wait<'a>(
        &self,
        table: MutexGuard<'a, ThreadTable>,
    ) -> MutexGuard<'a, ThreadTable> {
        let woken = self.changed.wait(table);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the calling thread is the timer.
    pub(super) fn is_timer_here(&self) -> bool {
        ptr::eq(TIMER_OF.get(), self)
    }

    /// By the timer: carries out what is ordered, if anything is.
    pub(super) fn carry_out_start<'a>(
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
    fn keep_time<H: Host>(&self, host: &Arc<H>) {
        TIMER_OF.set(self);
        loop {
            let table = self.carry_out_start(lock(&self.table));
            if !table.placement.is_open() && matches!(table.start, Start::None) {
                return;
            }
            drop(table);
            // A start that was ordered since then has unparked this thread.
            host.keep_time();
        }
    }

    /// The timer has something to do, or has to wake at another moment than it was given.
    pub(crate) fn unpark_timer(&self) {
        if let Some(timer) = self.timer.get() {
            timer.unpark();
        }
    }

    /// The life of a thread.
    fn live<H: Host>(&self, host: &Arc<H>, thread: UnstartedThread) {
        let UnstartedThread { builder, index } = thread;
        host.live(index, || {
            builder.run();
            self.inbox(index).close();
        });
        host.thread_exited();
    }
}

/// Makes a rayon pool of so many threads, of which none is started yet.
pub(super) fn make_unstarted<H: Host>(
    host: &Arc<H>,
    threads: usize,
) -> io::Result<(ThreadPool, Vec<ThreadBuilder>)> {
    let mut builders = Vec::with_capacity(threads);
    // The panics of `rayon::spawn` in a job have nowhere else to go.
    let weak = Arc::downgrade(host);
    let built = ThreadPoolBuilder::new()
        .num_threads(threads)
        .panic_handler(move |payload| match weak.upgrade() {
            Some(host) => host.handle_panic(payload),
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

impl TableGuard<'_> {
    /// Starts a thread; or gives it back, and counts the failure.
    pub(super) fn start<H: Host>(
        &mut self,
        host: &Arc<H>,
        thread: UnstartedThread,
    ) -> Result<(), (io::Error, Option<UnstartedThread>)> {
        let settings = &self.threads.settings;
        let name = name_of_thread(&settings.name, &format!("-{}", thread.index));
        let mut builder = thread::Builder::new().name(name);
        if let Some(bytes) = settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        // A thread that cannot be started takes its closure with it; what the closure needs waits
        // outside, for the next try.
        let parcel = Arc::new(Mutex::new(Some(thread)));
        let life = {
            let parcel = Arc::clone(&parcel);
            let host = Arc::clone(host);
            move || {
                let thread = lock(&parcel).take();
                if let Some(thread) = thread {
                    host.threads().live(&host, thread);
                }
            }
        };
        let started = self.start_as_builder(builder, Box::new(life));
        self.placement.system_has(started.is_ok());
        match started {
            Ok(handle) => {
                self.keep_handle(handle);
                Ok(())
            }
            Err(error) => {
                host.thread_refused();
                let refused = lock(&parcel).take();
                Err((error, refused))
            }
        }
    }

    fn keep_handle(&mut self, handle: JoinHandle<()>) {
        self.handles.push(handle);
        self.handles_made += 1;
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
    fn start_timer<H: Host>(&mut self, host: &Arc<H>) -> io::Result<()> {
        let name = name_of_thread(&self.threads.settings.name, "-timer");
        let builder = thread::Builder::new().name(name).stack_size(TIMER_STACK);
        let own = Arc::clone(host);
        let handle = builder.spawn(move || {
            own.threads().keep_time(&own);
            own.thread_exited();
        })?;
        // There is one build.
        let _ = self.threads.timer.set(handle.thread().clone());
        self.keep_handle(handle);
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
