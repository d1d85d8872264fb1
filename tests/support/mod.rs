//! What the tests share: a watchdog, seeds, and jobs that stand still until they are told to go on.
#![allow(dead_code)]

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use adaptive_pool::Pool;

/// Runs `test` on its own thread, and fails if it does not end within a minute.
pub fn watched(test: impl FnOnce() + Send + 'static) {
    watched_for(Duration::from_secs(60), test);
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

/// The seed of a random test: `SEED` from the environment, or a new one. It is printed.
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

/// xorshift64*: small, seeded, the same everywhere.
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

/// A job that has begun, and does not end before it is let go (or this is dropped).
pub struct Held {
    go: Sender<()>,
}

impl Held {
    pub fn release(self) {
        let _ = self.go.send(());
    }
}

/// Occupies one worker: returns when the job has begun.
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
