//! Jobs on foreign stacks: the pools whose jobs are on the stack of a thread that is not theirs.
//!
//! Such a job runs inline on a caller's stack, or on another pool's worker if its own pool is
//! starved. A thread that shuts a pool down checks this: it must not wait for the job that calls
//! it.
//!
//! Nothing here has a destructor, since a thread's values may use a pool while they are dropped, in
//! any order. So the job that began last is stored in place, together with jobs of the same pool
//! directly beneath it. Jobs beneath these are on the heap, as long as there are any.

use std::{cell::Cell, mem::ManuallyDrop, ptr};

use crate::sync::thread_local;

/// Jobs of one pool, directly on top of each other.
#[derive(Clone, Copy)]
struct Run {
    /// An address, not to be dereferenced.
    pool: *const (),
    jobs: usize,
}

/// Outlives the thread's other values: the last of these jobs drops it when it ends.
type Beneath = Option<ManuallyDrop<Box<Vec<Run>>>>;

thread_local! {
    static TOP: Cell<Run> = const { Cell::new(Run { pool: ptr::null(), jobs: 0 }) };
    static BENEATH: Cell<Beneath> = const { Cell::new(None) };
}

/// Records that a job of this pool begins on a thread that is not the pool's.
pub(crate) fn begin<P>(pool: &P) {
    let pool = address(pool);
    let top = TOP.get();
    let jobs = if top.pool == pool {
        top.jobs + 1
    } else {
        if top.jobs > 0 {
            let mut beneath = BENEATH.with(Cell::take).unwrap_or_default();
            beneath.push(top);
            BENEATH.with(|cell| cell.set(Some(beneath)));
        }
        1
    };
    TOP.set(Run { pool, jobs });
}

/// Records that the job that began last has ended.
pub(crate) fn end() {
    let mut top = TOP.get();
    top.jobs -= 1;
    if top.jobs == 0 {
        top = pop_beneath().unwrap_or(top);
    }
    TOP.set(top);
}

fn pop_beneath() -> Option<Run> {
    let mut beneath = BENEATH.with(Cell::take)?;
    let run = beneath.pop();
    if beneath.is_empty() {
        drop(ManuallyDrop::into_inner(beneath));
    } else {
        BENEATH.with(|cell| cell.set(Some(beneath)));
    }
    run
}

/// Whether a job of this pool is on the calling thread's stack.
pub(crate) fn is_in_job_of<P>(pool: &P) -> bool {
    let pool = address(pool);
    let is_of_pool = |run: &Run| run.jobs > 0 && run.pool == pool;
    is_of_pool(&TOP.get()) || {
        let beneath = BENEATH.with(Cell::take);
        let is_beneath = beneath
            .as_ref()
            .is_some_and(|beneath| beneath.iter().any(is_of_pool));
        BENEATH.with(|cell| cell.set(beneath));
        is_beneath
    }
}

fn address<P>(pool: &P) -> *const () {
    ptr::from_ref(pool).cast()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn d5_jobs_of_several_pools_run_on_top_of_each_other() {
        let pools = [0u8, 1, 2];
        let [a, b, c] = &pools;
        let on_the_stack = || [a, b, c].map(is_in_job_of);
        let order = [a, a, b, a, b, b];
        for (depth, pool) in order.iter().enumerate() {
            begin(*pool);
            assert_eq!(on_the_stack(), [true, depth >= 2, false]);
        }
        for depth in (0..order.len()).rev() {
            end();
            assert_eq!(on_the_stack(), [depth > 0, depth > 2, false]);
        }
        assert!(
            BENEATH.with(Cell::take).is_none(),
            "nothing is left on the heap"
        );
    }
}
