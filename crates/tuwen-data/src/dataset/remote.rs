//! Objects of stores: `s3://`, `gs://`, `az://`, `http://`, `https://`. Nothing is downloaded whole: what is needed is read
//! in ranges, and a range that fails is asked for again.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, RetryConfig, path};
use tokio::runtime::{Builder, Runtime};
use url::{Position, Url};

use super::DataError;
use super::place::Access;
use crate::parallel;

mod blocks;
mod index;

pub(super) use blocks::Blocks;
pub(super) use index::index;

/// Requests that are under way at once while a data set is opened.
const REQUESTS: usize = 16;

/// How often a range is asked for whose bytes broke off on the way. Requests that fail sooner are repeated by the
/// client, with pauses that grow.
const ATTEMPTS: usize = 4;

/// What the client repeats: a store that is away for longer than this is taken to be gone.
const RETRIES: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// Where requests make progress; one for the process.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("store").enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// An object that was there when the data set was opened.
#[derive(Clone)]
pub(super) struct Object(Arc<Inner>);

struct Inner {
    /// Its address.
    url: PathBuf,
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl Object {
    /// Its address.
    pub(super) fn path(&self) -> &Path {
        &self.0.url
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.0.meta.size
    }

    /// What changes when the object does.
    fn version(&self) -> String {
        let ObjectMeta { size, e_tag, last_modified, .. } = &self.0.meta;
        match e_tag {
            Some(tag) => format!("{size} {tag}"),
            None => format!("{size} {}", last_modified.timestamp_millis()),
        }
    }

    /// The bytes of these ranges; neighbours are fetched together.
    pub(super) fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Vec<u8>>> {
        let Inner { store, meta, .. } = &*self.0;
        if ranges.iter().any(|range| range.end > meta.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let asked: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
        let fetched = runtime()?.block_on(async {
            let mut attempt = 1;
            loop {
                match store.get_ranges(&meta.location, &asked).await {
                    Ok(fetched) => return Ok(fetched),
                    Err(error) if attempt == ATTEMPTS || is_final(&error) => {
                        return Err(io::Error::other(error));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100 << attempt)).await,
                }
                attempt += 1;
            }
        })?;
        let mut fetched = fetched.into_iter();
        let mut take = |range: &Range<u64>| {
            if range.is_empty() { Vec::new() } else { fetched.next().unwrap_or_default().to_vec() }
        };
        Ok(ranges.iter().map(&mut take).collect())
    }
}

/// Whether asking again is of no use.
fn is_final(error: &object_store::Error) -> bool {
    use object_store::Error::{NotFound, NotSupported, PermissionDenied, Precondition, Unauthenticated};
    matches!(
        error,
        NotFound { .. }
            | NotSupported { .. }
            | PermissionDenied { .. }
            | Precondition { .. }
            | Unauthenticated { .. }
    )
}

/// Connections, one for each host or bucket.
pub(super) struct Stores<'a> {
    access: &'a Access,
    open: HashMap<String, Arc<dyn ObjectStore>>,
}

impl<'a> Stores<'a> {
    pub(super) fn new(access: &'a Access) -> Self {
        Self { access, open: HashMap::new() }
    }

    /// Asks for the size and version of each object.
    pub(super) fn objects(mut self, urls: Vec<String>) -> Result<Vec<Object>, DataError> {
        let places = urls.into_iter().map(|url| self.place(&url).map(|(store, path)| (url, store, path)));
        let places = places.collect::<Result<Vec<_>, DataError>>()?;
        let runtime = runtime().map_err(DataError::io("the network"))?;
        let head = |(url, store, path): &(String, Arc<dyn ObjectStore>, path::Path)| {
            let meta = runtime.block_on(store.head(path)).map_err(|error| remote(url, error))?;
            Ok(Object(Arc::new(Inner { url: url.into(), store: store.clone(), meta })))
        };
        parallel::map(&places, REQUESTS, head).into_iter().collect()
    }

    /// The store of an address, and the path there.
    fn place(&mut self, address: &str) -> Result<(Arc<dyn ObjectStore>, path::Path), DataError> {
        let url = Url::parse(address).map_err(|error| remote(address, error))?;
        let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|error| remote(address, error))?;
        // Addresses such as https://s3.REGION.amazonaws.com/BUCKET/KEY have the bucket in the path.
        let bucket = match scheme {
            ObjectStoreScheme::Http => None,
            _ if url.scheme() == "https" => url.path_segments().and_then(|mut parts| parts.next()),
            _ => None,
        };
        let key = format!("{}/{}", &url[..Position::BeforePath], bucket.unwrap_or_default());
        if let Some(store) = self.open.get(&key) {
            return Ok((store.clone(), path));
        }
        let store = connect(&scheme, &url, &self.access.options).map_err(|error| remote(address, error))?;
        self.open.insert(key, store.clone());
        Ok((store, path))
    }
}

/// The settings that a builder knows by their names.
macro_rules! configured {
    ($builder:expr, $options:expr) => {
        $options.iter().fold($builder.with_retry(retries()), |builder, (name, value)| {
            match name.to_ascii_lowercase().parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            }
        })
    };
}

fn connect(
    scheme: &ObjectStoreScheme,
    url: &Url,
    options: &[(String, String)],
) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(match scheme {
        ObjectStoreScheme::AmazonS3 => {
            Arc::new(configured!(AmazonS3Builder::new(), options).with_url(url.as_str()).build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            Arc::new(configured!(GoogleCloudStorageBuilder::new(), options).with_url(url.as_str()).build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            Arc::new(configured!(MicrosoftAzureBuilder::new(), options).with_url(url.as_str()).build()?)
        }
        _ => {
            let plain = object_store::ClientOptions::new().with_allow_http(url.scheme() == "http");
            let builder = HttpBuilder::new().with_client_options(plain);
            Arc::new(configured!(builder, options).with_url(&url[..Position::BeforePath]).build()?)
        }
    })
}

fn retries() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

fn remote(url: &str, problem: impl std::fmt::Display) -> DataError {
    DataError::Remote { url: url.to_owned(), problem: problem.to_string().replace('\n', " ") }
}
