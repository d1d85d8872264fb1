//! The life of the server: it listens, and drains after a signal.

use std::{
    io::{self, Write},
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::serve::ListenerExt;
use tokio::{net::TcpListener, sync::watch, task, time};

use crate::{
    INTERRUPTED,
    app::{self, App},
    args::Args,
    history, note,
};

/// Returns when every admitted request has been answered, after a signal.
///
/// # The order of the drain
/// 1. The pool closes. From now on jobs are refused, including those that wait for a place.
/// 2. The server stops listening. It closes connections without a request, and others after their
///    response.
/// 3. After all connections are closed, the pool is shut down: a job whose client has disconnected
///    may still run.
pub async fn serve(app: App, args: &Args) -> Result<(), String> {
    let app = Arc::new(app);
    let listener = TcpListener::bind(args.addr)
        .await
        .map_err(|error| format!("cannot listen at {}: {error}", args.addr))?;
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    // Before the address is printed: its reader may send a signal at once.
    let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "listening on http://{addr}").and_then(|()| stdout.flush());
    drop(stdout);

    history::keep(&app).map_err(|error| format!("no thread: {error}"))?;
    let (drain, draining) = watch::channel(None);
    let closed = Arc::clone(&app);
    let wait = task::spawn(async move {
        signals.next().await;
        closed.pool.close();
        note("draining: answering admitted requests; signal again to end at once");
        drain.send_replace(Some(Instant::now()));
        signals.next().await;
        process::exit(i32::from(INTERRUPTED));
    });

    let mut signalled = draining.clone();
    let server = axum::serve(
        // A response is small, and must not wait for more data.
        listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        }),
        app::router(Arc::clone(&app)),
    )
    .with_graceful_shutdown(async move {
        let _ = signalled.wait_for(Option::is_some).await;
    });
    let answered = tokio::select! {
        result = server => result.map(|()| true).map_err(|error| error.to_string())?,
        () = lasted(draining.clone(), args.drain_timeout) => false,
    };
    let result = finish(&app, args, &draining, answered).await;
    wait.abort();
    result
}

/// Ends `time` after the signal.
async fn lasted(mut draining: watch::Receiver<Option<Instant>>, timeout: Duration) {
    if draining.wait_for(Option::is_some).await.is_ok() {
        time::sleep(timeout).await;
    }
}

async fn finish(
    app: &Arc<App>,
    args: &Args,
    draining: &watch::Receiver<Option<Instant>>,
    answered: bool,
) -> Result<(), String> {
    let begun = draining.borrow().unwrap_or_else(Instant::now);
    let left = args.drain_timeout.saturating_sub(begun.elapsed());
    let pool = Arc::clone(app);
    // It blocks, and a second signal has to be handled meanwhile.
    let ended = task::spawn_blocking(move || pool.pool.shutdown_timeout(left))
        .await
        .map_err(|error| error.to_string())?;
    match ended {
        Ok(report) => {
            note(&format!(
                "{} jobs done, {} panicked, {} cancelled, {} dropped",
                report.completed, report.panicked, report.cancelled, report.dropped
            ));
            if answered {
                Ok(())
            } else {
                Err(String::from("not all connections were closed in time"))
            }
        }
        Err(error) => {
            note(&format!("error: {error}"));
            // Dropping the pool would wait for the running jobs.
            process::exit(1);
        }
    }
}

/// SIGTERM and Ctrl-C.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
