//! Writing safetensors so that a reader sees the old file or the new one, never half of either.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CheckpointError, DType, Problem, RawTensor, TensorInfo, TensorSource};

/// Writes tensors, largest element type first and then by name, with texts as `__metadata__`.
///
/// Replaces `path` at once (see [`write_atomically`]), so that a file which is still mapped can be written over.
///
/// # Errors
/// A name given twice, data that does not fit its shape, or a target that cannot be written; then nothing is changed.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, RawTensor<'a>)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by(|(a_name, a), (b_name, b)| order((a_name, a.dtype), (b_name, b.dtype)));
    let wrong = tensors.iter().find_map(|(name, tensor)| mismatch(name, &tensor.info(), &tensor.data));
    let header = match wrong {
        Some(problem) => Err(problem),
        None => header(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.info())), metadata),
    };
    let header = header.map_err(|problem| problem.in_file(path))?;
    write_atomically(path, |out| {
        write_header(out, &header)?;
        tensors.iter().try_for_each(|(_, tensor)| out.write_all(&tensor.data))
    })
}

/// Writes every tensor of a source as [`write_safetensors`] does, one in memory at a time; `written` hears how many
/// bytes of data each one had.
///
/// # Errors
/// The same, and a tensor that cannot be read.
pub fn write_source(
    path: &Path,
    source: &dyn TensorSource,
    metadata: &BTreeMap<String, String>,
    written: &mut dyn FnMut(u64),
) -> Result<(), CheckpointError> {
    let described = |name: String| source.info(&name).map(|info| (name, info));
    let mut tensors: Vec<_> = source.names().into_iter().filter_map(described).collect();
    tensors.sort_by(|(a_name, a), (b_name, b)| order((a_name, a.dtype), (b_name, b.dtype)));
    let entries = tensors.iter().map(|(name, info)| (name.as_str(), info.clone()));
    let header = header(entries, metadata).map_err(|problem| problem.in_file(path))?;
    write_atomically(path, |out| {
        write_header(out, &header)?;
        for (name, info) in &tensors {
            let data = read_as_described(source, name, info)?;
            out.write_all(&data)?;
            written(data.len() as u64);
        }
        Ok(())
    })
}

/// The data of a tensor, checked against its description.
pub(super) fn read_as_described<'s>(
    source: &'s dyn TensorSource,
    name: &str,
    info: &TensorInfo,
) -> io::Result<Cow<'s, [u8]>> {
    let tensor = source.read(name).map_err(io::Error::other)?;
    match mismatch(name, info, &tensor.data) {
        Some(problem) => Err(io::Error::other(problem)),
        None => Ok(tensor.data),
    }
}

fn order(a: (&str, DType), b: (&str, DType)) -> Ordering {
    b.1.size().cmp(&a.1.size()).then(a.0.cmp(b.0))
}

fn mismatch(name: &str, info: &TensorInfo, data: &[u8]) -> Option<Problem> {
    let reason = || format!("{} {:?} with {} bytes of data", info.dtype, info.shape, data.len());
    (info.byte_len() != Some(data.len())).then(|| Problem::tensor(name, reason()))
}

fn write_header(out: &mut impl Write, header: &[u8]) -> io::Result<()> {
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header)
}

/// The JSON header, padded with spaces so that the data begins at a multiple of 8 bytes.
fn header<'n>(
    tensors: impl Iterator<Item = (&'n str, TensorInfo)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Problem> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut start = 0;
    for (name, info) in tensors {
        let end = info.byte_len().and_then(|len| len.checked_add(start));
        let end = end.ok_or_else(|| Problem::tensor(name, format!("{:?} is beyond any file", info.shape)))?;
        let entry = json!({"dtype": info.dtype.name(), "shape": info.shape, "data_offsets": [start, end]});
        if name == "__metadata__" || header.insert(name.to_owned(), entry).is_some() {
            return Err(Problem::tensor(name, "the name is given twice"));
        }
        start = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// Writes a file under a temporary name beside its target, brings it to the disk, and renames it into place.
///
/// # Errors
/// Any step that fails, naming `path`; the temporary file is gone then and the target untouched.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let fault = || CheckpointError::io(path);
    if fs::metadata(path).is_ok_and(|target| target.permissions().readonly()) {
        return Err(fault()(io::Error::new(io::ErrorKind::PermissionDenied, "the file is read-only")));
    }
    let (temporary, file) = Temporary::create(path).map_err(fault())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out).map_err(fault())?;
    let file = out.into_inner().map_err(|e| fault()(e.into_error()))?;
    file.sync_all().map_err(fault())?;
    temporary.rename_to(path).map_err(fault())
}

