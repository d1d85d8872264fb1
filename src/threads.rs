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

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::{error::BuildError, inner::Inner, sync::lock, unwind::drop_payload, worker};

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
    handles: Vec<JoinHandle<()>>,
    started: usize,
    working: usize,
    called: usize,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            staff: Mutex::new(Staff {
                rayon: None,
                recruits: Vec::new(),
                handles: Vec::new(),
                started: 0,
                working: 0,
                called: 0,
            }),
        }
    }

    /// Makes the rayon pool, and starts its first `at_once` threads.
    ///
    /// # Errors
    /// If one of these cannot be started. The others have ended then.
    pub(crate) fn build(
        &self,
        inner: &Arc<Inner>,
        seats: Vec<worker::Seat>,
        at_once: usize,
    ) -> Result<(), BuildError> {
        let mut builders = Vec::with_capacity(seats.len());
        let name = inner.settings.name.clone();
        let mut rayon = ThreadPoolBuilder::new()
            .num_threads(seats.len())
            .thread_name(move |index| format!("{name}-{index}"))
            .spawn_handler(|builder| {
                builders.push(builder);
                Ok(())
            });
        // The panics of `rayon::spawn` in a job have nobody else to go to.
        let weak = Arc::downgrade(inner);
        rayon = rayon.panic_handler(move |payload| match weak.upgrade() {
            Some(inner) => inner.handle_panic(payload),
            None => drop_payload(payload),
        });
        if let Some(bytes) = inner.settings.stack_size {
            rayon = rayon.stack_size(bytes);
        }
        let rayon = rayon.build().map_err(|error| BuildError::Thread {
            index: 0,
            source: io::Error::other(error),
        })?;
        let mut recruits: Vec<Recruit> = builders
            .into_iter()
            .zip(seats)
            .map(|(builder, seat)| Recruit { builder, seat })
            .collect();
        recruits.reverse();

        let mut staff = lock(&self.staff);
        staff.rayon = Some(rayon);
        staff.recruits = recruits;
        for index in 0..at_once {
            if let Err(source) = staff.start_one(inner) {
                drop(staff);
                self.stop();
                self.join();
                return Err(BuildError::Thread { index, source });
            }
        }
        Ok(())
    }

    /// Makes a worker of a thread that is with rayon, or of a new one.
    pub(crate) fn call(&self, inner: &Arc<Inner>) {
        let mut staff = lock(&self.staff);
        let idle = staff.started - staff.working;
        // A thread that is with rayon may be helping a job there, for as long as that job likes; as
        // long as some worker is in a job, a thread that was not started yet is the better choice.
        let maybe_helping = staff.working > 0 && staff.started < inner.settings.workers_max;
        // If all threads are started, or the system gives none, the call waits for one that comes
        // back to rayon.
        if (idle <= staff.called || maybe_helping)
            && !staff.recruits.is_empty()
            && staff.start_one(inner).is_err()
        {
            inner.recorder.thread_start_failed();
        }
        if let Some(rayon) = &staff.rayon {
            rayon.spawn(worker::call(Arc::clone(inner), None));
            staff.called += 1;
        }
    }

    /// The calling thread becomes a worker, by a call.
    pub(crate) fn begin_work(&self) {
        let mut staff = lock(&self.staff);
        staff.called -= 1;
        staff.working += 1;
    }

    /// The calling thread goes back to rayon.
    pub(crate) fn end_work(&self) {
        lock(&self.staff).working -= 1;
    }

    /// A call was answered by a thread that is a worker already.
    pub(crate) fn end_call(&self) {
        lock(&self.staff).called -= 1;
    }

    /// Lets every thread end that has nothing left to do. No call succeeds after it.
    pub(crate) fn stop(&self) {
        let (rayon, recruits) = {
            let mut staff = lock(&self.staff);
            (staff.rayon.take(), std::mem::take(&mut staff.recruits))
        };
        // Dropping rayon's pool tells its threads to end, and waits for nothing.
        drop(rayon);
        drop(recruits);
    }

    /// Waits for the end of every thread. To be called after `stop`, and not by one of them.
    pub(crate) fn join(&self) {
        let handles = std::mem::take(&mut lock(&self.staff).handles);
        for handle in handles {
            // A thread of ours does not panic; if it did, there would be nothing to do about it.
            let _ = handle.join();
        }
    }

    pub(crate) fn started(&self) -> usize {
        lock(&self.staff).started
    }
}

impl Staff {
    fn start_one(&mut self, inner: &Arc<Inner>) -> io::Result<()> {
        let Some(recruit) = self.recruits.pop() else {
            return Err(io::Error::other("every thread was started"));
        };
        // A thread that cannot be started takes its closure with it; what the closure needs waits
        // outside, for the next try.
        let parcel = Arc::new(Mutex::new(Some(recruit)));
        let mut builder = std::thread::Builder::new();
        if let Some(recruit) = &*lock(&parcel) {
            if let Some(name) = recruit.builder.name() {
                builder = builder.name(name.to_owned());
            }
            if let Some(bytes) = recruit.builder.stack_size() {
                builder = builder.stack_size(bytes);
            }
        }
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
        match started {
            Ok(handle) => {
                self.handles.push(handle);
                self.started += 1;
                Ok(())
            }
            Err(error) => {
                self.recruits.extend(lock(&parcel).take());
                Err(error)
            }
        }
    }
}

impl Recruit {
    /// The life of one thread.
    fn serve(self, inner: Arc<Inner>) {
        let Self { builder, seat } = self;
        let index = builder.index();
        let run_hook = |hook: &Option<Box<dyn Fn(usize) + Send + Sync>>| {
            if let Some(hook) = hook {
                let ran = panic::catch_unwind(AssertUnwindSafe(|| hook(index)));
                if let Err(payload) = ran {
                    inner.handle_panic(payload);
                }
            }
        };
        worker::with_seat(&inner, seat, || {
            run_hook(&inner.hooks.start);
            builder.run();
            run_hook(&inner.hooks.exit);
        });
        inner.life.thread_exited();
    }
}
