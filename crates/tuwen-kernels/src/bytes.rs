//! Bytes seen as numbers.

/// The floats that little-endian bytes are, where they lie as this machine wants them: aligned, and in its byte order.
pub fn as_floats(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: any four bytes are an f32.
    match unsafe { bytes.align_to() } {
        ([], floats, []) => Some(floats),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_bytes_are_floats() {
        let floats = crate::AlignedBuf::zeroed(4);
        // SAFETY: the bytes of four floats.
        let bytes = unsafe { std::slice::from_raw_parts(floats.as_ptr().cast::<u8>(), 16) };
        assert_eq!(as_floats(bytes), Some(&floats[..]));
        assert_eq!(as_floats(&bytes[4..12]), Some(&floats[..2]));
        assert_eq!((as_floats(&bytes[1..5]), as_floats(&bytes[..6])), (None, None));
    }
}
