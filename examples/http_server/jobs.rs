//! POST /jobs: from the bytes of a request to those of its response.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::{FromRequest, Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    app::App,
    refusal::Refusal,
    work::{self, Done},
};

/// How long a body may take to arrive. By feel: it keeps a stalled client from holding memory.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    #[serde(default = "default_level")]
    level: i32,
}

fn default_level() -> i32 {
    3
}

/// Counts the response. If the client disconnects, this handler is dropped in between.
struct Count<'a> {
    app: &'a App,
    answer: &'static str,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.app.answered(self.answer);
    }
}

pub async fn post(
    State(app): State<Arc<App>>,
    options: Result<Query<Options>, QueryRejection>,
    request: Request,
) -> Response {
    let mut count = Count {
        app: &app,
        answer: "gone",
    };
    match answer(&app, options, request).await {
        Ok((done, held)) => {
            count.answer = "done";
            app.sent(done.input_bytes, done.compressed.len());
            response(done, held)
        }
        Err(refusal) => {
            count.answer = refusal.label();
            refusal.into_response()
        }
    }
}

async fn answer(
    app: &App,
    options: Result<Query<Options>, QueryRejection>,
    request: Request,
) -> Result<(Done, OwnedSemaphorePermit), Refusal> {
    // Refusals that do not need the body precede reading it.
    let Query(Options { level }) = options.map_err(|error| Refusal::Bad(error.body_text()))?;
    if !(1..=19).contains(&level) {
        return Err(Refusal::Bad(format!("level = {level}: from 1 to 19")));
    }
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let max_bytes = app.max_bytes;
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(Refusal::TooLarge { max_bytes });
    }
    if app.pool.is_closed() {
        return Err(Refusal::Draining);
    }
    let held = Arc::clone(&app.held).try_acquire_owned();
    let held = held.map_err(|_| Refusal::TooMany)?;
    let data = read(request, max_bytes).await?;

    let asked = Instant::now();
    let job = move || work::run(data, level, asked);
    // If the timeout expires, the future is dropped, which leaves the wait queue and drops the job.
    let handle = timeout(app.admission_timeout, app.pool.submit_async(job))
        .await
        .map_err(|_elapsed| Refusal::Overload {
            waited: app.admission_timeout,
        })?
        .map_err(|_closed| Refusal::Draining)?
        // If the client disconnects, a job that has not started releases its place at once.
        .cancel_on_drop();
    match handle.await {
        Ok(Ok(done)) => Ok((done, held)),
        Ok(Err(error)) => Err(Refusal::Failed(error.to_string())),
        Err(error) if error.is_cancelled() => Err(Refusal::Draining),
        Err(error) => Err(Refusal::Failed(error.to_string())),
    }
}

async fn read(request: Request, max_bytes: usize) -> Result<Bytes, Refusal> {
    let read = timeout(BODY_TIMEOUT, Bytes::from_request(request, &()));
    let data = read.await.map_err(|_elapsed| Refusal::Slow)?;
    let data = data.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge { max_bytes },
        _ => Refusal::Bad(error.body_text()),
    })?;
    if data.is_empty() {
        let text = "the body is empty: send the bytes to hash and to compress";
        return Err(Refusal::Bad(text.into()));
    }
    Ok(data)
}

/// The bytes of a response. They are held until they were sent or the client has disconnected.
struct Sent {
    bytes: Vec<u8>,
    _held: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn response(done: Done, held: OwnedSemaphorePermit) -> Response {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let timing = format!(
        "wait;dur={:.3}, run;dur={:.3}",
        ms(done.wait),
        ms(done.run_time)
    );
    let headers = [
        ("content-type", String::from("application/zstd")),
        ("x-blake3", done.hash.to_string()),
        ("x-input-bytes", done.input_bytes.to_string()),
        ("server-timing", timing),
    ];
    let sent = Sent {
        bytes: done.compressed,
        _held: held,
    };
    (headers, Bytes::from_owner(sent)).into_response()
}
