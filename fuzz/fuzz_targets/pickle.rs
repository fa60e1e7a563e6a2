//! The pickles of a PyTorch archive, in a whole archive: its check sums would stop nearly every change of a finished one.
#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use tuwen_fuzz::{read_all, write};
use tuwen_tensor::checkpoint::open;
use zip::CompressionMethod::{Deflated, Stored};
use zip::write::SimpleFileOptions;

fuzz_target!(|data: &[u8]| {
    let Some((kind, pickle)) = data.split_first() else { return };
    read_all(open(&write("model", &archive(*kind, pickle))));
});

/// `torch.save` or TorchScript by the first bit of `kind`, packed by the second.
fn archive(kind: u8, pickle: &[u8]) -> Vec<u8> {
    let method = if kind & 2 == 0 { Stored } else { Deflated };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        writer.start_file(format!("archive/{name}"), options).expect("started");
        writer.write_all(bytes).expect("written");
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    add("data/0", &[0x3f; 64]);
    add("data/1", &[1; 24]);
    if kind & 1 == 1 {
        add("constants.pkl", b"\x80\x02).");
        add("constants/0", &[0; 8]);
        add("code/__torch__.py", b"");
    }
    writer.finish().expect("finished").into_inner()
}
