//! Tests of the semaphore while its counters wrap, and of how many newcomers overtake a waiter: on
//! one thread, or with one thread that releases every place.

use std::{
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
    thread::{self, scope},
    time::Duration,
};

use proptest::prelude::*;

use super::{waiters::Joining, *};
use crate::{Pool, protocol::completion::Wake, sync::bump};

/// After this many places `acquired` begins again at zero.
const WRAP: u64 = u64::MAX / PLACE + 1;

impl Admission {
    /// Sets the counts as if `places` places had been acquired, and released unused.
    fn age(&self, places: u64) {
        self.acquired
            .word
            .store(places.wrapping_mul(PLACE), Ordering::Relaxed);
        self.elsewhere.store(places, Ordering::Relaxed);
        lock(&self.slow_path).unused = places;
        self.acquired.limit.store(self.sum(), Ordering::Relaxed);
    }

    /// Sets the counts as if the thread of this slot had released `places` of them.
    fn age_slot(&self, slot: usize, places: u64) {
        self.slots[slot]
            .released
            .fetch_add(places, Ordering::Relaxed);
        self.elsewhere.fetch_sub(places, Ordering::Relaxed);
    }

    fn join(&self, prompt: bool) -> WaiterId {
        let wake = Wake::Thread(thread::current());
        let joining = Joining {
            wake,
            prompt,
            held: false,
        };
        self.join_line(joining).unwrap().expect("the queue is full")
    }
}

/// A waker that reads the line when it is dropped.
struct ReadsAtDrop(Arc<Admission>);

impl std::task::Wake for ReadsAtDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for ReadsAtDrop {
    fn drop(&mut self) {
        self.0.waiting();
    }
}

/// Failure 34: otherwise this deadlocks.
#[test]
fn r4_a_waker_that_never_joins_the_line_is_dropped_without_the_lock() {
    let admission = Arc::new(Admission::with_slots(1, 1));
    let join = || {
        let waker = Arc::new(ReadsAtDrop(Arc::clone(&admission))).into();
        admission.join_line(Joining {
            wake: Wake::Task(waker),
            prompt: true,
            held: true,
        })
    };
    assert!(join().unwrap().is_none(), "there was a place");
    admission.close();
    assert_eq!(join().unwrap_err(), Refusal::Closed);
}

/// Returns a semaphore whose places are all taken.
fn full(capacity: usize, slots: usize, age: u64) -> Admission {
    let admission = Admission::with_slots(capacity, slots);
    admission.age(age);
    for _ in 0..capacity {
        admission.try_acquire().unwrap();
    }
    admission
}

