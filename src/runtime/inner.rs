//! The shared state of one pool: what its handles and its threads hold in common.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    error::BuildError,
    metrics::{self, Recorder, Timing},
    protocol::{
        admission::{Admission, Refusal},
        idle::Idle,
        starvation::PoolId,
    },
    runtime::{
        job::{self, Entry, Holder},
        life::Life,
        queue,
        rayon_host::{ThreadSettings, Threads},
        scaler::{Scaler, Scaling},
    },
    sync::{
        asymmetric::Fences,
        backoff, process,
        unwind::{drop_payload, quietly},
    },
};

/// The smallest number of tombstones of cancelled jobs at which the queues are swept. A bound on
/// memory: the queues of a smaller pool hold at most as many.
const TOMBSTONES: u64 = if cfg!(shuttle) { 1 } else { 256 };

/// Bounds on the number of spare threads, and on their memory. Otherwise it equals the number of
/// workers.
/// `starvation.rs` covers a chain of waits between pools that needs more.
const SPARES_MIN: usize = if cfg!(shuttle) { 1 } else { 4 };
const SPARES_MAX: usize = 16;

/// The stack size that std gives a thread by default.
const STD_STACK: usize = 2 << 20;

/// A hook that takes a thread's index.
pub(crate) type ThreadHook = Box<dyn Fn(usize) + Send + Sync>;
/// A hook that takes the payload of a panic.
pub(crate) type PanicHook = Box<dyn Fn(Box<dyn Any + Send>) + Send + Sync>;

/// The options, validated.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) workers_min: usize,
    /// The upper bound of workers before any resize, and the width of rayon's pool.
    pub(crate) workers_max: usize,
    /// The number of threads that a resize may bring into service.
    pub(crate) max_threads: usize,
    pub(crate) capacity: usize,
    pub(crate) stack_size: Option<usize>,
    pub(crate) scaling: Scaling,
    pub(crate) latency_tracking: bool,
    pub(crate) asymmetric_fences: bool,
}

impl Settings {
    /// The part of the options that concerns the threads.
    fn threads(&self) -> ThreadSettings {
        ThreadSettings {
            name: self.name.clone(),
            stack_size: self.stack_size,
            main: self.workers_max,
            spare: self.spare_threads(),
        }
    }

    /// Returns the maximal number of spare threads. They replace blocked workers, and serve a
    /// resize beyond the width of rayon's pool.
    fn spare_threads(&self) -> usize {
        let in_service = self.max_threads - self.workers_max;
        in_service + self.workers_max.clamp(SPARES_MIN, SPARES_MAX)
    }

    /// Returns the stack size of a thread, for systems that do not report it.
    pub(crate) fn stack_bytes(&self) -> usize {
        self.stack_size.unwrap_or(STD_STACK)
    }
}

/// The user's hooks.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) start: Option<ThreadHook>,
    pub(crate) exit: Option<ThreadHook>,
    pub(crate) panic: Option<PanicHook>,
}

pub(crate) type Job = job::Job<Inner>;
pub(crate) type Queue = queue::Queue<Inner>;
pub(crate) type Local = queue::Local<Inner>;

/// The state of one pool.
pub(crate) struct Inner {
    pub(crate) admission: Admission,
    pub(crate) queue: Queue,
    pub(crate) idle: Idle,
    pub(crate) scaler: Scaler,
    pub(crate) recorder: Recorder,
    pub(crate) timing: Timing,
    pub(crate) threads: Threads,
    pub(crate) life: Life,
    pub(crate) fences: Fences,
    pub(crate) settings: Settings,
    pub(crate) hooks: Arc<Hooks>,
    /// The number of the process in which the pool was built.
    process: usize,
    me: Weak<Inner>,
}

