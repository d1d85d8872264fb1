//! The pool as the [`Host`] of rayon's threads.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    protocol::idle::Idle,
    runtime::{
        inner::{Inner, ThreadHook},
        rayon_host::{AfterActivation, Help, Host, RayonThread, Threads},
        worker::{self, Current, current_of, with_slot},
    },
    sync::backoff::Clock,
};

impl Host for Inner {
    fn threads(&self) -> &Threads {
        &self.threads
    }

    fn idle(&self) -> &Idle {
        &self.idle
    }

    fn here(&self) -> Option<&RayonThread> {
        current_of(self).map(Current::rayon)
    }

    fn live(self: &Arc<Self>, index: Option<usize>, run: impl FnOnce()) {
        match index {
            Some(index) => live_as_thread(self, index, run),
            None => run(),
        }
        self.life.thread_exited();
    }

    fn thread_refused(&self) {
        self.recorder.thread_start_failed();
    }

    fn handle_panic(&self, payload: Box<dyn Any + Send>) {
        self.handle_panic(payload);
    }

    fn run_loop(&self) {
        if let Some(current) = current_of(self) {
            current.set_has_deques(true);
            worker::run(current);
            current.set_has_deques(false);
        }
    }

    fn run_one(&self) {
        let job = self.queue.take_any();
        self.stop_searching();
        if let (Some(job), Some(current)) = (job, current_of(self)) {
            self.check_drained(worker::execute(current, job));
        }
        self.leave_service();
    }

    fn help(self: &Arc<Self>, sent: Help, is_aside: bool) -> Option<Help> {
        let current = current_of(self)?;
        if !self.is_help_good(sent) {
            return None;
        }
        let job = self.queue.take_any()?;
        self.scaler.help_runs();
        let run = || worker::execute(current, job);
        self.check_drained(if is_aside {
            current.rayon().run_aside(self, run)
        } else {
            run()
        });
        self.has_jobs().then(|| self.help_from_now_on())
    }

    fn leave_service_to_block(&self) {
        self.leave_service_to_block();
    }

    fn return_to_service(&self) {
        self.return_to_service();
    }

    fn after_activation(&self, after: AfterActivation) {
        match after {
            AfterActivation::Nothing => {}
            AfterActivation::Watch(patience) => self.watch_late_activation(patience),
            AfterActivation::Recheck => {
                self.recheck();
            }
        }
    }

    fn keep_time(self: &Arc<Self>) {
        self.run_timer();
    }
}

/// The life of the pool's thread `index`.
fn live_as_thread(inner: &Arc<Inner>, index: usize, run: impl FnOnce()) {
    let run_hook = |hook: &Option<ThreadHook>| {
        if let Some(hook) = hook {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(index))) {
                inner.handle_panic(payload);
            }
        }
    };
    inner.timing.enroll(index);
    let _clock = Clock::start();
    with_slot(inner, index, || {
        run_hook(&inner.hooks.start);
        run();
        run_hook(&inner.hooks.exit);
    });
}