/// Ages just before one of the words, or a sum of them, wraps or changes its sign.
fn ages() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![Just(0), Just(WRAP / 2), Just(WRAP), Just(WRAP + WRAP / 2)];
    (edge, 0u64..40).prop_map(|(edge, before)| edge.wrapping_sub(before))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Failure 29: wherever the counters begin, and whichever of them wraps meanwhile, as many jobs
    /// are admitted as there are places, and the end is observed when it comes.
    #[test]
    fn a1_a2_the_places_are_counted_while_the_counters_wrap(
        age in ages(),
        slot_age in ages(),
        ops in prop::collection::vec((0u8..6, 0usize..2), 1..120),
    ) {
        let mut capacity = 3;
        let admission = Admission::with_slots(capacity, 2);
        admission.age(age);
        admission.age_slot(1, slot_age);
        let (mut queued, mut held, mut ended) = (0, 0, 0);
        for (op, slot) in ops {
            match op {
                0 | 1 => {
                    let is_taken = admission.try_acquire().is_ok();
                    prop_assert_eq!(is_taken, queued + held < capacity);
                    queued += usize::from(is_taken);
                }
                2 if queued > 0 => {
                    admission.release_from(slot);
                    (queued, ended) = (queued - 1, ended + 1);
                }
                3 if queued > 0 => {
                    admission.release();
                    (queued, ended) = (queued - 1, ended + 1);
                }
                4 if held > 0 => {
                    let _ = admission.release_held();
                    held -= 1;
                }
                4 => {
                    let is_taken = admission.try_acquire_held().is_ok();
                    prop_assert_eq!(is_taken, queued + held < capacity);
                    held += usize::from(is_taken);
                }
                5 => {
                    capacity = 1 + (capacity + slot) % 5;
                    admission.set_capacity(capacity);
                }
                _ => {}
            }
            prop_assert_eq!(admission.depth(), (queued + held) as u64);
            prop_assert_eq!(admission.queued(), queued as u64);
            prop_assert_eq!(admission.outstanding(0, ended), queued as u64);
            let too_many = ended + queued as u64 + 1;
            prop_assert_eq!(admission.outstanding(0, too_many), u64::MAX, "one below zero");
        }
        admission.close();
        prop_assert_eq!(admission.try_acquire(), Err(Refusal::Closed));
        while queued > 0 {
            prop_assert!(!admission.try_stop(|| (0, ended)));
            admission.release_from(0);
            (queued, ended) = (queued - 1, ended + 1);
        }
        prop_assert!(admission.try_stop(|| (0, ended)));
    }

    /// As above, with caches: as many jobs are admitted as there are places, whichever threads
    /// cache some.
    #[test]
    fn a1_a3_the_places_are_counted_while_caches_come_and_go(
        age in ages(),
        cache_age in ages(),
        ops in prop::collection::vec((0u8..7, 0usize..2), 1..600),
    ) {
        let mut capacity = 40;
        let admission = Admission::with_slots(capacity, 2);
        admission.age(age);
        admission.slots[0].cache.age(cache_age);
        let (mut queued, mut ended) = (0, 0);
        for (op, slot) in ops {
            match op {
                0 if queued > capacity / 2 => {
                    let is_taken = admission.try_acquire().is_ok();
                    prop_assert_eq!(is_taken, queued < capacity);
                    queued += usize::from(is_taken);
                }
                0..=3 => {
                    let is_taken = admission.try_acquire_from(admission.slot(slot)).is_ok();
                    prop_assert_eq!(is_taken, queued < capacity);
                    queued += usize::from(is_taken);
                }
                4 | 5 if queued > 0 => {
                    admission.release_from(slot);
                    (queued, ended) = (queued - 1, ended + 1);
                }
                6 if (queued + ended as usize) % 7 == 0 => {
                    capacity = 24 + (capacity + slot) % 40;
                    admission.set_capacity(capacity);
                }
                _ => {}
            }
            prop_assert_eq!(admission.depth(), queued as u64);
            let with_caches = queued as u64 + admission.cached();
            prop_assert_eq!(admission.depth_with_caches(), with_caches);
            prop_assert!(with_caches <= capacity.max(queued) as u64);
            prop_assert_eq!(admission.outstanding(0, ended), queued as u64);
        }
        admission.close();
        prop_assert_eq!(admission.cached(), 0);
        prop_assert_eq!(admission.try_acquire_from(admission.slot(0)), Err(Refusal::Closed));
        prop_assert_eq!(admission.outstanding(0, ended), queued as u64);
    }

    /// Failure 10: of the places that are released after a waiter joined the line, fewer than a
    /// batch go to newcomers before it has one, and none if it is prompt.
    #[test]
    fn a5_a_waiter_is_passed_by_fewer_than_a_batch(
        age in ages(),
        capacity in 1usize..100,
        slots in 1usize..8,
        prompt: bool,
        ops in prop::collection::vec((0usize..8, 0u8..8), 400),
    ) {
        let admission = full(capacity, slots, age);
        let waiter = admission.join(prompt);
        let batch = admission.batch() / PLACE;
        let mut depth = capacity;
        let mut passed = 0;
        for (slot, newcomers) in ops {
            if depth > 0 {
                admission.release_from(slot % slots);
                depth -= 1;
            }
            if let Some(outcome) = admission.outcome(&waiter) {
                prop_assert_eq!(outcome, Ok(()));
                admission.leave_line(waiter);
                return Ok(());
            }
            for _ in 0..newcomers {
                if admission.try_acquire().is_ok() {
                    depth += 1;
                    // A newcomer that finds the waiter due serves it first.
                    passed += u64::from(admission.outcome(&waiter).is_none());
                }
            }
            prop_assert!(passed < if prompt { 1 } else { batch }, "{} of {}", passed, batch);
        }
        prop_assert!(admission.outcome(&waiter).is_some(), "every place is free, and a waiter waits");
    }
}

