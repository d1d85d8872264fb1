//! Scopes: where their jobs run and how they are admitted (A8), panics (R4), lifetimes of borrows,
//! and closed pools (D6).
mod support;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use adaptive_pool::{Pool, Scope, Snapshot};
use support::*;

const SIZES: [(usize, usize); 4] = [(1, 1), (2, 1), (2, 1024), (4, 16)];

fn pool(workers: usize, capacity: usize) -> Pool {
    Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .name("scopes")
        .build()
        .unwrap()
}

fn on_a_worker() -> bool {
    thread::current()
        .name()
        .is_some_and(|name| name.starts_with("scopes-"))
}

/// The payload with which the closure panics.
fn panic_of<R>(f: impl FnOnce() -> R) -> &'static str {
    let text = |payload: Box<dyn Any + Send>| *payload.downcast::<&str>().unwrap();
    catch_unwind(AssertUnwindSafe(f))
        .map(drop)
        .map_err(text)
        .unwrap_err()
}

fn fib(pool: &Pool, n: u32) -> u64 {
    if n < 2 {
        return n.into();
    }
    let (mut a, mut b) = (0, 0);
    pool.scope(|s| {
        s.spawn(|_| a = fib(pool, n - 1));
        s.spawn(|_| b = fib(pool, n - 2));
    });
    a + b
}

#[test]
fn a_scope_runs_its_body_on_a_worker_and_an_in_place_scope_on_the_caller() {
    watched(|| {
        let pool = pool(2, 4);
        let caller = thread::current().id();
        assert!(pool.scope(|_| on_a_worker()));
        pool.in_place_scope(|s| {
            assert_eq!(thread::current().id(), caller);
            s.spawn(|s| {
                assert!(on_a_worker());
                let worker = thread::current().id();
                pool.scope(|_| assert_eq!(thread::current().id(), worker));
                s.spawn(|_| assert!(on_a_worker()));
            });
        });
        assert_conserved(&pool);
    });
}

#[test]
fn r6_the_jobs_effects_are_visible_when_the_scope_ends() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            for _ in 0..rounds {
                let mut slots = [0; 40];
                let sum = pool.scope(|s| {
                    for (n, slot) in slots.iter_mut().enumerate() {
                        s.spawn(move |_| *slot = n);
                    }
                    7
                });
                assert_eq!(sum, 7);
                assert!(slots.iter().enumerate().all(|(n, slot)| n == *slot));
                pool.in_place_scope(|s| slots.iter_mut().for_each(|n| s.spawn(move |_| *n += 1)));
                assert!(slots.iter().enumerate().all(|(n, slot)| n + 1 == *slot));
            }
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a_scope_waits_for_jobs_that_its_jobs_spawned() {
    fn grow<'a>(s: &Scope<'a>, ran: &'a AtomicUsize, depth: u32) {
        ran.fetch_add(1, Ordering::Relaxed);
        for _ in 0..if depth == 0 { 0 } else { 3 } {
            s.spawn(move |s| grow(s, ran, depth - 1));
        }
    }
    watched(|| {
        let depth = if cfg!(miri) { 3 } else { 7 };
        let nodes = (3_usize.pow(depth + 1) - 1) / 2;
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let ran = AtomicUsize::new(0);
            pool.scope(|s| grow(s, &ran, depth));
            assert_eq!(ran.swap(0, Ordering::Relaxed), nodes);
            pool.in_place_scope(|s| grow(s, &ran, depth));
            assert_eq!(ran.swap(0, Ordering::Relaxed), nodes);
            assert_conserved(&pool);
        }
    });
}

