//! The payload of a message: one file.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use adaptive_pool_worker::Failure;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Absolute, and the same on all machines.
    pub path: PathBuf,
}

impl Task {
    pub fn write(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    /// A message that does not parse is dead at once: no retry helps.
    pub fn read(payload: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(payload).map_err(|error| {
            Failure::poison(format!(
                "the message is not a task, which is {{\"path\": \"/absolute/path\"}}: {error}"
            ))
        })
    }
}

/// The same for the same file in the same state, so a repeated publish is stored once.
pub fn id(path: &Path, data: &Metadata) -> String {
    let modified = data.modified().ok();
    let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let text = format!(
        "{}\0{}\0{}",
        path.display(),
        data.len(),
        modified.unwrap_or_default().as_nanos()
    );
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
