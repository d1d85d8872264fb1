//! Scopes, joins and installs.
mod support;
use adaptive_pool::*;
use std::sync::{Arc, Mutex, atomic::*};
use support::*;

fn fib(pool: &Pool, n: u32) -> u64 {
    if n < 2 {
        return n as u64;
    }
    let (a, b) = pool.join(|| fib(pool, n - 1), || fib(pool, n - 2));
    a + b
}
fn fib_scope(pool: &Pool, n: u32) -> u64 {
    if n < 2 {
        return n as u64;
    }
    let (mut a, mut b) = (0, 0);
    pool.scope(|s| {
        s.spawn(|_| a = fib_scope(pool, n - 1));
        s.spawn(|_| b = fib_scope(pool, n - 2));
    });
    a + b
}

#[test]
fn fibs() {
    watched(|| {
        for (w, c) in [(1, 1), (2, 1), (2, 1024), (4, 16)] {
            let pool = Pool::builder().workers(w).capacity(c).build().unwrap();
            assert_eq!(fib(&pool, 16), 987);
            assert_eq!(fib_scope(&pool, 16), 987);
            pool.shutdown();
            let m = pool.metrics();
            assert_eq!(m.admitted, m.completed, "{m:?}");
            assert_eq!(fib(&pool, 10), 55);
            assert_eq!(fib_scope(&pool, 10), 55);
        }
    });
}
#[test]
fn strays() {
    watched(|| {
        for (w, c) in [(1, 1), (1, 64), (2, 64), (3, 1)] {
            let pool = Arc::new(Pool::builder().workers(w).capacity(c).build().unwrap());
            for _ in 0..300 {
                let lock = Mutex::new(());
                let n = AtomicU64::new(0);
                pool.scope(|s| {
                    pool.scope(|t| {
                        let guard = lock.lock().unwrap();
                        for _ in 0..8 {
                            if c > 16 {
                                s.spawn(|_| {
                                    let _g = lock.lock().unwrap();
                                    n.fetch_add(1, Ordering::Relaxed);
                                });
                            }
                            t.spawn(|_| {
                                n.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        pool.join(|| (), || ());
                        pool.scope(|_| ());
                        drop(guard);
                    });
                });
                assert_eq!(n.load(Ordering::Relaxed), if c > 16 { 16 } else { 8 });
            }
            fn deep(pool: &Pool, d: u32) -> u32 {
                if d == 0 {
                    return 0;
                }
                let r = AtomicU32::new(0);
                pool.scope(|s| {
                    pool.scope(|_t| {
                        s.spawn(|_| {
                            r.store(deep(pool, d - 1) + 1, Ordering::Relaxed);
                        })
                    })
                });
                r.into_inner()
            }
            assert_eq!(deep(&pool, 50), 50);
            assert_eq!(pool.shutdown().panicked, 0);
        }
    });
}
#[test]
fn panics() {
    watched(|| {
        let pool = Pool::builder().workers(2).build().unwrap();
        let r = std::panic::catch_unwind(|| {
            pool.scope(|s| {
                s.spawn(|_| panic!("one"));
            })
        });
        assert_eq!(*r.unwrap_err().downcast::<&str>().unwrap(), "one");
        let r = std::panic::catch_unwind(|| pool.join(|| 1, || panic!("two")));
        assert_eq!(*r.unwrap_err().downcast::<&str>().unwrap(), "two");
        let r = std::panic::catch_unwind(|| pool.join(|| panic!("three"), || 1));
        assert_eq!(*r.unwrap_err().downcast::<&str>().unwrap(), "three");
    });
}
#[test]
fn outside_scope() {
    watched(|| {
        let pool = Pool::builder().workers(2).capacity(8).build().unwrap();
        for _ in 0..500 {
            let n = AtomicU64::new(0);
            pool.in_place_scope(|s| {
                for _ in 0..100 {
                    s.spawn(|s| {
                        s.spawn(|_| {
                            n.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
            assert_eq!(n.load(Ordering::Relaxed), 100);
        }
    });
}
#[test]
fn wait_stress() {
    watched(|| {
        let pool = Arc::new(Pool::builder().workers(3).capacity(16).build().unwrap());
        std::thread::scope(|t| {
            for k in 0..3 {
                let pool = &pool;
                t.spawn(move || {
                    for i in 0..300 {
                        let got = fib_scope(pool, 8 + (i + k) % 4);
                        assert!(got > 0);
                        let p2 = Arc::clone(pool);
                        let h = pool
                            .submit(move || {
                                let h = p2.submit(|| 1).unwrap();
                                fib(&p2, 9) + h.join().unwrap()
                            })
                            .unwrap();
                        assert_eq!(h.join().unwrap(), 35);
                    }
                });
            }
        });
        let r = pool.shutdown();
        let m = pool.metrics();
        assert_eq!(m.admitted, r.total());
        assert_eq!(m.depth, 0);
        println!("{m:?}");
    });
}
