//! An open checkpoint file: recognised by content, mapped, its tensors listed and checked, their data read on demand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(unix)]
use memmap2::UncheckedAdvice;

use super::{CheckpointError, Problem, RawTensor, TensorInfo, TensorSource};
use super::{int8, safetensors, sharded, torch};

/// The container a checkpoint came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// `torch.save` since 1.6: a zip archive with a pickle.
    TorchZip,
    /// A TorchScript archive.
    TorchScript,
    /// `torch.save` before 1.6: a row of pickles.
    TorchStream,
    /// A `*.index.json` and the files it names.
    Sharded,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch archive",
            Self::TorchScript => "TorchScript archive",
            Self::TorchStream => "PyTorch file of the old format",
            Self::Sharded => "sharded checkpoint",
        })
    }
}

/// An open checkpoint. Cheap to open: tensor data stays in the mapped file until it is read.
pub struct Checkpoint {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, Stored>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint({}, {}, {} tensors)", self.path.display(), self.format, self.tensors.len())
    }
}

/// Largest size of a page on the systems that this runs on.
#[cfg(unix)]
const PAGE: usize = 1 << 16;

/// The bytes of a file.
pub(super) enum Mapped {
    /// Mapped into memory.
    File(memmap2::Mmap),
    /// Part of this program.
    Static(&'static [u8]),
}

impl Mapped {
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Arc<Self>, CheckpointError> {
        // Asked before opening, which would wait for the writer of a pipe.
        let metadata = std::fs::metadata(path).map_err(CheckpointError::io(path))?;
        if !metadata.is_file() {
            return Err(Problem::Unknown("not a file".to_owned()).in_file(path));
        }
        let file = File::open(path).map_err(CheckpointError::io(path))?;
        if file.metadata().map_err(CheckpointError::io(path))?.len() == 0 {
            return Err(Problem::Unknown("the file is empty".to_owned()).in_file(path));
        }
        // SAFETY: the map is private to this process and only read. Another program that shortens the file while it
        // is open would end this one with a signal; checkpoints are replaced by renaming (as `write_safetensors`
        // does), which leaves the mapped file alone, and copying files of gigabytes instead would double the memory.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(CheckpointError::io(path))?;
        Ok(Arc::new(Self::File(map)))
    }
}

impl Mapped {
    /// Gives the pages that lie in a range back to the system, which reads them again when they are used again.
    #[allow(unsafe_code)]
    fn release(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if let Self::File(map) = self {
            // Pages at the ends may hold other tensors.
            let (first, end) = (start.next_multiple_of(PAGE), (start + len) / PAGE * PAGE);
            if first < end {
                // SAFETY: the map is shared with the file and only read, so that its pages come back with the same
                // contents. A refusal costs memory only.
                let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first) };
            }
        }
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::File(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// `Cursor` wants its bytes by value.
#[derive(Clone)]
pub(super) struct SharedBytes(pub Arc<Mapped>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

pub(super) type Archive = zip::ZipArchive<Cursor<SharedBytes>>;

/// Where the bytes of a storage are.
#[derive(Clone)]
pub(super) enum Blob {
    /// As they are, in the mapped file; the range lies within it.
    Mapped { file: Arc<Mapped>, start: usize, len: usize },
    /// Deflated, in an archive; `len` is the size after inflation, possible for its packed size.
    Packed { archive: Archive, index: usize, len: usize },
}

impl Blob {
    pub fn len(&self) -> usize {
        match self {
            Self::Mapped { len, .. } | Self::Packed { len, .. } => *len,
        }
    }

    /// Whether the bytes are at hand as they are.
    fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped { .. })
    }

    fn release(&self) {
        if let Self::Mapped { file, start, len } = self {
            file.release(*start, *len);
        }
    }

    /// All bytes of the storage.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, Problem> {
        match self {
            Self::Mapped { file, start, len } => Ok(Cow::Borrowed(&(**file).as_ref()[*start..start + len])),
            Self::Packed { archive, index, len } => {
                let fault = |e: &dyn fmt::Display| Problem::Archive(format!("entry {index}: {e}"));
                let mut archive = archive.clone();
                let entry = archive.by_index(*index).map_err(|e| fault(&e))?;
                let mut bytes = Vec::with_capacity(*len);
                entry.take(*len as u64 + 1).read_to_end(&mut bytes).map_err(|e| fault(&e))?;
                if bytes.len() != *len {
                    return Err(fault(&format_args!(
                        "{} bytes after inflation, {len} announced",
                        bytes.len()
                    )));
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// A tensor of the file: its description and where its data is, checked against each other.
pub(super) struct Stored {
    pub info: TensorInfo,
    pub blob: Blob,
    pub layout: Layout,
}

/// How elements lie in a storage; byte ranges were checked to lie within it.
pub(super) enum Layout {
    /// One after the other from this byte on.
    Contiguous(usize),
    /// Offset and strides in elements.
    Strided { offset: usize, strides: Vec<usize> },
    /// Eight-bit rows with a scale each; see [`int8`].
    Int8 { start: usize, scale: Box<Stored> },
}

impl Stored {
    fn read(&self) -> Result<RawTensor<'_>, Problem> {
        let data = match &self.layout {
            Layout::Contiguous(start) => {
                let len = self.info.byte_len().ok_or_else(too_large)?;
                match self.blob.bytes()? {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[*start..start + len]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[*start..start + len].to_vec()),
                }
            }
            Layout::Strided { offset, strides } => {
                // An expanded tensor of gigabytes over a storage of one number is an attack, not a weight.
                let len = self.info.byte_len().filter(|&len| len <= self.blob.len()).ok_or_else(too_large)?;
                let mut gathered = Vec::with_capacity(len);
                gather(&self.blob.bytes()?, &self.info, *offset, strides, &mut gathered);
                Cow::Owned(gathered)
            }
            Layout::Int8 { start, scale } => {
                let scale = scale.read()?.to_f32();
                let bytes = self.blob.bytes()?;
                let len = self.info.len().ok_or_else(too_large)?;
                Cow::Owned(int8::dequantize_to_bytes(&bytes[*start..start + len], &scale))
            }
        };
        Ok(RawTensor { dtype: self.info.dtype, shape: self.info.shape.clone(), data })
    }
}

impl Stored {
    /// Whether reading it is certain to succeed: its bytes are there, and its description was checked against them.
    fn is_certain(&self) -> bool {
        self.blob.is_mapped()
            && match &self.layout {
                Layout::Contiguous(_) => true,
                Layout::Strided { .. } => false,
                Layout::Int8 { scale, .. } => scale.is_certain(),
            }
    }
}

fn too_large() -> Problem {
    Problem::Unknown("a tensor larger than its storage".to_owned())
}

/// Appends the elements of a strided tensor in row-major order.
fn gather(storage: &[u8], info: &TensorInfo, offset: usize, strides: &[usize], out: &mut Vec<u8>) {
    let size = info.dtype.size();
    let Some((&last, outer)) = info.shape.split_last() else {
        out.extend_from_slice(&storage[offset * size..(offset + 1) * size]);
        return;
    };
    if info.is_empty() {
        return;
    }
    let mut index = vec![0; outer.len()];
    loop {
        let start = offset + index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>();
        for i in 0..last {
            let at = (start + i * strides[outer.len()]) * size;
            out.extend_from_slice(&storage[at..at + size]);
        }
        let Some(axis) = (0..outer.len()).rev().find(|&axis| index[axis] + 1 < outer[axis]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

/// Opens a checkpoint file: safetensors, a PyTorch archive of any age, or an index of shards.
///
/// Names lose a leading `module.` or `_orig_mod.` that all of them carry.
///
/// # Errors
/// A file that cannot be read, is of no known kind, names code in a pickle, or whose sizes do not hold.
pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let file = Mapped::open(path)?;
    let bytes = (*file).as_ref();
    let mut checkpoint =
        if bytes.starts_with(b"{") { sharded::open(path, bytes)? } else { open_single(path, file)? };
    checkpoint.strip_wrappers();
    Ok(checkpoint)
}

/// Opens a checkpoint that is part of this program; `name` is what errors call it.
///
/// # Errors
/// As [`open`]; an index of shards is refused as well, since there are no files beside it.
pub fn open_static(name: &str, bytes: &'static [u8]) -> Result<Checkpoint, CheckpointError> {
    let mut checkpoint = open_single(Path::new(name), Arc::new(Mapped::Static(bytes)))?;
    checkpoint.strip_wrappers();
    Ok(checkpoint)
}

/// Opens a file that is no index.
pub(super) fn open_single(path: &Path, file: Arc<Mapped>) -> Result<Checkpoint, CheckpointError> {
    let bytes = (*file).as_ref();
    let opened = if bytes.starts_with(b"PK\x03\x04") {
        torch::open_archive(&file)
    } else if safetensors::looks_like(bytes) {
        safetensors::open(&file)
    } else if torch::looks_like_stream(bytes) {
        torch::open_stream(&file)
    } else {
        Err(Problem::Unknown(describe_unknown(bytes).to_owned()))
    };
    let Contents { format, metadata, tensors } = opened.map_err(|problem| problem.in_file(path))?;
    Ok(Checkpoint { path: path.to_path_buf(), format, metadata, tensors })
}

/// What a reader of one format found.
pub(super) struct Contents {
    pub format: Format,
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Stored>,
}

fn describe_unknown(bytes: &[u8]) -> &'static str {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"version https://git-lfs") {
        "this is a Git LFS pointer; fetch the real file with `git lfs pull`"
    } else if starts(b"GGUF") {
        "this is a GGUF file, which this reader does not know"
    } else if starts(b"\x89HDF") {
        "this is an HDF5 (TensorFlow) file"
    } else if starts(b"<") {
        "this is a web page, perhaps a failed download"
    } else if starts(b"\x80") {
        "this is a pickle without PyTorch's frame"
    } else {
        "the first bytes are of no known kind (expected safetensors, a PyTorch archive or an index of shards)"
    }
}

impl Checkpoint {
    /// The file (the index, for a sharded checkpoint).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container it came in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Texts beside the tensors: `__metadata__` of safetensors; texts and integers of a PyTorch training checkpoint.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Removes what data-parallel and compiled training put before every name.
    fn strip_wrappers(&mut self) {
        const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
        while let Some(prefix) = WRAPPERS.iter().find(|prefix| {
            !self.tensors.is_empty()
                && self.tensors.keys().all(|name| name.len() > prefix.len() && name.starts_with(*prefix))
        }) {
            let wrapped = std::mem::take(&mut self.tensors);
            self.tensors =
                wrapped.into_iter().map(|(name, t)| (name[prefix.len()..].to_owned(), t)).collect();
        }
    }
}

impl TensorSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(|stored| stored.info.clone())
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let stored = self.tensors.get(name).ok_or_else(|| CheckpointError::NoSuchTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        stored.read().map_err(|problem| Problem::tensor(name, problem.to_string()).in_file(&self.path))
    }

    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        match self.tensors.get(name) {
            Some(stored) if stored.is_certain() => Ok(()),
            _ => self.read(name).map(drop),
        }
    }

    fn release(&self, name: &str) {
        if let Some(stored) = self.tensors.get(name) {
            stored.blob.release();
        }
    }
}

/// Checks a tensor against its storage of `blob.len()` bytes; offset and strides count elements.
pub(super) fn place(
    name: &str,
    info: TensorInfo,
    blob: Blob,
    offset: usize,
    strides: &[usize],
) -> Result<Stored, Problem> {
    let fault = |reason: String| Problem::tensor(name, reason);
    let (shape, size) = (&info.shape, info.dtype.size());
    if shape.len() != strides.len() {
        return Err(fault(format!("{} strides for {} axes", strides.len(), shape.len())));
    }
    let byte_len = info.byte_len().ok_or_else(|| fault(format!("shape {shape:?} is beyond any memory")))?;
    let last = if info.is_empty() {
        Some(0)
    } else {
        let steps = shape.iter().zip(strides).try_fold(offset, |at, (&axis, &stride)| {
            (axis - 1).checked_mul(stride).and_then(|step| at.checked_add(step))
        });
        steps.and_then(|last| last.checked_add(1)).and_then(|end| end.checked_mul(size))
    };
    if last.is_none_or(|end| end > blob.len()) {
        let storage = blob.len();
        return Err(fault(format!(
            "shape {shape:?} with strides {strides:?} from element {offset} of type {} leaves its storage of {storage} \
             bytes",
            info.dtype
        )));
    }
    let layout = if info.is_empty() {
        Layout::Contiguous(0)
    } else if is_contiguous(shape, strides) && byte_len <= blob.len() {
        Layout::Contiguous(offset * size)
    } else {
        Layout::Strided { offset, strides: strides.to_vec() }
    };
    Ok(Stored { info, blob, layout })
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1_usize;
    for (&axis, &stride) in shape.iter().zip(strides).rev() {
        if axis != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(axis);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::DType;
    use super::super::testing::temporary;
    use super::*;

    fn blob(directory: &tempfile::TempDir, bytes: &[u8]) -> Blob {
        let path = directory.path().join("blob");
        std::fs::write(&path, bytes).expect("writable");
        Blob::Mapped { file: Mapped::open(&path).expect("mapped"), start: 0, len: bytes.len() }
    }

    fn info(shape: &[usize]) -> TensorInfo {
        TensorInfo { dtype: DType::U8, shape: shape.to_vec() }
    }

    #[test]
    fn strides_are_materialised() {
        let directory = temporary();
        let blob = blob(&directory, &[0, 1, 2, 3, 4, 5, 6]);
        let read = |shape: &[usize], offset, strides: &[usize]| {
            let stored = place("t", info(shape), blob.clone(), offset, strides)?;
            stored.read().map(|tensor| tensor.data.into_owned())
        };
        assert_eq!(read(&[2, 3], 1, &[3, 1]).expect("contiguous"), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&[3, 2], 1, &[1, 3]).expect("transposed"), [1, 4, 2, 5, 3, 6]);
        assert_eq!(read(&[2, 2, 1], 0, &[4, 2, 9]).expect("stepped"), [0, 2, 4, 6]);
        assert_eq!(read(&[1, 3], 4, &[77, 1]).expect("stride of a single row"), [4, 5, 6]);
        assert_eq!(read(&[], 6, &[]).expect("scalar"), [6]);
        assert_eq!(read(&[0, 1 << 40], 0, &[1 << 40, 1]).expect("empty"), [0_u8; 0]);
        assert_eq!(read(&[2, 3], 0, &[0, 1]).expect("expanded within its storage"), [0, 1, 2, 0, 1, 2]);
        for (shape, offset, strides) in [
            (&[2_usize, 3][..], 2, &[3_usize, 1][..]),
            (&[8], 0, &[1]),
            (&[2], 0, &[usize::MAX]),
            (&[2, 2], 0, &[usize::MAX / 2 + 1, usize::MAX / 2 + 1]),
            (&[1 << 63, 4], 0, &[0, 0]),
            (&[1 << 40], 0, &[0]),
            (&[2], 0, &[1, 1]),
            (&[], usize::MAX, &[]),
        ] {
            assert!(read(shape, offset, strides).is_err(), "{shape:?} {offset} {strides:?}");
        }
    }

    #[test]
    fn foreign_files_are_named() {
        let directory = temporary();
        let path = directory.path().join("model.safetensors");
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"<!DOCTYPE html>", "web page"),
            (b"\x80\x02K\x01.", "pickle"),
            (b"12345678", "no known kind"),
        ] {
            std::fs::write(&path, bytes).expect("writable");
            let message = open(&path).expect_err("refused").to_string();
            assert!(message.contains(expected) && message.contains("model.safetensors"), "{message}");
        }
        assert!(open(directory.path()).expect_err("a directory").to_string().contains("not a file"));
        assert!(matches!(open(&directory.path().join("none")), Err(CheckpointError::Io { .. })));
    }
}
