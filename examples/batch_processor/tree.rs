//! The files: the paths of the command line, walked lazily.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

/// Directories of build artifacts and of git.
const NOT_SOURCES: [&str; 2] = [".git", "target"];

pub struct Tree {
    roots: Vec<PathBuf>,
    sources_only: bool,
}

/// A regular file, or another kind of file that is reported.
pub enum Found {
    File(PathBuf),
    Other,
    Unreadable(PathBuf, String),
}

impl Tree {
    /// The given paths, or this repository's own sources.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        if paths.is_empty() {
            let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
            Self {
                roots: vec![examples.parent().unwrap_or(examples).to_owned()],
                sources_only: true,
            }
        } else {
            Self {
                roots: paths,
                sources_only: false,
            }
        }
    }

    /// The paths that do not exist or are unreachable.
    pub fn wrong_paths(&self) -> impl Iterator<Item = (&Path, io::Error)> {
        let roots = self.roots.iter().map(PathBuf::as_path);
        roots.filter_map(|root| fs::metadata(root).err().map(|error| (root, error)))
    }

    /// Everything under the paths except directories, in no particular order below each path.
    pub fn walk(&self) -> impl Iterator<Item = Found> {
        self.roots
            .iter()
            .flat_map(|root| {
                WalkDir::new(root)
                    .into_iter()
                    .filter_entry(|entry| !self.is_left_out(entry))
                    .map(move |entry| (root, entry))
            })
            .filter_map(|(root, entry)| match entry {
                Ok(entry) if entry.file_type().is_dir() => None,
                Ok(entry) if is_file(&entry) => Some(Found::File(entry.into_path())),
                Ok(_) => Some(Found::Other),
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_owned();
                    let reason = error
                        .io_error()
                        .map_or_else(|| error.to_string(), io::Error::to_string);
                    Some(Found::Unreadable(path, reason))
                }
            })
    }

    fn is_left_out(&self, entry: &DirEntry) -> bool {
        self.sources_only
            && entry.depth() > 0
            && entry.file_type().is_dir()
            && NOT_SOURCES.iter().any(|name| entry.file_name() == *name)
    }
}

/// A path of the command line may be a link to a file; below it, links are not followed.
fn is_file(entry: &DirEntry) -> bool {
    if entry.depth() == 0 {
        fs::metadata(entry.path()).is_ok_and(|data| data.is_file())
    } else {
        entry.file_type().is_file()
    }
}
