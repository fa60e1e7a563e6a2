//! What can be wrong with an image file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The kinds of image files that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        })
    }
}

/// Why an image cannot be used.
#[derive(Debug, Error)]
pub enum ImageError {
    /// One of the others, with the name of the file.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Box<ImageError>,
    },
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The content is none of the kinds that can be read.
    #[error("not a JPEG, PNG, WebP, GIF, BMP or TIFF image: {content}")]
    UnknownFormat {
        /// What it is instead, as far as its beginning tells.
        content: String,
    },
    /// The file ends before the image is complete.
    #[error("the {format} file is cut off after {length} bytes")]
    Truncated {
        /// Its kind.
        format: Format,
        /// Its length.
        length: usize,
    },
    /// The content breaks the rules of its kind.
    #[error("broken {format} file: {problem}")]
    Broken {
        /// Its kind.
        format: Format,
        /// What is wrong.
        problem: String,
    },
    /// A feature of its kind that cannot be read.
    #[error("this {format} file cannot be read: {feature} is not supported")]
    Unsupported {
        /// Its kind.
        format: Format,
        /// What it uses.
        feature: String,
    },
    /// More pixels than allowed, according to the header.
    #[error("the {format} image is too large: {width} x {height} pixels, at most {limit} in all are allowed")]
    TooLarge {
        /// Its kind.
        format: Format,
        /// Width according to the header.
        width: u64,
        /// Height according to the header.
        height: u64,
        /// The greatest number of pixels allowed.
        limit: u64,
    },
}

impl ImageError {
    /// Something breaks the rules of a kind of file.
    pub(super) fn broken(format: Format, problem: impl fmt::Display) -> Self {
        // Some decoders end their sentence with the line.
        Self::Broken { format, problem: problem.to_string().trim_end().to_owned() }
    }

    /// A file uses something that cannot be read.
    pub(super) fn unsupported(format: Format, feature: impl fmt::Display) -> Self {
        Self::Unsupported { format, feature: feature.to_string() }
    }
}
