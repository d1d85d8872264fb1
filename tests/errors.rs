//! The errors as types: they convert into the usual error containers, and a panic payload can be
//! recovered from them.
mod support;

use std::{
    cell::Cell,
    error::Error,
    panic::{self, AssertUnwindSafe, catch_unwind},
    thread,
};

use adaptive_pool::{AdmissionError, BuildError, JobError, JobHandle, Pool, ShutdownError};
use support::*;

fn pool() -> Pool {
    Pool::builder().workers(2).capacity(16).build().unwrap()
}

fn panics(pool: &Pool) -> JobHandle<u32> {
    pool.submit(|| panic!("number 7")).unwrap()
}

fn cancelled(pool: &Pool) -> JobError {
    let held = [occupy(pool), occupy(pool)];
    let handle = pool.submit(|| ()).unwrap();
    assert!(handle.cancel());
    drop(held);
    handle.join().unwrap_err()
}

#[test]
fn r4_every_error_is_send_sync_and_static() {
    fn is_error<E: Error + Send + Sync + 'static>() {}
    is_error::<JobError>();
    is_error::<AdmissionError>();
    is_error::<BuildError>();
    is_error::<ShutdownError>();
}

#[test]
fn r4_a_jobs_error_goes_into_a_boxed_one() {
    fn run(pool: &Pool) -> Result<u32, Box<dyn Error + Send + Sync>> {
        Ok(panics(pool).join()?)
    }
    watched(|| {
        let error = run(&pool()).unwrap_err();
        assert_eq!(error.to_string(), "the job panicked: number 7");
        let error = error.downcast::<JobError>().unwrap();
        assert_eq!(
            error.into_panic().downcast_ref::<&str>().unwrap(),
            &"number 7"
        );
    });
}

#[test]
fn r4_a_jobs_error_goes_into_anyhow() {
    fn run(pool: &Pool) -> anyhow::Result<u32> {
        let handle = pool.submit(|| 6 * 7)?; // the returned job is `Sync`, so this converts too
        assert_eq!(handle.join()?, 42);
        Ok(panics(pool).join()?)
    }
    watched(|| {
        let error = run(&pool()).unwrap_err();
        assert_eq!(error.to_string(), "the job panicked: number 7");
        assert!(error.downcast_ref::<JobError>().unwrap().is_panic());
        assert!(
            error
                .downcast::<JobError>()
                .unwrap()
                .into_panic()
                .is::<&str>()
        );
    });
}

#[test]
fn r4_a_jobs_error_goes_into_eyre() {
    fn run(pool: &Pool) -> eyre::Result<u32> {
        Ok(panics(pool).join()?)
    }
    watched(|| {
        let error = run(&pool()).unwrap_err();
        assert_eq!(error.to_string(), "the job panicked: number 7");
        assert!(error.downcast_ref::<JobError>().unwrap().is_panic());
    });
}

#[test]
fn r4_a_payload_that_is_not_sync_comes_back_whole_on_another_thread() {
    watched(|| {
        let pool = pool();
        let handle = pool.submit(|| panic::panic_any(Cell::new(7))).unwrap();
        let error = handle.join().unwrap_err();
        // Read on several threads at once, by reference; then owned by another.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert!(error.is_panic() && !error.is_cancelled() && !error.is_expired());
                    assert_eq!(
                        error.to_string(),
                        "the job panicked: a payload that is not a string"
                    );
                });
            }
        });
        let payload = thread::spawn(move || error.into_panic()).join().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&Cell::new(7)));
    });
}

#[test]
fn d2_a_cancelled_jobs_error_has_no_panic() {
    watched(|| {
        let pool = pool();
        let error = cancelled(&pool);
        assert!(error.is_cancelled() && !error.is_panic() && !error.is_expired());
        assert_eq!(error.to_string(), "the job was cancelled before it started");
        assert_eq!(format!("{error:?}"), "Cancelled");
        // The payload is recovered.
        let error = error.try_into_panic().unwrap_err();
        // Taking a payload that does not exist panics with the reason.
        let panicked = catch_unwind(AssertUnwindSafe(|| error.into_panic())).unwrap_err();
        let text = panicked.downcast_ref::<String>().unwrap();
        assert!(
            text.contains("did not panic: the job was cancelled"),
            "{text}"
        );
    });
}

#[test]
fn r4_a_jobs_error_shows_its_message() {
    watched(|| {
        let pool = pool();
        let error = pool.submit(|| panic!("no")).unwrap().join().unwrap_err();
        assert_eq!(format!("{error:?}"), "Panicked(\"no\")");
        assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&"no"));
    });
}
