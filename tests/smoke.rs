//! One of each, end to end.
mod support;
use adaptive_pool::*;
use std::{sync::Arc, time::Duration};
use support::*;

#[test]
fn everything_once() {
    watched(|| {
        let pool = Arc::new(Pool::builder().workers(1).capacity(1).build().unwrap());
        let held = fill(&pool, 1);
        assert!(pool.try_submit(|| ()).unwrap_err().is_full());
        assert!(
            pool.submit_timeout(Duration::from_millis(20), || ())
                .unwrap_err()
                .is_timed_out()
        );
        let p2 = Arc::clone(&pool);
        let blocked = std::thread::spawn(move || p2.submit(|| 7).unwrap().join().unwrap());
        while pool.metrics().waiting_submitters == 0 {
            std::thread::yield_now();
        }
        drop(held);
        assert_eq!(blocked.join().unwrap(), 7);
        let p2 = Arc::clone(&pool);
        let inner = pool
            .submit(move || {
                let h = p2.submit(|| 1).unwrap();
                let g = p2.submit(|| 2).unwrap();
                h.join().unwrap() + g.join().unwrap()
            })
            .unwrap();
        assert_eq!(inner.join().unwrap(), 3);
        let h = pool.submit(|| panic!("x")).unwrap();
        assert!(h.join().unwrap_err().is_panicked());
        let r = pool.shutdown();
        let m = pool.metrics();
        println!("{r:?} {m:?}");
        assert_eq!(r.total(), m.admitted);
        assert_eq!(m.threads, 0);
    });
}
#[test]
fn many_rounds() {
    watched(|| {
        for _ in 0..2000 {
            let pool = Pool::builder().workers(2).capacity(4).build().unwrap();
            let hs: Vec<_> = (0..20).map(|i| pool.submit(move || i).unwrap()).collect();
            for (i, h) in hs.into_iter().enumerate() {
                assert_eq!(h.join().unwrap(), i);
            }
            let r = pool.shutdown();
            assert_eq!(r.completed, 20);
        }
    });
}
#[test]
fn lone_jobs() {
    watched(|| {
        let pool = Pool::builder().workers(2).build().unwrap();
        for i in 0..2000u64 {
            assert_eq!(pool.submit(move || i).unwrap().join().unwrap(), i);
            if i % 100 == 0 {
                std::thread::sleep(Duration::from_millis(7));
            }
        }
    });
}
