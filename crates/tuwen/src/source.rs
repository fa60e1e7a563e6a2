//! Where a model is: from what a user calls it to files.

use std::path::{Path, PathBuf};

use crate::builtin::BuiltIn;
use crate::{Error, Options};

/// The name under which a built-in model is loaded: by itself the CLIP; [`Ability::builtin`](crate::Ability::builtin) knows
/// the one that serves a task.
pub const BUILTIN: &str = "builtin";

/// Whether a model inside this library is called so.
pub fn is_built_in(name: &str) -> bool {
    BuiltIn::named(name).is_some()
}

/// A place that a model can be loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory with weights, configuration and tokenizer.
    Directory(PathBuf),
    /// A weight file; what belongs to it may lie beside it.
    File(PathBuf),
    /// A model inside this program.
    BuiltIn(&'static BuiltIn),
}

/// Finds a model: a built-in one by its name, what is on the disk, then what is in the local hub caches.
pub(crate) fn find(model: &str, options: &Options) -> Result<Source, Error> {
    // First, since they are the default: a directory of such a name must not change what every verb does.
    if let Some(model) = BuiltIn::named(model) {
        return Ok(Source::BuiltIn(model));
    }
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(Source::Directory(path.to_owned()));
    }
    if path.exists() {
        return Ok(Source::File(path.to_owned()));
    }
    if let Some(id) = HubId::parse(model) {
        if let Some(snapshot) = options.cache_dirs.iter().find_map(|cache| id.snapshot(cache)) {
            return Ok(Source::Directory(snapshot));
        }
        return Err(Error::NotInCache { model: model.to_owned(), cache_dirs: options.cache_dirs.clone() });
    }
    Err(Error::NoSuchModel(model.to_owned()))
}

/// `organisation/name`, perhaps with `@revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HubId<'a> {
    organisation: &'a str,
    name: &'a str,
    pub revision: &'a str,
}

impl<'a> HubId<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (organisation, name) = id.split_once('/')?;
        let word = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
        };
        let valid = word(organisation) && word(name) && revision.split('/').all(word);
        valid.then_some(Self { organisation, name, revision })
    }

    /// `organisation/name`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// The directory of the repository in a cache.
    pub fn repository(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}--{}", self.organisation, self.name))
    }

    /// The directory of this revision in a cache as the hub's own clients keep it.
    fn snapshot(&self, cache: &Path) -> Option<PathBuf> {
        let repository = self.repository(cache);
        let commit = std::fs::read_to_string(repository.join("refs").join(self.revision));
        let commit = commit.unwrap_or_else(|_| self.revision.to_owned());
        let snapshot = repository.join("snapshots").join(commit.trim());
        snapshot.is_dir().then_some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hub_ids_are_two_words() {
        let id = HubId::parse("openai/clip-vit-base-patch32").expect("an id");
        assert_eq!((id.organisation, id.name, id.revision), ("openai", "clip-vit-base-patch32", "main"));
        assert_eq!(HubId::parse("a/b@refs/pr/1").map(|id| id.revision), Some("refs/pr/1"));
        for no in ["name", "../name", "a/../b", "/a/b", "a/b/c", "a/", "a/b@../../x", "a b/c"] {
            assert_eq!(HubId::parse(no), None, "{no}");
        }
    }

    #[test]
    fn the_cache_is_read_through_its_refs() {
        let place = tempfile::tempdir().expect("a directory");
        let repository = place.path().join("models--org--name");
        let snapshot = repository.join("snapshots/abc123");
        fs::create_dir_all(&snapshot).expect("created");
        fs::create_dir_all(repository.join("refs")).expect("created");
        fs::write(repository.join("refs/main"), "abc123\n").expect("written");
        let elsewhere = PathBuf::from("/nowhere");
        let options = Options { cache_dirs: vec![elsewhere, place.path().to_owned()], ..Options::default() };
        for model in ["org/name", "org/name@abc123"] {
            assert_eq!(find(model, &options).expect("found"), Source::Directory(snapshot.clone()));
        }
        for (model, expected) in
            [("org/other", "org/other"), ("org/name@v2", "/nowhere"), ("nothing", "nothing")]
        {
            let message = find(model, &options).expect_err("not there").to_string();
            assert!(message.contains(expected), "{message}");
        }
        for (name, expected) in [(BUILTIN, "builtin-clip"), ("builtin-blip", "builtin-blip")] {
            let Ok(Source::BuiltIn(model)) = find(name, &options) else { panic!("{name} is built in") };
            assert_eq!(model.name, expected);
        }
    }
}
