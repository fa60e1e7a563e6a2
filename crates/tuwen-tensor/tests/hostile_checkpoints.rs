//! Small files that ask for much: each ends in one line that names the file, or in few tensors, and in little memory.
//!
//! One test, alone in its program, because the memory measured is that of the whole process.

use std::io::{Cursor, Write};

use tuwen_tensor::checkpoint::{TensorSource, open};
use zip::CompressionMethod::{Deflated, Stored};

/// What reading may add to the process at its peak, in kilobytes; the largest file has 20 MB.
const MOST_KB: u64 = 250_000;

fn archive(records: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in records {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("a/{name}"), options).expect("started");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Instructions that leave a tensor of one axis, over the whole of a storage of 4 · `len` bytes, on the stack.
fn tensor(len: u32) -> Vec<u8> {
    let len = [b"J", &len.to_le_bytes()[..]].concat();
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &len,
        b"tQK\x00",
        &len,
        b"\x85K\x01\x85\x89NtR",
    ]
    .concat()
}

/// A dictionary of `count` entries, all with one value; its keys are one name, or a name each.
fn repeated(count: usize, name: Option<&str>, value: &[u8]) -> Vec<u8> {
    let mut bytes = [b"\x80\x02", &text(name.unwrap_or(""))[..], b"q\x000", value, b"q\x010}("].concat();
    for i in 0..count {
        bytes.extend(name.map_or_else(|| text(&format!("{i:x}")), |_| b"h\x00".to_vec()));
        bytes.extend(b"h\x01");
    }
    bytes.extend(b"u.");
    bytes
}

/// A module whose attributes are those of `pickle`, which is a dictionary.
fn module(pickle: &[u8]) -> Vec<u8> {
    [b"\x80\x02c__torch__\nN\n)\x81", &pickle[2..pickle.len() - 1], b"b."].concat()
}

fn safetensors(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// Files, and what is said of each; nothing where it opens.
fn files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let pickled = |pickle: &[u8]| archive(&[("data.pkl", pickle), ("data/0", &[0; 4])], Stored);
    let begun = |rest: Vec<u8>| pickled(&[b"\x80\x02".to_vec(), rest].concat());
    let packed = |pickle: &[u8], data: &[u8]| archive(&[("data.pkl", pickle), ("data/0", data)], Deflated);
    let zeros = vec![0; 100 << 20];
    let long = "a\u{1b}\n".repeat(300_000);
    let leaf = module(&repeated(100, None, &tensor(1)));
    let modules = module(&repeated(100_000, None, &leaf[2..leaf.len() - 1]));
    let modules = [("data.pkl", &modules[..]), ("data/0", &[0; 4]), ("constants.pkl", b"\x80\x02).")];
    let entry = |i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let entries = (0..100_000).map(entry).collect::<Vec<_>>().join(",");
    let numbers = "0,".repeat(3 << 20);
    vec![
        ("values", begun(vec![b')'; 5_000_000]), "more than"),
        ("tuples", begun(b"N\x85".repeat(2_500_000)), "more than"),
        ("lists", begun(b"]NaN0".repeat(2_000_000)), "more than"),
        ("a long name, often", pickled(&repeated(600_000, Some(&long), &tensor(1))), "900000 bytes"),
        ("a name, often", pickled(&repeated(600_000, Some(&long[..999]), &tensor(1))), ""),
        ("a long text, often", pickled(&repeated(300_000, None, &text(&long))), "no state dict"),
        ("a long name called", begun(["c", &"o".repeat(1 << 20), "\nf\n."].concat().into_bytes()), "refused"),
        ("modules in modules", archive(&modules, Stored), "without end"),
        ("one packed storage", packed(&repeated(1, None, &tensor(25 << 20)), &zeros), "beyond"),
        (
            "a packed storage, often",
            packed(&repeated(9, None, &tensor(10 << 20)), &zeros[..40 << 20]),
            "beyond",
        ),
        ("a packed pickle", archive(&[("data.pkl", &zeros)], Deflated), "beyond"),
        ("many tensors", safetensors(&format!("{{{entries}}}")), ""),
        ("sizes", safetensors(&format!("{{\"a\":{{\"shape\":[{numbers}0]}}}}")), "at most 16"),
        ("texts", safetensors(&format!("{{\"__metadata__\":[{numbers}0]}}")), "__metadata__"),
        ("a long index", format!("{{\"weight_map\":{{{}}}}}", " ".repeat(20 << 20)).into_bytes(), "at most"),
    ]
}

/// The largest memory that the process had so far, in kilobytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

#[test]
fn little_files_cost_little() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.pt");
    let files = files();
    let before = peak();
    for (what, bytes, expected) in files {
        std::fs::write(&path, bytes).expect("written");
        let result = open(&path).and_then(|checkpoint| {
            checkpoint.names().iter().try_for_each(|name| checkpoint.read(name).map(drop))
        });
        match result {
            Ok(()) => assert_eq!(expected, "", "{what} opened"),
            Err(error) => {
                let message = error.to_string();
                assert!(!expected.is_empty() && message.contains(expected), "{what}: {message}");
                assert!(message.contains("model.pt") && message.lines().count() == 1, "{what}: {message}");
                assert!(message.len() < 1000 && !message.contains('\x1b'), "{what}: {message}");
            }
        }
        let Some((before, peak)) = before.zip(peak()) else { continue };
        eprintln!("{what}: {} kB above {before}", peak - before);
        assert!(peak - before < MOST_KB, "{what} took {} kB", peak - before);
    }
}