/// Failure 11.
#[test]
fn a8_nested_scopes_do_not_deadlock_on_the_capacity() {
    watched(|| {
        let (n, result) = if cfg!(miri) { (6, 8) } else { (17, 1597) };
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            assert_eq!(fib(&pool, n), result);
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

#[test]
fn a8_a_spawn_on_a_full_worker_runs_before_it_returns() {
    watched(|| {
        let pool = pool(1, 1);
        pool.scope(|s| {
            let worker = thread::current().id();
            s.spawn(|_| ());
            assert_eq!(pool.metrics().depth, 1);
            let (sender, receiver) = mpsc::channel();
            let timed = sender.clone();
            s.spawn(move |_| sender.send(thread::current().id()).unwrap());
            assert_eq!(receiver.try_recv(), Ok(worker));
            let job = move |_: &Scope<'_>| timed.send(thread::current().id()).unwrap();
            s.spawn_timeout(Duration::ZERO, job).unwrap();
            assert_eq!(receiver.try_recv(), Ok(worker));
            assert_eq!(pool.metrics().inlined, 2);
        });
        assert_conserved(&pool);
    });
}

#[test]
fn a3_a_worker_that_found_the_queue_full_finds_room_later() {
    watched(|| {
        let (tasks, rounds) = if cfg!(miri) { (50, 1) } else { (20_000, 20) };
        let pool = pool(2, 1024);
        for _ in 0..rounds {
            pool.install(|| {
                pool.scope(|s| {
                    (0..tasks).for_each(|_| s.spawn(|_| ()));
                    // The other worker takes the waiting jobs, and becomes idle.
                    let is_idle = |seen: Snapshot| seen.depth == 0 && seen.workers_busy == 1;
                    wait_until(|| is_idle(pool.metrics()));
                    let before = pool.metrics().inlined;
                    s.spawn(|_| ());
                    assert_eq!(pool.metrics().inlined, before);
                });
            });
        }
    });
}

#[test]
fn a4_try_spawn_returns_the_job() {
    watched(|| {
        let pool = pool(1, 1);
        let ran = AtomicUsize::new(0);
        let job = |_: &Scope<'_>| {
            ran.fetch_add(1, Ordering::Relaxed);
        };
        pool.scope(|s| {
            s.try_spawn(job).unwrap();
            let refused = s.try_spawn(job).unwrap_err();
            assert!(refused.is_full());
            assert_eq!(ran.load(Ordering::Relaxed), 0);
            refused.into_job()(s);
            assert_eq!(ran.load(Ordering::Relaxed), 1);
            pool.close();
            let refused = s.try_spawn(job).unwrap_err();
            assert!(refused.is_closed());
        });
        assert_eq!(ran.load(Ordering::Relaxed), 2);
        pool.shutdown();
        let seen = pool.metrics();
        assert_eq!((seen.rejected_full, seen.rejected_closed), (1, 1));
        assert_conserved(&pool);
    });
}

#[test]
fn a3_and_a4_spawn_timeout_from_outside_waits_for_room_and_no_longer() {
    watched(|| {
        let pool = pool(1, 1);
        let ran = AtomicUsize::new(0);
        let job = |_: &Scope<'_>| {
            assert!(on_a_worker());
            ran.fetch_add(1, Ordering::Relaxed);
        };
        pool.in_place_scope(|s| {
            s.spawn_timeout(Duration::ZERO, job).unwrap();
            wait_until(|| pool.metrics().depth == 0);
            let held = fill(&pool, 1);
            let refused = s.spawn_timeout(Duration::ZERO, job).unwrap_err();
            assert!(refused.is_timed_out());
            let refused = s.spawn_timeout(Duration::from_millis(1), refused.into_job());
            let job = refused.unwrap_err().into_job();
            thread::scope(|threads| {
                threads.spawn(|| {
                    wait_for_waiters(&pool, 1);
                    held.into_iter().for_each(Held::release);
                });
                s.spawn_timeout(Duration::MAX, job).unwrap();
            });
        });
        assert_eq!(ran.load(Ordering::Relaxed), 2);
        pool.shutdown();
        assert_eq!(pool.metrics().rejected_timed_out, 2);
        assert_conserved(&pool);
    });
}

/// A job is spawned into the outer scope while an inner one is open on the same thread, under a
/// lock that the job takes. The inner wait, a join and a third scope must not run it.
#[test]
fn r3_a_nested_wait_does_not_run_a_job_of_the_outer_scope() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        for (workers, capacity) in [(1, 64), (2, 64), (4, 64)] {
            let pool = pool(workers, capacity);
            for _ in 0..rounds {
                let (mutex, ran) = (Mutex::new(()), AtomicUsize::new(0));
                let (mutex, ran) = (&mutex, &ran);
                pool.scope(|outer| {
                    pool.scope(|inner| {
                        let guard = mutex.lock().unwrap();
                        for _ in 0..8 {
                            outer.spawn(|_| {
                                drop(mutex.lock().unwrap());
                                ran.fetch_add(1, Ordering::Relaxed);
                            });
                            inner.spawn(|_| {
                                ran.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        pool.join(|| (), || ());
                        pool.scope(|s| s.spawn(|_| ()));
                        drop(guard);
                    });
                });
                assert_eq!(ran.load(Ordering::Relaxed), 16);
            }
            assert_conserved(&pool);
        }
    });
}

/// A job of an outer scope arrives while the thread that waits for that scope is blocked.
#[test]
fn r2_a_worker_whose_steals_failed_returns_for_a_long_job() {
    watched(|| {
        let (tasks, rounds) = if cfg!(miri) { (50, 1) } else { (20_000, 20) };
        let pool = pool(2, 1024);
        for _ in 0..rounds {
            pool.install(|| {
                // Stealing these does not pay off.
                pool.scope(|s| (0..tasks).for_each(|_| s.spawn(|_| ())));
                // Each of these waits for the other.
                let both = Barrier::new(2);
                pool.scope(|s| {
                    for _ in 0..2 {
                        s.spawn(|_| {
                            both.wait();
                        });
                    }
                });
            });
        }
    });
}

#[test]
fn r2_a_job_on_the_side_list_runs_while_the_owner_is_blocked() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        let pool = pool(2, 8);
        for _ in 0..rounds {
            let (begun, wait) = mpsc::channel();
            let (end, ended) = mpsc::channel();
            let pool = &pool;
            pool.scope(move |s| {
                s.spawn(move |s| {
                    begun.send(()).unwrap();
                    pool.scope(move |_| {
                        s.spawn(move |_| end.send(()).unwrap());
                        ended.recv().unwrap();
                    });
                });
                // Another worker has it, so this one has nothing to run.
                wait.recv().unwrap();
            });
        }
        assert_conserved(&pool);
    });
}

