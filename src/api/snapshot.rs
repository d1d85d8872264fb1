//! The making of a [`Snapshot`] from a pool.

use crate::{
    metrics::{Counter, Latencies, LatencySummary, Snapshot, Times, WorkerSnapshot},
    runtime::inner::Inner,
};

impl WorkerSnapshot {
    /// Also how many jobs it began that had been queued.
    fn of(inner: &Inner, slot: usize, latencies: Times<LatencySummary>) -> (Self, u64) {
        let counts = inner.recorder.of_slot(slot);
        let queued = inner.admission.given_back_by(slot) + counts[Counter::OverdrawnStarted];
        let started = queued + counts[Counter::Inlined];
        let worker = Self {
            busy: started > counts.run(),
            started,
            completed: counts[Counter::Completed],
            panicked: counts[Counter::Panicked],
            steals: counts[Counter::Steals],
            queue_wait: inner.timing.of_jobs(latencies.queue_wait, queued),
            run_time: inner.timing.of_jobs(latencies.run_time, counts.run()),
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
        let elsewhere = inner.recorder.shared();
        let queued_elsewhere =
            elsewhere[Counter::StartedElsewhere] + elsewhere[Counter::OverdrawnStarted];
        let mut queued = queued_elsewhere;
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
                + sums[Counter::RejectedFull]
                + sums[Counter::RejectedTimedOut]
                + sums[Counter::RejectedClosed],
            admitted,
            started: started + queued_elsewhere + elsewhere[Counter::Inlined],
            completed: sums[Counter::Completed],
            panicked: sums[Counter::Panicked],
            cancelled: sums[Counter::Cancelled],
            dropped: sums[Counter::Dropped],
            inlined: sums[Counter::Inlined],
            overdrawn: sums[Counter::Overdrawn],
            overdrawn_now: inner.recorder.overdrawn_now(),
            steals: sums[Counter::Steals],
            rejected_full: sums[Counter::RejectedFull],
            rejected_timed_out: sums[Counter::RejectedTimedOut],
            rejected_closed: sums[Counter::RejectedClosed],
            thread_start_failures: sums[Counter::ThreadStartFailures],
            scale_ups: scaled.scale_ups,
            parks: scaled.parks,
            admission_wait: latencies.admission_wait.summary(),
            queue_wait: inner.timing.of_jobs(jobs.queue_wait, queued),
            run_time: inner.timing.of_jobs(jobs.run_time, sums.run()),
            per_worker,
        };
        (seen, latencies)
    }
}