/// A file that is removed unless it is renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn create(target: &Path) -> io::Result<(Self, File)> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
        let mut attempt = 0_u32;
        loop {
            let name = format!(".{}.{}-{attempt}.tmp", name.to_string_lossy(), std::process::id());
            let path = target.with_file_name(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Self(path), file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
                Err(e) => return Err(e),
            }
        }
    }

    fn rename_to(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.0, target)?;
        std::mem::forget(self);
        // The rename itself is on the disk once the directory is; some file systems cannot sync one.
        let directory =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).or(Ok(()))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the error that led here is the one to report.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::super::testing::temporary;
    use super::*;

    fn listing(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .expect("listed")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = temporary();
        let path = directory.path().join("model.safetensors");
        let bytes = RawTensor { dtype: DType::U8, shape: vec![3], data: vec![1, 2, 3].into() };
        let tensors = vec![
            ("bytes".to_owned(), bytes),
            ("matrix".to_owned(), RawTensor::from_f32(&[2, 2], &[1.0, -2.5, f32::NAN, 4.0])),
            ("scalar".to_owned(), RawTensor::from_f32(&[], &[0.1])),
            ("empty".to_owned(), RawTensor::from_f32(&[0, 7], &[])),
        ];
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(&path, tensors.clone(), &metadata).expect("written");
        let checkpoint = open(&path).expect("opened");
        assert_eq!(checkpoint.metadata(), &metadata);
        assert_eq!(checkpoint.names().len(), tensors.len());
        for (name, tensor) in &tensors {
            let read = checkpoint.read(name).expect("read");
            assert_eq!((read.info(), &read.data), (tensor.info(), &tensor.data));
        }
        // Over the mapped file, from its own tensors.
        let again: Vec<_> =
            checkpoint.names().into_iter().map(|n| (n.clone(), checkpoint.read(&n).unwrap())).collect();
        write_safetensors(&path, again, &BTreeMap::new()).expect("replaced");
        assert_eq!(checkpoint.read("matrix").expect("the old file stays mapped").data, tensors[1].1.data);
        assert_eq!(open(&path).expect("opened").read("matrix").expect("read").data, tensors[1].1.data);
        assert_eq!(listing(directory.path()), ["model.safetensors"]);
    }

    /// The reader of those who defined the format finds the same.
    #[test]
    fn the_official_reader_agrees() {
        let directory = temporary();
        let path = directory.path().join("model.safetensors");
        let half = RawTensor { dtype: DType::BF16, shape: vec![1, 2], data: vec![1, 2, 3, 4].into() };
        let odd = RawTensor { dtype: DType::Bool, shape: vec![3], data: vec![0, 1, 1].into() };
        let tensors = [
            ("odd".to_owned(), odd),
            ("a \"name\"".to_owned(), half),
            ("none".to_owned(), RawTensor::from_f32(&[2, 0], &[])),
            ("x".to_owned(), RawTensor::from_f32(&[3], &[1.0, -0.0, 1e-40])),
        ];
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(&path, tensors.clone(), &metadata).expect("written");
        let bytes = fs::read(&path).expect("read");
        let official = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        assert_eq!(official.len(), tensors.len());
        for (name, tensor) in &tensors {
            let view = official.tensor(name).expect("there");
            assert_eq!(
                (view.dtype().to_string(), view.shape()),
                (tensor.dtype.to_string(), &tensor.shape[..])
            );
            assert_eq!(view.data(), &tensor.data[..]);
        }
    }

    #[test]
    fn a_failure_names_the_target_and_leaves_nothing() {
        let directory = temporary();
        let tensor = || [("x".to_owned(), RawTensor::from_f32(&[1], &[1.0]))];
        let folder = directory.path().join("folder");
        fs::create_dir(&folder).expect("created");
        let message =
            write_safetensors(&folder, tensor(), &BTreeMap::new()).expect_err("a folder").to_string();
        assert!(message.contains("folder"), "{message}");
        let nowhere = directory.path().join("missing/model.safetensors");
        let message =
            write_safetensors(&nowhere, tensor(), &BTreeMap::new()).expect_err("no folder").to_string();
        assert!(message.contains("missing/model.safetensors"), "{message}");

        let locked = directory.path().join("locked");
        fs::write(&locked, "kept").expect("written");
        let mut permissions = fs::metadata(&locked).expect("there").permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&locked, permissions).expect("set");
        let message = write_safetensors(&locked, tensor(), &BTreeMap::new()).expect_err("locked").to_string();
        assert!(message.contains("locked") && message.contains("read-only"), "{message}");
        assert_eq!(fs::read_to_string(&locked).expect("read"), "kept");

        let target = directory.path().join("half");
        let stopped = write_atomically(&target, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(stopped.expect_err("stopped").to_string().contains("disk full"));
        assert_eq!(listing(directory.path()), ["folder", "locked"]);
    }

    #[test]
    fn wrong_tensors_are_not_written() {
        let path = Path::new("unused.safetensors");
        let short = RawTensor { dtype: DType::F32, shape: vec![2], data: vec![0; 4].into() };
        assert!(write_safetensors(path, [("x".to_owned(), short)], &BTreeMap::new()).is_err());
        let one = || ("x".to_owned(), RawTensor::from_f32(&[], &[1.0]));
        let message =
            write_safetensors(path, [one(), one()], &BTreeMap::new()).expect_err("twice").to_string();
        assert!(message.contains("twice"), "{message}");
    }
}
