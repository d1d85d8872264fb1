//! The pool as the [`Host`] of rayon's threads.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    protocol::idle::{Idle, WakeUp},
    runtime::{
        inner::{Inner, ThreadHook},
        rayon_host::{Help, Host, RayonThread, Threads},
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

    fn live(self: &Arc<Self>, index: usize, run: impl FnOnce()) {
        let run_hook = |hook: &Option<ThreadHook>| {
            if let Some(hook) = hook {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(index))) {
                    self.handle_panic(payload);
                }
            }
        };
        self.timing.enroll(index);
        let _clock = Clock::start();
        with_slot(self, index, || {
            run_hook(&self.hooks.start);
            run();
            run_hook(&self.hooks.exit);
        });
    }

    fn thread_exited(&self) {
        self.life.thread_exited();
    }

    fn thread_refused(&self) {
        self.recorder.thread_start_failed();
    }

    fn handle_panic(&self, payload: Box<dyn Any + Send>) {
        self.handle_panic(payload);
    }

    fn is_stopped(&self) -> bool {
        self.life.is_stopped()
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
            self.check_left_behind();
            worker::execute(current, job);
            self.check_drained();
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
        if is_aside {
            let run = || worker::execute(current, job);
            current.rayon().run_aside(self, run);
        } else {
            worker::execute(current, job);
        }
        self.check_drained();
        self.has_jobs().then(|| self.help_from_now_on())
    }

    fn has_jobs(&self) -> bool {
        self.has_jobs()
    }

    fn perform(&self, wake_up: WakeUp) {
        self.perform(wake_up);
    }

    fn check_left_behind(&self) {
        self.check_left_behind();
    }

    fn recheck(&self) {
        self.recheck();
    }

    fn watch_activation(&self, patience: Duration) {
        self.watch_late_activation(patience);
    }

    fn keep_time(self: &Arc<Self>) {
        self.run_timer();
    }
}
