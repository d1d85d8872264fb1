//! Rules R3 and A8 between pools: work that another pool waits for is done, if necessary by the
//! waiting thread. Failure 12, and more.
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use adaptive_pool::Pool;
use support::*;

type Pools = Arc<Vec<Pool>>;

fn pools(count: usize) -> Pools {
    let pool = || Pool::builder().workers(1).capacity(1).build().unwrap();
    Arc::new((0..count).map(|_| pool()).collect())
}

fn end(pools: &Pools) {
    for pool in pools.iter() {
        pool.shutdown();
        assert_conserved(pool);
    }
}

/// The ways to wait for another pool.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Install,
    Join,
    Scope,
    InPlaceScope,
    ForEach,
    Submit,
    Reserve,
    Map,
    MapUnordered,
}

const KINDS: [Kind; 9] = [
    Kind::Install,
    Kind::Join,
    Kind::Scope,
    Kind::InPlaceScope,
    Kind::ForEach,
    Kind::Submit,
    Kind::Reserve,
    Kind::Map,
    Kind::MapUnordered,
];

/// Runs the rest of the path in this pool, and each hop in the next pool, `left` hops in all.
fn hop(
    pools: &Pools,
    at: usize,
    left: u32,
    kind: impl Fn(u32) -> Kind + Copy + Send + Sync + 'static,
) -> u32 {
    if left == 0 {
        return 0;
    }
    let next = {
        let pools = Arc::clone(pools);
        move || hop(&pools, (at + 1) % pools.len(), left - 1, kind) + 1
    };
    let pool = &pools[at];
    let sum = AtomicU32::new(0);
    let add = |hops| {
        sum.fetch_add(hops, Ordering::Relaxed);
    };
    match kind(left) {
        Kind::Install => return pool.install(next),
        Kind::Join => return pool.join(|| (), next).1,
        Kind::Scope => pool.scope(|s| s.spawn(|_| add(next()))),
        Kind::InPlaceScope => pool.in_place_scope(|s| s.spawn(|_| add(next()))),
        Kind::ForEach => pool.for_each([()], |()| add(next())),
        Kind::Submit => return pool.submit(next).unwrap().join().unwrap(),
        Kind::Reserve => return pool.reserve().unwrap().submit(next).join().unwrap(),
        Kind::Map => return pool.map([()], move |()| next()).sum(),
        Kind::MapUnordered => return pool.map_unordered([()], move |()| next()).sum(),
    }
    sum.into_inner()
}

#[test]
fn r3_a_few_hops_between_two_pools_of_one() {
    watched(|| {
        let rounds = if cfg!(miri) { 2 } else { 100 };
        for kind in KINDS {
            let pools = pools(2);
            for _ in 0..rounds {
                assert_eq!(hop(&pools, 0, 6, move |_| kind), 6, "{kind:?}");
            }
            end(&pools);
        }
    });
}

#[test]
fn r3_more_hops_than_there_are_threads() {
    watched(|| {
        let hops = if cfg!(miri) { 20 } else { 60 };
        for kind in KINDS {
            for count in [2, 3] {
                let pools = pools(count);
                assert_eq!(hop(&pools, 0, hops, move |_| kind), hops, "{kind:?}");
                end(&pools);
            }
        }
    });
}

#[test]
fn r3_many_threads_hop_at_once_in_every_way() {
    watched(|| {
        let seed = seed();
        let rounds = if cfg!(miri) { 1 } else { 10 };
        for round in 0..rounds {
            let pools = pools(2 + round % 2);
            thread::scope(|threads| {
                for hopper in 0..6 {
                    let pools = &pools;
                    threads.spawn(move || {
                        let seed = seed ^ (round as u64) << 8 ^ hopper;
                        let way = move |left: u32| {
                            let mut random = Random(seed ^ u64::from(left) << 32);
                            KINDS[random.below(KINDS.len() as u64) as usize]
                        };
                        let at = hopper as usize % pools.len();
                        assert_eq!(hop(pools, at, 20, way), 20);
                    });
                }
            });
            end(&pools);
        }
    });
}

