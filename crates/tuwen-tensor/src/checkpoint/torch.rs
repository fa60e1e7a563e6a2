//! PyTorch's files: zip archives of `torch.save`, TorchScript archives, and the stream of pickles before 1.6.
//!
//! Sources of the formats: `torch/serialization.py`, `caffe2/serialize/inline_container.cc` and
//! `torch/csrc/jit/serialization/pickler.cpp` of the PyTorch repository.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::sync::Arc;

use super::error::Name;
use super::file::{Archive, Blob, Contents, Format, Mapped, SharedBytes, Stored, place};
use super::pickle::{self, Node, Pickle, PickledTensor, Storage, Value};
use super::{Problem, TensorInfo};

/// Keys under which training programs nest the state dict.
const WRAPPERS: [&str; 2] = ["state_dict", "model"];

/// Depth of nested TorchScript modules, and the number of their attributes; a large model has some 20 000.
const MAX_DEPTH: usize = 64;
const MAX_ATTRIBUTES: usize = 200_000;

/// Bytes of a tensor's name, or of a text beside the tensors.
const MAX_NAME: usize = 1000;

/// Texts beside the tensors; those after are left out.
const MAX_TEXTS: usize = 1000;

/// Bytes of a pickle; that of 1000 tensors with their optimizer state has about a megabyte.
const MAX_PICKLE: usize = 1 << 28;

/// No deflate stream grows by more than this.
const MAX_INFLATION: u64 = 1032;

/// What packed records may inflate to when every tensor is read once: this, and so many times the file. PyTorch packs
/// nothing and weights hardly shrink, so this serves archives that somebody packed again and stops zip bombs.
const INFLATED_ALWAYS: u64 = 64 << 20;
const INFLATED_PER_BYTE: u64 = 20;

/// How every stream of the old format begins: a pickle of the number 0x1950a86a20f9469cfc6c.
const STREAM_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

pub(super) fn looks_like_stream(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x80) && bytes.get(2..).is_some_and(|rest| rest.starts_with(STREAM_MAGIC))
}

/// Opens a zip archive of `torch.save` or `torch.jit.save`.
pub(super) fn open_archive(file: &Arc<Mapped>) -> Result<Contents, Problem> {
    let mut records = Records::open(file)?;
    let pickle = records.blob("data.pkl")?;
    if pickle.len() > MAX_PICKLE {
        let reason = format!("data.pkl has {} bytes, at most {MAX_PICKLE} are read", pickle.len());
        return Err(Problem::Archive(reason));
    }
    if let Ok(order) = records.blob("byteorder")
        && order.len() < 10
        && order.bytes()?.starts_with(b"big")
    {
        return Err(Problem::Archive("written on a big-endian machine".to_owned()));
    }
    let format = if records.contains("constants.pkl") { Format::TorchScript } else { Format::TorchZip };
    let bytes = pickle.bytes()?;
    let pickle = pickle::read(&bytes)?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in named_tensors(&pickle)? {
        let blob = records
            .blob(&format!("data/{}", tensor.storage.key))
            .map_err(|problem| Problem::tensor(&name, problem.to_string()))?;
        let stored = place_pickled(&name, tensor, blob)?;
        tensors.insert(name.into_owned(), stored);
    }
    Ok(Contents { format, metadata: texts(&pickle), tensors })
}

/// The records of an archive, under the one folder that all of them lie in.
struct Records<'f> {
    file: &'f Arc<Mapped>,
    archive: Archive,
    by_name: HashMap<String, usize>,
    folder: String,
    inflated: u64,
}

impl<'f> Records<'f> {
    fn open(file: &'f Arc<Mapped>) -> Result<Self, Problem> {
        let archive = zip::ZipArchive::new(Cursor::new(SharedBytes(Arc::clone(file))))
            .map_err(|e| Problem::Archive(format!("{e} (a truncated download?)")))?;
        let by_name: HashMap<String, usize> = (0..archive.len())
            .filter_map(|i| Some((archive.name_for_index(i)?.ok()?.into_owned(), i)))
            .collect();
        let folder = by_name
            .keys()
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .filter(|folder| folder.is_empty() || folder.ends_with('/'))
            .min_by_key(|folder| (folder.len(), *folder))
            .ok_or_else(|| Problem::Archive("no data.pkl; not written by PyTorch".to_owned()))?
            .to_owned();
        Ok(Self { file, archive, by_name, folder, inflated: 0 })
    }

    fn contains(&self, record: &str) -> bool {
        self.by_name.contains_key(&format!("{}{record}", self.folder))
    }

