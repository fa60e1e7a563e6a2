//! What tests of data share: images made of numbers.

#![allow(clippy::unwrap_used, dead_code)] // helpers of tests; each file uses a part

use std::io::Write;

/// A PNG file of an RGB image that depends on the number.
pub fn png(width: u32, height: u32, number: u8) -> Vec<u8> {
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for row in 0..height {
        pixels.write_all(&[0]).unwrap();
        for place in 0..width * 3 {
            pixels.write_all(&[(row * 7 + place * 5) as u8 ^ number.wrapping_mul(29)]).unwrap();
        }
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", pixels.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut checksum = flate2::Crc::new();
        checksum.update(kind);
        checksum.update(&data);
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(kind);
        file.extend(data);
        file.extend(checksum.sum().to_be_bytes());
    }
    file
}