/// A8, R3: submitters that queued for a place before the last thread of the pool blocked are
/// released.
#[test]
fn a8_a_worker_that_waits_for_a_place_goes_on_when_that_pool_starves() {
    watched(|| {
        let (front, back) = (Arc::new(pool_of(8)), Arc::new(pool_of(1)));
        // All threads of the back pool wait for jobs of the front pool, which are blocked at the
        // gate.
        let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
        let held: Vec<_> = gates
            .iter()
            .map(|gate| {
                let (front, gate) = (Arc::clone(&front), gate.clone());
                let job = move || front.install(move || gate.pass());
                let held = back.submit(job).unwrap();
                wait_until(|| back.metrics().depth == 0);
                held
            })
            .collect();
        // No thread is left, and no place.
        let queued = back.submit(|| ()).unwrap();
        let inline = {
            let back = Arc::clone(&back);
            let job = move || {
                let here = thread::current().id();
                let there = back.submit(move || thread::current().id()).unwrap();
                assert_eq!(there.join().unwrap(), here);
            };
            front.submit(job).unwrap()
        };
        inline.join().unwrap();
        for gate in gates {
            gate.open();
        }
        for held in held {
            held.join().unwrap();
        }
        queued.join().unwrap();
        for pool in [front, back] {
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

fn pool_of(workers: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(1);
    builder.max_threads(workers).build().unwrap()
}

/// A timeout is honoured while the pool does not starve, and the awaited job comes back.
#[test]
fn a4_a_worker_that_waits_for_a_busy_pool_is_refused_in_time() {
    watched(|| {
        let (front, back) = (pool_of(1), Arc::new(pool_of(1)));
        let held = fill(&back, 1);
        let job = {
            let back = Arc::clone(&back);
            move || {
                back.submit_timeout(Duration::from_millis(5), || 7)
                    .unwrap_err()
                    .into_job()()
            }
        };
        assert_eq!(front.submit(job).unwrap().join().unwrap(), 7);
        drop(held);
    });
}

/// D1: a worker of another pool runs the last job of a pool whose own workers are already idle.
#[test]
fn d1_a_pool_ends_whose_last_job_ran_in_another() {
    for kind in [Kind::Install, Kind::InPlaceScope] {
        watched(move || {
            for _ in 0..10 {
                let (front, back) = (Arc::new(pool_of(8)), Arc::new(pool_of(1)));
                // All threads of the back pool are blocked.
                let gate = Gate::new();
                let held: Vec<_> = (0..5)
                    .map(|_| {
                        let (front, gate) = (Arc::clone(&front), gate.clone());
                        let held = back.submit(move || front.install(move || gate.pass()));
                        wait_until(|| back.metrics().depth == 0);
                        held.unwrap()
                    })
                    .collect();
                let own = Arc::clone(&back);
                let last = front.submit(move || {
                    let body = || {
                        gate.open();
                        held.into_iter().for_each(|held| held.join().unwrap());
                        let back = Arc::clone(&own);
                        let closer = thread::spawn(move || back.shutdown());
                        wait_until(|| own.is_closed());
                        // A worker between two jobs has polled for more before the second one.
                        (0..2).for_each(|_| drop(own.broadcast(|_| ())));
                        closer
                    };
                    if kind == Kind::Install {
                        own.install(body)
                    } else {
                        let mut closer = None;
                        own.in_place_scope(|s| s.spawn(|_| closer = Some(body())));
                        closer.unwrap()
                    }
                });
                let closer = last.unwrap().join().unwrap();
                assert_eq!(closer.join().unwrap().completed, 6);
                assert_conserved(&back);
                front.shutdown();
            }
        });
    }
}

/// Failure 12: a worker that shuts another pool down waits for jobs that may need its place.
#[test]
fn r3_a_worker_that_shuts_another_pool_down_is_replaced() {
    watched(|| {
        let one = Arc::new(Pool::builder().workers(1).capacity(1).build().unwrap());
        let other = Pool::builder().workers(1).capacity(1).build().unwrap();
        let own = Arc::clone(&one);
        let report = one.install(move || {
            other.spawn(move || own.install(|| ())).unwrap();
            other.shutdown()
        });
        assert_eq!(report.completed, 1);
        one.shutdown();
        assert_conserved(&one);
    });
}
