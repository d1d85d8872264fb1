//! One contender under stress, in this process.

use std::{
    io::{self, Read, Write},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;

use crate::{
    args::{Args, Contender},
    csv,
    job::Ledger,
    process::Status,
    produce::{self, End, Stop, Target},
    report::Outcome,
    watch,
};

/// Runs the contender, prints its outcome as JSON, and ends the process.
pub fn run(contender: Contender, args: &Args) -> Result<(), String> {
    let outcome = stress(contender, args)?;
    let text = serde_json::to_string(&outcome).map_err(|error| error.to_string())?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("the outcome could not be reported: {error}"))?;
    // Without waiting for abandoned jobs.
    process::exit(0);
}

fn build(contender: Contender, args: &Args) -> Result<Target, String> {
    Ok(match contender {
        Contender::Naive => Target::Naive,
        Contender::Rayon => {
            let builder = rayon_core::ThreadPoolBuilder::new().num_threads(args.workers());
            Target::Rayon(builder.build().map_err(|error| error.to_string())?)
        }
        Contender::Pool => {
            let builder = Pool::builder()
                .workers(args.workers())
                .capacity(args.capacity as usize)
                .name("stress");
            Target::Pool(builder.build().map_err(|error| error.to_string())?)
        }
    })
}

fn stress(contender: Contender, args: &Args) -> Result<Outcome, String> {
    let stop = Arc::new(Stop::default());
    stop_when_told(&stop);
    let ledger = Arc::new(Ledger::default());
    let over = AtomicBool::new(false);
    let target = build(contender, args)?;
    let start = Instant::now();
    let seen = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch::watch(contender, args, &ledger, &stop, &over));
        thread::scope(|scope| {
            for _ in 0..args.producers {
                scope.spawn(|| produce::produce(&target, args, &ledger, &stop));
            }
        });
        drain(&target, &ledger, &stop);
        over.store(true, Ordering::Release);
        watcher.join()
    });
    let seen = seen.map_err(|_| "the watcher has panicked")?;
    let seen = seen.map_err(|error| error.to_string())?;

    // Kept until the process ends: no job of a stopped contender changes the counts any more.
    let counts = std::mem::ManuallyDrop::new(ledger.lock());
    let time = start.elapsed();
    let peak = Status::own().map_err(|error| error.to_string())?.peak;
    let path = args.out.join(format!("{contender}.csv"));
    csv::write(&path, &seen.samples).map_err(|error| format!("{}: {error}", path.display()))?;
    // Its drop would wait for its jobs.
    std::mem::forget(target);

    // Abandoned jobs have not run, or not to their end.
    let dropped = counts.dropped + counts.in_flight;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Outcome {
        name: contender.name().into(),
        end: stop.get().cloned().unwrap_or(End::Time),
        seconds: time.as_secs_f64(),
        submitted: counts.submitted,
        completed: counts.completed,
        rejected: counts.rejected,
        dropped,
        jobs_per_second: counts.completed as f64 / time.as_secs_f64(),
        mean_latency_ms: millis(counts.mean_latency()),
        p99_latency_ms: millis(counts.latencies.quantile(0.99)),
        max_latency_ms: millis(counts.latencies.max()),
        peak_memory_bytes: peak,
        peak_threads: seen.peak_threads,
        bound_bytes: (contender == Contender::Pool).then(|| args.bound_bytes()),
    })
}

/// Lets the submitted jobs end, unless the process was stopped.
fn drain(target: &Target, ledger: &Ledger, stop: &Stop) {
    if let Target::Pool(pool) = target {
        pool.shutdown();
        return;
    }
    while ledger.in_flight() > 0 && stop.get() == Some(&End::Time) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// On a signal, and when the parent process closes stdin or ends.
fn stop_when_told(stop: &Arc<Stop>) {
    let told = Arc::clone(stop);
    if let Err(error) = ctrlc::set_handler(move || told.set(End::Interrupted)) {
        watch::note(&format!("Ctrl-C will not be handled: {error}"));
    }
    let told = Arc::clone(stop);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        told.set(End::Interrupted);
    });
}
