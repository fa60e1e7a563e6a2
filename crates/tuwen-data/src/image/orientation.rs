//! How a camera was held: the orientation tag of EXIF.

/// What has to be done to stored pixels so that the picture stands upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Orientation {
    #[default]
    Upright,
    MirrorHorizontally,
    Rotate180,
    MirrorVertically,
    /// Mirror at the diagonal from top left to bottom right.
    Transpose,
    /// A quarter turn clockwise.
    Rotate90,
    /// Mirror at the diagonal from top right to bottom left.
    Transverse,
    /// A quarter turn anticlockwise.
    Rotate270,
}

/// The number of the tag.
const TAG: u16 = 0x0112;

impl Orientation {
    /// By the number in the tag, 1 to 8; others mean nothing.
    pub fn from_tag(value: u16) -> Self {
        match value {
            2 => Self::MirrorHorizontally,
            3 => Self::Rotate180,
            4 => Self::MirrorVertically,
            5 => Self::Transpose,
            6 => Self::Rotate90,
            7 => Self::Transverse,
            8 => Self::Rotate270,
            _ => Self::Upright,
        }
    }

    /// From an EXIF block, which has the form of a TIFF file; upright where it says nothing or is broken.
    pub(super) fn from_exif(exif: &[u8]) -> Self {
        Self::find(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).map_or(Self::Upright, Self::from_tag)
    }

    fn find(exif: &[u8]) -> Option<u16> {
        let little = match exif.first_chunk::<4>()? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let word = |at: usize| {
            let bytes = *exif.get(at..)?.first_chunk()?;
            Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let bytes = *exif.get(4..)?.first_chunk()?;
        let start = if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize;
        let entry = |number: usize| start.checked_add(2 + 12 * number);
        let found =
            (0..usize::from(word(start)?)).find(|&number| entry(number).and_then(word) == Some(TAG))?;
        word(entry(found)? + 8)
    }

    /// Size after the turn.
    pub(super) fn size(self, (width, height): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Transpose | Self::Rotate90 | Self::Transverse | Self::Rotate270 => (height, width),
            _ => (width, height),
        }
    }

    /// The turned pixels of an image of a size.
    pub(super) fn apply<T: Copy>(self, pixels: &[T], size: (usize, usize)) -> Vec<T> {
        let (width, height) = size;
        let (new_width, new_height) = self.size(size);
        let mut turned = Vec::with_capacity(pixels.len());
        for y in 0..new_height {
            turned.extend((0..new_width).map(|x| {
                let (column, row) = match self {
                    Self::Upright => (x, y),
                    Self::MirrorHorizontally => (width - 1 - x, y),
                    Self::Rotate180 => (width - 1 - x, height - 1 - y),
                    Self::MirrorVertically => (x, height - 1 - y),
                    Self::Transpose => (y, x),
                    Self::Rotate90 => (y, height - 1 - x),
                    Self::Transverse => (width - 1 - y, height - 1 - x),
                    Self::Rotate270 => (width - 1 - y, x),
                };
                pixels[row * width + column]
            }));
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_a_letter() {
        // Two columns, three rows, stored so that the tag brings back the picture "ab cd ef".
        for (tag, stored, size) in [
            (1, "abcdef", (2, 3)),
            (2, "badcfe", (2, 3)),
            (3, "fedcba", (2, 3)),
            (4, "efcdab", (2, 3)),
            (5, "acebdf", (3, 2)),
            (6, "bdface", (3, 2)),
            (7, "fdbeca", (3, 2)),
            (8, "ecafdb", (3, 2)),
        ] {
            let orientation = Orientation::from_tag(tag);
            assert_eq!(orientation.size(size), (2, 3), "{tag}");
            assert_eq!(orientation.apply(stored.as_bytes(), size), b"abcdef", "{tag}");
        }
    }

    #[test]
    fn reads_both_byte_orders() {
        let little = b"II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\0\0\0\0\0\0\0\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        assert_eq!(Orientation::from_exif(little), Orientation::Rotate90);
        let big = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0";
        assert_eq!(Orientation::from_exif(big), Orientation::Rotate180);
        for end in 0..little.len() - 3 {
            assert_eq!(Orientation::from_exif(&little[..end]), Orientation::Upright);
        }
        assert_eq!(Orientation::from_exif(b"II*\0\xff\xff\xff\xff\xff\xff"), Orientation::Upright);
    }
}
