//! Rule A8: jobs without a place. On a thread of the pool they run in place while the stack has
//! room, and are queued over the capacity beyond that. Outside the pool they block (A11). A
//! deferred job does neither.
mod support;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, PoolBuilder, Scope};
use support::*;

const SIDE: usize = if cfg!(miri) { 6 } else { 120 };
const LINKS: usize = if cfg!(miri) { 60 } else { 20_000 };
const CAPACITIES: [usize; 3] = [1, 64, 1024];

fn builder(workers: usize, capacity: usize) -> PoolBuilder {
    Pool::builder().workers(workers).capacity(capacity)
}

fn pool(workers: usize, capacity: usize) -> Pool {
    builder(workers, capacity).build().unwrap()
}

/// Pools of all sizes, on the usual stack and on a small one.
fn pools() -> impl Iterator<Item = Pool> {
    [1, 2].into_iter().flat_map(|workers| {
        CAPACITIES.into_iter().flat_map(move |capacity| {
            [None, Some(small_stack())].into_iter().map(move |stack| {
                let builder = builder(workers, capacity);
                match stack {
                    Some(bytes) => builder.stack_size(bytes),
                    None => builder,
                }
                .build()
                .unwrap()
            })
        })
    })
}

/// Each cell spawns its neighbours: a graph of unknown depth.
fn visit<'a>(s: &Scope<'a>, seen: &'a [AtomicBool], at: usize) {
    if seen[at].swap(true, Ordering::Relaxed) {
        return;
    }
    let (x, y) = (at % SIDE, at / SIDE);
    let steps = [
        (x > 0, at.wrapping_sub(1)),
        (x + 1 < SIDE, at + 1),
        (y > 0, at.wrapping_sub(SIDE)),
        (y + 1 < SIDE, at + SIDE),
    ];
    for (_, next) in steps.into_iter().filter(|step| step.0) {
        s.spawn(move |s| visit(s, seen, next));
    }
}

fn flood(run: impl FnOnce(&[AtomicBool])) {
    let seen: Vec<_> = (0..SIDE * SIDE).map(|_| AtomicBool::new(false)).collect();
    run(&seen);
    assert!(seen.iter().all(|cell| cell.load(Ordering::Relaxed)));
}

fn on_a_small_stack(f: impl FnOnce() + Send) {
    thread::scope(|threads| {
        let caller = thread::Builder::new().stack_size(small_stack());
        caller.spawn_scoped(threads, f).unwrap().join().unwrap();
    });
}

