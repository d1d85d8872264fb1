//! The operations of all rounds, and the current operation of every thread.

use std::{
    cell::RefCell,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

macro_rules! totals {
    ($($name:ident),* $(,)?) => {
        /// Counts over all rounds.
        pub struct Totals {
            $(pub $name: AtomicU64,)*
        }

        pub static TOTALS: Totals = Totals {
            $($name: AtomicU64::new(0),)*
        };
    };
}

totals! {
    // Increments with every event.
    steps,
    operations, jobs, panics, cancels, permits_dropped, batches_cut, broadcasts,
    resizes, capacities, snapshots, pools, shutdowns, inside_shutdowns,
    completed, panicked, cancelled, dropped, inlined, rejected, steals, scale_ups, parks,
}

pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

/// The current operations of a thread, the outermost first.
struct Operations {
    thread: String,
    stack: Mutex<Vec<(&'static str, usize)>>,
}

static ALL: Mutex<Vec<Weak<Operations>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Option<Arc<Operations>>> = const { RefCell::new(None) };
}

fn own() -> Arc<Operations> {
    OWN.with_borrow_mut(|operations| {
        let new = || {
            let operations = Arc::new(Operations {
                thread: thread::current().name().unwrap_or("?").into(),
                stack: Mutex::default(),
            });
            let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|operations| operations.strong_count() > 0);
            all.push(Arc::downgrade(&operations));
            operations
        };
        Arc::clone(operations.get_or_insert_with(new))
    })
}

struct Leave(Arc<Operations>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0
            .stack
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        add(&TOTALS.steps, 1);
    }
}

/// Runs `f`, and records it as current.
pub fn at<R>(what: &'static str, pool: usize, f: impl FnOnce() -> R) -> R {
    let operations = own();
    operations
        .stack
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((what, pool));
    add(&TOTALS.steps, 1);
    let _leave = Leave(operations);
    f()
}

/// The current operation of this thread, and its pool.
pub fn now() -> (&'static str, usize) {
    let operations = own();
    let stack = operations
        .stack
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    stack.last().copied().unwrap_or_default()
}

/// One line for each thread with a current operation.
pub fn describe_current() -> String {
    let mut text = String::new();
    for operations in ALL.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let Some(operations) = operations.upgrade() else {
            continue;
        };
        let stack = operations
            .stack
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if stack.is_empty() {
            continue;
        }
        let _ = write!(text, "  {}:", operations.thread);
        for (what, pool) in &*stack {
            let _ = write!(text, " > {what}({pool})");
        }
        text.push('\n');
    }
    text
}
