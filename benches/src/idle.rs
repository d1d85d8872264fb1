//! The question: when a job enters an idle pool every 2 ms, how soon does it start, and how much
//! CPU time does that cost?
//!
//! CPU time is that of the process: it includes the producer's own sleep, the same for all.

use std::{
    io,
    mem::MaybeUninit,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Job,
    report::{self, Entrant, Metric, Question},
    rivals::{Contender, Rival},
    share,
    tally::TALLY,
};

const GAP: Duration = Duration::from_millis(2);

/// Jobs that are not measured, while a rival starts its threads.
const WARM_UP: usize = 10;

struct Stamp {
    sent: Instant,
    wait: &'static AtomicU64,
}

impl Job for Stamp {
    fn run(self) {
        let nanos = self.sent.elapsed().as_nanos() as u64;
        self.wait.store(nanos, Ordering::Relaxed);
        TALLY.count();
    }
}

/// The CPU time of the process, in user mode and in the kernel.
fn cpu_time() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for a write of a `rusage`.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(status, 0, "getrusage: {}", io::Error::last_os_error());
    // SAFETY: the call succeeded; besides, all zeros are a valid value.
    let usage = unsafe { usage.assume_init() };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec as u64) + Duration::from_micros(value.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn feed(rival: &dyn Rival<Stamp>, waits: &'static [AtomicU64]) {
    let goal = TALLY.total() + waits.len() as u64;
    for wait in waits {
        thread::sleep(GAP);
        rival.submit(Stamp {
            sent: Instant::now(),
            wait,
        });
    }
    TALLY.wait_for(goal);
}

/// Median and p99 of the wait, and CPU time per job, in microseconds.
fn measure(rival: &dyn Rival<Stamp>, waits: &'static [AtomicU64]) -> Vec<f64> {
    feed(rival, &waits[..WARM_UP.min(waits.len())]);
    let before = cpu_time();
    feed(rival, waits);
    let used = cpu_time() - before;
    let mut micros: Vec<f64> = waits
        .iter()
        .map(|wait| wait.load(Ordering::Relaxed) as f64 / 1e3)
        .collect();
    vec![
        report::quantile(&mut micros, 0.5),
        report::quantile(&mut micros, 0.99),
        used.as_secs_f64() * 1e6 / waits.len() as f64,
    ]
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let jobs = share(jobs, 2000);
    // Leaked, so that a job needs no reference count: once per process.
    let waits: &'static [AtomicU64] = (0..jobs)
        .map(|_| AtomicU64::new(0))
        .collect::<Vec<_>>()
        .leak();
    let contenders = [
        Contender::ours(),
        Contender::hand_off(),
        Contender::monitor(),
        Contender::channel(),
        Contender::rayon(),
        Contender::rayon_semaphore(),
        Contender::tokio(),
        Contender::threadpool(),
        Contender::rusty_pool(),
    ];
    let entrants = contenders
        .into_iter()
        .map(|Contender { name, build }| Entrant::new(name, move || measure(&*build(), waits)));
    Question {
        name,
        title: format!("{jobs} jobs, one every 2 ms: submit-to-start latency, and CPU per job"),
        metrics: &[
            Metric {
                name: "p50 us",
                decimals: 1,
            },
            Metric {
                name: "p99 us",
                decimals: 1,
            },
            Metric {
                name: "CPU us",
                decimals: 1,
            },
        ],
        entrants: entrants.collect(),
    }
}