/// Failure 10: a newcomer comes between the release of a place and the check for waiters.
#[test]
fn a5_a_newcomer_grants_older_waiters_first() {
    for age in [0, WRAP - 5] {
        let admission = full(16, 1, age);
        let prompt = admission.join(true);
        bump(&admission.slots[0].released);
        assert_eq!(admission.try_acquire(), Err(Refusal::Full));
        assert_eq!(admission.outcome(&prompt), Some(Ok(())));
        admission.leave_line(prompt);

        // A batch is four places. Fewer newcomers overtake the waiter one by one, or that many
        // places are released together.
        let batched = admission.join(false);
        for _ in 0..3 {
            assert_eq!(admission.outcome(&batched), None);
            bump(&admission.slots[0].released);
            assert_eq!(admission.try_acquire(), Ok(()));
        }
        bump(&admission.slots[0].released);
        assert_eq!(admission.try_acquire(), Err(Refusal::Full));
        assert_eq!(admission.outcome(&batched), Some(Ok(())));
        admission.leave_line(batched);

        let batched = admission.join(false);
        (0..4).for_each(|_| bump(&admission.slots[0].released));
        assert_eq!(admission.try_acquire(), Ok(()));
        assert_eq!(admission.outcome(&batched), Some(Ok(())));
    }
}

/// A cache is filled with the free places, up to the last one. But once a reclaim was needed, it is
/// filled only while half of the capacity stays free, until one such fill succeeds.
#[test]
fn a3_reclaimed_caches_are_filled_from_the_free_half() {
    let admission = Admission::with_slots(64, 2);
    let slot = admission.slot(0);
    let fill = || admission.fill(&slot.cache);
    let spend = |places: u32| (0..places).all(|_| admission.try_acquire_from(slot).is_ok());
    let release = |places: u32| assert!((0..places).all(|_| !admission.release_from(1)));
    for _ in 0..8 {
        assert!(fill() && spend(7));
    }
    assert!(!fill());

    release(8);
    assert!(fill());
    assert_eq!((admission.depth(), admission.cached()), (57, 7));
    assert_eq!(admission.try_acquire(), Ok(()));
    assert_eq!((admission.depth(), admission.cached()), (58, 0));
    release(33);
    assert!(!fill(), "39 are free");
    release(1);
    assert!(fill() && spend(7), "40 are free");
    assert!(fill() && spend(7), "32 are free");
}

/// A submitter that finds the pool open and full may find it closed once it has the lock.
#[test]
fn a6_no_waiter_joins_a_closed_line() {
    let admission = full(1, 1, 0);
    admission.close();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let polled = admission.poll_acquire_held(&mut None, &mut cx);
    assert_eq!(polled, Poll::Ready(Err(AdmissionError::Closed)));
    assert_eq!(admission.acquire(), Err(AdmissionError::Closed));
    assert_eq!(admission.waiting(), 0);
}

/// Failure 10, with newcomers on other threads that try all the time. Of the places that are
/// released one after the other, few go to them, and none once the waiter is prompt. Newcomers that
/// come each time between a release and its check for waiters may double that number.
#[test]
fn a5_a_waiter_is_served_within_few_grants() {
    const SLOTS: usize = 4;
    const CAPACITY: usize = 64;
    for round in 0..if cfg!(miri) { 2 } else { 400 } {
        let is_prompt = round % 2 == 0;
        let admission = full(CAPACITY, SLOTS, WRAP - round % 100);
        let is_over = AtomicBool::new(false);
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let _ = admission.try_acquire();
                    }
                });
            }
            let waiter = admission.join(is_prompt);
            let mut grants = 0;
            while admission.outcome(&waiter).is_none() && grants < CAPACITY {
                admission.release_from(grants % SLOTS);
                grants += 1;
            }
            is_over.store(true, Ordering::Relaxed);
            let most = if is_prompt { 1 } else { CAPACITY / 2 };
            assert!(grants <= most, "{grants} grants in round {round}");
            admission.leave_line(waiter);
        });
    }
}

/// Failure 29, in a pool: its metrics of jobs are right, and its end comes.
#[test]
#[cfg(not(miri))]
fn d2_a_pool_ends_though_its_places_have_wrapped() {
    for before in [0, 1, 7, 100] {
        let pool = Pool::builder().workers(1..=2).capacity(4).build().unwrap();
        pool.inner.admission.age(WRAP - before);
        for _ in 0..20 {
            pool.spawn(|| ()).unwrap();
            drop(pool.reserve().unwrap());
            pool.submit(|| ()).unwrap().join().unwrap();
            pool.scope(|scope| (0..4).for_each(|_| scope.spawn(|_| ())));
        }
        let seen = pool.metrics();
        assert_eq!(seen.admitted, seen.submitted);
        let ended = pool.shutdown_timeout(Duration::from_secs(10));
        let seen = pool.metrics();
        if ended.is_err() {
            // Its drop would block forever.
            std::mem::forget(pool);
        }
        assert_eq!(ended.map(|report| report.total()), Ok(seen.admitted));
        assert_eq!((seen.depth, seen.completed), (0, seen.admitted), "{seen:?}");
    }
}
