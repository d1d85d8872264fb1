//! The feature `tracing`: every kind of job runs in the span in which it was submitted, on any
//! thread.
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use adaptive_pool::Pool;
use support::*;
use tracing::{Span, info_span};

fn current() -> Option<&'static str> {
    Span::current().metadata().map(|metadata| metadata.name())
}

/// Counts the jobs that run in the span of this name, and fails in a job outside it.
#[derive(Clone)]
struct Within(&'static str, Arc<AtomicUsize>);

impl Within {
    fn check(&self) {
        assert_eq!(current(), Some(self.0));
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

fn within(name: &'static str) -> Within {
    Within(name, Arc::default())
}

#[test]
fn every_kind_of_job_runs_in_the_span_that_it_was_submitted_in() {
    // Process-wide: this is its only test.
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    watched(|| {
        let pool = Pool::builder().workers(2).capacity(4).build().unwrap();
        let pool = Arc::new(pool);
        let outer = within("outer");
        let inner = within("inner");

        let span = info_span!("outer").entered();
        let job = outer.clone();
        pool.submit(move || job.check()).unwrap().join().unwrap();
        let (done, wait) = mpsc::channel();
        let (job, nested, own) = (outer.clone(), inner.clone(), Arc::clone(&pool));
        pool.spawn(move || {
            job.check();
            let span = info_span!("inner").entered();
            let (receiver, nested) = (done.clone(), nested.clone());
            own.spawn(move || {
                nested.check();
                receiver.send(()).unwrap();
            })
            .unwrap();
            drop(span);
            job.check();
            done.send(()).unwrap();
        })
        .unwrap();
        wait.iter().for_each(drop);
        let job = outer.clone();
        pool.reserve()
            .unwrap()
            .submit(move || job.check())
            .join()
            .unwrap();
        let job = outer.clone();
        block_on(block_on(pool.submit_async(move || job.check())).unwrap()).unwrap();
        pool.scope(|scope| (0..20).for_each(|_| scope.spawn(|_| outer.check())));
        pool.in_place_scope(|scope| (0..20).for_each(|_| scope.spawn(|_| outer.check())));
        pool.install(|| pool.join(|| outer.check(), || outer.check()));
        let job = outer.clone();
        assert_eq!(pool.map(0..10, move |_| job.check()).count(), 10);
        pool.for_each(0..10, |_| outer.check());
        assert_eq!(current(), Some("outer"));
        drop(span);
        assert_eq!(outer.count(), 3 + 2 + 40 + 2 + 20);
        assert_eq!(inner.count(), 1);

        // A job submitted outside any span runs outside any span, although the thread was in one
        // before.
        assert_eq!(current(), None);
        for _ in 0..10 {
            assert_eq!(pool.submit(current).unwrap().join().unwrap(), None);
        }
    });
}
