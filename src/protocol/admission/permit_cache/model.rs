//! Loom models of the permit cache and its reclaim. A cache has one place beside the one that is
//! used at once.

use std::sync::Arc;

use loom::thread::JoinHandle;

use crate::{
    protocol::{
        admission::{Admission, Refusal},
        model::{explore, explore_to},
    },
    sync::thread::spawn,
};

/// Returns a semaphore of two places: one is used, and one is in the cache of slot 0.
fn cached() -> Arc<Admission> {
    let admission = Admission::with_slots(2, 1);
    assert_eq!(admission.try_acquire_from(admission.slot(0)), Ok(()));
    assert_eq!((admission.depth(), admission.cached()), (1, 1));
    Arc::new(admission)
}

/// Lets the owner of the cache try to take another place, on a thread of its own. Returns whether
/// it did.
fn owner_tries(admission: &Arc<Admission>) -> JoinHandle<bool> {
    let admission = Arc::clone(admission);
    spawn(move || admission.try_acquire_from(admission.slot(0)).is_ok())
}

/// A1, A3: a submitter that finds no place but in a cache takes it, or the cache's owner does, and
/// never both. Kills `cache_no_fence_spend`, `cache_no_fence_reclaim`, `cache_blind`.
#[test]
fn a1_a_cached_place_is_spent_or_reclaimed() {
    explore(|| {
        let admission = cached();
        let owner = owner_tries(&admission);
        let is_other = admission.try_acquire().is_ok();
        let is_owner = owner.join().unwrap();
        assert!(is_owner != is_other, "{is_owner} {is_other}");
        assert_eq!((admission.depth(), admission.cached()), (2, 0));
        assert_eq!(admission.try_acquire(), Err(Refusal::Full));
    });
}

/// A3: of two places that are released together, each is taken, whichever thread fills a cache with
/// both. Kills `cache_unseen`.
#[test]
fn a3_a_cached_place_is_not_hidden() {
    explore(|| {
        let admission = Arc::new(Admission::with_slots(2, 1));
        let owner = {
            let admission = Arc::clone(&admission);
            spawn(move || admission.try_acquire_from(admission.slot(0)))
        };
        assert_eq!(admission.try_acquire(), Ok(()));
        assert_eq!(owner.join().unwrap(), Ok(()));
        assert_eq!(admission.depth(), 2);
    });
}

/// A5: a waiter gets a place, though the owner of a cache takes both meanwhile. Kills
/// `cache_no_reclaim`.
#[test]
fn a5_a_waiter_gets_the_places_of_a_cache() {
    explore_to(2, || {
        let admission = Arc::new(Admission::with_slots(2, 1));
        let owner = {
            let admission = Arc::clone(&admission);
            spawn(move || assert_eq!(admission.try_acquire_from(admission.slot(0)), Ok(())))
        };
        assert_eq!(admission.acquire(), Ok(()));
        owner.join().unwrap();
        assert_eq!((admission.depth(), admission.waiting()), (2, 0));
    });
}

/// D2: the stop waits for a job that is admitted by a cache while the pool closes. Kills
/// `cache_open`.
#[test]
fn d2_no_cached_place_is_spent_after_the_end() {
    explore(|| {
        let admission = Admission::with_slots(2, 2);
        assert_eq!(admission.try_acquire_from(admission.slot(0)), Ok(()));
        admission.release_from(1);
        let admission = Arc::new(admission);
        let owner = owner_tries(&admission);
        let closer = {
            let admission = Arc::clone(&admission);
            spawn(move || admission.close())
        };
        // As a worker checks that becomes idle, once it observes that the pool is closed.
        let is_stopped = admission.is_closed() && admission.try_stop(|| (0, 1));
        let is_owner = owner.join().unwrap();
        closer.join().unwrap();
        assert!(!(is_owner && is_stopped), "a job came after the end");
        assert_eq!(admission.outstanding(0, 1), u64::from(is_owner));
        for _ in 0..2 {
            assert_eq!(
                admission.try_acquire_from(admission.slot(0)),
                Err(Refusal::Closed)
            );
        }
    });
}

/// M1: a place that a cache's owner announces and does not get was never taken, not even for a
/// thread that counts meanwhile. Kills `cache_count_unlocked`.
#[test]
fn m1_a_reclaimed_place_is_not_counted_as_acquired() {
    explore(|| {
        let admission = cached();
        let owner = owner_tries(&admission);
        let closer = {
            let admission = Arc::clone(&admission);
            spawn(move || admission.close())
        };
        let seen = admission.taken();
        let is_owner = owner.join().unwrap();
        closer.join().unwrap();
        assert_eq!(admission.taken(), 1 + u64::from(is_owner));
        assert!(seen <= admission.taken(), "{seen} and {is_owner}");
    });
}
