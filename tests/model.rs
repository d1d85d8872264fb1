//! Failure 5: random operations on admission, compared with a naive model. All on one thread: the
//! worker is busy throughout, and futures are polled by hand.
mod support;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use adaptive_pool::{AdmissionError, JobHandle, Permit, Pool};
use proptest::prelude::*;
use support::*;

#[derive(Debug, Clone)]
enum Op {
    TryReserve,
    ReservePastDue,
    TrySubmit,
    SubmitPastDue,
    NewTask,
    PollTask(usize),
    DropTask(usize),
    DropPermit(usize),
    UsePermit(usize),
    Cancel(usize),
    DropHandle(usize),
    SetCapacity(usize),
    Close,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = || 0usize..8;
    let op = prop_oneof![
        6 => Just(Op::TryReserve),
        2 => Just(Op::ReservePastDue),
        4 => Just(Op::TrySubmit),
        2 => Just(Op::SubmitPastDue),
        12 => Just(Op::NewTask),
        8 => at().prop_map(Op::PollTask),
        4 => at().prop_map(Op::DropTask),
        8 => at().prop_map(Op::DropPermit),
        4 => at().prop_map(Op::UsePermit),
        6 => at().prop_map(Op::Cancel),
        1 => at().prop_map(Op::DropHandle),
        3 => (1usize..6).prop_map(Op::SetCapacity),
        1 => prop_oneof![4 => Just(Op::TryReserve), 1 => Just(Op::Close)],
    ];
    prop::collection::vec(op, 1..120)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    Waiting,
    Granted,
    Closed,
}

/// A naive model of admission.
#[derive(Default)]
struct Model {
    capacity: usize,
    taken: usize,
    closed: bool,
    /// The waiters, by number.
    line: VecDeque<usize>,
    standing: Vec<Standing>,
    queued: usize,
    cancelled: usize,
}

impl Model {
    fn try_take(&mut self) -> Result<(), AdmissionError> {
        if self.closed {
            Err(AdmissionError::Closed)
        } else if self.taken >= self.capacity {
            Err(AdmissionError::Full)
        } else {
            self.taken += 1;
            Ok(())
        }
    }

    fn serve(&mut self) {
        while !self.line.is_empty() && self.try_take().is_ok() {
            let first = self.line.pop_front().unwrap();
            self.standing[first] = Standing::Granted;
        }
    }

    fn release(&mut self) {
        self.taken -= 1;
        self.serve();
    }

    fn close(&mut self) {
        self.closed = true;
        for waiter in self.line.drain(..) {
            self.standing[waiter] = Standing::Closed;
        }
    }
}

type Reserve<'p> = Pin<Box<dyn Future<Output = Result<Permit<'p>, AdmissionError>> + 'p>>;

struct Task<'p> {
    number: usize,
    future: Reserve<'p>,
    waker: Waker,
    woken: Arc<AtomicUsize>,
}

fn timed_out(reason: AdmissionError) -> AdmissionError {
    match reason {
        AdmissionError::Full => AdmissionError::TimedOut,
        other => other,
    }
}