#[test]
fn a8_a_flood_fill_ends_on_a_worker() {
    survives_in_child("a8_a_flood_fill_ends_on_a_worker", || {
        for pool in pools() {
            flood(|seen| pool.scope(|s| visit(s, seen, 0)));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a8_a_flood_fill_ends_from_a_caller_outside() {
    survives_in_child("a8_a_flood_fill_ends_from_a_caller_outside", || {
        for pool in pools() {
            flood(|seen| pool.in_place_scope(|s| visit(s, seen, 0)));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a8_a_flood_fill_ends_on_a_closed_pool() {
    survives_in_child("a8_a_flood_fill_ends_on_a_closed_pool", || {
        for pool in pools() {
            pool.close();
            flood(|seen| on_a_small_stack(|| pool.in_place_scope(|s| visit(s, seen, 0))));
            flood(|seen| on_a_small_stack(|| pool.scope(|s| visit(s, seen, SIDE + 1))));
            pool.shutdown();
        }
    });
}

/// A flood fill of jobs without a scope.
fn crawl(pool: &Arc<Pool>, seen: &Arc<Vec<AtomicBool>>, left: &Arc<AtomicUsize>, at: usize) {
    if seen[at].swap(true, Ordering::Relaxed) {
        return;
    }
    left.fetch_sub(1, Ordering::SeqCst);
    let (x, y) = (at % SIDE, at / SIDE);
    for (is_there, next) in [
        (x > 0, at.wrapping_sub(1)),
        (x + 1 < SIDE, at + 1),
        (y > 0, at.wrapping_sub(SIDE)),
        (y + 1 < SIDE, at + SIDE),
    ] {
        if !is_there {
            continue;
        }
        let (own, seen, left) = (Arc::clone(pool), Arc::clone(seen), Arc::clone(left));
        let job = move || crawl(&own, &seen, &left, next);
        match next % 4 {
            0 => pool.spawn(job).unwrap(),
            1 => drop(pool.submit(job).unwrap()),
            2 => pool.reserve().unwrap().spawn(job),
            _ => drop(pool.reserve().unwrap().submit(job)),
        }
    }
}

#[test]
fn a8_a_flood_fill_ends_without_a_scope() {
    survives_in_child("a8_a_flood_fill_ends_without_a_scope", || {
        for pool in pools() {
            let pool = Arc::new(pool);
            let seen: Arc<Vec<_>> =
                Arc::new((0..SIDE * SIDE).map(|_| AtomicBool::new(false)).collect());
            let left = Arc::new(AtomicUsize::new(SIDE * SIDE));
            crawl(&pool, &seen, &left, 0);
            wait_until(|| left.load(Ordering::SeqCst) == 0);
            let pool = loop {
                // The last jobs release it.
                let seen = pool.metrics();
                if seen.admitted == seen.completed {
                    break pool;
                }
                thread::yield_now();
            };
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// How the next link of a chain is submitted.
const FORMS: usize = 8;

fn link(pool: &Arc<Pool>, form: usize, left: usize, end: &mpsc::Sender<()>) {
    if left == 0 {
        return end.send(()).unwrap();
    }
    let (own, end) = (Arc::clone(pool), end.clone());
    let job = move || link(&own, form, left - 1, &end);
    const LONG: Duration = Duration::from_secs(3600);
    match form {
        0 => pool.spawn(job).unwrap(),
        1 => drop(pool.submit(job).unwrap()),
        2 => drop(pool.submit_timeout(LONG, job).unwrap()),
        3 => pool.spawn_timeout(LONG, job).unwrap(),
        4 => pool.reserve().unwrap().spawn(job),
        5 => drop(pool.reserve().unwrap().submit(job)),
        6 => match poll_once(pool.submit_async(job)) {
            Poll::Ready(handle) => drop(handle.unwrap()),
            Poll::Pending => unreachable!("a thread of the pool never waits"),
        },
        _ => pool.admit().deferred().spawn(job).unwrap(),
    }
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a8_a_chain_of_any_form_ends_beside_producers() {
    survives_in_child("a8_a_chain_of_any_form_ends_beside_producers", || {
        for (workers, capacity, form) in (0..FORMS).flat_map(|form| [(1, 1, form), (2, 4, form)]) {
            let builder = builder(workers, capacity).stack_size(small_stack());
            let pool = Arc::new(builder.build().unwrap());
            let (send, ended) = mpsc::channel();
            let own = Arc::clone(&pool);
            pool.spawn(move || link(&own, form, LINKS, &send)).unwrap();
            let is_over = AtomicBool::new(false);
            thread::scope(|threads| {
                for _ in 0..2 {
                    threads.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) {
                            pool.spawn(|| ()).unwrap();
                        }
                    });
                }
                ended.recv().unwrap();
                is_over.store(true, Ordering::Relaxed);
            });
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The queue stays full.
#[test]
fn a8_a_chain_of_any_form_ends_on_a_full_queue() {
    survives_in_child("a8_a_chain_of_any_form_ends_on_a_full_queue", || {
        for form in 0..FORMS {
            let builder = builder(1, 4).stack_size(small_stack());
            let pool = Arc::new(builder.build().unwrap());
            let held: Vec<_> = (0..4).map(|_| pool.reserve().unwrap()).collect();
            let (send, ended) = mpsc::channel();
            let own = Arc::clone(&pool);
            let first = move || link(&own, form, LINKS, &send);
            pool.admit().deferred().spawn(first).unwrap();
            ended.recv().unwrap();
            drop(held);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Each link of a chain submits many leaves.
#[test]
fn a8_a_tree_with_many_leaves_ends() {
    fn tree<'a>(s: &Scope<'a>, ran: &'a AtomicUsize, links: usize) {
        ran.fetch_add(1, Ordering::Relaxed);
        if links == 0 {
            return;
        }
        s.spawn(move |s| tree(s, ran, links - 1));
        for _ in 0..20 {
            s.spawn(move |s| {
                s.spawn(move |_| {
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
    }
    survives_in_child("a8_a_tree_with_many_leaves_ends", || {
        let links = LINKS / 20;
        for pool in pools() {
            let ran = AtomicUsize::new(0);
            pool.scope(|s| tree(s, &ran, links));
            assert_eq!(ran.load(Ordering::Relaxed), 1 + 21 * links);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// The loop of leaves runs deep in the stack, and has to be bounded there too.
#[test]
fn a8_a_job_deep_in_a_chain_submits_many_leaves() {
    fn dive<'a>(s: &Scope<'a>, ran: &'a AtomicUsize, depth: usize, leaves: usize) {
        if depth > 0 {
            return s.spawn(move |s| dive(s, ran, depth - 1, leaves));
        }
        for _ in 0..leaves {
            s.spawn(move |_| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
    survives_in_child("a8_a_job_deep_in_a_chain_submits_many_leaves", || {
        let (depth, leaves) = (LINKS / 20, 10 * LINKS);
        for pool in pools() {
            let held = pool.metrics().capacity as usize;
            let held: Vec<_> = (0..held - 1).map(|_| pool.reserve().unwrap()).collect();
            let ran = AtomicUsize::new(0);
            pool.scope(|s| dive(s, &ran, depth, leaves));
            assert_eq!(ran.load(Ordering::Relaxed), leaves);
            drop(held);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Makes nested jobs queue what they submit: their turn is over.
fn in_place_beyond_the_turn(pool: &Arc<Pool>, job: impl FnOnce(&Arc<Pool>) + Send + 'static) {
    const TURN: usize = 64;
    let own = Arc::clone(pool);
    pool.spawn(move || {
        let held: Vec<_> = std::iter::from_fn(|| own.try_reserve().ok()).collect();
        for _ in 1..TURN {
            own.spawn(|| ()).unwrap();
        }
        let before = own.metrics();
        assert_eq!((before.inlined, before.overdrawn), (TURN as u64 - 1, 0));
        let here = Arc::clone(&own);
        own.spawn(move || job(&here)).unwrap();
        drop(held);
    })
    .unwrap();
}

#[test]
fn a8_an_overdrawn_job_is_counted_and_is_no_part_of_the_depth() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let (send, seen) = mpsc::channel();
        let gone = send.clone();
        in_place_beyond_the_turn(&pool, move |pool| {
            let ran = Arc::new(AtomicBool::new(false));
            let own = Arc::clone(&ran);
            pool.spawn(move || {
                own.store(true, Ordering::SeqCst);
                gone.send(None).unwrap();
            })
            .unwrap();
            assert!(!ran.load(Ordering::SeqCst), "it was to be kept");
            send.send(Some(pool.metrics())).unwrap();
        });
        let while_kept = seen.recv().unwrap().unwrap();
        assert_eq!((while_kept.overdrawn, while_kept.overdrawn_now), (1, 1));
        assert_eq!(
            while_kept.depth, while_kept.capacity,
            "the held permits alone"
        );
        assert!(seen.recv().unwrap().is_none());
        pool.shutdown();
        let seen = pool.metrics();
        assert_eq!((seen.overdrawn, seen.overdrawn_now), (1, 0));
        assert_conserved(&pool);
    });
}

#[test]
fn a8_a_thread_overdraws_no_more_jobs_than_the_capacity() {
    watched(|| {
        for capacity in [1, 4, 100] {
            let pool = Arc::new(pool(1, capacity));
            let (send, most) = mpsc::channel();
            in_place_beyond_the_turn(&pool, move |pool| {
                for _ in 0..10 * capacity {
                    pool.spawn(|| ()).unwrap();
                }
                send.send(pool.metrics().overdrawn_now).unwrap();
            });
            assert_eq!(most.recv().unwrap(), capacity as u64);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// With a channel, another worker has to run it; with its handle, the waiting one does.
#[test]
fn a8_a_job_may_wait_for_an_overdrawn_job_of_its_own() {
    watched(|| {
        for workers in [1, 2] {
            let pool = Arc::new(pool(workers, 4));
            let (send, ended) = mpsc::channel();
            in_place_beyond_the_turn(&pool, move |pool| {
                assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
                if workers > 1 {
                    let (sender, receiver) = mpsc::channel();
                    pool.spawn(move || sender.send(8).unwrap()).unwrap();
                    assert_eq!(receiver.recv().unwrap(), 8);
                }
                assert_eq!(pool.metrics().overdrawn, workers as u64);
                send.send(()).unwrap();
            });
            ended.recv().unwrap();
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a8_an_overdrawn_job_can_be_cancelled_and_dropped() {
    watched(|| {
        let pool = Arc::new(pool(1, 4));
        let (send, handle) = mpsc::channel();
        let gate = Gate::new();
        let held = gate.clone();
        in_place_beyond_the_turn(&pool, move |pool| {
            let handle = pool.submit(|| ()).unwrap();
            assert!(handle.cancel() && handle.join().is_err());
            assert_eq!(pool.metrics().overdrawn_now, 0);
            send.send(pool.submit(|| ()).unwrap()).unwrap();
            held.pass();
        });
        let handle = handle.recv().unwrap();
        let own = Arc::clone(&pool);
        let closer = thread::spawn(move || own.shutdown_now().unwrap());
        wait_until(|| pool.metrics().dropped == 1);
        gate.open();
        assert!(handle.join().is_err());
        let report = closer.join().unwrap();
        assert_eq!((report.cancelled, report.dropped), (1, 1));
        assert_eq!(pool.metrics().overdrawn_now, 0);
        assert_conserved(&pool);
    });
}

/// Holds a lock that the job takes, on the thread of the job.
fn deferred_under_a_lock(submit: impl Fn(&Arc<Pool>, Box<dyn FnOnce() + Send>)) {
    let pool = Arc::new(pool(1, 1));
    let held = pool.reserve().unwrap();
    let lock = Arc::new(Mutex::new(0));
    for _ in 0..3 {
        let guard = lock.lock().unwrap();
        let own = Arc::clone(&lock);
        submit(&pool, Box::new(move || *own.lock().unwrap() += 1));
        drop(guard);
    }
    drop(held);
    pool.shutdown();
    assert_eq!(*lock.lock().unwrap(), 3);
    assert_eq!(pool.metrics().overdrawn, 3);
    assert_conserved(&pool);
}

#[test]
fn a8_a_deferred_job_neither_runs_in_place_nor_blocks() {
    watched(|| {
        deferred_under_a_lock(|pool, job| pool.admit().deferred().spawn(job).unwrap());
        deferred_under_a_lock(|pool, job| drop(pool.admit().deferred().submit(job).unwrap()));
        deferred_under_a_lock(|pool, job| pool.admit().deferred().reserve().unwrap().spawn(job));
        deferred_under_a_lock(|pool, job| {
            match poll_once(pool.admit().deferred().submit_async(job)) {
                Poll::Ready(handle) => drop(handle.unwrap()),
                Poll::Pending => panic!("it waits"),
            }
        });
        deferred_under_a_lock(|pool, job| {
            match poll_once(pool.admit().deferred().reserve_async()) {
                Poll::Ready(permit) => permit.unwrap().spawn(job),
                Poll::Pending => panic!("it waits"),
            }
        });
    });
}

#[test]
fn a8_a_deferred_job_neither_runs_in_place_nor_blocks_on_a_worker() {
    watched(|| {
        let pool = Arc::new(pool(1, 1));
        let held = pool.reserve().unwrap();
        let lock = Arc::new(Mutex::new(0));
        let (send, done) = mpsc::channel();
        let (own, own_lock) = (Arc::clone(&pool), Arc::clone(&lock));
        let outer = move || {
            let guard = own_lock.lock().unwrap();
            for _ in 0..3 {
                let (lock, send) = (Arc::clone(&own_lock), send.clone());
                let job = move || {
                    *lock.lock().unwrap() += 1;
                    send.send(()).unwrap();
                };
                own.admit().deferred().spawn(job).unwrap();
            }
            drop(guard);
        };
        pool.admit().deferred().spawn(outer).unwrap();
        (0..3).for_each(|_| done.recv().unwrap());
        assert_eq!(pool.metrics().inlined, 0);
        drop(held);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn a8_a_deferred_job_of_a_scope_neither_runs_in_place_nor_blocks() {
    fn spawn_under_a_lock<'a>(s: &Scope<'a>, pool: &Pool, lock: &'a Mutex<usize>) {
        let held = pool.try_reserve().unwrap();
        let guard = lock.lock().unwrap();
        for _ in 0..3 {
            s.spawn_deferred(|_| *lock.lock().unwrap() += 1);
        }
        drop((guard, held));
    }
    watched(|| {
        for inside in [false, true] {
            let (pool, lock) = (pool(1, 1), Mutex::new(0));
            if inside {
                pool.scope(|s| spawn_under_a_lock(s, &pool, &lock));
            } else {
                pool.in_place_scope(|s| spawn_under_a_lock(s, &pool, &lock));
            }
            assert_eq!(*lock.lock().unwrap(), 3);
            let seen = pool.metrics();
            assert_eq!((seen.inlined, seen.overdrawn), (0, 3));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn d6_deferred_jobs_of_a_closed_pool() {
    watched(|| {
        let pool = pool(1, 1);
        pool.close();
        let refused = pool.admit().deferred().spawn(|| ()).unwrap_err();
        assert!(refused.is_closed());
        assert!(
            pool.admit()
                .deferred()
                .submit(|| ())
                .unwrap_err()
                .is_closed()
        );
        assert!(pool.admit().deferred().reserve().is_err());
        let own = thread::current().id();
        let ran_on = Mutex::new(None);
        pool.in_place_scope(|s| {
            s.spawn_deferred(|_| *ran_on.lock().unwrap() = Some(thread::current().id()));
        });
        assert_eq!(ran_on.into_inner().unwrap(), Some(own));
    });
}

/// The permit was granted on a worker of a full pool, and therefore has no place.
#[test]
fn a8_a_permit_without_a_place_that_is_used_elsewhere_overdraws() {
    watched(|| {
        let pool: &'static Pool = Box::leak(Box::new(pool(1, 1)));
        let held = pool.reserve().unwrap();
        let (send, permits) = mpsc::channel();
        let grant = move || send.send(pool.reserve().unwrap()).unwrap();
        pool.admit().deferred().spawn(grant).unwrap();
        let permit = permits.recv().unwrap();
        let own = thread::current().id();
        let ran_on = permit
            .submit(move || thread::current().id())
            .join()
            .unwrap();
        assert_ne!(ran_on, own);
        let seen = pool.metrics();
        assert_eq!((seen.overdrawn, seen.inlined, seen.depth), (2, 0, 1));
        drop(held);
        pool.shutdown();
        assert_conserved(pool);
    });
}

#[test]
fn a11_a_spawn_from_outside_waits_for_its_place() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        let own = thread::current().id();
        let mut ran_on = Vec::new();
        thread::scope(|threads| {
            threads.spawn(|| {
                wait_for_waiters(&pool, 1);
                drop(held);
            });
            let (send, ran) = mpsc::channel();
            pool.in_place_scope(|s| {
                for _ in 0..20 {
                    let send = send.clone();
                    s.spawn(move |_| send.send(thread::current().id()).unwrap());
                }
            });
            drop(send);
            ran_on.extend(ran);
        });
        assert_eq!(ran_on.len(), 20);
        assert!(ran_on.iter().all(|&thread| thread != own));
        assert_eq!(pool.metrics().inlined, 0);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Rule A6.
#[test]
fn a6_a_spawn_that_waits_when_the_pool_closes_runs_on_its_thread() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        let own = thread::current().id();
        let ran_on = Mutex::new(None);
        thread::scope(|threads| {
            threads.spawn(|| {
                wait_for_waiters(&pool, 1);
                pool.close();
            });
            pool.in_place_scope(|s| {
                s.spawn(|_| *ran_on.lock().unwrap() = Some(thread::current().id()));
            });
        });
        assert_eq!(*ran_on.lock().unwrap(), Some(own));
        drop(held);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Jobs in place on a thread without a loop wait in its list, and are joined there.
#[test]
fn a8_permits_of_a_pool_that_has_ended_run_in_place_on_their_thread() {
    survives_in_child(
        "a8_permits_of_a_pool_that_has_ended_run_in_place_on_their_thread",
        || {
            fn next(mut permits: Vec<adaptive_pool::Permit<'static>>) {
                let Some(permit) = permits.pop() else { return };
                if permits.len() % 100 == 50 {
                    return permit.submit(move || next(permits)).join().unwrap();
                }
                permit.spawn(move || next(permits));
            }
            let pool: &'static Pool = Box::leak(Box::new(pool(1, LINKS)));
            let permits = (0..LINKS / 4).map(|_| pool.reserve().unwrap()).collect();
            pool.shutdown();
            on_a_small_stack(|| next(permits));
            assert_eq!(pool.metrics().completed, LINKS as u64 / 4);
            assert_conserved(pool);
        },
    );
}

/// The permit has no place, and is used after the pool has ended and dropped the queued jobs.
#[test]
fn d6_a_permit_without_a_place_of_a_discarded_pool_drops_its_job() {
    watched(|| {
        let pool: &'static Pool = Box::leak(Box::new(pool(1, 1)));
        let held = pool.reserve().unwrap();
        let (send, permits) = mpsc::channel();
        let grant = move || send.send(pool.reserve().unwrap()).unwrap();
        pool.admit().deferred().spawn(grant).unwrap();
        let permit = permits.recv().unwrap();
        drop(held);
        pool.shutdown_now().unwrap();
        let dropped = permit.submit(|| unreachable!()).join();
        assert!(dropped.unwrap_err().is_cancelled());
        assert_eq!(pool.metrics().dropped, 1);
        assert_conserved(pool);
    });
}
