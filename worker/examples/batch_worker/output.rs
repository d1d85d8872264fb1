//! The job: compresses a file, and writes the output under the hash of the input.
//!
//! A job may run twice, also at the same time, and its process may die at any line. So it writes
//! its output to a name of its own in `<out>/.partial`, syncs, and renames: a file in `<out>` is
//! complete, and two runs write the same bytes under the same name. If the output exists, the job
//! does nothing.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process, thread,
};

use adaptive_pool_worker::{Failure, Job};
use zstd::bulk::Compressor;

use crate::task::Task;

pub struct Outputs {
    folder: PathBuf,
    partial: PathBuf,
    level: i32,
}

impl Outputs {
    /// Creates the folder, and checks that it is writable.
    pub fn new(folder: &Path, level: i32) -> io::Result<Self> {
        let partial = folder.join(".partial");
        fs::create_dir_all(&partial)?;
        let probe = partial.join(format!("probe-{}", process::id()));
        File::create(&probe)?.write_all(&[0; 4096])?;
        fs::remove_file(&probe)?;
        Ok(Self {
            folder: folder.to_owned(),
            partial,
            level,
        })
    }

    pub fn run(&self, job: &Job<'_>) -> Result<(), Failure> {
        let Task { path } = Task::read(job.payload())?;
        let data = fs::read(&path).map_err(|error| {
            Failure::again(format!(
                "cannot read {}: {error}; all machines must see the file under this path",
                path.display()
            ))
        })?;
        let name = format!("{}.zst", blake3::hash(&data).to_hex());
        let output = self.folder.join(&name);
        let written = if output.is_file() {
            Ok(())
        } else {
            let compressed = compress(&data, self.level)?;
            drop(data);
            self.write(&name, &compressed)
        };
        // Before the message may go, the name must survive a power cut too. A run that died after
        // its rename did not sync it.
        written
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|error| explain(&self.folder, error))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let own = format!("{name}.{}.{:?}", process::id(), thread::current().id());
        let partial = self.partial.join(own);
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&partial, self.folder.join(name))
        });
        if written.is_err() {
            let _ = fs::remove_file(&partial);
        }
        written
    }
}

/// An error that every job on this machine would meet ends the worker, and other workers have the
/// job. Others are retried.
fn explain(folder: &Path, error: io::Error) -> Failure {
    let what_to_do = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            "make it writable for this user, or name another folder with --out"
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => "it was removed: start the worker again",
        _ => return Failure::again(error),
    };
    let folder = folder.display();
    Failure::unfit(format!(
        "cannot write to {folder}: {error}; {what_to_do}. The jobs are back in the queue"
    ))
}

thread_local! {
    /// zstd's tables, kept from one file to the next.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(data: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(level)?),
        };
        compressor.compress(data)
    })
}
