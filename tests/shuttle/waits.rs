//! Jobs that wait for others: scopes, joins, handles, batches, broadcasts, within one pool and
//! between two.

use std::sync::Arc;

use adaptive_pool::{Pool, simulated::rayon};
use shuttle::{
    rand::{Rng, thread_rng},
    sync::{Condvar, Mutex},
};

use crate::explore::{Tally, check, check_counts, explore, explore_in_time, small, together};

#[test]
fn r3_a_scope_waits_for_what_its_jobs_spawn() {
    explore("r3_a_scope_waits_for_what_its_jobs_spawn", || {
        let pool = small(2, 2).build().unwrap();
        let ran = Tally::default();
        pool.scope(|s| {
            for _ in 0..2 {
                s.spawn(|s| {
                    s.spawn(|_| ran.add());
                    s.spawn(|_| ran.add());
                    ran.add();
                });
            }
        });
        assert_eq!(ran.get(), 6);
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r3_an_outside_thread_waits_in_place_for_a_scope() {
    explore("r3_an_outside_thread_waits_in_place_for_a_scope", || {
        let pool = small(2, 1).build().unwrap();
        let ran = Tally::default();
        pool.in_place_scope(|s| {
            s.spawn(|s| s.spawn(|_| ran.add()));
            s.spawn(|_| ran.add());
        });
        assert_eq!(ran.get(), 2);
        check(&pool, pool.shutdown());
    });
}

fn fib(pool: &Pool, n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (a, b) = pool.join(|| fib(pool, n - 1), || fib(pool, n - 2));
    a + b
}

#[test]
fn r3_joins_within_joins_end() {
    explore("r3_joins_within_joins_end", || {
        let pool = small(3, 1).build().unwrap();
        assert_eq!(fib(&pool, 4), 3);
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r3_an_outer_scopes_job_spawned_within_an_inner_one_is_run() {
    explore(
        "r3_an_outer_scopes_job_spawned_within_an_inner_one_is_run",
        || {
            let pool = small(2, 2).build().unwrap();
            let ran = Tally::default();
            pool.scope(|outer| {
                pool.scope(|inner| {
                    // Goes to the side list: the nearest wait is that of the inner scope.
                    inner.spawn(|_| outer.spawn(|_| ran.add()));
                    outer.spawn(|_| ran.add());
                });
            });
            assert_eq!(ran.get(), 2);
            check(&pool, pool.shutdown());
        },
    );
}

#[test]
fn r3_a_job_spawned_within_a_join_runs() {
    explore("r3_a_job_spawned_within_a_join_runs", || {
        let pool = small(2, 3).build().unwrap();
        let ran = Tally::default();
        pool.scope(|outer| {
            let first = || {
                pool.scope(|s| s.spawn(|_| ran.add()));
                outer.spawn(|_| ran.add());
            };
            pool.join(first, || ran.add());
            outer.spawn(|_| ran.add());
        });
        assert_eq!(ran.get(), 4);
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r2_a_worker_that_joins_a_handle_hands_its_slot_to_another() {
    let name = "r2_a_worker_that_joins_a_handle_hands_its_slot_to_another";
    explore_in_time(name, || {
        let pool = small(2, 3).build().unwrap();
        let (sender, receiver) = shuttle::sync::mpsc::channel();
        // A wait unknown to the pool, one known to it, and a job that the latter makes room for.
        let first = pool.submit(move || receiver.recv().unwrap()).unwrap();
        let second = pool.submit(move || first.join().unwrap()).unwrap();
        pool.spawn(move || sender.send(5).unwrap()).unwrap();
        assert_eq!(second.join().unwrap(), 5);
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r2_blocked_workers_are_replaced() {
    explore("r2_blocked_workers_are_replaced", || {
        let pool = small(2, 2).build().unwrap();
        let ran = Tally::default();
        let outside = || {
            pool.scope(|s| {
                s.spawn(|_| ran.add());
                s.spawn(|_| ran.add());
            });
        };
        together(&[&outside, &outside, &|| pool.spawn(ran.job()).unwrap()]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 5);
        check(&pool, report);
    });
}

#[test]
fn r2_an_activation_of_a_thread_that_waits_in_rayon_strands_no_job() {
    let name = "r2_an_activation_of_a_thread_that_waits_in_rayon_strands_no_job";
    explore_in_time(name, || {
        let pool = Arc::new(small(2, 2).build().unwrap());
        let ran = Tally::default();
        let jobs = [(); 2].map(|()| {
            let (own, tally) = (Arc::clone(&pool), ran.clone());
            let job = move || {
                let (job, other) = (tally.job(), tally.job());
                rayon::join(|| own.spawn(job).unwrap(), || rayon::join(other, || ()));
            };
            pool.submit(job).unwrap()
        });
        for job in jobs {
            job.join().unwrap();
        }
        let report = pool.shutdown();
        assert_eq!((ran.get(), report.completed), (4, 4));
        check(&pool, report);
    });
}

#[test]
fn r2_a_thread_that_blocks_within_rayons_work_keeps_no_activation() {
    let name = "r2_a_thread_that_blocks_within_rayons_work_keeps_no_activation";
    explore_in_time(name, || {
        let workers = thread_rng().gen_range(2..=3);
        let pool = small(workers, 3).build().unwrap();
        let (sender, receiver) = shuttle::sync::mpsc::channel();
        // A wait unknown to the pool; one known to it, on the thread that takes this half, possibly
        // on top of a job; and a job that needs a thread meanwhile.
        let first = pool.submit(move || receiver.recv().unwrap()).unwrap();
        let second = move || rayon::join(|| (), move || assert_eq!(first.join().unwrap(), 5));
        let second = pool.submit(second).unwrap();
        pool.spawn(move || sender.send(5).unwrap()).unwrap();
        second.join().unwrap();
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r3_two_pools_that_wait_for_each_other_end() {
    explore("r3_two_pools_that_wait_for_each_other_end", || {
        let one = small(1, 1).build().unwrap();
        let two = small(1, 1).build().unwrap();
        let ran = Tally::default();
        let there_and_back = |here: &Pool, there: &Pool| {
            here.install(|| there.install(|| here.install(|| ran.add())));
        };
        together(&[&|| there_and_back(&one, &two), &|| {
            there_and_back(&two, &one)
        }]);
        assert_eq!(ran.get(), 2);
        check(&one, one.shutdown());
        check(&two, two.shutdown());
    });
}

fn to_and_fro(here: &Pool, there: &Pool, depth: u32, ran: &Tally) {
    here.install(|| {
        if depth == 0 {
            return ran.add();
        }
        there.in_place_scope(|s| s.spawn(|_| ran.add()));
        to_and_fro(there, here, depth - 1, ran);
    });
}

/// Deeper than there are threads: a waiting thread does the work of the pool that has none left.
#[test]
fn r3_a_waiting_thread_works_for_a_pool_whose_threads_are_all_blocked() {
    let name = "r3_a_waiting_thread_works_for_a_pool_whose_threads_are_all_blocked";
    explore(name, || {
        let one = small(1, 1).build().unwrap();
        let two = small(1, 2).build().unwrap();
        let ran = Tally::default();
        together(&[&|| to_and_fro(&one, &two, 6, &ran), &|| {
            two.spawn(ran.job()).unwrap();
        }]);
        check(&one, one.shutdown());
        check(&two, two.shutdown());
        assert_eq!(ran.get(), 8);
    });
}

#[test]
fn r1_a_batch_in_order_yields_every_item() {
    explore("r1_a_batch_in_order_yields_every_item", || {
        let pool = small(2, 1).build().unwrap();
        let squares: Vec<u32> = pool.map(0..4, |n| n * n).collect();
        assert_eq!(squares, [0, 1, 4, 9]);
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r1_a_batch_that_is_dropped_early_blocks_no_thread() {
    explore("r1_a_batch_that_is_dropped_early_blocks_no_thread", || {
        let pool = small(2, 2).build().unwrap();
        let some = pool.map_unordered(0..5, |n| n).take(2).count();
        assert_eq!(some, 2);
        check(&pool, pool.shutdown());
    });
}

#[test]
fn r1_a_scopes_batch_borrows_and_ends() {
    explore("r1_a_scopes_batch_borrows_and_ends", || {
        let pool = small(2, 1).build().unwrap();
        let offset = 10;
        let sum: u32 = pool.scope(|s| s.map(0..3, |n| n + offset).sum());
        assert_eq!(sum, 33);
        let ran = Tally::default();
        pool.for_each(0..3, |_| ran.add());
        assert_eq!(ran.get(), 3);
        check(&pool, pool.shutdown());
    });
}

/// A11: a consumer outside the pool waits for a place or a result, whichever is first. Others
/// compete for the places, it drops the batch early, and the pool may close.
#[test]
fn a11_a_consumer_waits_for_a_place_or_a_result() {
    explore("a11_a_consumer_waits_for_a_place_or_a_result", || {
        let pool = small(1, 1).build().unwrap();
        let (ran, others) = (Tally::default(), Tally::default());
        let closes = thread_rng().gen_range(0..3_u32) == 0;
        let consumer = || {
            let here = shuttle::thread::current().id();
            let tally = ran.clone();
            let f = move |n: usize| {
                tally.add();
                assert!(closes || shuttle::thread::current().id() != here);
                n
            };
            let taken = thread_rng().gen_range(1..5_usize);
            match thread_rng().gen_range(0..4_u32) {
                0 => assert!(pool.map(0..4, f).take(taken).eq(0..taken)),
                1 => assert_eq!(pool.map_unordered(0..4, f).take(taken).count(), taken),
                2 => assert!(pool.map(0..4, f).window(4).take(taken).eq(0..taken)),
                _ => pool.in_place_scope(|s| {
                    assert_eq!(s.map_unordered(0..4, f).take(taken).count(), taken);
                }),
            }
            assert!(ran.get() >= taken);
        };
        let outside = || {
            for _ in 0..2 {
                if pool.spawn(others.job()).is_err() {
                    assert!(closes);
                }
            }
        };
        let closer = || {
            if closes {
                pool.close();
            }
        };
        together(&[&consumer, &outside, &closer]);
        pool.shutdown();
        check_counts(&pool);
        assert!(closes || others.get() == 2);
    });
}

/// A1: items that meet in pairs need both workers, and the queue has one place. Kills
/// `wait_announce_to_one`.
#[test]
fn a1_a_queue_of_one_place_keeps_two_workers_busy() {
    explore("a1_a_queue_of_one_place_keeps_two_workers_busy", || {
        let pool = small(2, 1).build().unwrap();
        let pairs = Arc::new(shuttle::sync::Barrier::new(2));
        let meet = move |_: u32| {
            pairs.wait();
        };
        match thread_rng().gen_range(0..4_u32) {
            0 => assert_eq!(pool.map(0..4, meet).count(), 4),
            1 => assert_eq!(pool.map_unordered(0..4, meet).count(), 4),
            2 => pool.in_place_scope(|s| assert_eq!(s.map(0..4, meet).count(), 4)),
            _ => pool.for_each(0..4, meet),
        }
        check(&pool, pool.shutdown());
    });
}

/// A11's exception: the workers of two pools consume each other's batches, with one thread and one
/// place each.
#[test]
fn a11_the_consumers_of_two_pools_that_wait_for_each_other_end() {
    let name = "a11_the_consumers_of_two_pools_that_wait_for_each_other_end";
    explore(name, || {
        let one = small(1, 1).build().unwrap();
        let two = small(1, 1).build().unwrap();
        let ran = Tally::default();
        let there_and_back = |here: &Pool, there: &Pool| {
            here.install(|| {
                there.in_place_scope(|s| {
                    let items = s.map(0..2, |_| here.for_each(0..2, |_| ran.add()));
                    assert_eq!(items.count(), 2);
                });
            });
        };
        together(&[&|| there_and_back(&one, &two), &|| {
            there_and_back(&two, &one)
        }]);
        assert_eq!(ran.get(), 8);
        check(&one, one.shutdown());
        check(&two, two.shutdown());
    });
}

/// Fault 14: a consumer that dropped its batch is the only owner of the closure as soon as the
/// started items have ended.
#[test]
fn r6_a_dropped_batch_drops_its_closure_once() {
    explore("r6_a_dropped_batch_drops_its_closure_once", || {
        let pool = small(2, 3).build().unwrap();
        let token = Arc::new(());
        let captured = Arc::clone(&token);
        let f = move |n: usize| {
            let _ = &captured;
            n
        };
        let taken = thread_rng().gen_range(0..6_usize);
        if thread_rng().gen_range(0..2_u32) == 0 {
            assert!(pool.map(0..5, f).take(taken).eq(0..taken.min(5)));
        } else {
            assert_eq!(
                pool.map_unordered(0..5, f).take(taken).count(),
                taken.min(5)
            );
        }
        if taken >= 5 {
            assert_eq!(Arc::strong_count(&token), 1);
        }
        // Every item that still ran has ended.
        check(&pool, pool.shutdown());
        assert_eq!(Arc::strong_count(&token), 1);
    });
}

/// Items arrive while the only worker may be busy, so that some share a chunk; meanwhile the pool
/// ends.
#[test]
fn r1_the_items_of_chunks_are_run_once_while_the_pool_ends() {
    explore(
        "r1_the_items_of_chunks_are_run_once_while_the_pool_ends",
        || {
            let pool = small(1, 5).build().unwrap();
            let ran = Tally::default();
            let consumer = || {
                let is_each = thread_rng().gen_range(0..3_u32);
                match is_each {
                    0 => pool.for_each(0..5, |_| ran.add()),
                    1 => pool.in_place_scope(|s| assert_eq!(s.map(0..5, |_| ran.add()).count(), 5)),
                    _ => pool.in_place_scope(|s| {
                        assert_eq!(s.map_unordered(0..5, |_| ran.add()).count(), 5);
                    }),
                }
            };
            let ends = || {
                if thread_rng().gen_range(0..2_u32) == 0 {
                    pool.close();
                } else {
                    pool.shutdown_now().unwrap();
                }
            };
            together(&[&consumer, &ends]);
            assert_eq!(ran.get(), 5);
            pool.shutdown();
            check_counts(&pool);
        },
    );
}

/// The first item of a chunk ends only after the others: another worker has to reach them.
#[test]
fn r2_the_items_behind_a_waiting_one_are_started_by_another_worker() {
    explore(
        "r2_the_items_behind_a_waiting_one_are_started_by_another_worker",
        || {
            let pool = small(2, 5).build().unwrap();
            let others = (Mutex::new(0), Condvar::new());
            pool.for_each(0..4, |n| {
                let mut ended = others.0.lock().unwrap();
                if n == 0 {
                    while *ended < 3 {
                        ended = others.1.wait(ended).unwrap();
                    }
                } else {
                    *ended += 1;
                    others.1.notify_all();
                }
            });
            check(&pool, pool.shutdown());
        },
    );
}

/// A2: a batch is dropped while its items lie in chunks, are started, or have results.
#[test]
fn a2_a_batch_of_chunks_is_dropped_at_any_point() {
    explore("a2_a_batch_of_chunks_is_dropped_at_any_point", || {
        let pool = small(2, 4).build().unwrap();
        let taken = thread_rng().gen_range(0..6_usize);
        if thread_rng().gen_range(0..2_u32) == 0 {
            assert!(pool.map(0..9, |n| n).take(taken).eq(0..taken));
            assert_eq!(pool.map_unordered(0..9, |n| n).take(taken).count(), taken);
        } else {
            pool.scope(|s| {
                assert!(s.map(0..9, |n| n).take(taken).eq(0..taken));
                assert_eq!(s.map_unordered(0..9, |n| n).take(taken).count(), taken);
            });
        }
        check(&pool, pool.shutdown());
    });
}

#[test]
fn a_broadcast_reaches_every_thread() {
    explore_in_time("a_broadcast_reaches_every_thread", || {
        let pool = small(2, 2).build().unwrap();
        let ran = Tally::default();
        let caller = || {
            let seen = pool.broadcast(|context| context.index());
            assert_eq!(seen, [0, 1]);
        };
        together(&[&caller, &|| pool.spawn(ran.job()).unwrap()]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 1);
        check(&pool, report);
    });
}

#[test]
fn r2_a_worker_that_removes_probes_finds_the_waiting_jobs() {
    let name = "r2_a_worker_that_removes_probes_finds_the_waiting_jobs";
    explore_in_time(name, || {
        let pool = small(1, 2).build().unwrap();
        let ran = Tally::default();
        let caller = || assert_eq!(pool.broadcast(|context| context.index()), [0]);
        let outside = || {
            for _ in 0..2 {
                pool.spawn(ran.job()).unwrap();
            }
        };
        together(&[&caller, &caller, &outside]);
        let report = pool.shutdown();
        assert_eq!(ran.get(), 2);
        check(&pool, report);
    });
}

#[test]
fn two_broadcasts_from_inside_do_not_wait_for_each_other() {
    explore_in_time(
        "two_broadcasts_from_inside_do_not_wait_for_each_other",
        || {
            let pool = Arc::new(small(2, 2).build().unwrap());
            for _ in 0..2 {
                let own = Arc::clone(&pool);
                pool.spawn(move || {
                    own.broadcast(|context| context.index());
                })
                .unwrap();
            }
            check(&pool, pool.shutdown());
        },
    );
}
