//! The options of a pool, and their validation.

use std::{
    any::Any,
    fmt,
    num::NonZero,
    ops::{Range, RangeFrom, RangeInclusive, RangeTo, RangeToInclusive},
    thread,
    time::Duration,
};

use crate::{
    api::pool::Pool,
    error::BuildError,
    protocol::idle::MAX_WORKERS,
    runtime::{
        inner::{Hooks, Inner, Settings},
        scaler::Scaling,
    },
};

/// The largest capacity. The places of a pool are counted with 63 bits; half of that range is
/// spare, so that no count can overflow.
const MAX_CAPACITY: usize = usize::MAX >> 2;

/// The smallest stack. In a debug build a worker with 36 KiB overflows without any job: crossbeam's
/// deques collect their garbage in frames of some 25 KiB, under any push or steal of a job, and at
/// the thread's end. `tests/threads.rs` runs all that a job may call on the smallest stack.
const MIN_STACK: usize = 64 * 1024;

/// The range of the number of workers in service.
///
/// Made from a number (`4`) or a range (`2..=8`, `2..9`, `2..`, `..=8`, `..9`), with Rust's
/// meaning: `2..9` is two to eight. An open end is the number of cores.
///
/// # Examples
/// ```
/// # use adaptive_pool::Pool;
/// Pool::builder().workers(4);
/// Pool::builder().workers(1..=4);
/// Pool::builder().workers(1..);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    min: usize,
    max: usize,
}

impl From<usize> for Workers {
    fn from(n: usize) -> Self {
        Self { min: n, max: n }
    }
}

impl From<RangeInclusive<usize>> for Workers {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self {
            min: *range.start(),
            max: *range.end(),
        }
    }
}

impl From<Range<usize>> for Workers {
    fn from(range: Range<usize>) -> Self {
        Self {
            min: range.start,
            // An empty range stays empty, with the maximum below the minimum, and fails validation.
            max: range.end.saturating_sub(1),
        }
    }
}

impl From<RangeFrom<usize>> for Workers {
    fn from(range: RangeFrom<usize>) -> Self {
        Self {
            min: range.start,
            max: cores().max(range.start),
        }
    }
}

impl From<RangeTo<usize>> for Workers {
    fn from(range: RangeTo<usize>) -> Self {
        Self::from(1..range.end)
    }
}

impl From<RangeToInclusive<usize>> for Workers {
    fn from(range: RangeToInclusive<usize>) -> Self {
        Self {
            min: 1,
            max: range.end,
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..={}", self.min, self.max)
        }
    }
}

impl Workers {
    pub(crate) fn min(self) -> usize {
        self.min
    }

    pub(crate) fn max(self) -> usize {
        self.max
    }

    /// Validates the range for a pool that may have `max_threads` threads.
    pub(crate) fn validate_below(self, max_threads: usize) -> Result<(), BuildError> {
        self.validate()?;
        if self.max() > max_threads {
            return Err(invalid("workers", self, "at most as many as max_threads"));
        }
        Ok(())
    }

    fn validate(self) -> Result<(), BuildError> {
        let rule = if self.min < 1 {
            "at least one worker has to be in service"
        } else if self.max < self.min {
            "at most must not be less than at least"
        } else if self.max > MAX_WORKERS {
            "at most 32767 workers"
        } else {
            return Ok(());
        };
        Err(invalid("workers", self, rule))
    }
}

/// Returns the number of cores that this process may use.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn invalid(field: &'static str, value: impl fmt::Display, rule: &'static str) -> BuildError {
    BuildError::Invalid {
        field,
        value: value.to_string(),
        rule,
    }
}

pub(crate) fn validate_capacity(capacity: usize) -> Result<(), BuildError> {
    let rule = if capacity < 1 {
        "at least one job has to be able to wait"
    } else if capacity > MAX_CAPACITY {
        "at most a quarter of usize::MAX"
    } else {
        return Ok(());
    };
    Err(invalid("capacity", capacity, rule))
}

/// The options of a [`Pool`].
///
/// [`build`](Self::build) validates the options; nothing does before.
///
/// # Examples
/// ```
/// use adaptive_pool::Pool;
///
/// let pool = Pool::builder().workers(1..=2).capacity(64).name("ingest").build()?;
/// # drop(pool);
/// # Ok::<(), adaptive_pool::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct PoolBuilder {
    workers: Workers,
    capacity: usize,
    max_threads: Option<usize>,
    scaling: Scaling,
    latency_tracking: bool,
    asymmetric_fences: bool,
    name: String,
    stack_size: Option<usize>,
    hooks: Hooks,
}

