//! The question: how long until the result of a job is back, one job after another?
//!
//! A rival without handles gives the job a channel for one value, as in the documentation of
//! `rayon::spawn`.

use std::{
    hint::black_box,
    sync::mpsc::{self, SyncSender},
    time::Instant,
};

use adaptive_pool::Pool;

use crate::{
    Job,
    report::{Entrant, Metric, Question},
    rivals::{CAPACITY, Contender, Rival, WORKERS},
    share,
};

struct Reply {
    value: u64,
    to: SyncSender<u64>,
}

impl Job for Reply {
    fn run(self) {
        // The caller waits for it, so it cannot fail.
        let _ = self.to.send(black_box(self.value));
    }
}

fn by_handle(pool: &Pool, value: u64) -> u64 {
    let handle = pool
        .submit(move || black_box(value))
        .expect("the pool is open");
    handle.join().expect("the job does not panic")
}

fn by_channel(rival: &dyn Rival<Reply>, value: u64) -> u64 {
    let (to, from) = mpsc::sync_channel(1);
    rival.submit(Reply { value, to });
    from.recv().expect("the job sends before it ends")
}

fn measure(trips: u64, trip: impl Fn(u64) -> u64) -> Vec<f64> {
    let go = |trips| (0..trips).for_each(|value| assert_eq!(trip(value), value));
    go(share(trips, 20));
    let start = Instant::now();
    go(trips);
    vec![start.elapsed().as_nanos() as f64 / trips as f64]
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let trips = share(jobs, 50);
    let ours = Entrant::new("adaptive-pool, handle", move || {
        let pool = Pool::builder().workers(WORKERS).capacity(CAPACITY).build();
        let pool = pool.expect("the threads start");
        measure(trips, |value| by_handle(&pool, value))
    });
    let contenders = [
        ("adaptive-pool + mpsc", Contender::ours()),
        ("rayon::spawn + mpsc", Contender::rayon()),
        ("crossbeam bounded + mpsc", Contender::channel()),
        ("one thread, park + mpsc", Contender::hand_off()),
    ];
    let others = contenders.into_iter().map(|(name, contender)| {
        Entrant::new(name, move || {
            let rival = (contender.build)();
            measure(trips, |value| by_channel(&*rival, value))
        })
    });
    Question {
        name,
        title: format!("{trips} sequential round trips"),
        metrics: &[Metric {
            name: "ns/trip",
            decimals: 0,
        }],
        entrants: std::iter::once(ours).chain(others).collect(),
    }
}
