//! Shared by the tests: a watchdog, seeds, gates, wakers, child processes, and gated jobs.
#![allow(dead_code)]

pub mod batches;

use std::{
    env,
    future::Future,
    pin::{Pin, pin},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use adaptive_pool::Pool;

/// The pool's timer thread, which also starts the others.
pub const TIMER_THREAD: u64 = 1;

/// Runs `test` on its own thread, and fails if it does not end within a minute, or within the
/// seconds of the environment's `WATCHDOG`.
pub fn watched(test: impl FnOnce() + Send + 'static) {
    let limit = env::var("WATCHDOG").map_or(60, |text| text.parse().expect("WATCHDOG is a number"));
    watched_for(Duration::from_secs(limit), test);
}

/// Runs `test` on its own thread, and fails if it does not end in time.
pub fn watched_for(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done;
        test();
    });
    match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("hangs: not done after {limit:?}"),
        _ => {
            if let Err(payload) = thread.join() {
                std::panic::resume_unwind(payload);
            }
        }
    }
}

/// A small stack, in bytes: in a debug build it has room for the frames of a test's own jobs. Where
/// frames are larger, under a sanitizer, `SMALL_STACK_KIB` from the environment is the size.
pub fn small_stack() -> usize {
    let kib = env::var("SMALL_STACK_KIB").map_or(128, |text| {
        text.parse().expect("SMALL_STACK_KIB is a number")
    });
    kib << 10
}

/// The seed of a random test: `SEED` from the environment, or a new one. Prints it.
pub fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(
        |_| {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |time| time.as_nanos() as u64)
        },
        |text| text.parse().expect("SEED is a number"),
    );
    println!("SEED={seed}");
    seed
}

/// xorshift64*: small, seeded, portable.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        let mut x = self.0 | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// A job that has started, and ends only when this is released or dropped.
pub struct Held {
    go: Sender<()>,
}

impl Held {
    pub fn release(self) {
        let _ = self.go.send(());
    }
}

/// Occupies one worker: returns after the job has started.
pub fn occupy(pool: &Pool) -> Held {
    let (begun, wait) = mpsc::channel();
    let (go, stop): (_, Receiver<()>) = mpsc::channel();
    pool.spawn(move || {
        begun.send(()).unwrap();
        let _ = stop.recv();
    })
    .unwrap();
    wait.recv().unwrap();
    Held { go }
}

/// Occupies every worker, and then fills the queue with jobs that do nothing.
pub fn fill(pool: &Pool, workers: usize) -> Vec<Held> {
    let held = (0..workers).map(|_| occupy(pool)).collect();
    while pool.try_spawn(|| ()).is_ok() {}
    held
}

/// Yields until the condition holds. Callers run under a watchdog.
pub fn wait_until(mut is_met: impl FnMut() -> bool) {
    while !is_met() {
        thread::yield_now();
    }
}

/// Waits until this many submitters wait for a place.
pub fn wait_for_waiters(pool: &Pool, waiters: u64) {
    wait_until(|| pool.metrics().waiting_submitters == waiters);
}

/// A gate at which many jobs can wait.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// Asserts that the pool is at rest: nothing waits, and every job is in exactly one of the counts.
pub fn assert_conserved(pool: &Pool) {
    let seen = pool.metrics();
    assert_eq!(seen.depth, 0, "{seen:?}");
    assert_eq!(seen.waiting_submitters, 0, "{seen:?}");
    let ended = seen.completed + seen.panicked + seen.cancelled + seen.dropped;
    assert_eq!(seen.admitted, ended, "{seen:?}");
    assert_eq!(seen.started, seen.completed + seen.panicked, "{seen:?}");
    let rejected = seen.rejected_full + seen.rejected_timed_out + seen.rejected_closed;
    assert_eq!(seen.submitted, seen.admitted + rejected, "{seen:?}");
    if seen.run_time.count > 0 {
        let timed = (seen.queue_wait.count, seen.run_time.count);
        assert_eq!(
            timed,
            (seen.started - seen.inlined, seen.started),
            "{seen:?}"
        );
    }
}

/// Counts its drops.
#[derive(Clone, Default)]
pub struct Drops(pub Arc<AtomicUsize>);

impl Drops {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub fn one(&self) -> OnDrop<impl FnOnce() + Send + 'static> {
        let drops = Arc::clone(&self.0);
        on_drop(move || {
            drops.fetch_add(1, Ordering::SeqCst);
        })
    }
}

/// Runs its closure when it is dropped.
pub struct OnDrop<F: FnOnce()>(Option<F>);

pub fn on_drop<F: FnOnce()>(f: F) -> OnDrop<F> {
    OnDrop(Some(f))
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A minimal executor.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::park();
    }
}

/// Polls once, with a no-op waker.
pub fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that runs a closure each time.
pub struct Calls<F>(pub F);

impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

pub fn waker(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Calls(f)))
}

/// A waker that counts.
pub fn counting_waker() -> (Waker, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let waker = waker(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (waker, count)
}

const CHILD: &str = "ADAPTIVE_POOL_TEST_CHILD";

/// Runs `body` in a process of its own, which is this test once more. Returns `None` in that
/// process, and otherwise its outcome. `name` is the test's own name.
pub fn in_child(name: &str, body: impl FnOnce()) -> Option<Output> {
    in_child_with(name, &[], body)
}

/// The same, with more environment variables.
pub fn in_child_with(
    name: &str,
    environment: &[(&str, String)],
    body: impl FnOnce(),
) -> Option<Output> {
    if env::var(CHILD).is_ok_and(|child| child == name) {
        body();
        return None;
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(Duration::from_secs(60)) {
        Ok(output) => Some(output.unwrap()),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            panic!("{name}: the child process hangs");
        }
    }
}

/// As [`in_child`], and the process has to succeed.
pub fn survives_in_child(name: &str, body: impl FnOnce()) {
    survives_in_child_with(name, &[], body);
}

/// The same, with more environment variables.
pub fn survives_in_child_with(name: &str, environment: &[(&str, String)], body: impl FnOnce()) {
    if let Some(output) = in_child_with(name, environment, body) {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", output.status);
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "the child ran no test"
        );
    }
}

/// The threads of this process whose name has this prefix; the kernel keeps 15 bytes of a name.
pub fn threads_named(prefix: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

/// The CPU time of this process.
pub fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for a write of an `rusage`.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(failed, 0);
    // SAFETY: it was zeroed, and then filled.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Runs `f` repeatedly for this long.
pub fn for_a_while(time: Duration, mut f: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        f();
    }
}

/// Limits the memory of the process to its current size plus `bytes`.
#[cfg(not(miri))]
pub fn limit_memory(bytes: usize) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').next().unwrap().parse().unwrap();
    let limit = (pages * 4096 + bytes) as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: limit,
        rlim_max: limit,
    };
    // SAFETY: the pointer is valid for a read of an `rlimit`.
    let failed = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(failed, 0);
}
