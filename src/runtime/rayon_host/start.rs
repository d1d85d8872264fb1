//! Starting the pool's threads, and the timer thread.
//!
//! A thread inherits from its creator: cores, signal mask, priority, and all else that pthreads(7)
//! lists. Every thread of a pool is to inherit from the thread that called `build`. So that thread
//! starts the minimum of workers, and one small thread more, the *timer*. The timer starts all
//! later threads. It also keeps the time of the scaling controller. It sleeps until a start is
//! ordered, or until the one moment that it was given.
//!
//! **A start is waited for**, because the placement's next order depends on its outcome. A thread
//! that wants a start stores the order in `ThreadTable::start`, unparks the timer, and waits, with
//! the table's lock released. No other thread enters until the outcome is taken, so the placement
//! makes its decisions one after another. The timer takes the order under the lock, starts the
//! thread without it, and stores the outcome.
//!
//! When the timer itself wants to enter, it first carries out an order: the thread that waits for
//! it would keep the timer out. So a thread that enters the table may hold nothing that the timer
//! waits for elsewhere. The timer ends when the table is closed and no start is ordered. After that
//! no start can be ordered, so none waits for a timer that has ended.

use std::{cell::Cell, io, mem, ptr, sync::Arc};

use crate::{
    error::BuildError,
    runtime::rayon_host::{
        Host, Threads,
        table::{TableGuard, ThreadTable},
    },
    sync::{
        Mutex, MutexGuard, Rank, lock,
        rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder},
        thread::{self, JoinHandle},
        thread_local,
        unwind::drop_payload,
        wait,
    },
};

/// The timer's stack size, in bytes. The timer runs no user code.
const TIMER_STACK: usize = 128 * 1024;

/// The bytes of a thread's name that the system keeps, on Linux.
const NAME_BYTES: usize = 15;

/// A thread of the pool that is not started yet.
pub(super) struct UnstartedThread {
    pub(super) builder: ThreadBuilder,
    pub(super) index: usize,
}

/// A start, ordered by another thread than the timer.
pub(super) enum Start {
    /// None is ordered: a thread may enter.
    None,
    Ordered(thread::Builder, Box<dyn FnOnce() + Send>),
    UnderWay,
    Done(io::Result<JoinHandle<()>>),
}

thread_local! {
    /// The threads of which the calling thread is the timer: an address, not to be dereferenced.
    static TIMER_OF: Cell<*const Threads> = const { Cell::new(ptr::null()) };
}

impl Threads {
    /// Makes the rayon pool. Starts its first `at_once` threads, and the timer.
    ///
    /// # Errors
    /// If not even one of these threads can be started, or the timer cannot.
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
                    // Some threads are there for the jobs; the others are tried again when they are
                    // activated.
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
            // This comes last: once the timer exists, it starts all threads.
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
        wait(&self.changed, table)
    }

    /// Whether the calling thread is the timer.
    pub(super) fn is_timer_here(&self) -> bool {
        ptr::eq(TIMER_OF.get(), self)
    }

    /// Carries out an ordered start, on the timer thread. Does nothing if none is ordered.
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

    /// The loop of the timer thread.
    fn keep_time<H: Host>(&self, host: &Arc<H>) {
        TIMER_OF.set(self);
        loop {
            let table = self.carry_out_start(lock(&self.table));
            if !table.placement.is_open() && matches!(table.start, Start::None) {
                return;
            }
            drop(table);
            // An order that was stored since then has unparked this thread.
            host.keep_time();
        }
    }

    /// Unparks the timer, which has something to do or a new moment to wake at.
    pub(crate) fn unpark_timer(&self) {
        if let Some(timer) = self.timer.get() {
            timer.unpark();
        }
    }

    /// The life of one thread of the pool.
    fn live<H: Host>(&self, host: &Arc<H>, thread: UnstartedThread) {
        let UnstartedThread { builder, index } = thread;
        host.live(Some(index), || {
            builder.run();
            self.inbox(index).close();
        });
    }
}

/// Makes a rayon pool of `threads` threads, none of which is started yet.
pub(super) fn make_unstarted<H: Host>(
    host: &Arc<H>,
    threads: usize,
) -> io::Result<(ThreadPool, Vec<ThreadBuilder>)> {
    let mut builders = Vec::with_capacity(threads);
    // A panic of `rayon::spawn` in a job has no other receiver.
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
    /// Starts a thread. If the system refuses it, counts that, and returns it with the error.
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
        // A thread that cannot be started drops its closure. So the closure's contents stay in this
        // parcel, for the next try.
        let parcel = Arc::new(Mutex::new(Rank::UnstartedThread, Some(thread)));
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

    /// Starts a thread that inherits from the caller of `build`: through the timer, or on that
    /// thread itself.
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
        // The timer may be waiting to enter.
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
            own.live(None, || own.threads().keep_time(&own));
        })?;
        // A pool is built once, so the cell is empty.
        let _ = self.threads.timer.set(handle.thread().clone());
        self.keep_handle(handle);
        Ok(())
    }
}

/// Returns the name of a thread. The pool's name is cut so that the system keeps the suffix.
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
            // Not cut within a character.
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
