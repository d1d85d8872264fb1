//! The making of a [`Snapshot`] from a pool.

use crate::{
    metrics::{Latencies, LatencySummary, Snapshot, Times, WorkerSnapshot},
    runtime::inner::Inner,
};

impl WorkerSnapshot {
    /// Also how many jobs it began that had been queued.
    fn of(inner: &Inner, slot: usize, latencies: Times<LatencySummary>) -> (Self, u64) {
        let counts = inner.recorder.of_slot(slot);
        let ended = counts.completed + counts.panicked;
        let queued = inner.admission.given_back_by(slot) + counts.overdrawn_started;
        let started = queued + counts.inlined;
        let worker = Self {
            busy: started > ended,
            started,
            completed: counts.completed,
            panicked: counts.panicked,
            steals: counts.steals,
            queue_wait: inner.timing.of_jobs(latencies.queue_wait, queued),
            run_time: inner.timing.of_jobs(latencies.run_time, ended),
        };
        (worker, queued)
    }
}

impl Snapshot {
    pub(crate) fn of(inner: &Inner) -> Self {
        Self::with_latencies(inner).0
    }

    /// Also the histograms that its latencies are the summaries of.
    pub(crate) fn with_latencies(inner: &Inner) -> (Self, Latencies) {
        // What has ended is read before what was begun, and that before what was admitted.
        let sums = inner.recorder.sums();
        let latencies = inner.timing.latencies(|| inner.admission.taken());
        let threads = inner.threads.started();
        let scaled = inner.scaler.scaled();
        let mut per_worker =
            vec![WorkerSnapshot::default(); inner.settings.workers_max + threads.spare];
        let mut queued = sums.queued_elsewhere;
        for &(index, of_thread) in &latencies.slots {
            if index >= per_worker.len() {
                // A spare thread that was started since they were counted.
                per_worker.resize(index + 1, WorkerSnapshot::default());
            }
            let (worker, its_queued) = WorkerSnapshot::of(inner, index, of_thread);
            per_worker[index] = worker;
            queued += its_queued;
        }
        let started: u64 = per_worker.iter().map(|worker| worker.started).sum();
        let busy = per_worker.iter().filter(|worker| worker.busy).count() as u64;
        let admitted = inner
            .recorder
            .admitted_at_least(inner.admission.outstanding(sums.unplaced(), 0));
        let jobs = latencies.jobs.summaries();
        let in_service = inner.workers_in_service() as u64;
        let seen = Self {
            depth: inner.admission.depth(),
            capacity: inner.admission.capacity(),
            waiting_submitters: inner.admission.waiting() as u64,
            workers_in_service: in_service,
            workers_busy: busy,
            workers_idle: in_service.saturating_sub(busy),
            workers_parked: (scaled.most as u64).saturating_sub(in_service),
            threads: threads.all.saturating_sub(inner.life.threads_exited()) as u64,
            submitted: admitted
                + sums.rejected_full
                + sums.rejected_timed_out
                + sums.rejected_closed,
            admitted,
            started: started + sums.queued_elsewhere + sums.inlined_elsewhere,
            completed: sums.completed,
            panicked: sums.panicked,
            cancelled: sums.cancelled,
            dropped: sums.dropped,
            inlined: sums.inlined,
            overdrawn: sums.overdrawn,
            overdrawn_now: inner.recorder.overdrawn_now(),
            steals: sums.steals,
            rejected_full: sums.rejected_full,
            rejected_timed_out: sums.rejected_timed_out,
            rejected_closed: sums.rejected_closed,
            thread_start_failures: sums.thread_start_failures,
            scale_ups: scaled.scale_ups,
            parks: scaled.parks,
            admission_wait: latencies.admission_wait.summary(),
            queue_wait: inner.timing.of_jobs(jobs.queue_wait, queued),
            run_time: inner
                .timing
                .of_jobs(jobs.run_time, sums.completed + sums.panicked),
            per_worker,
        };
        (seen, latencies)
    }
}
