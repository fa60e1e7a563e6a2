//! WebDataset: `KEY.jpg`, `KEY.txt` with the first text, `KEY.json`.

use std::io;
use std::path::{Path, PathBuf};

use tuwen_data::image::{Format as ImageFormat, sniff};

use super::{Cleaned, DataWriter};
use crate::JobError;
use crate::files::PartialFile;

/// A tar file.
pub(super) struct Tar {
    path: PathBuf,
    builder: tar::Builder<PartialFile>,
}

impl Tar {
    /// Begins a file.
    pub fn create(path: &Path) -> Result<Self, JobError> {
        Ok(Self { path: path.to_owned(), builder: tar::Builder::new(PartialFile::create(path)?) })
    }

    /// Appends a member; equal content makes equal bytes.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.builder.append_data(&mut header, name, bytes)
    }
}

impl DataWriter for Tar {
    fn push(&mut self, sample: &Cleaned<'_>) -> io::Result<()> {
        let name = &sample.name;
        self.append(&format!("{name}.{}", suffix(&sample.image)), &sample.image)?;
        if let Some(text) = sample.record.kept_texts().first() {
            self.append(&format!("{name}.txt"), text.as_bytes())?;
        }
        self.append(&format!("{name}.json"), sample.json().to_string().as_bytes())
    }

    fn finish(self: Box<Self>) -> Result<(), JobError> {
        let Self { path, builder } = *self;
        builder.into_inner().map_err(JobError::io(&path))?.finish()
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// The ending of an image file, by its content.
fn suffix(image: &[u8]) -> &'static str {
    match sniff(image) {
        Ok(ImageFormat::Png) => "png",
        Ok(ImageFormat::WebP) => "webp",
        Ok(ImageFormat::Gif) => "gif",
        Ok(ImageFormat::Bmp) => "bmp",
        Ok(ImageFormat::Tiff) => "tiff",
        Ok(ImageFormat::Jpeg) | Err(_) => "jpg",
    }
}