#[test]
fn a_job_on_the_side_list_may_open_scopes_and_spawn_such_jobs() {
    fn deep(pool: &Pool, left: u32) -> usize {
        if left == 0 {
            return 0;
        }
        let depth = AtomicUsize::new(0);
        pool.scope(|outer| {
            pool.scope(|_| {
                outer.spawn(|_| depth.store(deep(pool, left - 1) + 1, Ordering::Relaxed));
            });
        });
        depth.into_inner()
    }
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            assert_eq!(deep(&pool, 50), 50);
            assert_conserved(&pool);
        }
    });
}

#[test]
fn r4_a_scope_raises_the_panic_of_a_job_after_all_have_ended() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let ran = AtomicUsize::new(0);
            let message = panic_of(|| {
                pool.scope(|s| {
                    s.spawn(|_| panic!("one"));
                    for _ in 0..20 {
                        s.spawn(|_| {
                            ran.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            });
            assert_eq!(message, "one");
            assert_eq!(ran.load(Ordering::Relaxed), 20);
            assert_eq!(pool.scope(|_| 5), 5);
            assert_eq!(pool.metrics().panicked, 2, "the job and the body's");
        }
    });
}

#[test]
fn r4_a_scope_raises_the_first_panic() {
    watched(|| {
        // The body's is first: on the one worker the job runs after it.
        let pool = pool(1, 4);
        let message = panic_of(|| {
            pool.scope(|s| {
                s.spawn(|_| panic!("the job's"));
                panic!("the body's");
            })
        });
        assert_eq!(message, "the body's");
        // The job's is first: the one worker has finished it before it starts the next.
        let message = panic_of(|| {
            pool.in_place_scope(|s| {
                let (begun, wait) = mpsc::channel();
                s.spawn(|_| panic!("the job's"));
                s.spawn(move |_| begun.send(()).unwrap());
                wait.recv().unwrap();
                s.spawn(|_| panic!("the second job's"));
                panic!("the body's");
            })
        });
        assert_eq!(message, "the job's");
        assert_eq!(pool.scope(|_| 5), 5);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

#[test]
fn r4_a_panic_in_a_nested_scope_reaches_the_outer_one() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let pool = pool(workers, capacity);
            let ran = AtomicUsize::new(0);
            let message = panic_of(|| {
                pool.scope(|s| {
                    s.spawn(|_| {
                        pool.scope(|s| s.spawn(|_| panic!("deep")));
                        ran.fetch_add(1, Ordering::Relaxed);
                    });
                    s.spawn(|_| {
                        assert_eq!(panic_of(|| pool.scope(|_| panic!("caught"))), "caught");
                        ran.fetch_add(1, Ordering::Relaxed);
                    });
                })
            });
            assert_eq!(message, "deep");
            assert_eq!(ran.load(Ordering::Relaxed), 1);
        }
    });
}

