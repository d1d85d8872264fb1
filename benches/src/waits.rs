//! The question: what does each wait cost beside one busy thread per core?
//!
//! Each entrant is one wait, alone and beside the neighbours in alternation. A round trip is a job
//! of 500 us, by the median; a batch is items of 8 us, as a whole. The gate is rule R9: beside
//! them, at most three times as long.

use std::{
    future::Future,
    hint::spin_loop,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use adaptive_pool::Pool;

use crate::{
    neighbours::{Kind, Neighbours},
    report::{self, Answer, Entrant, Metric, Question},
    rivals::{WORKERS, rayon_pool},
    share,
};

/// The length of one job.
const WORK: Duration = Duration::from_micros(500);

/// The length of one item.
const ITEM: Duration = Duration::from_micros(8);

/// The pool under test may take this many times as long beside the neighbours.
const MOST: f64 = 3.0;

/// The names of the entrants that the gate does not check.
const OTHERS: [&str; 2] = ["crossbeam channel", "rayon install"];

fn busy(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        spin_loop();
    }
}

fn pool(workers: usize, capacity: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    builder.build().expect("the threads start")
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// The median of `times` runs, in us.
fn median(times: u64, once: &dyn Fn()) -> f64 {
    once();
    let time = |_| {
        let start = Instant::now();
        once();
        start.elapsed().as_secs_f64() * 1e6
    };
    report::median((0..times).map(time))
}

/// Alone and beside the neighbours, in us, and the ratio.
fn both(kind: Kind, times: u64, once: &dyn Fn()) -> Vec<f64> {
    let alone = median(times, once);
    let neighbours = Neighbours::start(kind).expect("the processes start");
    let beside = median(times, once);
    drop(neighbours);
    vec![alone, beside, beside / alone]
}

type Trip = (&'static str, fn(&'static Pool, &'static Pool));

const TRIPS: [Trip; 12] = [
    ("join", |pool, _| {
        pool.submit(|| busy(WORK)).unwrap().join().unwrap();
    }),
    ("join_timeout", |pool, _| {
        let handle = pool.submit(|| busy(WORK)).unwrap();
        handle
            .join_timeout(Duration::from_secs(60))
            .ok()
            .unwrap()
            .unwrap();
    }),
    ("await", |pool, _| {
        block_on(pool.submit(|| busy(WORK)).unwrap()).unwrap();
    }),
    ("submit_async", |pool, _| {
        block_on(block_on(pool.submit_async(|| busy(WORK))).unwrap()).unwrap();
    }),
    ("install", |pool, _| pool.install(|| busy(WORK))),
    ("scope", |pool, _| {
        pool.scope(|scope| scope.spawn(|_| busy(WORK)))
    }),
    ("in_place_scope", |pool, _| {
        pool.in_place_scope(|scope| scope.spawn(|_| busy(WORK)));
    }),
    ("join of two", |pool, _| {
        pool.join(|| busy(WORK), || busy(WORK));
    }),
    ("broadcast", |pool, _| {
        pool.broadcast(|_| busy(WORK));
    }),
    ("join in a job", |pool, _| {
        pool.install(|| {
            let handle = pool.submit(|| busy(WORK)).unwrap();
            busy(WORK / 4);
            handle.join().unwrap();
        });
    }),
    ("one pool in another", |pool, other| {
        pool.install(|| other.install(|| busy(WORK)));
    }),
    ("two pools in turn", |pool, other| {
        pool.install(|| busy(WORK));
        other.submit(|| busy(WORK)).unwrap().join().unwrap();
    }),
];

type Batch = (&'static str, fn(&Pool, u64));

const BATCHES: [Batch; 5] = [
    ("map", |pool, items| {
        assert_eq!(pool.map(0..items, |_| busy(ITEM)).count() as u64, items);
    }),
    ("map_unordered", |pool, items| {
        let results = pool.map_unordered(0..items, |_| busy(ITEM));
        assert_eq!(results.count() as u64, items);
    }),
    ("for_each", |pool, items| {
        pool.for_each(0..items, |_| busy(ITEM))
    }),
    ("permits", |pool, items| {
        for _ in 0..items {
            pool.reserve().unwrap().spawn(|| busy(ITEM));
        }
        await_empty(pool);
    }),
    ("spawn", |pool, items| {
        for _ in 0..items {
            pool.spawn(|| busy(ITEM)).unwrap();
        }
        await_empty(pool);
    }),
];

/// The capacities of the pools for batches.
const CAPACITIES: [usize; 4] = [4, 8, 64, 1024];

fn await_empty(pool: &Pool) {
    while pool.metrics().depth > 0 {
        thread::sleep(Duration::from_micros(100));
    }
}

/// Leaked, so that a job may borrow it: some threads for each entrant.
fn leaked() -> &'static Pool {
    Box::leak(Box::new(pool(WORKERS, 1024)))
}

/// Whether the gate checks it.
fn is_held(name: &str) -> bool {
    !OTHERS.contains(&name)
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64, kind: Kind) -> Question {
    let trips = share(jobs, 20_000);
    let items = share(jobs, 400);
    let mut entrants = Vec::new();
    let mut add = |name: String, measure: Box<dyn Fn() -> Vec<f64>>| {
        entrants.push(Entrant::new(name.leak(), measure));
    };
    for (name, trip) in TRIPS {
        let (one, other) = (leaked(), leaked());
        add(
            name.to_owned(),
            Box::new(move || both(kind, trips, &|| trip(one, other))),
        );
    }
    for (name, batch) in BATCHES {
        for capacity in CAPACITIES {
            let measure = move || {
                let pool = pool(WORKERS, capacity);
                both(kind, 3, &|| batch(&pool, items))
            };
            add(format!("{name}, capacity {capacity}"), Box::new(measure));
        }
    }
    let channel = move || {
        let (to, from) = crossbeam_channel::bounded::<crossbeam_channel::Sender<()>>(1024);
        for _ in 0..WORKERS {
            let from = from.clone();
            thread::spawn(move || {
                for reply in from {
                    busy(WORK);
                    reply.send(()).expect("the caller waits");
                }
            });
        }
        both(kind, trips, &|| {
            let (reply, replied) = crossbeam_channel::bounded(1);
            to.send(reply).expect("the threads receive");
            replied.recv().expect("the job replies");
        })
    };
    add(OTHERS[0].to_owned(), Box::new(channel));
    let rayon = move || {
        let pool = rayon_pool(WORKERS);
        both(kind, trips, &|| pool.install(|| busy(WORK)))
    };
    add(OTHERS[1].to_owned(), Box::new(rayon));
    Question {
        name,
        title: format!(
            "{trips} round trips of 500 us, or {items} items of 8 us, alone and beside busy {}",
            match kind {
                Kind::Processes => "processes",
                Kind::Threads => "threads of this process",
            }
        ),
        metrics: &[
            Metric {
                name: "alone us",
                decimals: 0,
            },
            Metric {
                name: "beside us",
                decimals: 0,
            },
            Metric {
                name: "times",
                decimals: 2,
            },
        ],
        entrants,
    }
}

/// The entrants that break rule R9, by the medians of the rounds.
pub fn too_slow(answer: &Answer) -> Vec<String> {
    let times = answer.medians(2);
    times
        .filter(|&(name, times)| is_held(name) && times > MOST)
        .map(|(name, times)| format!("{name}: {times:.1} times as long beside busy cores"))
        .collect()
}
