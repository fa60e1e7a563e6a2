//! The layout of the hub's cache (huggingface_hub `file_download.py`): content by its hash below `blobs`, a directory of
//! links for every commit below `snapshots`, and the commits of branches below `refs`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tuwen_tensor::checkpoint::{CheckpointError, write_atomically};

use super::HubError;
use crate::source::HubId;

/// A repository in the cache.
pub struct Repository {
    directory: PathBuf,
}

impl Repository {
    /// The place of a repository, which need not exist.
    pub fn new(cache: &Path, id: &HubId<'_>) -> Self {
        Self { directory: id.repository(cache) }
    }

    /// The files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.directory.join("snapshots").join(commit)
    }

    /// The content with this hash.
    pub fn blob(&self, hash: &str) -> Result<PathBuf, HubError> {
        let blobs = self.directory.join("blobs");
        fs::create_dir_all(&blobs).map_err(HubError::io(&blobs))?;
        Ok(blobs.join(hash))
    }

    /// Lets a commit have content under a name.
    pub fn link(&self, commit: &str, name: &str, hash: &str) -> Result<PathBuf, HubError> {
        let snapshot = self.snapshot(commit);
        fs::create_dir_all(&snapshot).map_err(HubError::io(&snapshot))?;
        let path = snapshot.join(name);
        // A link that leads nowhere is left of a blob that was removed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(HubError::io(&path)(error)),
            _ => {}
        }
        link(&Path::new("../../blobs").join(hash), &self.blob(hash)?, &path).map_err(HubError::io(&path))?;
        Ok(path)
    }

    /// Notes which commit a branch or tag means.
    pub fn set_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.directory.join("refs").join(revision);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        }
        write_atomically(&path, |out| out.write_all(commit.as_bytes())).map_err(|error| match error {
            CheckpointError::Io { path, source } => HubError::Io { path, source },
            other => HubError::io(&path)(io::Error::other(other)),
        })
    }
}

/// A link to the blob, relative so that the cache can be moved; where there are no links, the blob itself.
#[cfg(unix)]
fn link(relative: &Path, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

#[cfg(not(unix))]
fn link(_relative: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
}
