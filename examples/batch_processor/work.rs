//! The life of a file: read once a permit is acquired, hashed and compressed by a job, freed.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use blake3::Hash;
use zstd::{bulk::Compressor, zstd_safe::compress_bound};

/// An output buffer that has grown beyond this size is freed after the file that needed it. By
/// feel: most files of a source tree fit.
const KEPT_BUFFER: usize = 1 << 20;

/// How many files are in memory, and the peak.
#[derive(Default)]
pub struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

struct Counted(Arc<Gauge>);

impl Counted {
    fn new(gauge: &Arc<Gauge>) -> Self {
        let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
        gauge.peak.fetch_max(now, Ordering::Relaxed);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A file in memory.
pub struct Loaded {
    // Freed before the count is decremented: fields are dropped in this order.
    data: Vec<u8>,
    _counted: Counted,
}

impl Loaded {
    pub fn read(path: &Path, gauge: &Arc<Gauge>) -> io::Result<Self> {
        let counted = Counted::new(gauge);
        Ok(Self {
            data: fs::read(path)?,
            _counted: counted,
        })
    }
}

/// A file that was read and is queued.
pub struct Task {
    pub path: PathBuf,
    pub file: Loaded,
    pub level: i32,
    pub admission_wait: Duration,
    pub submitted: Instant,
}

/// The result of a file.
pub struct Done {
    pub path: PathBuf,
    pub hash: Hash,
    pub bytes: u64,
    pub compressed: u64,
    pub admission_wait: Duration,
    pub queue_wait: Duration,
    pub run_time: Duration,
}

impl Task {
    /// Hashes and compresses the file, and frees it.
    ///
    /// # Errors
    /// The path, and the error of zstd.
    pub fn run(self) -> Result<Done, (PathBuf, io::Error)> {
        let begun = Instant::now();
        let data = &self.file.data;
        let hash = blake3::hash(data);
        let compressed = match compressed_size(data, self.level) {
            Ok(size) => size as u64,
            Err(error) => return Err((self.path, error)),
        };
        let bytes = data.len() as u64;
        drop(self.file);
        Ok(Done {
            path: self.path,
            hash,
            bytes,
            compressed,
            admission_wait: self.admission_wait,
            queue_wait: begun.saturating_duration_since(self.submitted),
            run_time: begun.elapsed(),
        })
    }
}

/// State of a worker that persists between files: zstd's tables and an output buffer.
struct Encoder {
    compressor: Compressor<'static>,
    buffer: Vec<u8>,
}

thread_local! {
    static ENCODER: RefCell<Option<Encoder>> = const { RefCell::new(None) };
}

/// The level is that of the thread's first call: the whole program uses one.
fn compressed_size(data: &[u8], level: i32) -> io::Result<usize> {
    ENCODER.with_borrow_mut(|kept| {
        let encoder = match kept {
            Some(encoder) => encoder,
            None => kept.insert(Encoder {
                compressor: Compressor::new(level)?,
                buffer: Vec::new(),
            }),
        };
        let buffer = &mut encoder.buffer;
        buffer.clear();
        buffer.try_reserve_exact(compress_bound(data.len()))?;
        let size = encoder.compressor.compress_to_buffer(data, buffer)?;
        if buffer.capacity() > KEPT_BUFFER {
            *buffer = Vec::new();
        }
        Ok(size)
    })
}
