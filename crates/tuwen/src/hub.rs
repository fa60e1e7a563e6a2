//! Fetching models from the Hugging Face hub, or what speaks as it does, into the cache that all its tools share.
//!
//! Only what a model needs is fetched, only what is not there yet, and a download that was cut off goes on where it
//! stopped. Nothing here is called unless a user asks for a download.

use std::path::PathBuf;

use crate::source::{self, HubId};
use crate::{Error, Options};

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
mod error;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(any(feature = "hub", test))]
mod wanted;

pub use error::HubError;

/// Where the hub is unless said otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// How the hub is reached, and where its files go.
#[derive(Clone, Default)]
pub struct Hub {
    /// The cache: a directory with `models--organisation--name` in it.
    pub cache_dir: Option<PathBuf>,
    /// Another server that speaks as the hub does.
    pub endpoint: Option<String>,
    /// Opens private and gated models. It is sent to the endpoint only.
    pub token: Option<String>,
    /// Whether nothing may be fetched.
    pub offline: bool,
}

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// The file.
    pub name: &'p str,
    /// Bytes of it that are there.
    pub done: u64,
    /// All its bytes.
    pub total: u64,
    /// Whether this is the first word about this file.
    pub begins: bool,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The commit.
    pub revision: String,
    /// The directory with its files.
    pub directory: PathBuf,
    /// The files, in the order in which they were looked at.
    pub files: Vec<PulledFile>,
}

/// A file of a model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Whether anything of it was fetched now.
    pub fetched: bool,
}

/// Fetches a model: `organisation/name`, perhaps with `@revision`.
///
/// # Errors
/// A name that is no hub id, no network, a model that is not there or not open to the token, and a file that cannot be
/// fetched or stored; what was fetched so far stays for the next time.
pub fn pull(model: &str, hub: &Hub, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Pulled, HubError> {
    let id = HubId::parse(model).ok_or_else(|| HubError::NotAnId(model.to_owned()))?;
    if hub.offline {
        return Err(HubError::Offline(id.name()));
    }
    #[cfg(feature = "hub")]
    return fetch::model(id, hub, progress);
    #[cfg(not(feature = "hub"))]
    {
        let _ = (id, progress);
        Err(HubError::NotBuilt)
    }
}

/// Whether a name is a hub id that no cache holds.
pub fn is_missing(model: &str, options: &Options) -> bool {
    matches!(source::find(model, options), Err(Error::NotInCache { .. }))
}
