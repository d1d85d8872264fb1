//! `work`: a pool, a worker, an HTTP port, and the signals.

use std::{num::NonZero, process, sync::Arc, thread};

use adaptive_pool::Pool;
use adaptive_pool_worker::Worker;
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    Stop,
    args::{Server, Work},
    failure, http, note,
    output::Outputs,
    print, usage,
};

pub async fn run(server: &Server, args: Work) -> Result<(), Stop> {
    tracing_subscriber::fmt()
        .with_max_level(args.log)
        .with_writer(std::io::stderr)
        .init();
    let outputs = Outputs::new(&args.out, args.level).map_err(|error| {
        usage(format!(
            "cannot write to {}: {error}; make it writable, make room there, or name another folder with --out",
            args.out.display()
        ))
    })?;
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = args.workers.unwrap_or(cores);
    let capacity = args.capacity.unwrap_or(workers);
    let pool = Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .name("batch")
        .build()
        .map_err(|error| usage(error.to_string()))?;
    let pool = Arc::new(pool);

    let client = server.connect().await?;
    let worker = Worker::builder(Arc::clone(&pool), client)
        .stream(&server.stream)
        .lease(args.lease)
        .grace(args.grace)
        .max_failures(args.max_failures)
        .handler(move |job| outputs.run(job))
        .build()
        .await?;

    let registry = Registry::new();
    let registered = registry
        .register(Box::new(pool.collector()))
        .and_then(|()| registry.register(Box::new(worker.collector()?)));
    registered.map_err(|error| failure(error.to_string()))?;
    let listener = TcpListener::bind(args.http).await.map_err(|error| {
        usage(format!(
            "cannot listen on {}: {error}; name another address with --http",
            args.http
        ))
    })?;
    let address = listener.local_addr()?;
    let http = tokio::spawn(http::serve(listener, registry, worker.health()));

    let pid = process::id();
    print(&format!(
        "worker {pid}: {workers} workers, {capacity} places, stream `{}` at {}, outputs in {}",
        server.stream,
        server.server,
        args.out.display()
    ))?;
    print(&format!(
        "worker {pid}: http://{address}/metrics and /healthz"
    ))?;
    let stop = first_signal()?;
    let report = worker.run(stop).await;
    http.abort();
    let report = report?;
    let seen = &report.status;
    print(&format!(
        "worker {pid}: {} done, {} retried, {} dead, {} given back, {} still running",
        seen.acked, seen.retried, seen.dead, seen.given_back, report.left
    ))?;
    // What still runs comes again when its lease expires.
    process::exit(0);
}

/// Is ready at the first Ctrl-C or SIGTERM. The second one ends the program.
fn first_signal() -> Result<impl Future<Output = ()>, Stop> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (first, is_first) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut first = Some(first);
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match first.take() {
                Some(first) => {
                    note(
                        "draining: running jobs end, the others go back; a second signal ends at once",
                    );
                    let _ = first.send(());
                }
                None => process::exit(130),
            }
        }
    });
    Ok(async {
        let _ = is_first.await;
    })
}