impl Default for PoolBuilder {
    fn default() -> Self {
        Self {
            workers: Workers::from(cores()),
            capacity: 1024,
            max_threads: None,
            scaling: Scaling {
                threshold: 0.7,
                cooldown: Duration::from_millis(100),
                idle_timeout: Duration::from_secs(10),
            },
            latency_tracking: true,
            asymmetric_fences: true,
            name: String::from("adaptive"),
            stack_size: None,
            hooks: Hooks::default(),
        }
    }
}

impl PoolBuilder {
    /// Sets the range of workers in service, `min..=max`. A number fixes it.
    ///
    /// At least 1, at most 32767. Default: the number of cores, fixed.
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        self.workers = workers.into();
        self
    }

    /// Sets how many jobs may wait: admitted, and not started. At least 1. Default: 1024.
    ///
    /// With W workers, each of which runs one job, at most capacity + W jobs exist in the pool. Two
    /// kinds come on top. A job that is blocked in a wait for other jobs, of this pool or another,
    /// has its place taken by a spare thread. A job that another job submits while the queue is
    /// full runs in place, or is kept: see [Admission](crate::Pool#admission).
    ///
    /// **To choose it**, take at least the number of workers. About 8 times that number keeps the
    /// workers busy while the producer is late. Items of less than 100 us want more, since a
    /// producer is woken for a batch of free places: the default is right for them. A larger
    /// capacity only adds memory, and time in the queue. A job waits there for about capacity times
    /// the run time of a job, divided by the workers.
    pub fn capacity(mut self, jobs: usize) -> Self {
        self.capacity = jobs;
        self
    }

    /// Sets how many workers can ever be in service, which is the limit of
    /// [`resize`](Pool::resize).
    ///
    /// Default: the larger of the workers' maximum and the number of cores. A thread that was never
    /// started costs neither memory nor time. Only within the workers' maximum does rayon take 3
    /// KiB and some microseconds at build for each. Spare threads come on top, which take the
    /// places of blocked workers: as many as the workers' maximum, but at least 4 and at most 16.
    /// One small thread more starts threads and serves as the timer. rayon's pool is as wide as the
    /// workers' maximum. If the pool is resized beyond that, a parallel iterator in a job of an
    /// additional worker has one thread.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = Some(threads);
        self
    }

    /// Sets the part of the capacity, from 0 to 1, from which on workers are added: a quarter of
    /// those in service, at least one. Default: 0.7.
    ///
    /// A queue that was not empty for a whole [`scale_cooldown`](Self::scale_cooldown) adds workers
    /// too, however short it is. Jobs that idle workers are about to take do not count.
    pub fn scale_up_threshold(mut self, fraction: f64) -> Self {
        self.scaling.threshold = fraction;
        self
    }

    /// Sets the least time between two scale-ups. Default: 100 milliseconds.
    pub fn scale_cooldown(mut self, time: Duration) -> Self {
        self.scaling.cooldown = time;
        self
    }

    /// Sets how long a worker above the minimum stays idle before it is parked. Default: 10
    /// seconds. A worker that runs a job is not idle, and no worker is parked while jobs wait. A
    /// worker takes some milliseconds to fall asleep, and at least as long to be parked.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.scaling.idle_timeout = time;
        self
    }

    /// Sets whether latencies are measured:
    /// [`Snapshot::admission_wait`](crate::Snapshot::admission_wait), `queue_wait` and `run_time`.
    /// Default: true.
    ///
    /// It costs three clock readings a job, each some 15 ns where the processor's counter can be
    /// used. While jobs take less than a microsecond, one in 32 is timed, which costs some ns a
    /// job. Each started thread takes 20 KiB. The process's first pool with latencies takes about a
    /// millisecond longer to build, rarely 200, to calibrate that clock.
    pub fn latency_tracking(mut self, on: bool) -> Self {
        self.latency_tracking = on;
        self
    }

    /// Sets whether the pool may use the kernel's `membarrier`, which removes memory fences from
    /// its fast paths. Default: true, which has an effect where the call exists, on Linux.
    ///
    /// With it, some operations interrupt the cores that run threads of this process, for some
    /// microseconds. A thread does so when it steals a task of a scope, stops searching for work,
    /// or waits for a batch. Without it, each spawn in a scope, each join and each start of a job
    /// takes a fence of its own, some nanoseconds. Turn it off where such interrupts disturb other
    /// threads of the process. Turn it off too where a filter of system calls (seccomp) may forbid
    /// `membarrier` after the pool was built. Everything else is the same, and pools of both kinds
    /// may be in one process.
    ///
    /// If the kernel refuses `membarrier` when the pool is built, the pool uses plain fences. If it
    /// refuses later, no fence can take its place: the process aborts, with a message on standard
    /// error.
    pub fn asymmetric_fences(mut self, on: bool) -> Self {
        self.asymmetric_fences = on;
        self
    }

    /// Sets the pool's name. Its threads are called "name-0", "name-1", and so on. The thread that
    /// starts threads and serves as the timer is called "name-holder". Default: "adaptive". The
    /// name must not be empty, nor contain a NUL.
    ///
    /// The system may keep 15 bytes of a thread's name. So in threads' names a long name is cut
    /// before the number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the size of each worker's stack, in bytes; at least 64 KiB. Default: std's for a
    /// thread.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets a function that each thread of the pool calls when it starts, with its index.
    ///
    /// If it panics, the payload goes to the [`panic_handler`](Self::panic_handler), and the thread
    /// goes on.
    pub fn start_handler(mut self, handler: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.hooks.start = Some(Box::new(handler));
        self
    }

    /// Sets a function that each thread of the pool calls before it ends, with its index.
    ///
    /// If it panics, the payload goes to the [`panic_handler`](Self::panic_handler), and the thread
    /// ends.
    pub fn exit_handler(mut self, handler: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.hooks.exit = Some(Box::new(handler));
        self
    }

    /// Sets the function that gets the payload of each panic that no handle and no scope reports:
    /// that of a detached job, of `rayon::spawn` inside a job, or of a hook.
    ///
    /// Without one, such a payload is dropped, after std's panic hook has printed its message. A
    /// panic in the handler itself is dropped too.
    pub fn panic_handler(
        mut self,
        handler: impl Fn(Box<dyn Any + Send>) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.panic = Some(Box::new(handler));
        self
    }

    /// Builds the pool. Starts the threads of its minimum of workers, and one thread that starts
    /// all others.
    ///
    /// So every thread of the pool inherits from the calling thread, whenever it starts: the cores
    /// that it may use, its signal mask, priority, privileges, and all else that pthreads(7) lists
    /// for a thread.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] names the option, its value and the rule that it breaks.
    /// [`BuildError::Thread`] means that the system gives no thread; the pool then leaves no thread
    /// behind.
    /// # Examples
    /// ```
    /// use adaptive_pool::Pool;
    ///
    /// let error = Pool::builder().capacity(0).build().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "capacity = 0: at least one job has to be able to wait",
    /// );
    /// ```
    pub fn build(self) -> Result<Pool, BuildError> {
        self.workers.validate()?;
        validate_capacity(self.capacity)?;
        let max_threads = self.max_threads.unwrap_or(self.workers.max().max(cores()));
        if max_threads < self.workers.max() {
            let rule = "at least as many threads as workers may be in service";
            return Err(invalid("max_threads", max_threads, rule));
        }
        if max_threads > MAX_WORKERS {
            return Err(invalid("max_threads", max_threads, "at most 32767 threads"));
        }
        if !(0.0..=1.0).contains(&self.scaling.threshold) {
            let rule = "a part of the capacity is from 0 to 1";
            return Err(invalid("scale_up_threshold", self.scaling.threshold, rule));
        }
        if self.name.is_empty() || self.name.contains('\0') {
            let rule = "a name is not empty and has no NUL in it";
            return Err(invalid("name", format!("{:?}", self.name), rule));
        }
        if let Some(bytes) = self.stack_size.filter(|&bytes| bytes < MIN_STACK) {
            let rule = "a stack has at least 65536 bytes";
            return Err(invalid("stack_size", bytes, rule));
        }
        let settings = Settings {
            name: self.name,
            workers_min: self.workers.min(),
            workers_max: self.workers.max(),
            max_threads,
            capacity: self.capacity,
            stack_size: self.stack_size,
            scaling: self.scaling,
            latency_tracking: self.latency_tracking,
            asymmetric_fences: self.asymmetric_fences,
        };
        Inner::start(settings, self.hooks).map(Pool::from_inner)
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("capacity", &self.capacity)
            .field("max_threads", &self.max_threads)
            .field("scaling", &self.scaling)
            .field("latency_tracking", &self.latency_tracking)
            .field("asymmetric_fences", &self.asymmetric_fences)
            .field("name", &self.name)
            .field("stack_size", &self.stack_size)
            .finish_non_exhaustive()
    }
}