    fn blob(&mut self, record: &str) -> Result<Blob, Problem> {
        let fault = |reason: &dyn std::fmt::Display| Problem::Archive(format!("record `{record}`: {reason}"));
        let name = format!("{}{record}", self.folder);
        let index = *self.by_name.get(&name).ok_or_else(|| fault(&"missing"))?;
        let entry = self.archive.by_index_raw(index).map_err(|e| fault(&e))?;
        let (size, packed, start) = (entry.size(), entry.compressed_size(), entry.data_start());
        if entry.encrypted() {
            return Err(fault(&"encrypted"));
        }
        let stored = entry.compression() == zip::CompressionMethod::Stored;
        drop(entry);
        let file_len = (**self.file).as_ref().len();
        if !stored {
            let len = usize::try_from(size).ok().filter(|_| size <= packed.saturating_mul(MAX_INFLATION));
            let len = len.ok_or_else(|| fault(&format_args!("{packed} bytes cannot inflate to {size}")))?;
            self.inflated = self.inflated.saturating_add(size);
            let limit = INFLATED_PER_BYTE.saturating_mul(file_len as u64).saturating_add(INFLATED_ALWAYS);
            if self.inflated > limit {
                return Err(fault(&format_args!("with it the archive inflates beyond {limit} bytes")));
            }
            return Ok(Blob::Packed { archive: self.archive.clone(), index, len });
        }
        let range = start.and_then(|start| Some((usize::try_from(start).ok()?, usize::try_from(size).ok()?)));
        match range {
            Some((start, len))
                if start.checked_add(len).is_some_and(|end| end <= file_len) && size == packed =>
            {
                Ok(Blob::Mapped { file: Arc::clone(self.file), start, len })
            }
            _ => Err(fault(&format_args!("its {size} bytes leave the file"))),
        }
    }
}

/// Opens a stream of the old format: magic, version, system, the object, storage keys, then each storage.
pub(super) fn open_stream(file: &Arc<Mapped>) -> Result<Contents, Problem> {
    let bytes: &[u8] = (**file).as_ref();
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(&bytes[at..])?;
        at += pickle.len;
        Ok::<_, Problem>(pickle)
    };
    let (_magic, _version) = (next()?.len, next()?.len);
    if is_big_endian(&next()?) {
        return Err(Problem::Unknown("written on a big-endian machine".to_owned()));
    }
    let (object, keys) = (next()?, next()?);
    let blobs = stream_blobs(file, at, &object, &keys)?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in named_tensors(&object)? {
        let blob = blobs.get(tensor.storage.key).cloned();
        let blob = blob.ok_or_else(|| Problem::tensor(&name, "its storage is missing"))?;
        let stored = place_pickled(&name, tensor, blob)?;
        tensors.insert(name.into_owned(), stored);
    }
    Ok(Contents { format: Format::TorchStream, metadata: texts(&object), tensors })
}

fn is_big_endian(system: &Pickle<'_>) -> bool {
    let Some(Node::Dict(entries)) = system.node(system.root) else { return false };
    entries.iter().any(|entry| matches!(entry, (Value::Str("little_endian"), Value::Bool(false))))
}

/// The storages after the pickles, each a number of elements and the elements.
fn stream_blobs<'a>(
    file: &Arc<Mapped>,
    mut at: usize,
    object: &Pickle<'a>,
    keys: &Pickle<'a>,
) -> Result<HashMap<&'a str, Blob>, Problem> {
    let fault = |at: usize, reason: &str| Problem::Unknown(format!("storage at byte {at}: {reason}"));
    let bytes: &[u8] = (**file).as_ref();
    let Some(Node::Sequence(order)) = keys.node(keys.root) else {
        return Err(fault(at, "no list of storages"));
    };
    let storages: HashMap<&str, &Storage<'a>> = object
        .nodes
        .iter()
        .filter_map(
            |node| if let Node::Storage(storage) = node { Some((storage.key, &**storage)) } else { None },
        )
        .collect();
    let mut blobs = HashMap::new();
    for key in order {
        let Value::Str(key) = *key else { return Err(fault(at, "its key is no text")) };
        let storage = storages.get(key).ok_or_else(|| fault(at, "no tensor uses it"))?;
        let header = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let len = header.and_then(|header| usize::try_from(i64::from_le_bytes(*header)).ok());
        let len = len.and_then(|len| len.checked_mul(storage.dtype.map_or(1, super::DType::size)));
        let len = len.ok_or_else(|| fault(at, "its length does not hold"))?;
        let start = at + 8;
        at = start
            .checked_add(len)
            .filter(|&end| end <= bytes.len())
            .ok_or_else(|| fault(start, "truncated"))?;
        blobs.insert(key, Blob::Mapped { file: Arc::clone(file), start, len });
    }
    Ok(blobs)
}

fn place_pickled(name: &str, tensor: &PickledTensor<'_>, blob: Blob) -> Result<Stored, Problem> {
    let Storage { dtype, len, view_offset, .. } = tensor.storage;
    let expected = len.checked_mul(dtype.map_or(1, super::DType::size));
    if expected != Some(blob.len()) {
        let reason = format!("a storage of {len} elements, but {} bytes of data", blob.len());
        return Err(Problem::tensor(name, reason));
    }
    let offset = tensor.offset.saturating_add(view_offset);
    let info = TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone() };
    place(name, info, blob, offset, &tensor.strides)
}