#[test]
fn r4_a_panic_of_an_inline_job_comes_at_the_end_of_its_scope() {
    watched(|| {
        let pool = pool(1, 1);
        let passed = AtomicBool::new(false);
        let message = panic_of(|| {
            pool.scope(|s| {
                s.spawn(|_| ());
                s.spawn(|_| panic!("inline"));
                passed.store(true, Ordering::Relaxed);
            })
        });
        assert_eq!(message, "inline");
        assert!(passed.load(Ordering::Relaxed));
        let seen = pool.metrics();
        assert_eq!((seen.inlined, seen.panicked), (1, 2), "and the body's job");
    });
}

/// Failure 20. The job starts, the body panics, and only its unwinding lets the job continue.
#[test]
fn borrows_of_a_job_outlive_a_panic_of_the_body() {
    watched(|| {
        let rounds = if cfg!(miri) { 3 } else { 100 };
        let pool = pool(2, 4);
        for in_place in [true, false] {
            for _ in 0..rounds {
                let freed = AtomicBool::new(false);
                let message = panic_of(|| {
                    let data = (vec![1; 64], on_drop(|| freed.store(true, Ordering::SeqCst)));
                    let gate = Gate::new();
                    let (begun, wait) = mpsc::channel();
                    let (numbers, passed, freed) = (&data.0, gate.clone(), &freed);
                    let body = move || {
                        let _open = on_drop(|| gate.open());
                        wait.recv().unwrap();
                        panic!("the body's");
                    };
                    let job = move |_: &Scope<'_>| {
                        begun.send(()).unwrap();
                        passed.pass();
                        for _ in 0..20 {
                            thread::yield_now();
                            assert!(!freed.load(Ordering::SeqCst));
                            assert_eq!(numbers.iter().sum::<i32>(), 64);
                        }
                    };
                    if in_place {
                        pool.in_place_scope(|s| {
                            s.spawn(job);
                            body()
                        });
                    } else {
                        pool.scope(move |s| {
                            s.spawn(job);
                            body()
                        });
                    }
                });
                assert_eq!(message, "the body's");
                assert!(freed.load(Ordering::SeqCst));
            }
        }
        assert_eq!(pool.metrics().panicked, rounds, "the bodies that are jobs");
    });
}

#[test]
fn d6_on_a_closed_pool_scopes_run_on_the_caller() {
    watched(|| {
        for after_shutdown in [false, true] {
            let pool = pool(2, 4);
            pool.close();
            if after_shutdown {
                pool.shutdown();
            }
            let caller = thread::current().id();
            let ran = AtomicUsize::new(0);
            let here = |_: &Scope<'_>| {
                assert_eq!(thread::current().id(), caller);
                ran.fetch_add(1, Ordering::Relaxed);
            };
            pool.scope(|s| {
                here(s);
                s.spawn(here);
                s.spawn_timeout(Duration::MAX, here).unwrap();
                assert!(s.try_spawn(here).unwrap_err().is_closed());
                s.spawn(|s| s.spawn(here));
            });
            pool.in_place_scope(|s| {
                here(s);
                s.spawn(here);
                pool.scope(|s| s.spawn(here));
            });
            assert_eq!(ran.load(Ordering::Relaxed), 7);
            assert_eq!(fib(&pool, 10), 55);
            let message = panic_of(|| pool.scope(|s| s.spawn(|_| panic!("closed"))));
            assert_eq!(message, "closed");
            pool.shutdown();
        }
    });
}

