//! How stores of data are reached: credentials and settings from the environment, which only this crate reads.

use std::env;
use std::path::PathBuf;

use tuwen_data::dataset::Access;

/// Variables that begin so are settings of S3, Google Cloud Storage and Azure, under the names of their own tools.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// What the environment says of stores, and where indices of remote shards are kept.
pub fn access() -> Access {
    let is_setting = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let options = env::vars_os().filter_map(text).filter(|(name, _)| is_setting(name)).collect();
    Access { options, cache_dir: cache_dir() }
}

/// `tuwen` in the user's cache directory.
fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("tuwen"))
}
