//! Where the files of a data set lie: on this machine, or in a store.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{DataError, pattern};

#[cfg(feature = "remote")]
use super::remote::{Blocks, Object, Stores};

/// Beginnings of names that stand for a store.
const SCHEMES: [&str; 10] =
    ["s3://", "s3a://", "gs://", "az://", "azure://", "abfs://", "abfss://", "adl://", "http://", "https://"];

/// How stores are reached. Local files need nothing of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Settings by the names that `object_store` gives them, such as `aws_region` and `google_service_account`; those
    /// of other stores are passed over.
    pub options: Vec<(String, String)>,
    /// Where the indices of remote tar files are kept; without it they are made anew each time.
    pub cache_dir: Option<PathBuf>,
}

impl fmt::Debug for Access {
    /// Names of the settings only: some of the values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Access").field("options", &names).field("cache_dir", &self.cache_dir).finish()
    }
}

/// Whether a path is the address of something in a store rather than a file.
pub fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(|path| SCHEMES.iter().any(|scheme| path.starts_with(scheme)))
}

/// What can be read from any position.
pub(super) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A file or an object of a store.
pub(super) enum Place {
    Local(PathBuf),
    #[cfg(feature = "remote")]
    Remote(Object),
}

impl Place {
    /// All that a pattern stands for; objects of stores are known to exist, files may not.
    pub(super) fn find(path: &Path, access: &Access) -> Result<Vec<Self>, DataError> {
        if !is_remote(path) {
            return Ok(pattern::expand(path)?.into_iter().map(Self::Local).collect());
        }
        let urls = pattern::expand_url(path)?;
        #[cfg(feature = "remote")]
        return Ok(Stores::new(access).objects(urls)?.into_iter().map(Self::Remote).collect());
        #[cfg(not(feature = "remote"))]
        {
            let _ = (urls, access);
            Err(DataError::NoRemote { path: path.to_owned() })
        }
    }

    /// Its name.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Local(path) => path,
            #[cfg(feature = "remote")]
            Self::Remote(object) => object.path(),
        }
    }

    pub(super) fn is_remote(&self) -> bool {
        !matches!(self, Self::Local(_))
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Local(path) => Ok(path.metadata()?.len()),
            #[cfg(feature = "remote")]
            Self::Remote(object) => Ok(object.len()),
        }
    }

    /// A reader from the beginning.
    pub(super) fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        match self {
            Self::Local(path) => Ok(Box::new(File::open(path)?)),
            #[cfg(feature = "remote")]
            Self::Remote(object) => Ok(Box::new(Blocks::new(object.clone()))),
        }
    }

    /// The bytes of these ranges, each whole.
    pub(super) fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Vec<u8>>> {
        match self {
            Self::Local(path) => {
                // Opened anew each time: there may be more files than a process may hold open.
                let mut file = File::open(path)?;
                let length = file.metadata()?.len();
                let mut read = |range: &Range<u64>| {
                    if range.end > length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
                    file.seek(SeekFrom::Start(range.start))?;
                    file.read_exact(&mut bytes)?;
                    Ok(bytes)
                };
                ranges.iter().map(&mut read).collect()
            }
            #[cfg(feature = "remote")]
            Self::Remote(object) => object.read(ranges),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        for (path, expected) in [
            ("s3://bucket/a.tar", true),
            ("https://host/{0..3}.tar", true),
            ("/data/s3://odd", false),
            ("s3/a.tar", false),
            ("file:///a.tar", false),
        ] {
            assert_eq!(is_remote(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let access =
            Access { options: vec![("aws_secret_access_key".into(), "hidden".into())], cache_dir: None };
        let shown = format!("{access:?}");
        assert!(shown.contains("aws_secret_access_key") && !shown.contains("hidden"), "{shown}");
    }

    #[cfg(not(feature = "remote"))]
    #[test]
    fn a_build_without_stores_says_so() {
        let error =
            Place::find(Path::new("s3://bucket/{0..3}.tar"), &Access::default()).err().expect("an error");
        assert!(error.to_string().contains("--features remote"), "{error}");
    }
}
