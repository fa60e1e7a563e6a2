//! Reading safetensors: 8 bytes of header length, a JSON header, then the data it describes, without gaps.
//!
//! Source of the format: <https://github.com/huggingface/safetensors>, README.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::Name;
use super::file::{Blob, Contents, Format, Layout, Mapped, Stored};
use super::{DType, Problem, TensorInfo, int8};

/// Longest header the format allows.
const MAX_HEADER: usize = 100_000_000;

/// Axes of one tensor.
const MAX_RANK: usize = 16;

/// The header as it is written, nothing checked; read entry by entry, so that it costs no more than what it holds.
#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata = map.next_value().map_err(|e| {
                    A::Error::custom(format_args!("__metadata__ must map texts to texts: {e}"))
                })?;
                continue;
            }
            let fault =
                |e: &dyn fmt::Display| A::Error::custom(format_args!("tensor `{}`: {e}", Name(&name)));
            let entry = map.next_value().map_err(|e| fault(&e))?;
            if header.tensors.contains_key(&name) {
                return Err(fault(&"named twice"));
            }
            header.tensors.insert(name, entry);
        }
        Ok(header)
    }
}

/// A list of at most [`MAX_RANK`] sizes.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    struct Shape;

    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a shape of at most {MAX_RANK} sizes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Vec<usize>, A::Error> {
            let mut shape = Vec::new();
            while let Some(size) = sizes.next_element()? {
                if shape.len() == MAX_RANK {
                    return Err(A::Error::invalid_length(MAX_RANK + 1, &self));
                }
                shape.push(size);
            }
            Ok(shape)
        }
    }

    deserializer.deserialize_seq(Shape)
}

/// Whether a file begins like safetensors: a length, then a JSON object.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

pub(super) fn open(file: &Arc<Mapped>) -> Result<Contents, Problem> {
    let bytes = (**file).as_ref();
    let (header, data_start) = split_header(bytes)?;
    let data_len = bytes.len() - data_start;
    let Header { metadata, tensors: entries } =
        serde_json::from_slice(header).map_err(|e| Problem::Safetensors(e.to_string()))?;
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        let info = entry.info(&name)?;
        if start > end || end > data_len {
            let reason = format!("data_offsets [{start}, {end}] leave the {data_len} bytes of data");
            return Err(Problem::tensor(&name, reason));
        }
        if info.byte_len() != Some(end - start) {
            let reason =
                format!("{} {:?} does not fill its {} bytes of data", info.dtype, info.shape, end - start);
            return Err(Problem::tensor(&name, reason));
        }
        ranges.push((start, end));
        let blob = Blob::Mapped { file: Arc::clone(file), start: data_start + start, len: end - start };
        tensors.insert(name, Stored { info, blob, layout: Layout::Contiguous(0) });
    }
    check_coverage(ranges, data_len)?;
    int8::join(&mut tensors);
    Ok(Contents { format: Format::Safetensors, metadata, tensors })
}

impl Entry {
    fn info(self, name: &str) -> Result<TensorInfo, Problem> {
        let dtype = DType::from_name(&self.dtype).ok_or_else(|| {
            Problem::tensor(name, format!("element type `{}` is not one that tuwen reads", self.dtype))
        })?;
        Ok(TensorInfo { dtype, shape: self.shape })
    }
}

/// The header and the offset of the data after it.
fn split_header(bytes: &[u8]) -> Result<(&[u8], usize), Problem> {
    let (length, rest) =
        bytes.split_first_chunk().ok_or_else(|| Problem::Safetensors("shorter than 8 bytes".to_owned()))?;
    let length = u64::from_le_bytes(*length);
    let available = rest.len();
    usize::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_HEADER)
        .and_then(|length| Some((rest.get(..length)?, 8 + length)))
        .ok_or_else(|| {
            let reason = format!(
                "announces {length} bytes, the file has {available} (the format allows {MAX_HEADER})"
            );
            Problem::Safetensors(reason)
        })
}

/// The format wants every byte of data to belong to exactly one tensor; a truncated or padded file does not.
fn check_coverage(mut ranges: Vec<(usize, usize)>, data_len: usize) -> Result<(), Problem> {
    ranges.sort_unstable();
    let mut covered = 0;
    for (start, end) in ranges {
        if start != covered {
            let reason = format!("data from byte {covered} to {start} belongs to no tensor or to two");
            return Err(Problem::Safetensors(reason));
        }
        covered = end;
    }
    if covered != data_len {
        return Err(Problem::Safetensors(format!(
            "describes {covered} bytes of data, the file has {data_len}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::super::{TensorSource, open};

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    fn try_open(bytes: &[u8]) -> Result<Vec<String>, String> {
        let directory = temporary();
        let path = directory.path().join("a.safetensors");
        std::fs::write(&path, bytes).expect("writable");
        open(&path).map(|checkpoint| checkpoint.names()).map_err(|e| e.to_string())
    }

    #[test]
    fn lying_headers_are_refused() {
        let good = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}"#;
        assert_eq!(try_open(&file(good, &[0; 9])), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let one = |entry: &str| file(&format!("{{\"a\":{entry}}}"), &[0; 8]);
        let mut long_length = file(good, &[0; 9]);
        long_length[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for (bytes, expected) in [
            (file(good, &[0; 8]), "leave the 8 bytes"),
            (file(good, &[0; 10]), "the file has 10"),
            (long_length, "announces 18446744073709551615"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,16]}"#), "leave the 8 bytes"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), "leave the 8 bytes"),
            (one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#), "does not fill"),
            (one(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}"#), "does not fill"),
            (one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}"#), "tensor `a`"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}"#), "leave"),
            (one(r#"{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}"#), "`F8_E4M3`"),
            (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[4,8]}"#), "belongs to no tensor"),
            (one("3"), "tensor `a`"),
            (file("{", &[]), "safetensors header: EOF"),
            (file(r#"{"__metadata__":{"a":1}}"#, &[]), "__metadata__"),
            (file(&"[".repeat(200), &[]), "no known kind"),
            (file(&format!("{{\"a\":{}", "[".repeat(100_000)), &[]), "tensor `a`: "),
            (file(&format!("{{\"a\":{{\"b\":{}", "[".repeat(100_000)), &[]), "EOF while parsing a list"),
            (
                one(&format!(r#"{{"dtype":"F32","shape":[{}2],"data_offsets":[0,8]}}"#, "1,".repeat(1000))),
                "at most 16",
            ),
            (
                file(
                    r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                    &[0; 2],
                ),
                "named twice",
            ),
        ] {
            let message = try_open(&bytes).expect_err(expected);
            assert!(message.contains(expected), "{message}");
        }
        let twice = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        assert!(try_open(&file(twice, &[0; 4])).expect_err("overlap").contains("or to two"));
    }
}
