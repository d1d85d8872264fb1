//! Tests of the check itself. Every other test of the library checks the order too.

use super::*;
use crate::sync::{Mutex, lock, try_lock};

fn outer_and_inner() -> (Mutex<()>, Mutex<()>) {
    (
        Mutex::new(Rank::ThreadTable, ()),
        Mutex::new(Rank::IdleWorkers, ()),
    )
}

#[test]
fn locks_are_acquired_in_the_order_of_their_ranks_and_released_in_any() {
    let (outer, inner) = outer_and_inner();
    for _ in 0..20 {
        let first = lock(&outer);
        let second = lock(&inner);
        drop(first);
        drop(second);
    }
    let last = lock(&inner);
    drop(try_lock(&outer));
    drop(last);
    assert_none_held();
}

#[test]
#[should_panic(expected = "ThreadTable is acquired under IdleWorkers")]
#[cfg_attr(not(debug_assertions), ignore = "not checked")]
fn a_lock_of_a_lower_rank_is_not_acquired() {
    let (outer, inner) = outer_and_inner();
    let _inner = lock(&inner);
    drop(lock(&outer));
}

#[test]
#[should_panic(expected = "IdleWorkers is acquired under IdleWorkers")]
#[cfg_attr(not(debug_assertions), ignore = "not checked")]
fn locks_of_one_rank_do_not_nest() {
    let (inner, other) = (outer_and_inner().1, outer_and_inner().1);
    let _tried = try_lock(&inner);
    drop(lock(&other));
}

#[test]
#[should_panic(expected = "user code runs under ThreadTable")]
#[cfg_attr(not(debug_assertions), ignore = "not checked")]
fn user_code_does_not_run_under_a_lock() {
    let (outer, _) = outer_and_inner();
    let _outer = lock(&outer);
    crate::sync::unwind::quietly(|| ());
}