type Entries<'p, 'a> = &'p [(Value<'a>, Value<'a>)];

/// Tensors by name.
type Named<'p, 'a> = BTreeMap<Cow<'a, str>, &'p PickledTensor<'a>>;

/// All tensors of a state dict or of a tree of TorchScript modules, by name.
fn named_tensors<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<Named<'p, 'a>, Problem> {
    if let Some(Node::Module(_)) = pickle.node(pickle.root) {
        return module_tensors(pickle);
    }
    let entries = state_dict(pickle, pickle.root, 0).ok_or_else(|| no_tensors(pickle))?;
    if let Some((name, _)) = tensors_among(pickle, entries).find(|(name, _)| name.len() > MAX_NAME) {
        return Err(Problem::tensor(
            name,
            format!("a name of {} bytes, at most {MAX_NAME} are read", name.len()),
        ));
    }
    Ok(tensors_among(pickle, entries).map(|(name, tensor)| (Cow::Borrowed(name), tensor)).collect())
}

/// The dictionary that holds tensors: under a wrapper's key, else this one.
fn state_dict<'p, 'a>(pickle: &'p Pickle<'a>, value: Value<'a>, depth: usize) -> Option<Entries<'p, 'a>> {
    let Some(Node::Dict(entries)) = pickle.node(value) else { return None };
    let wrapped = WRAPPERS.iter().filter(|_| depth < 4).find_map(|wrapper| {
        let inner = entries.iter().rev().find(|(key, _)| matches!(key, Value::Str(key) if key == wrapper))?;
        state_dict(pickle, inner.1, depth + 1)
    });
    wrapped.or_else(|| tensors_among(pickle, entries).next().map(|_| &entries[..]))
}

fn tensors_among<'p, 'a>(
    pickle: &'p Pickle<'a>,
    entries: Entries<'p, 'a>,
) -> impl Iterator<Item = (&'a str, &'p PickledTensor<'a>)> {
    entries.iter().filter_map(|&(key, value)| match (key, pickle.node(value)) {
        (Value::Str(name), Some(Node::Tensor(tensor))) => Some((name, &**tensor)),
        _ => None,
    })
}

fn no_tensors(pickle: &Pickle<'_>) -> Problem {
    let keys: Vec<&str> = match pickle.node(pickle.root) {
        Some(Node::Dict(entries)) => entries
            .iter()
            .filter_map(|(key, _)| if let Value::Str(key) = key { Some(*key) } else { None })
            .take(8)
            .collect(),
        _ => Vec::new(),
    };
    let keys = if keys.is_empty() { String::new() } else { format!("; its keys are: {}", keys.join(", ")) };
    Problem::Unknown(format!(
        "the pickle holds no state dict (neither at the top nor under state_dict or model){keys}"
    ))
}

/// Walks the attributes of a TorchScript module; the path is the parameter's name.
fn module_tensors<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<Named<'p, 'a>, Problem> {
    let mut found = Named::new();
    let mut pending = vec![(String::new(), pickle.root, 0)];
    let mut visited = 0;
    while let Some((path, value, depth)) = pending.pop() {
        let endless = || Problem::Archive(format!("modules without end at `{}`", Name(&path)));
        let Some(Node::Module(attributes)) = pickle.node(value) else { continue };
        let Some(Node::Dict(entries)) = pickle.node(*attributes) else { continue };
        visited += entries.len();
        if visited > MAX_ATTRIBUTES || depth > MAX_DEPTH {
            return Err(endless());
        }
        for &(key, value) in entries {
            let (Value::Str(key), Some(node)) = (key, pickle.node(value)) else { continue };
            if path.len() + key.len() > MAX_NAME {
                return Err(endless());
            }
            match node {
                Node::Tensor(tensor) => drop(found.insert(Cow::Owned(format!("{path}{key}")), &**tensor)),
                Node::Module(_) => pending.push((format!("{path}{key}."), value, depth + 1)),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Texts and integers at the top of a training checkpoint, such as `epoch` and `name`.
fn texts(pickle: &Pickle<'_>) -> BTreeMap<String, String> {
    let Some(Node::Dict(entries)) = pickle.node(pickle.root) else { return BTreeMap::new() };
    let pair = |&(key, value): &(Value<'_>, Value<'_>)| {
        let Value::Str(key) = key else { return None };
        let value = match value {
            Value::Str(text) if text.len() <= MAX_NAME => text.to_owned(),
            Value::Int(number) => number.to_string(),
            _ => return None,
        };
        (key.len() <= MAX_NAME).then(|| (key.to_owned(), value))
    };
    entries.iter().filter_map(pair).take(MAX_TEXTS).collect()
}

#[cfg(test)]
#[path = "torch_tests.rs"]
mod tests;
