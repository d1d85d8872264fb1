//! Jobs with handles, detached jobs, and permits.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, JobError, JobHandle, Permit, SubmitError};

use crate::{
    ledger::Class,
    random::Random,
    totals::{TOTALS, add},
    world::{Task, World, is_inside, origin},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A minimal executor.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn short(random: &mut Random) -> Duration {
    Duration::from_micros(random.pick(&[0, 1, 20, 200, 2000]))
}

impl World {
    /// A permit, in a random form. This thread must not wait for anything else before it is used:
    /// it might wait for this place.
    fn reserve(&self, pool: usize, random: &mut Random) -> Result<Permit<'_>, AdmissionError> {
        let pool = &self.pools[pool];
        match random.below(5) {
            0 => pool.reserve(),
            1 => pool.reserve_timeout(short(random)),
            2 => pool.reserve_deadline(Instant::now() + short(random)),
            // A worker of another pool that blocks by its own means is invisible to the pools.
            3 if !is_inside() => block_on(pool.reserve_async()),
            _ => pool.try_reserve(),
        }
    }

    /// Acquires permits, and drops them.
    pub fn drop_permits(&self, pool: usize, random: &mut Random) {
        let permit = self.reserve(pool, random);
        if permit.is_ok() && random.one_in(2) {
            // Not a wait, so it may run on top of another job.
            drop(self.pools[pool].try_reserve());
        }
        add(&TOTALS.permits_dropped, u64::from(permit.is_ok()));
        drop(permit);
        // A future that is dropped in the wait queue, or granted and never polled again.
        let mut future = self.pools[pool].reserve_async();
        let _ = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
    }

    /// A job with a handle. Runs or drops it here if it was refused.
    fn submit(
        self: &Arc<Self>,
        at: usize,
        random: &mut Random,
        task: Task,
    ) -> Option<JobHandle<usize>> {
        let pool = &self.pools[at];
        let own = Arc::clone(self);
        let way = random.below(7);
        if way == 6 {
            return match self.reserve(at, random) {
                Ok(permit) => Some(permit.submit(move || task.run(&own))),
                Err(_) => {
                    self.refused(task, random);
                    None
                }
            };
        }
        let job = move || task.run(&own);
        let submitted = match way {
            0 => pool.submit(job),
            1 => pool.submit_timeout(short(random), job),
            2 => pool.submit_deadline(Instant::now() + short(random), job),
            3 if !is_inside() => block_on(pool.submit_async(job)),
            _ => pool.try_submit(job),
        };
        submitted.map_err(take_back).ok()
    }

    /// A task that was never submitted.
    fn refused(self: &Arc<Self>, task: Task, random: &mut Random) {
        let task = task.loose();
        if random.one_in(2) {
            let _ = catch_unwind(AssertUnwindSafe(|| task.run(self)));
        }
    }

    pub fn with_handle(
        self: &Arc<Self>,
        pool: usize,
        random: &mut Random,
        depth: u32,
        kept: &mut Vec<Kept>,
    ) {
        let task = Task::new(self, Class::Plain, random, depth);
        let mut kept_of = Kept {
            id: task.id(),
            panics: task.plan.panics,
            was_cancelled: false,
            handle: None,
        };
        let Some(handle) = self.submit(pool, random, task) else {
            return;
        };
        match random.below(8) {
            0 => {}
            1 => {
                kept_of.was_cancelled = handle.cancel();
                add(&TOTALS.cancels, u64::from(kept_of.was_cancelled));
                kept_of.handle = Some(handle);
                self.settle(kept_of, random);
            }
            2 => drop(handle.cancel_on_drop()),
            3 | 4 => {
                kept_of.handle = Some(handle);
                kept.push(kept_of);
            }
            _ => {
                kept_of.handle = Some(handle);
                self.settle(kept_of, random);
            }
        }
    }

    /// Waits for a job, and compares its result with its effects.
    pub fn settle(&self, kept: Kept, random: &mut Random) {
        let Kept {
            id,
            panics,
            was_cancelled,
            handle,
        } = kept;
        let Some(handle) = handle else {
            return;
        };
        let outcome = match random.below(4) {
            0 => handle
                .join_timeout(short(random))
                .unwrap_or_else(|handle| handle.join()),
            1 if !is_inside() => block_on(handle),
            2 => handle
                .join_timeout(Duration::MAX)
                .unwrap_or_else(JobHandle::join),
            _ => handle.join(),
        };
        let ledger = &self.ledger;
        let ran = ledger.has_run(id);
        let outcome = outcome.map_err(JobError::try_into_panic);
        let is_right = match &outcome {
            Ok(result) => *result == id && !panics && ran && !was_cancelled,
            Err(Ok(payload)) => {
                origin(payload.as_ref()) == Some(id) && panics && ran && !was_cancelled
            }
            // By this handle, or by a shutdown.
            Err(Err(error)) => error.is_cancelled() && !ran,
        };
        ledger.check(is_right, || {
            format!(
                "job {id} (panics: {panics}, ran: {ran}, cancelled: {was_cancelled}): {outcome:?}"
            )
        });
    }

    pub fn detached(self: &Arc<Self>, at: usize, random: &mut Random, depth: u32) {
        let task = Task::new(self, Class::Plain, random, depth);
        let pool = &self.pools[at];
        let own = Arc::clone(self);
        let way = random.below(4);
        if way == 3 {
            return match self.reserve(at, random) {
                Ok(permit) => permit.spawn(move || own.run_detached(task)),
                Err(_) => self.refused(task, random),
            };
        }
        let raised = task.plan.panics;
        let id = task.id();
        let job = move || own.run_detached(task);
        let spawned = match way {
            0 => pool.spawn(job),
            1 => pool.try_spawn(job),
            _ => pool.spawn_timeout(short(random), job),
        };
        if let Err(refused) = spawned {
            self.ledger.check(!self.ledger.has_run(id), || {
                format!("job {id} was refused, and has run")
            });
            take_back(refused);
            if raised {
                // Not a pool's job: no other counter has it.
                add(&self.ledger.handled, 1);
            }
        }
    }

    fn run_detached(self: &Arc<Self>, task: Task) {
        if task.plan.panics {
            add(&self.ledger.raised, 1);
        }
        task.run(self);
    }
}

/// A refused job is returned, and runs here.
fn take_back<F: FnOnce() -> R, R>(refused: SubmitError<F>) {
    // Its panic belongs to the caller.
    let _ = catch_unwind(AssertUnwindSafe(refused.into_job()));
}

/// A handle that is joined later.
pub struct Kept {
    id: usize,
    panics: bool,
    was_cancelled: bool,
    handle: Option<JobHandle<usize>>,
}
