//! A job: hashes and compresses the bytes of one request.

use std::{
    cell::RefCell,
    io,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use blake3::Hash;
use zstd::bulk::Compressor;

/// The result of a job.
pub struct Done {
    pub hash: Hash,
    pub compressed: Vec<u8>,
    pub input_bytes: usize,
    /// From the request for a place to the start of the job.
    pub wait: Duration,
    pub run_time: Duration,
}

thread_local! {
    /// A worker keeps zstd's tables between jobs.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Takes the bytes, so that they are freed here, and not after the response.
pub fn run(data: Bytes, level: i32, asked: Instant) -> io::Result<Done> {
    let begun = Instant::now();
    let hash = blake3::hash(&data);
    let compressed = compress(&data, level)?;
    Ok(Done {
        hash,
        compressed,
        input_bytes: data.len(),
        wait: begun.saturating_duration_since(asked),
        run_time: begun.elapsed(),
    })
}

fn compress(data: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(level)?),
        };
        compressor.set_compression_level(level)?;
        let mut compressed = compressor.compress(data)?;
        // The buffer was sized for the worst case.
        compressed.shrink_to_fit();
        Ok(compressed)
    })
}