fn play(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let pool = Pool::builder().workers(1).capacity(2).build().unwrap();
    let held = occupy(&pool);
    let mut model = Model {
        capacity: 2,
        ..Model::default()
    };
    let mut permits: Vec<Permit<'_>> = Vec::new();
    let mut handles: Vec<JobHandle<()>> = Vec::new();
    let mut tasks: Vec<Task<'_>> = Vec::new();
    let past = Instant::now();
    for op in ops {
        match op {
            Op::TryReserve => {
                let permit = pool.try_reserve();
                prop_assert_eq!(permit.as_ref().map(drop).map_err(|e| *e), model.try_take());
                permits.extend(permit);
            }
            Op::ReservePastDue => {
                let permit = pool.reserve_deadline(past);
                let expected = model.try_take().map_err(timed_out);
                prop_assert_eq!(permit.as_ref().map(drop).map_err(|e| *e), expected);
                permits.extend(permit);
            }
            Op::TrySubmit | Op::SubmitPastDue => {
                let job = || ();
                let (handle, expected) = match op {
                    Op::TrySubmit => (pool.try_submit(job), model.try_take()),
                    _ => (
                        pool.submit_timeout(Duration::ZERO, job),
                        model.try_take().map_err(timed_out),
                    ),
                };
                let outcome = handle.as_ref().map(drop).map_err(|e| e.reason());
                prop_assert_eq!(outcome, expected);
                model.queued += usize::from(expected.is_ok());
                handles.extend(handle);
            }
            Op::NewTask => {
                let (waker, woken) = counting_waker();
                let mut task = Task {
                    number: model.standing.len(),
                    future: Box::pin(pool.reserve_async()),
                    waker,
                    woken,
                };
                let mut cx = Context::from_waker(&task.waker);
                let polled = task.future.as_mut().poll(&mut cx);
                match (model.try_take(), polled) {
                    (Ok(()), Poll::Ready(Ok(permit))) => permits.push(permit),
                    (Err(AdmissionError::Full), Poll::Pending) => {
                        model.line.push_back(task.number);
                        model.standing.push(Standing::Waiting);
                        tasks.push(task);
                    }
                    (Err(AdmissionError::Closed), Poll::Ready(Err(AdmissionError::Closed))) => {}
                    (expected, polled) => prop_assert!(false, "{expected:?} {polled:?}"),
                }
            }
            Op::PollTask(at) if !tasks.is_empty() => {
                let at = at % tasks.len();
                let task = &mut tasks[at];
                let mut cx = Context::from_waker(&task.waker);
                let polled = task.future.as_mut().poll(&mut cx);
                match (model.standing[task.number], polled) {
                    (Standing::Waiting, Poll::Pending) => {}
                    (Standing::Granted, Poll::Ready(Ok(permit))) => {
                        tasks.remove(at);
                        permits.push(permit);
                    }
                    (Standing::Closed, Poll::Ready(Err(AdmissionError::Closed))) => {
                        tasks.remove(at);
                    }
                    (standing, polled) => prop_assert!(false, "{standing:?} {polled:?}"),
                }
            }
            Op::DropTask(at) if !tasks.is_empty() => {
                let task = tasks.remove(at % tasks.len());
                model.line.retain(|&number| number != task.number);
                if model.standing[task.number] == Standing::Granted {
                    model.release();
                }
                drop(task);
            }
            Op::DropPermit(at) if !permits.is_empty() => {
                drop(permits.swap_remove(at % permits.len()));
                model.release();
            }
            Op::UsePermit(at) if !permits.is_empty() => {
                let permit = permits.swap_remove(at % permits.len());
                handles.push(permit.submit(|| ()));
                model.queued += 1;
            }
            Op::Cancel(at) if !handles.is_empty() => {
                prop_assert!(handles.swap_remove(at % handles.len()).cancel());
                model.queued -= 1;
                model.cancelled += 1;
                model.release();
            }
            Op::DropHandle(at) if !handles.is_empty() => {
                drop(handles.swap_remove(at % handles.len()));
            }
            Op::SetCapacity(capacity) => {
                pool.set_capacity(capacity).unwrap();
                model.capacity = capacity;
                model.serve();
            }
            Op::Close => {
                pool.close();
                model.close();
            }
            _ => {}
        }
        let seen = pool.metrics();
        prop_assert_eq!(seen.depth as usize, model.taken);
        prop_assert_eq!(seen.capacity as usize, model.capacity);
        prop_assert_eq!(seen.waiting_submitters as usize, model.line.len());
        prop_assert_eq!(seen.cancelled as usize, model.cancelled);
        prop_assert_eq!(pool.is_closed(), model.closed);
        for task in &tasks {
            let due = model.standing[task.number] != Standing::Waiting;
            prop_assert_eq!(task.woken.load(Ordering::SeqCst), usize::from(due));
        }
    }
    drop((permits, tasks));
    held.release();
    let report = pool.shutdown();
    prop_assert_eq!(report.completed as usize, 1 + model.queued);
    prop_assert_eq!(report.cancelled as usize, model.cancelled);
    prop_assert!(handles.into_iter().all(|handle| handle.join().is_ok()));
    assert_conserved(&pool);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn admission_agrees_with_a_naive_model(ops in ops()) {
        play(ops)?;
    }
}
