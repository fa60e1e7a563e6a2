//! Where the files of a model lie: a directory, or this program.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::builtin::BuiltIn;

/// A file inside this program.
pub(crate) type Embedded = (&'static str, &'static [u8]);

/// The files beside the weights.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Directory(PathBuf),
    BuiltIn(&'static BuiltIn),
}

impl Place {
    /// What errors call the place.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory,
            Self::BuiltIn(model) => Path::new(model.name),
        }
    }

    /// What errors call a file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// A small file; `None` if it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, Error> {
        /// Far above any configuration; vocabularies take about 4 MB.
        const LARGEST: u64 = 256 << 20;
        match self {
            Self::BuiltIn(_) => Ok(self.embedded(name).map(Cow::Borrowed)),
            Self::Directory(directory) => {
                let path = directory.join(name);
                match std::fs::metadata(&path) {
                    Ok(metadata) if metadata.is_file() && metadata.len() <= LARGEST => {
                        Ok(Some(std::fs::read(&path).map_err(Error::io(&path))?.into()))
                    }
                    Ok(_) => Err(Error::io(&path)(io::Error::other("expected a small file"))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::io(&path)(error)),
                }
            }
        }
    }

    /// The bytes of a file by its path; of a directory nothing.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.file_name().and_then(|name| name.to_str());
        let bytes = name.and_then(|name| self.embedded(name));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn embedded(&self, name: &str) -> Option<&'static [u8]> {
        let Self::BuiltIn(model) = self else { return None };
        model.file(name)
    }

    /// A small text; `None` if it is not there.
    pub fn read_text(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let not_text = |_| Error::io(&self.path(name))(io::Error::other("not a UTF-8 text"));
        String::from_utf8(bytes.into_owned()).map(Some).map_err(not_text)
    }
}
