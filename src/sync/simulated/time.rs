//! Time, and the waits that it ends.
//!
//! There is a clock, but no time passes by itself. Each reading moves the clock by a small random
//! amount. A timed wait never blocks. When its thread is chosen, the wait is over: either
//! spuriously, and the clock moves by a part of the timeout, or by its timeout, and the clock moves
//! by all of it. So a wait may time out at any moment, or outlast whatever the other threads do,
//! and a thread that waits in a loop reaches the end of it. The price is that a thread that relies
//! on a timed wait never hangs. Therefore time may also be made to *stand still*: then a timed wait
//! of a parked thread has no timeout, and a condition that only a timeout would have noticed is a
//! deadlock.

use std::{
    cell::Cell,
    ops::{Add, Sub},
    time::Duration,
};

use shuttle::rand::{Rng, thread_rng};

// All threads of an execution are one thread of the system, so nothing here can race.
std::thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static STANDS_STILL: Cell<bool> = const { Cell::new(false) };
}

/// The most by which a reading moves the clock. Ten or so are the longest time that the pool
/// measures without waiting.
const LOOK: Duration = Duration::from_micros(100);

/// Called at the beginning of each execution.
pub fn begin(stands_still: bool) {
    NOW.set(Duration::ZERO);
    STANDS_STILL.set(stands_still);
}

fn pass(time: Duration) {
    NOW.set(NOW.get().saturating_add(time));
}

/// Waits until the thread is chosen again.
pub(crate) fn wait_some(timeout: Duration) {
    thread::yield_now();
    pass(if thread_rng().gen_ratio(1, 4) {
        timeout
    } else {
        timeout / 16
    });
}

/// A moment on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// Returns the present moment, which is a little later than the last one.
    #[must_use]
    pub fn now() -> Self {
        pass(LOOK * thread_rng().gen_range(0..16) / 16);
        Self(NOW.get())
    }

    /// Returns the time since then.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    /// Returns the moment that much later, if it can be expressed.
    #[must_use]
    pub fn checked_add(&self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }

    /// Returns how much later it is than another moment.
    #[must_use]
    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// shuttle's threads, with parking of their own. shuttle's park may wake spuriously whenever
/// another thread could run as well, so a lost wake-up is hardly ever detected; and it has no
/// timeouts.
pub(crate) mod thread {
    use std::{cell::RefCell, io, sync::Arc, time::Duration};

    pub(crate) use shuttle::thread::yield_now;
    use shuttle::{
        rand::{Rng, thread_rng},
        sync::{Condvar, Mutex, MutexGuard, PoisonError},
    };

    use super::STANDS_STILL;

    shuttle::thread_local! {
        static OWN: RefCell<Thread> = RefCell::new(Thread::new());
    }

    #[derive(Debug, Clone)]
    pub(crate) struct Thread(Arc<Parker>);

    #[derive(Debug)]
    struct Parker {
        token: Mutex<bool>,
        news: Condvar,
    }

    impl Parker {
        fn token(&self) -> MutexGuard<'_, bool> {
            self.token.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Thread {
        fn new() -> Self {
            Self(Arc::new(Parker {
                token: Mutex::new(false),
                news: Condvar::new(),
            }))
        }

        pub(crate) fn unpark(&self) {
            *self.0.token() = true;
            self.0.news.notify_one();
        }
    }

    pub(crate) fn current() -> Thread {
        OWN.with(|own| own.borrow().clone())
    }

    /// Returns spuriously now and then.
    pub(crate) fn park() {
        if thread_rng().gen_ratio(1, 16) {
            return yield_now();
        }
        let Thread(own) = current();
        let mut token = own.token();
        while !*token {
            token = own.news.wait(token).unwrap_or_else(PoisonError::into_inner);
        }
        *token = false;
    }

    pub(crate) fn park_timeout(timeout: Duration) {
        if STANDS_STILL.get() {
            return park();
        }
        super::wait_some(timeout);
        *current().0.token() = false;
    }

    pub(crate) struct JoinHandle<T> {
        handle: shuttle::thread::JoinHandle<T>,
        thread: Thread,
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn thread(&self) -> &Thread {
            &self.thread
        }

        pub(crate) fn join(self) -> shuttle::thread::Result<T> {
            self.handle.join()
        }
    }

    pub(crate) struct Builder(shuttle::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Self {
            Self(shuttle::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        pub(crate) fn stack_size(self, bytes: usize) -> Self {
            Self(self.0.stack_size(bytes))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            f: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let thread = Thread::new();
            let own = thread.clone();
            let handle = self.0.spawn(move || {
                OWN.with(|cell| cell.replace(own));
                f()
            })?;
            Ok(JoinHandle { handle, thread })
        }
    }
}
