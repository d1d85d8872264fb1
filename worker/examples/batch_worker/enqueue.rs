//! `enqueue`: one message a file.

use std::{fs, io, path::Path};

use adaptive_pool_worker::{Published, Queue};
use futures_util::{StreamExt, stream};
use walkdir::WalkDir;

use crate::{
    Stop,
    args::{Enqueue, Server},
    failure, note, print,
    task::{self, Task},
    usage,
};

/// The most messages that wait for the server's answer. By feel: more are not faster on loopback.
const UNDER_WAY: usize = 256;
/// Attempts to publish a message.
const ATTEMPTS: u32 = 5;

pub async fn run(server: &Server, args: Enqueue) -> Result<(), Stop> {
    let mut roots = Vec::new();
    for path in &args.paths {
        // Workers have other working directories.
        let root = fs::canonicalize(path);
        roots.push(root.map_err(|error| usage(format!("{}: {error}", path.display())))?);
    }
    let client = server.connect().await?;
    let queue = Queue::create(&client, &server.stream, args.replicas).await?;

    let mut unreadable: u64 = 0;
    let files = roots.iter().flat_map(|root| WalkDir::new(root).into_iter());
    let tasks = files.filter_map(|entry| match entry {
        Ok(entry) if entry.file_type().is_file() => {
            Some(entry.metadata().map(|data| (entry.into_path(), data)))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let tasks = tasks.filter_map(|found| match found {
        Ok((path, data)) => Some((task::id(&path, &data), path)),
        Err(error) => {
            note(&format!("skipped: {error}"));
            unreadable += 1;
            None
        }
    });
    let queue = &queue;
    let published =
        stream::iter(tasks).map(|(id, path)| async move { put(queue, &id, &path).await });
    let mut published = published.buffer_unordered(UNDER_WAY);
    let (mut new, mut known) = (0u64, 0u64);
    while let Some(outcome) = published.next().await {
        match outcome? {
            Published::New => new += 1,
            Published::Known => known += 1,
        }
    }
    drop(published);
    print(&format!(
        "{new} files put into `{}`, {known} already there, {unreadable} skipped",
        server.stream
    ))
}

async fn put(queue: &Queue, id: &str, path: &Path) -> Result<Published, Stop> {
    let task = Task {
        path: path.to_owned(),
    };
    // A path that is not text cannot be in a message.
    let text = task.write().map_err(|why| {
        failure(io::Error::other(format!("{}: {why}", path.display())).to_string())
    })?;
    let mut attempt = 1;
    loop {
        match queue.publish(id, &text).await {
            Ok(published) => return Ok(published),
            Err(error) if attempt == ATTEMPTS => return Err(error.into()),
            Err(error) => note(&format!("{error}; attempt {attempt} of {ATTEMPTS}")),
        }
        attempt += 1;
    }
}
