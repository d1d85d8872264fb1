//! The connection: async-nats' own, with errors that name what to do.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};

use crate::error::Error;

/// Connects to a NATS server: `nats://host:4222`, or several, separated by commas.
///
/// The options are the client's own: TLS, credentials, tokens and more. This adds a ping every five
/// seconds, so the client notices a server that hangs within fifteen.
///
/// If no server answers, it fails at once. Later the client reconnects by itself, and workers go
/// on.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Credentials`] or [`Error::Connect`].
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), adaptive_pool_worker::Error> {
/// let options = async_nats::ConnectOptions::new().token(String::from("s3cret"));
/// let client = adaptive_pool_worker::connect("nats://127.0.0.1:4222", options).await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: &str, options: ConnectOptions) -> Result<Client, Error> {
    options
        .ping_interval(Duration::from_secs(5))
        .connect(url.split(',').map(str::trim).collect::<Vec<_>>())
        .await
        .map_err(|source| Error::connect(url, source))
}
