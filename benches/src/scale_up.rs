//! The question: what does it cost to add one more worker, for the calling thread, and how soon
//! does the worker run a job?
//!
//! A pool with one busy worker and one waiting job is resized to two. The first time, this starts a
//! thread; later, a parked one exists. That thread is idle on its parker for some milliseconds
//! before it sleeps in rayon.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;

use crate::report::{Entrant, Metric, Question};

/// How often a parked worker is added in a measurement.
const TIMES: u32 = 50;

/// Occupies one worker until the sender is dropped.
fn occupy(pool: &Pool) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (began, begins) = mpsc::channel();
    pool.spawn(move || {
        let _ = began.send(());
        let _ = released.recv();
    })
    .expect("the pool is open");
    begins.recv().expect("it starts");
    release
}

/// The time of the call, and the time from there to the start of the job.
fn add_worker(pool: &Pool) -> (Duration, Duration) {
    let busy = occupy(pool);
    let (began, begins) = mpsc::channel();
    pool.spawn(move || {
        let _ = began.send(Instant::now());
    })
    .expect("the pool is open");
    let start = Instant::now();
    pool.resize(2..=2).expect("there may be two");
    let called = start.elapsed();
    let began = begins.recv().expect("it starts");
    drop(busy);
    (called, began - start)
}

fn pool() -> Pool {
    let builder = Pool::builder().workers(1..=2).max_threads(2);
    let pool = builder.build().expect("the options are valid");
    pool.resize(1..=1).expect("there may be one");
    pool
}

fn micros(times: (Duration, Duration), divisor: u32) -> Vec<f64> {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(divisor);
    vec![micros(times.0), micros(times.1)]
}

/// The thread has to be started.
fn new_thread() -> Vec<f64> {
    micros(add_worker(&pool()), 1)
}

/// The thread exists, parked for this long. Means over some calls.
fn parked(since: Duration) -> Vec<f64> {
    let pool = pool();
    add_worker(&pool);
    let mut sum = (Duration::ZERO, Duration::ZERO);
    for _ in 0..TIMES {
        pool.resize(1..=1).expect("there may be one");
        while pool.metrics().workers_in_service != 1 || pool.metrics().workers_busy != 0 {
            thread::yield_now();
        }
        thread::sleep(since);
        let (called, began) = add_worker(&pool);
        sum = (sum.0 + called, sum.1 + began);
    }
    micros(sum, TIMES)
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, _: u64) -> Question {
    Question {
        name,
        title: String::from(
            "one more worker: duration of `resize`, and time until the worker runs a job",
        ),
        metrics: &[
            Metric {
                name: "call us",
                decimals: 1,
            },
            Metric {
                name: "to job us",
                decimals: 1,
            },
        ],
        entrants: vec![
            Entrant::new("parked just now", || parked(Duration::ZERO)),
            Entrant::new("parked 10 ms ago", || parked(Duration::from_millis(10))),
            Entrant::new("a new thread", new_thread),
        ],
    }
}
