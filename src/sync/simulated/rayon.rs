//! rayon-core, as far as the pool uses it.
//!
//! A pool of threads that are started from outside. Each has a line of its own, last in, first out
//! for itself, and one for broadcasts to it. A thread that has no task takes the tasks of others,
//! or those from outside, in any order. A thread that waits inside a [`join`] runs whatever it
//! would run otherwise, on top of its wait. shuttle chooses which thread comes first; all idle ones
//! are woken. The threads end when the pool was dropped and all spawned tasks have ended.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use shuttle::{
    rand::{Rng, thread_rng},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

type Task = Box<dyn FnOnce() + Send>;
type PanicHandler = Box<dyn Fn(Box<dyn Any + Send>) + Send + Sync>;

struct Registry {
    state: Mutex<State>,
    news: Condvar,
    panic_handler: Option<PanicHandler>,
}

struct State {
    injected: VecDeque<Task>,
    slots: Vec<Lines>,
    /// What the threads wait for before they end: tasks, and the pool itself.
    due: usize,
}

#[derive(Default)]
struct Lines {
    own: VecDeque<Task>,
    broadcast: VecDeque<Task>,
}

#[derive(Clone)]
struct Member {
    registry: Arc<Registry>,
    index: usize,
}

shuttle::thread_local! {
    static MEMBER: std::cell::RefCell<Option<Member>> = std::cell::RefCell::new(None);
}

fn member() -> Option<Member> {
    MEMBER
        .try_with(|member| member.borrow().clone())
        .ok()
        .flatten()
}

impl State {
    fn take_local(&mut self, index: usize) -> Option<Task> {
        let lines = &mut self.slots[index];
        lines.own.pop_back().or_else(|| lines.broadcast.pop_front())
    }

    fn take(&mut self, index: usize) -> Option<Task> {
        self.take_local(index).or_else(|| {
            let lines = self.slots.iter_mut().map(|lines| &mut lines.own);
            let mut lines: Vec<_> = lines
                .chain([&mut self.injected])
                .filter(|line| !line.is_empty())
                .collect();
            if lines.is_empty() {
                return None;
            }
            let line = thread_rng().gen_range(0..lines.len());
            lines[line].pop_front()
        })
    }
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.news.notify_all();
    }

    fn spawn(self: &Arc<Self>, task: Task) {
        let own = member().filter(|member| Arc::ptr_eq(&member.registry, self));
        self.change(|state| {
            state.due += 1;
            match own {
                Some(member) => state.slots[member.index].own.push_back(task),
                None => state.injected.push_back(task),
            }
        });
    }

    #[inline(never)]
    fn run(&self, task: Task) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(task)) {
            if let Some(handler) = &self.panic_handler {
                handler(payload);
            }
        }
        self.change(|state| state.due -= 1);
    }

    /// Waits until there is a task to run, or it `is_over`.
    fn next(&self, index: usize, is_over: impl Fn(&State) -> bool) -> Option<Task> {
        let mut state = self.state();
        loop {
            if is_over(&state) {
                return None;
            }
            if let Some(task) = state.take(index) {
                return Some(task);
            }
            let woken = self.news.wait(state);
            // A woken thread is late. Otherwise, under a scheduler with fixed priorities, one
            // thread could for ever take what another has just pushed for itself.
            drop(woken);
            shuttle::thread::yield_now();
            state = self.state();
        }
    }
}

pub(crate) struct ThreadPoolBuilder<S = ()> {
    threads: usize,
    panic_handler: Option<PanicHandler>,
    spawn_handler: S,
}

impl ThreadPoolBuilder {
    pub(crate) fn new() -> Self {
        Self {
            threads: 1,
            panic_handler: None,
            spawn_handler: (),
        }
    }

    pub(crate) fn num_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    pub(crate) fn panic_handler(
        mut self,
        handler: impl Fn(Box<dyn Any + Send>) + Send + Sync + 'static,
    ) -> Self {
        self.panic_handler = Some(Box::new(handler));
        self
    }

    pub(crate) fn spawn_handler<S>(self, spawn_handler: S) -> ThreadPoolBuilder<S>
    where
        S: FnMut(ThreadBuilder) -> io::Result<()>,
    {
        ThreadPoolBuilder {
            threads: self.threads,
            panic_handler: self.panic_handler,
            spawn_handler,
        }
    }
}

impl<S: FnMut(ThreadBuilder) -> io::Result<()>> ThreadPoolBuilder<S> {
    pub(crate) fn build(mut self) -> io::Result<ThreadPool> {
        let registry = Arc::new(Registry {
            state: Mutex::new(State {
                injected: VecDeque::new(),
                slots: (0..self.threads).map(|_| Lines::default()).collect(),
                due: 1,
            }),
            news: Condvar::new(),
            panic_handler: self.panic_handler,
        });
        for index in 0..self.threads {
            let registry = Arc::clone(&registry);
            (self.spawn_handler)(ThreadBuilder(Member { registry, index }))?;
        }
        Ok(ThreadPool(registry))
    }
}

pub(crate) struct ThreadBuilder(Member);

impl ThreadBuilder {
    pub(crate) fn index(&self) -> usize {
        self.0.index
    }

    pub(crate) fn run(self) {
        let Self(Member { registry, index }) = self;
        let own = Member {
            registry: Arc::clone(&registry),
            index,
        };
        MEMBER.with(|member| member.replace(Some(own)));
        while let Some(task) = registry.next(index, |state| state.due == 0) {
            registry.run(task);
        }
        MEMBER.with(|member| member.replace(None));
    }
}

pub(crate) struct ThreadPool(Arc<Registry>);

impl ThreadPool {
    pub(crate) fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        self.0.spawn(Box::new(task));
    }

    pub(crate) fn spawn_broadcast(&self, task: impl Fn(usize) + Send + Sync + 'static) {
        let task = Arc::new(task);
        self.0.change(|state| {
            state.due += state.slots.len();
            for (index, lines) in state.slots.iter_mut().enumerate() {
                let task = Arc::clone(&task);
                lines.broadcast.push_back(Box::new(move || task(index)));
            }
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.0.change(|state| state.due -= 1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yield {
    Executed,
    Idle,
}

fn give_way(take: impl FnOnce(&mut State, usize) -> Option<Task>) -> Option<Yield> {
    let Member { registry, index } = member()?;
    let task = take(&mut registry.state(), index);
    Some(match task {
        Some(task) => {
            registry.run(task);
            Yield::Executed
        }
        None => Yield::Idle,
    })
}

pub(crate) fn yield_now() -> Option<Yield> {
    give_way(State::take)
}

pub(crate) fn yield_local() -> Option<Yield> {
    give_way(State::take_local)
}

pub(crate) fn spawn(task: impl FnOnce() + Send + 'static) {
    match member() {
        Some(member) => member.registry.spawn(Box::new(task)),
        None => unreachable!("rayon's global pool is not stood in for"),
    }
}

/// Runs `a` here and `b` here or on another thread, as `rayon::join` does in a job; but neither
/// borrows.
pub fn join(a: impl FnOnce(), b: impl FnOnce() + Send + 'static) {
    let Some(Member { registry, index }) = member() else {
        a();
        return b();
    };
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    registry.spawn(Box::new(move || {
        b();
        ended.store(true, Ordering::Release);
    }));
    a();
    // The thread that ends `b` notifies after that.
    while let Some(task) = registry.next(index, |_| has_ended.load(Ordering::Acquire)) {
        registry.run(task);
    }
}
