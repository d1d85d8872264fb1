//! The watchdog, waits for conditions, signals.

use std::{
    future::Future,
    os::unix::process::CommandExt,
    process::{self, Child, Command},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use adaptive_pool_worker::{Queue, QueueStatus};
use futures_util::{StreamExt, stream};

/// Longer than any condition takes, on the slowest machine.
const LONGEST: Duration = Duration::from_secs(60);
/// Attempts to publish a message. One without an answer takes five seconds.
const ATTEMPTS: u32 = 12;

/// Runs the test on a runtime. If it takes longer than `longest`, this program and its children
/// end.
pub fn watched<F: Future<Output = ()>>(longest: Duration, test: impl FnOnce() -> F + Send) {
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let name = thread::current().name().unwrap_or("?").to_owned();
        scope.spawn(move || {
            if is_done.recv_timeout(longest) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{name}: not done after {longest:?}");
                process::abort();
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(done);
    });
}

/// Polls `is_so` until it holds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONGEST, "waited too long until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same for the state of a queue.
pub async fn until_queue(queue: &Queue, what: &str, is_so: impl FnMut(&QueueStatus) -> bool) {
    until_queue_for(LONGEST, queue, what, is_so).await;
}

pub async fn until_queue_for(
    longest: Duration,
    queue: &Queue,
    what: &str,
    mut is_so: impl FnMut(&QueueStatus) -> bool,
) {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < longest {
        // A server that is stopped, or that starts, does not answer.
        if let Ok(status) = queue.status("workers").await {
            if is_so(&status) {
                return;
            }
            last = Some(status);
        }
    }
    panic!("waited too long until {what}: {last:#?}");
}

pub fn is_empty(status: &QueueStatus) -> bool {
    status.waiting == 0 && status.in_flight == 0
}

/// Publishes all jobs, many at a time. A job without an answer is published again, with the same
/// id.
pub async fn publish(queue: &Queue, jobs: impl IntoIterator<Item = String>) {
    let put = |job: String| async move {
        let mut attempt = 1;
        while let Err(error) = queue.publish(&job, &job).await {
            assert!(attempt < ATTEMPTS, "{error}");
            attempt += 1;
        }
    };
    let all = stream::iter(jobs).map(put);
    all.buffer_unordered(512).for_each(|_| async {}).await;
}

pub fn signal(process: &Child, signal: i32) {
    let pid = i32::try_from(process.id()).unwrap();
    // SAFETY: a call without pointers. The process is ours and has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Has the child killed when the thread that starts it ends, for whatever reason.
pub fn dies_with_us(command: &mut Command) {
    // SAFETY: between fork and exec only a system call is made, which is allowed there.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}
