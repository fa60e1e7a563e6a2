//! Tests of PyTorch's files: the golden cases, and archives that lie.

use std::io::Write;

use proptest::prelude::*;

use super::super::testing::{fixture, temporary};
use super::super::{Checkpoint, DType, RawTensor, TensorSource, open};
use super::*;

/// The pickle of `{name: tensor}` as `torch.save` writes it.
fn state_dict_pickle(name: &str, storage_len: u8, shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    [
        &b"\x80\x02}q\x00("[..],
        &text(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &[b'K', storage_len, b't', b'Q', b'K', 0],
        &[b'K', shape[0], b'K', shape[1], 0x86],
        &[b'K', strides[0], b'K', strides[1], 0x86],
        b"\x89ccollections\nOrderedDict\n)RtRu.",
    ]
    .concat()
}

fn archive(records: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in records {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("a/{name}"), options).expect("started");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

fn small_archive(method: zip::CompressionMethod) -> Vec<u8> {
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    archive(&[("data.pkl", &state_dict_pickle("w", 6, [3, 2], [1, 3])), ("data/0", &data)], method)
}

/// Opens a file that lies beside a safetensors file `shard`, which an index may name.
fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, String> {
    let directory = temporary();
    let path = directory.path().join("model.pt");
    std::fs::write(&path, bytes).expect("writable");
    std::fs::write(directory.path().join("shard"), small_safetensors()).expect("writable");
    open(&path).map_err(|e| e.to_string())
}

#[test]
fn stored_and_deflated_archives_read_alike() {
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let checkpoint = open_bytes(&small_archive(method)).expect("opened");
        assert_eq!((checkpoint.format(), checkpoint.names()), (Format::TorchZip, vec!["w".to_owned()]));
        let tensor = checkpoint.read("w").expect("read");
        assert_eq!((tensor.dtype, &tensor.shape[..]), (DType::F32, &[3, 2][..]));
        assert_eq!(tensor.to_f32(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}

#[test]
fn lying_archives_are_refused() {
    let stored = zip::CompressionMethod::Stored;
    let with =
        |pickle: &[u8], data: &[u8]| open_bytes(&archive(&[("data.pkl", pickle), ("data/0", data)], stored));
    let good = state_dict_pickle("w", 6, [3, 2], [2, 1]);
    assert!(with(&good, &[0; 24]).is_ok());
    for (result, expected) in [
        (with(&good, &[0; 20]), "20 bytes of data"),
        (with(&state_dict_pickle("w", 6, [3, 3], [3, 1]), &[0; 24]), "leaves its storage"),
        (
            with(&state_dict_pickle("w", 6, [200, 1], [0, 0]), &[0; 24]).and_then(|c| read_all(&c)),
            "larger than its storage",
        ),
        (
            with(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.", &[]),
            "refused: the pickle names `posix.system`",
        ),
        (
            with(b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", &[]),
            "no state dict (neither at the top nor under state_dict or model); its keys are: a",
        ),
        (open_bytes(&archive(&[("data.pkl", &good)], stored)), "record `data/0`: missing"),
        (open_bytes(&archive(&[("weights", &good)], stored)), "no data.pkl"),
        (open_bytes(&archive(&[("data.pkl", &good), ("byteorder", b"big")], stored)), "big-endian"),
    ] {
        let message = result.expect_err(expected);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn module_cycles_end() {
    // A module that is its own attribute, twice.
    let pickle =
        b"\x80\x02c__torch__.net\nNode\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub.";
    let records: [(&str, &[u8]); 2] = [("data.pkl", pickle), ("constants.pkl", b"\x80\x02).")];
    let message = open_bytes(&archive(&records, zip::CompressionMethod::Stored)).expect_err("endless");
    assert!(message.contains("without end"), "{message}");
}

/// The old format, as `torch.save(..., _use_new_zipfile_serialization=False)` lays it out.
fn stream(data: &[f32]) -> Vec<u8> {
    let object = state_dict_pickle("w", 6, [2, 3], [3, 1]);
    // The persistent id of this format has a sixth part: the view, or none.
    let at = object.windows(3).position(|window| window == b"\x06tQ").expect("the id") + 1;
    let object = [&object[..at], b"N", &object[at..]].concat();
    let mut bytes = [
        &b"\x80\x02"[..],
        STREAM_MAGIC,
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.",
    ]
    .concat();
    bytes.extend(object);
    bytes.extend(b"\x80\x02]X\x01\x00\x00\x000a.");
    bytes.extend((data.len() as i64).to_le_bytes());
    bytes.extend(data.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn the_old_format_reads() {
    let bytes = stream(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let checkpoint = open_bytes(&bytes).expect("opened");
    assert_eq!(checkpoint.format(), Format::TorchStream);
    assert_eq!(checkpoint.read("w").expect("read").to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(open_bytes(&stream(&[0.0])).expect_err("too few").contains("tensor `w`"));
}

fn read_all(checkpoint: &Checkpoint) -> Result<Checkpoint, String> {
    checkpoint
        .names()
        .iter()
        .try_for_each(|name| checkpoint.read(name).map(drop))
        .map_err(|e| e.to_string())?;
    Err("everything was read".to_owned())
}

fn contents(path: &str) -> Option<Vec<(String, RawTensor<'static>)>> {
    let checkpoint = open(&fixture(path)?).expect("opened");
    Some(
        checkpoint
            .names()
            .into_iter()
            .map(|n| (n.clone(), checkpoint.read(&n).expect("read").into_owned()))
            .collect(),
    )
}

#[test]
fn golden_archives_agree_with_each_other() {
    for case in ["clip-vit-openai-tiny", "clip-rn-openai-tiny"] {
        let Some(plain) = contents(&format!("{case}/state_dict.pt")) else { return };
        let Some(script) = contents(&format!("{case}/model.pt")) else { return };
        let scalars = ["input_resolution", "context_length", "vocab_size"];
        let script: Vec<_> = script.into_iter().filter(|(name, _)| !scalars.contains(&&name[..])).collect();
        assert!(plain.len() > 50 && plain == script, "{case}");
    }
    let case = "clip-siglip-openclip-tiny";
    let Some(safe) = contents(&format!("{case}/open_clip_model.safetensors")) else { return };
    assert_eq!(contents(&format!("{case}/open_clip_pytorch_model.bin")), Some(safe.clone()));
    assert_eq!(contents(&format!("{case}/epoch_3.pt")), Some(safe));
    let Some(path) = fixture(&format!("{case}/epoch_3.pt")) else { return };
    let metadata = open(&path).expect("opened").metadata().clone();
    assert_eq!(metadata.get("epoch").map(String::as_str), Some("3"));
    let Some(path) = fixture("clip-vit-openai-tiny/model.pt") else { return };
    assert_eq!(open(&path).expect("opened").format(), Format::TorchScript);
}

/// Every checkpoint among the golden cases opens and reads, whatever family it is of.
#[test]
fn all_golden_checkpoints_open() {
    let Some(root) = fixture("") else { return };
    let mut opened = 0;
    let mut pending = vec![root];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("listed") {
            let path = entry.expect("entry").path();
            let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if path.is_dir() {
                pending.push(path);
            } else if ["safetensors", "pt", "pth", "bin"].contains(&kind)
                || path.ends_with("pytorch_model.bin.index.json")
            {
                let checkpoint = open(&path).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(
                    read_all(&checkpoint).expect_err("read"),
                    "everything was read",
                    "{}",
                    path.display()
                );
                opened += 1;
            }
        }
    }
    assert!(opened > 100, "{opened}");
}

/// Opens and reads whatever it is; the result does not matter, only that there is one.
fn survives(bytes: &[u8]) {
    if let Ok(checkpoint) = open_bytes(bytes) {
        let _ = read_all(&checkpoint);
    }
}

fn small_safetensors() -> Vec<u8> {
    let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[2],"data_offsets":[8,10]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[7; 10]].concat()
}

/// A TorchScript archive: a module with one tensor.
fn small_script() -> Vec<u8> {
    let dict = state_dict_pickle("w", 6, [2, 3], [3, 1]);
    let module = [b"\x80\x02c__torch__\nN\n)\x81", &dict[2..dict.len() - 1], b"b."].concat();
    let records: [(&str, &[u8]); 3] = [("data.pkl", &module), ("data/0", &[0; 24]), ("constants.pkl", b"")];
    archive(&records, zip::CompressionMethod::Stored)
}

/// One file of each kind, with the number of its tensors.
fn valid_files() -> [(Vec<u8>, usize); 6] {
    [
        (small_safetensors(), 2),
        (small_archive(zip::CompressionMethod::Stored), 1),
        (small_archive(zip::CompressionMethod::Deflated), 1),
        (small_script(), 1),
        (stream(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), 1),
        (br#"{"weight_map":{"a":"shard"}}"#.to_vec(), 2),
    ]
}

/// A part of a file is not the file: nothing that was cut off goes unnoticed.
#[test]
fn truncated_files_are_refused() {
    for (kind, (bytes, tensors)) in valid_files().into_iter().enumerate() {
        let checkpoint = open_bytes(&bytes).expect("opened");
        assert_eq!(checkpoint.names().len(), tensors, "{kind}");
        assert_eq!(read_all(&checkpoint).expect_err("read"), "everything was read");
        for len in 0..bytes.len() {
            let message = open_bytes(&bytes[..len]).expect_err("truncated");
            assert!(
                message.contains("model.pt: ") && message.lines().count() == 1,
                "{kind}, {len}: {message}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_valid_files_never_panic(
        kind in 0_usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let (mut bytes, _) = valid_files()[kind].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(front in 0_usize..6, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let fronts: [&[u8]; 6] = [b"", b"PK\x03\x04", b"\x10\0\0\0\0\0\0\0{", b"{", b"\x80\x02", &[b"\x80\x02", STREAM_MAGIC].concat()];
        survives(&[fronts[front], &bytes].concat());
    }

    /// Instructions at random, many of them sensible.
    #[test]
    fn random_pickles_never_panic(picks in prop::collection::vec((0_usize..40, any::<u8>()), 0..60)) {
        let words: [&[u8]; 34] = [
            b"(", b".", b"0", b"1", b"2", b"N", b"\x88", b"\x89", b")", b"t", b"]", b"}", b"\x85", b"\x86", b"\x87",
            b"a", b"e", b"s", b"u", b"d", b"l", b"R", b"\x81", b"\x92", b"b", b"Q", b"\x94", b"\x8f", b"\x90", b"\x91",
            b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n",
            b"c__torch__\nN\n",
        ];
        let mut bytes = b"\x80\x02".to_vec();
        for (pick, byte) in picks {
            match pick {
                34 | 35 => bytes.extend([b'K', byte]),
                36 => bytes.extend([b'h', byte % 4]),
                37 => bytes.extend([b'q', byte % 4]),
                38 => bytes.extend(b"X\x07\x00\x00\x00storage"),
                39 => bytes.push(byte),
                _ => bytes.extend(words[pick]),
            }
        }
        if let Ok(pickle) = pickle::read(&bytes) {
            let _ = named_tensors(&pickle);
        }
    }
}