impl Inner {
    /// Builds a pool and starts its first threads.
    pub(crate) fn start(settings: Settings, hooks: Hooks) -> Result<Arc<Self>, BuildError> {
        process::watch(settle);
        let latency_tracking = settings.latency_tracking;
        let inner = Self::new(settings, Arc::new(hooks), latency_tracking);
        inner.threads.build(&inner, inner.settings.workers_min)?;
        Ok(inner)
    }

    /// In a forked child, makes the substitute for this inherited pool. It has the same options, is
    /// stopped, and has no thread.
    pub(crate) fn heir(&self) -> Arc<Self> {
        let heir = Self::new(self.settings.clone(), Arc::clone(&self.hooks), false);
        heir.begin_drain();
        debug_assert!(heir.life.is_stopped());
        heir
    }

    /// Whether the pool was inherited through a fork. Its threads then exist in the parent only,
    /// and its locks may be held for ever: no lock may be touched.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != process::number()
    }

    /// Makes a pool without threads.
    fn new(settings: Settings, hooks: Arc<Hooks>, latency_tracking: bool) -> Arc<Self> {
        let first_spare = settings.workers_max;
        let fences = Fences::new(settings.asymmetric_fences);
        Arc::new_cyclic(|me| Self {
            admission: Admission::new(settings.capacity, first_spare, fences),
            queue: Queue::new(first_spare, fences),
            idle: Idle::new(settings.workers_min, first_spare, fences),
            scaler: Scaler::new(
                settings.workers_min..=settings.workers_max,
                settings.scaling,
            ),
            recorder: Recorder::new(first_spare),
            timing: Timing::new(first_spare, latency_tracking),
            threads: Threads::new(PoolId::of(me.as_ptr()), settings.threads()),
            life: Life::new(fences),
            fences,
            settings,
            hooks,
            process: process::number(),
            me: Weak::clone(me),
        })
    }

    /// Returns the number of workers in service, 0 once the pool is stopped.
    pub(crate) fn workers_in_service(&self) -> usize {
        if self.life.is_stopped() {
            0
        } else {
            self.idle.in_service()
        }
    }

    /// Returns a counted reference to this pool.
    pub(crate) fn me(&self) -> Arc<Self> {
        // A reference to the pool is reached only through an `Arc`, so one is alive.
        self.me.upgrade().unwrap_or_else(|| unreachable!())
    }

    /// Counts a job to be queued over the bound. Refuses it if no worker is left to run it. If
    /// `open` is set, a closed pool refuses it too.
    pub(crate) fn overdraw(&self, open: bool, holder: Holder) -> Result<Entry, Refusal> {
        let count = || self.recorder.overdraws(holder);
        self.admission.overdraw(open, count)?;
        Ok(Entry::Overdrawn(holder))
    }

    /// Returns the number of queued jobs that have started or were given up.
    pub(crate) fn jobs_started(&self) -> u64 {
        self.admission.given_back()
    }

    /// Whether a job is in any queue.
    pub(crate) fn has_jobs(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Counts a tombstone that a cancelled job left in the queue, and sweeps the queues if there
    /// are too many.
    pub(crate) fn tombstone_left(&self) {
        let bound = self.admission.capacity().max(TOMBSTONES);
        let bound = i64::try_from(bound).unwrap_or(i64::MAX);
        if let Some(pushed) = self.queue.tombstone_left(bound) {
            self.wake_for(pushed);
        }
    }

    /// Handles a panic that no thread waits for: of a detached job, of `rayon::spawn` in a job, or
    /// of a hook.
    #[cold]
    pub(crate) fn handle_panic(&self, payload: Box<dyn Any + Send>) {
        match &self.hooks.panic {
            Some(handler) => quietly(|| handler(payload)),
            None => drop_payload(payload),
        }
    }
}

/// Makes what exists once in a process, or waits until another thread has made it.
fn settle() {
    metrics::settle_clock();
    backoff::settle_bans();
    queue::settle_deques();
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.settings.name)
            .finish_non_exhaustive()
    }
}
