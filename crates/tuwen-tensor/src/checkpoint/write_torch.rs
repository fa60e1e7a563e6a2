//! Writing PyTorch's zip archives: a state dict as `torch.save` does, or a TorchScript archive as `torch.jit.save` does.
//!
//! Sources of the formats: `torch/serialization.py`, `torch/_weights_only_unpickler.py`,
//! `caffe2/serialize/inline_container.cc` and `torch/csrc/jit/serialization` of the PyTorch repository.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::write::{read_as_described, write_atomically};
use super::{CheckpointError, Problem, TensorInfo, TensorSource};

mod pickle;
mod script;

use pickle::Pickle;

/// The folder of all records; any name will do.
const FOLDER: &str = "archive";

/// Where PyTorch lets the data of tensors begin: at multiples of this.
const ALIGNMENT: u16 = 64;

/// Records from this size on need the large form of a zip entry.
const LARGE: u64 = u32::MAX as u64;

/// What an archive is for PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchArchive {
    /// A dictionary of tensors, which `torch.load(weights_only=True)` reads.
    StateDict,
    /// Such a dictionary as the only entry of another, under `model`: what Salesforce's programs save.
    Model,
    /// Modules that hold the tensors and compute nothing, which `torch.jit.load` reads.
    TorchScript,
}

/// Writes every tensor of a source, one in memory at a time; `written` hears how many bytes of data each one had. The
/// same tensors give the same bytes.
///
/// Replaces `path` at once, as [`write_atomically`] does.
///
/// # Errors
/// A shape beyond any file, a name that cannot be in such an archive, a tensor that cannot be read, or a target that
/// cannot be written; then nothing is changed.
pub fn write_torch(
    path: &Path,
    source: &dyn TensorSource,
    kind: TorchArchive,
    written: &mut dyn FnMut(u64),
) -> Result<(), CheckpointError> {
    let described = |name: String| source.info(&name).map(|info| (name, info));
    let tensors: Vec<_> = source.names().into_iter().filter_map(described).collect();
    let records = match kind {
        TorchArchive::StateDict => state_dict(&tensors, false).map(|pickle| vec![("data.pkl", pickle)]),
        TorchArchive::Model => state_dict(&tensors, true).map(|pickle| vec![("data.pkl", pickle)]),
        TorchArchive::TorchScript => script::records(&tensors),
    };
    let records = records.map_err(|problem| problem.in_file(path))?;
    write_atomically(path, |out| {
        let mut archive = Archive(ZipWriter::new(out));
        for (name, content) in &records {
            archive.record(name, content)?;
        }
        archive.record("byteorder", b"little")?;
        for (key, (name, info)) in tensors.iter().enumerate() {
            let data = read_as_described(source, name, info)?;
            archive.record(&format!("data/{key}"), &data)?;
            written(data.len() as u64);
        }
        archive.record("version", b"3\n")?;
        archive.0.finish().map(drop).map_err(io::Error::from)
    })
}

struct Archive<'o>(ZipWriter<&'o mut BufWriter<File>>);

impl Archive<'_> {
    fn record(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(data.len() as u64 >= LARGE);
        self.0.start_file(format!("{FOLDER}/{name}"), options)?;
        self.0.write_all(data)
    }
}

/// A dictionary of tensors, perhaps under `model` in another.
fn state_dict(tensors: &[(String, TensorInfo)], inside: bool) -> Result<Vec<u8>, Problem> {
    let mut pickle = Pickle::new();
    if inside {
        pickle.op(b"}");
        pickle.text("model");
    }
    pickle.op(b"}(");
    for (key, (name, info)) in tensors.iter().enumerate() {
        pickle.text(name);
        pickle.tensor(key, name, info)?;
    }
    pickle.op(b"u");
    if inside {
        pickle.op(b"s");
    }
    Ok(pickle.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::temporary;
    use super::super::{DType, Format, RawTensor, open};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = temporary();
        let path = directory.path().join("model.pt");
        let raw = |dtype, shape: &[usize], data: &[u8]| RawTensor {
            dtype,
            shape: shape.to_vec(),
            data: data.to_vec().into(),
        };
        let source = BTreeMap::from([
            (
                "matrix.weight".to_owned(),
                RawTensor::from_f32(&[2, 3], &[1.0, -2.5, f32::NAN, 4.0, 0.0, 1e-40]),
            ),
            ("scalar".to_owned(), RawTensor::from_f32(&[], &[0.1])),
            ("none".to_owned(), RawTensor::from_f32(&[0, 7], &[])),
            ("half".to_owned(), raw(DType::F16, &[1, 2], &[1, 2, 3, 4])),
            ("brain".to_owned(), raw(DType::BF16, &[2], &[1, 2, 3, 4])),
            ("count".to_owned(), raw(DType::I64, &[], &[7, 0, 0, 0, 0, 0, 0, 0])),
            ("flags".to_owned(), raw(DType::Bool, &[3], &[0, 1, 1])),
        ]);
        for (kind, format) in [
            (TorchArchive::StateDict, Format::TorchZip),
            (TorchArchive::Model, Format::TorchZip),
            (TorchArchive::TorchScript, Format::TorchScript),
        ] {
            let mut bytes = 0;
            write_torch(&path, &source, kind, &mut |written| bytes += written).expect("written");
            assert_eq!(bytes, 24 + 4 + 4 + 4 + 8 + 3);
            let checkpoint = open(&path).expect("opened");
            assert_eq!((checkpoint.format(), checkpoint.names()), (format, source.names()));
            for (name, tensor) in &source {
                let read = checkpoint.read(name).expect("read");
                assert_eq!((read.info(), &read.data), (tensor.info(), &tensor.data), "{name}");
            }
            let first = std::fs::read(&path).expect("read");
            write_torch(&path, &source, kind, &mut |_| {}).expect("written over the mapped file");
            assert_eq!(std::fs::read(&path).expect("read"), first, "the same bytes");
            assert_eq!(checkpoint.read("scalar").expect("still there").to_f32(), [0.1]);
        }
    }

    #[test]
    fn data_begins_where_pytorch_wants_it() {
        let directory = temporary();
        let path = directory.path().join("model.pt");
        let tensor = |i: usize| ("x".repeat(i), RawTensor::from_f32(&[i], &vec![1.0; i]));
        let tensors: BTreeMap<_, _> = (1..20).map(tensor).collect();
        write_torch(&path, &tensors, TorchArchive::StateDict, &mut |_| {}).expect("written");
        let mut archive = zip::ZipArchive::new(File::open(&path).expect("opened")).expect("a zip archive");
        for index in 0..archive.len() {
            let entry = archive.by_index(index).expect("an entry");
            assert_eq!(entry.data_start().expect("known") % 64, 0, "entry {index}");
        }
    }

    #[test]
    fn a_tensor_that_cannot_be_read_leaves_nothing() {
        struct Broken;
        impl TensorSource for Broken {
            fn names(&self) -> Vec<String> {
                vec!["x".to_owned()]
            }
            fn info(&self, _: &str) -> Option<TensorInfo> {
                Some(TensorInfo { dtype: DType::F32, shape: vec![2] })
            }
            fn read(&self, _: &str) -> Result<RawTensor<'_>, CheckpointError> {
                Ok(RawTensor::from_f32(&[1], &[1.0]))
            }
        }
        let directory = temporary();
        let path = directory.path().join("model.pt");
        let message = write_torch(&path, &Broken, TorchArchive::StateDict, &mut |_| {})
            .expect_err("broken")
            .to_string();
        assert!(message.contains("model.pt") && message.contains("tensor `x`"), "{message}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 0);
    }
}
