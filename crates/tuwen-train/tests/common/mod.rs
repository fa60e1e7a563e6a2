//! Pictures that tests learn from.

#![allow(dead_code)] // no test uses all of it

use std::fs;
use std::path::Path;

/// A square picture as 24-bit BMP, whose rows have no padding.
pub fn bmp(side: u32, pixels: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let bytes = 3 * side * side;
    let mut file = b"BM".to_vec();
    for word in [54 + bytes, 0, 54, 40, side, side, 24 << 16 | 1, 0, bytes, 0, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(pixels);
    file
}

/// A folder for each colour with so many pictures, each a little noisier than the one before.
pub fn write_pictures(folder: &Path, side: u32, count: u8, colours: &[(&str, [u8; 3])]) {
    for (class, colour) in colours {
        fs::create_dir_all(folder.join(class)).expect("created");
        for number in 0..count {
            let noisy = |i: u32| colour.map(|c| c.wrapping_add(i as u8 % (number + 1)));
            let file = bmp(side, (0..side * side).flat_map(noisy));
            fs::write(folder.join(class).join(format!("{number}.bmp")), file).expect("written");
        }
    }
}
