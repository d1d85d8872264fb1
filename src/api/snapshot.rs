//! How a [`Snapshot`] is made of a pool.

use crate::{
    metrics::{JobSummaries, Latencies, Snapshot, WorkerSnapshot},
    runtime::inner::Inner,
};

impl WorkerSnapshot {
    fn of(inner: &Inner, slot: usize, latencies: JobSummaries) -> Self {
        let [unplaced, completed, panicked, steals] = inner.recorder.of_slot(slot);
        let started = inner.admission.given_back_by(slot) + unplaced;
        Self {
            busy: started > completed + panicked,
            started,
            completed,
            panicked,
            steals,
            queue_wait: latencies.queue_wait,
            run_time: latencies.run_time,
        }
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
        for &(index, of_thread) in &latencies.slots {
            if index >= per_worker.len() {
                // A spare thread that was started since they were counted.
                per_worker.resize(index + 1, WorkerSnapshot::default());
            }
            per_worker[index] = WorkerSnapshot::of(inner, index, of_thread);
        }
        let started: u64 = per_worker.iter().map(|worker| worker.started).sum();
        let busy = per_worker.iter().filter(|worker| worker.busy).count() as u64;
        let admitted = inner
            .recorder
            .admitted_at_least(inner.admission.outstanding(sums.unplaced(), 0));
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
            started: started + sums.started_elsewhere,
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
            queue_wait: latencies.jobs.queue_wait.summary(),
            run_time: latencies.jobs.run_time.summary(),
            per_worker,
        };
        (seen, latencies)
    }
}