#[test]
fn d6_a_scope_that_is_open_when_the_pool_closes_runs_its_spawns_inline() {
    watched(|| {
        let pool = pool(2, 4);
        let ran = AtomicUsize::new(0);
        for in_place in [true, false] {
            let body = |s: &Scope<'_>| {
                pool.close();
                let here = thread::current().id();
                s.spawn(move |_| assert_eq!(thread::current().id(), here));
                s.spawn_timeout(Duration::ZERO, move |_| {
                    assert_eq!(thread::current().id(), here);
                })
                .unwrap();
                ran.fetch_add(1, Ordering::Relaxed);
            };
            if in_place {
                pool.in_place_scope(body);
            } else {
                pool.scope(body);
            }
        }
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn d6_a_spawn_that_waits_for_a_place_when_the_pool_closes_runs_inline() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        thread::scope(|threads| {
            let spawner = threads.spawn(|| {
                let here = thread::current().id();
                pool.in_place_scope(|s| {
                    let job = move |_: &Scope<'_>| assert_eq!(thread::current().id(), here);
                    s.spawn_timeout(Duration::MAX, job).is_ok()
                })
            });
            wait_for_waiters(&pool, 1);
            pool.close();
            assert!(spawner.join().unwrap(), "it was refused");
        });
        drop(held);
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Jobs that are queued at the shutdown.
#[test]
fn d4_no_shutdown_drops_a_job_of_a_scope() {
    watched(|| {
        let pool = Arc::new(pool(1, 8));
        let held = occupy(&pool);
        let ran = AtomicUsize::new(0);
        pool.in_place_scope(|s| {
            for _ in 0..5 {
                s.spawn(|_| {
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            }
            let dropped = Drops::default();
            let unrelated = dropped.one();
            pool.spawn(move || drop(unrelated)).unwrap();
            assert!(pool.shutdown_timeout(Duration::ZERO).is_err());
            wait_until(|| dropped.count() == 1);
            held.release();
        });
        assert_eq!(ran.load(Ordering::Relaxed), 5);
        let report = pool.shutdown();
        assert_eq!((report.completed, report.dropped), (6, 1));
        assert_conserved(&pool);
    });
}

struct Payload<'a>(&'a AtomicUsize);

impl<'a> Payload<'a> {
    fn new(alive: &'a AtomicUsize, most: usize) -> Self {
        assert!(alive.fetch_add(1, Ordering::SeqCst) < most);
        Self(alive)
    }
}

impl Drop for Payload<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn flood<'a>(
    s: &Scope<'a>,
    jobs: usize,
    most: usize,
    alive: &'a AtomicUsize,
    ran: &'a AtomicUsize,
) {
    for _ in 0..jobs {
        let payload = Payload::new(alive, most);
        s.spawn(move |_| {
            ran.fetch_add(1, Ordering::Relaxed);
            drop(payload);
        });
    }
}

#[test]
fn a1_a_million_jobs_of_one_scope_are_never_there_at_once() {
    watched(|| {
        let jobs = match (cfg!(miri), cfg!(debug_assertions)) {
            (true, _) => 200,
            (_, true) => 100_000,
            _ => 1_000_000,
        };
        for (workers, capacity) in [(1, 1), (2, 64)] {
            let pool = pool(workers, capacity);
            let (alive, ran) = (AtomicUsize::new(0), AtomicUsize::new(0));
            for in_place in [true, false] {
                let most = capacity + workers + 1;
                ran.store(0, Ordering::SeqCst);
                if in_place {
                    pool.in_place_scope(|s| flood(s, jobs, most, &alive, &ran));
                } else {
                    pool.scope(|s| flood(s, jobs, most, &alive, &ran));
                }
                assert_eq!(ran.load(Ordering::SeqCst), jobs);
                assert_eq!(alive.load(Ordering::SeqCst), 0);
            }
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

const LINKS: usize = if cfg!(miri) { 100 } else { 10_000 };

fn chain<'a>(s: &Scope<'a>, ran: &'a AtomicUsize, left: usize) {
    ran.fetch_add(1, Ordering::Relaxed);
    if left > 0 {
        s.spawn(move |s| chain(s, ran, left - 1));
    }
}

/// Failure 27: each job spawns the next, on a small stack.
#[test]
fn a8_a_chain_of_spawns_does_not_grow_the_stack() {
    watched(|| {
        for (workers, capacity) in SIZES {
            let builder = Pool::builder().workers(workers).capacity(capacity);
            let pool = builder.stack_size(small_stack()).build().unwrap();
            let ran = AtomicUsize::new(0);
            pool.scope(|s| chain(s, &ran, LINKS));
            assert_eq!(ran.swap(0, Ordering::Relaxed), LINKS + 1);
            pool.in_place_scope(|s| (0..3).for_each(|_| s.spawn(|s| chain(s, &ran, LINKS))));
            assert_eq!(ran.load(Ordering::Relaxed), 3 * (LINKS + 1));
            pool.shutdown();
            assert_conserved(&pool);
        }
    });
}

/// Failure 27, in a scope opened by a job that itself runs inline, and therefore waits for the
/// chain.
#[test]
fn a8_a_chain_in_a_scope_of_an_inline_job_does_not_grow_the_stack() {
    watched(|| {
        let builder = Pool::builder().workers(1).capacity(1);
        let pool = builder.stack_size(small_stack()).build().unwrap();
        let ran = AtomicUsize::new(0);
        let in_a_scope = || pool.scope(|s| chain(s, &ran, LINKS));
        pool.scope(|outer| {
            // It has the place, and cannot run.
            outer.spawn(|_| ());
            (0..20).for_each(|depth| nested(outer, depth, &in_a_scope));
        });
        assert_eq!(ran.load(Ordering::Relaxed), 20 * (LINKS + 1));
        pool.shutdown();
        assert_conserved(&pool);
    });
}

/// Calls `f` beneath `depth` nested jobs, each spawned by the previous one.
fn nested<'a>(s: &Scope<'a>, depth: usize, f: &'a (impl Fn() + Sync)) {
    if depth == 0 {
        f();
    } else {
        s.spawn(move |s| nested(s, depth - 1, f));
    }
}

/// Failure 27, with nested jobs of two pools: each pool counts its own.
#[test]
fn a8_a_chain_through_two_pools_does_not_grow_the_stack() {
    fn chain<'a, 'b: 'a>(s: &Scope<'a>, outer: &'a Scope<'b>, ran: &'b AtomicUsize, left: usize) {
        outer.spawn(|_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        if left > 0 {
            s.spawn(move |s| chain(s, outer, ran, left - 1));
        }
    }
    watched(|| {
        let pools = [pool(1, 1), pool(1, 1)];
        pools.iter().for_each(Pool::close);
        let ran = AtomicUsize::new(0);
        thread::scope(|threads| {
            let caller = thread::Builder::new().stack_size(small_stack());
            let caller = caller.spawn_scoped(threads, || {
                pools[0].in_place_scope(|outer| {
                    pools[1].in_place_scope(|s| chain(s, outer, &ran, LINKS));
                });
            });
            caller.unwrap();
        });
        assert_eq!(ran.load(Ordering::Relaxed), LINKS + 1);
        for (pool, jobs) in pools.iter().zip([LINKS + 1, LINKS]) {
            pool.shutdown();
            assert_eq!(pool.metrics().completed, jobs as u64);
            assert_conserved(pool);
        }
    });
}

/// Failure 27, on a thread outside a closed pool.
#[test]
fn a8_a_chain_of_spawns_outside_does_not_grow_the_stack() {
    watched(|| {
        let pool = pool(1, 1);
        let held = fill(&pool, 1);
        pool.close();
        thread::scope(|threads| {
            let caller = thread::Builder::new().stack_size(small_stack());
            let caller = caller.spawn_scoped(threads, || {
                let ran = AtomicUsize::new(0);
                pool.in_place_scope(|s| {
                    chain(s, &ran, LINKS);
                    s.spawn(|_| pool.in_place_scope(|s| chain(s, &ran, LINKS)));
                });
                assert_eq!(ran.load(Ordering::Relaxed), 2 * (LINKS + 1));
            });
            caller.unwrap().join().unwrap();
        });
        drop(held);
        pool.shutdown();
        assert_conserved(&pool);
    });
}
