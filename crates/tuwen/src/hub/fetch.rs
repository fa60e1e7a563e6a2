//! From a hub id to files in the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::cache::Repository;
use super::client::{Client, Metadata};
use super::wanted::{Wanted, parts, wanted};
use super::{Hub, HubError, Progress, Pulled, PulledFile};
use crate::source::HubId;

/// Attempts in a row that bring nothing before a download is given up.
const FRUITLESS: u32 = 3;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 18;

/// Longest index of parts; that of 2000 tensors has about 200 kB.
const MAX_INDEX: u64 = 16 << 20;

type Listener<'l> = dyn FnMut(Progress<'_>) + 'l;

/// Fetches what a model needs; the weights last, and the branch is noted when all is there.
pub fn model(id: HubId<'_>, hub: &Hub, progress: &mut Listener<'_>) -> Result<Pulled, HubError> {
    let cache = hub.cache_dir.as_deref().ok_or(HubError::NoCache)?;
    let client = Client::new(hub, id);
    let description = client.describe()?;
    let commit = description.sha.clone();
    let Wanted { small, weights } =
        wanted(&description.files()).map_err(|found| HubError::NoWeights { model: id.name(), found })?;
    let repository = Repository::new(cache, &id);
    let mut fetcher = Fetcher { client, repository, commit, progress };
    let mut files = small.iter().map(|name| fetcher.file(name)).collect::<Result<Vec<_>, _>>()?;
    let first = fetcher.file(&weights)?;
    if weights.ends_with(".index.json") {
        for part in read_index(&first.path)? {
            files.push(fetcher.file(&part)?);
        }
    }
    files.push(first);
    let Fetcher { repository, commit, .. } = fetcher;
    if id.revision != commit {
        repository.set_ref(id.revision, &commit)?;
    }
    Ok(Pulled { directory: repository.snapshot(&commit), revision: commit, files })
}

fn read_index(path: &Path) -> Result<Vec<String>, HubError> {
    let mut index = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_INDEX).read_to_end(&mut index));
    read.map_err(HubError::io(path))?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not an index of weights");
    parts(&index).ok_or_else(wrong).map_err(HubError::io(path))
}

struct Fetcher<'f, 'l> {
    client: Client<'f>,
    repository: Repository,
    commit: String,
    progress: &'f mut Listener<'l>,
}

impl Fetcher<'_, '_> {
    /// Brings one file into the cache, if it is not there.
    fn file(&mut self, name: &str) -> Result<PulledFile, HubError> {
        let path = self.repository.snapshot(&self.commit).join(name);
        // What a commit holds never changes.
        if let Ok(metadata) = fs::metadata(&path) {
            return Ok(PulledFile { path, bytes: metadata.len(), fetched: false });
        }
        let metadata = self.client.metadata(&self.commit, name)?;
        let blob = self.repository.blob(&metadata.hash)?;
        let fetched = !blob.is_file();
        if fetched {
            self.blob(name, &metadata, &blob)?;
        }
        let path = self.repository.link(&self.commit, name, &metadata.hash)?;
        Ok(PulledFile { path, bytes: metadata.size, fetched })
    }

    /// Fetches content under another name, checks it and moves it into its place.
    fn blob(&mut self, name: &str, metadata: &Metadata, blob: &Path) -> Result<(), HubError> {
        let incomplete = blob.with_added_extension("incomplete");
        let fault = || HubError::io(&incomplete);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&incomplete)
            .map_err(fault())?;
        if file.try_lock().is_err() {
            return Err(HubError::Busy(incomplete));
        }
        if let Err(error) = self.fill(name, metadata, &mut file, &incomplete) {
            if let HubError::Damaged(_) = error {
                let _ = fs::remove_file(&incomplete);
            }
            return Err(error);
        }
        file.sync_all().map_err(fault())?;
        fs::rename(&incomplete, blob).map_err(HubError::io(blob))
    }

    /// Appends what is missing, over as many connections as it takes.
    fn fill(
        &mut self,
        name: &str,
        metadata: &Metadata,
        file: &mut File,
        path: &Path,
    ) -> Result<(), HubError> {
        let fault = || HubError::io(path);
        let total = metadata.size;
        let mut done = file.seek(SeekFrom::End(0)).map_err(fault())?;
        if done > total {
            done = restart(file).map_err(fault())?;
        }
        (self.progress)(Progress { name, done, total, begins: true });
        let mut fruitless = 0;
        while done < total {
            let before = done;
            match self.append(name, total, file, &mut done) {
                Ok(()) => {}
                Err(Stop::Disk(error)) => return Err(fault()(error)),
                Err(Stop::Hub(error @ HubError::NoNetwork { .. })) if fruitless + 1 == FRUITLESS => {
                    return Err(error);
                }
                Err(Stop::Hub(HubError::NoNetwork { .. })) => {}
                Err(Stop::Hub(error)) => return Err(error),
                Err(Stop::Connection(reason)) if done == before && fruitless + 1 == FRUITLESS => {
                    return Err(HubError::Interrupted { file: name.to_owned(), done, total, reason });
                }
                Err(Stop::Connection(_)) => {}
            }
            if done > total {
                return Err(HubError::Damaged(name.to_owned()));
            }
            fruitless = if done > before { 0 } else { fruitless + 1 };
            if done < total {
                thread::sleep(Duration::from_millis(200) * (fruitless + 1));
            }
        }
        check(file, &metadata.hash, path)?.then_some(()).ok_or_else(|| HubError::Damaged(name.to_owned()))
    }

    /// Appends what one connection brings; `done` follows.
    fn append(&mut self, name: &str, total: u64, file: &mut File, done: &mut u64) -> Result<(), Stop> {
        let (start, mut content) = self.client.content(&self.commit, name, *done).map_err(Stop::Hub)?;
        if start != *done {
            *done = restart(file).map_err(Stop::Disk)?;
        }
        let mut block = vec![0; BLOCK];
        loop {
            let read = match content.read(&mut block) {
                Ok(0) if *done < total => {
                    return Err(Stop::Connection("the connection was closed".to_owned()));
                }
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Connection(error.to_string())),
            };
            file.write_all(&block[..read]).map_err(Stop::Disk)?;
            *done += read as u64;
            if *done > total {
                return Ok(());
            }
            (self.progress)(Progress { name, done: *done, total, begins: false });
        }
    }
}

/// Why a connection brings nothing more.
enum Stop {
    Connection(String),
    Hub(HubError),
    Disk(io::Error),
}

fn restart(file: &mut File) -> io::Result<u64> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))
}

/// Whether a file has the SHA-256 by which large content is called; small content goes by git's hash, which is not
/// computed.
fn check(file: &mut File, hash: &str, path: &Path) -> Result<bool, HubError> {
    if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(true);
    }
    let mut sha = Sha256::new();
    let mut block = vec![0; BLOCK];
    file.seek(SeekFrom::Start(0)).map_err(HubError::io(path))?;
    loop {
        match file.read(&mut block).map_err(HubError::io(path))? {
            0 => break,
            read => sha.update(&block[..read]),
        }
    }
    let digest: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digest.eq_ignore_ascii_case(hash))
}
