//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::JobError;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// A file that is written under another name, and gone unless it is finished.
pub(crate) struct PartialFile {
    target: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
}

impl PartialFile {
    /// Begins a file; what a killed process left of it is lost.
    pub fn create(target: &Path) -> Result<Self, JobError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = target.with_file_name(format!(".{name}.tmp"));
        let file = File::create(&temporary).map_err(JobError::io(target))?;
        let out = Some(BufWriter::with_capacity(BUFFER, file));
        Ok(Self { target: target.to_owned(), temporary, out })
    }

    /// Brings it to the disk and gives it its name.
    pub fn finish(mut self) -> Result<(), JobError> {
        let Some(out) = self.out.take() else { return Ok(()) };
        let put = || {
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&self.temporary, &self.target)
        };
        put().map_err(JobError::io(&self.target))?;
        sync_directory(self.target.parent());
        Ok(())
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After it was finished there is no such file.
        if let Some(out) = self.out.take() {
            drop(out.into_parts());
        }
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Whether a name is that of a file that was never finished.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Brings the entries of a directory to the disk; some file systems cannot.
fn sync_directory(directory: Option<&Path>) {
    let directory = directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// Writes a whole file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    let mut file = PartialFile::create(path)?;
    file.write_all(bytes).map_err(JobError::io(path))?;
    file.finish()
}

/// Writes a value as a JSON file that people can read.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), JobError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| JobError::io(path)(error.into()))?;
    write(path, format!("{text}\n").as_bytes())
}

/// Reads such a file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, JobError> {
    let bytes = fs::read(path).map_err(JobError::io(path))?;
    let problem = |error: serde_json::Error| format!("damaged: {error}");
    serde_json::from_slice(&bytes)
        .map_err(|error| JobError::Damaged { path: path.to_owned(), problem: problem(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        let path = folder.path().join("a.txt");
        let mut file = PartialFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(names().iter().all(|name| is_temporary(name)));
        drop(file);
        assert!(names().is_empty());
        write(&path, b"whole").unwrap();
        assert_eq!((names(), fs::read(&path).unwrap()), (vec!["a.txt".into()], b"whole".to_vec()));
    }
}
