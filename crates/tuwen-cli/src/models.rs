//! From the options that every verb has to a loaded model.

use std::ffi::OsString;
use std::path::PathBuf;

use tuwen::hub::{Hub, HubError};
use tuwen::{Ability, Error, Model, Options, Truncated};

use crate::arguments::Global;
use crate::commands::pull;
use crate::console::Console;
use crate::failure::Failure;

impl Global {
    /// What the user calls the model; unless given, the built-in one that serves a task.
    pub fn model(&self, task: Ability) -> &str {
        self.model_or(None, task)
    }

    /// The same, where an option of a verb may name another model.
    pub fn model_or<'m>(&'m self, given: Option<&'m str>, task: Ability) -> &'m str {
        let named = given.or(self.model.as_deref());
        named.filter(|&name| name != tuwen::BUILTIN).unwrap_or(task.builtin())
    }

    /// How models are found.
    pub fn options(&self) -> Options {
        let cache_dirs = match &self.cache_dir {
            Some(directory) => vec![directory.clone()],
            None => hub_caches(|name| std::env::var_os(name)),
        };
        let precision = self.precision.precision();
        Options { cache_dirs, adapter: self.adapter.clone(), precision, ..Options::default() }
    }

    /// Where models are fetched from and to.
    pub fn hub(&self) -> Hub {
        Hub { cache_dir: self.options().cache_dirs.into_iter().next(), ..hub(|name| std::env::var_os(name)) }
    }

    /// Fetches a model with `--download` if it is a hub id that the cache does not hold.
    pub fn fetch(&self, model: &str, console: &Console) -> Result<(), Failure> {
        if self.download && tuwen::hub::is_missing(model, &self.options()) {
            pull::fetch(model, self, console)?;
        }
        Ok(())
    }

    /// Loads the model for a task.
    pub fn load(&self, task: Ability, console: &Console) -> Result<Model, Failure> {
        let name = self.model(task);
        self.fetch(name, console)?;
        let model = tuwen::load(name, &self.options()).map_err(model_failure)?;
        for note in model.notes() {
            console.note(format_args!("note: {note}"));
        }
        Ok(model)
    }
}

/// A failure to load or use a model, with what to try.
pub fn model_failure(error: Error) -> Failure {
    let hint = match &error {
        Error::NoSuchModel(_) => Some("give a directory, a checkpoint file or a hub id that was downloaded"),
        Error::NotInCache { .. } => {
            Some("fetch it with `tuwen pull` or --download, or say where it lies with --cache-dir")
        }
        Error::NoBuiltIn => Some("give --model"),
        Error::NoConfig { .. } => Some("put the config.json of the model beside its weights"),
        Error::TwoModels { .. } => Some("name the weight file to choose one"),
        Error::NoTokenizer { .. } => Some("put the files of the model's tokenizer beside its weights"),
        Error::Unable { wanted, .. } => {
            let hint = format!("give --model one that can, such as {}", wanted.example());
            return Failure::usage(error).hint(hint);
        }
        _ => None,
    };
    let failure = Failure::model(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A failure to fetch a model, with what to try.
pub fn hub_failure(error: HubError) -> Failure {
    let hint = match &error {
        HubError::NoAccess { token: false, .. } => {
            Some("put a token into HF_TOKEN (huggingface.co/settings/tokens)")
        }
        HubError::NoAccess { token: true, .. } => {
            Some("ask for access on the page of the model, with this token's account")
        }
        HubError::Offline(_) => Some("unset HF_HUB_OFFLINE to fetch it"),
        HubError::Interrupted { .. } => Some("the same command goes on where it stopped"),
        _ => None,
    };
    let failure = match error {
        HubError::NotAnId(_) => Failure::usage(error),
        _ => Failure::model(error),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Names texts that the model could not read to their end.
pub fn warn_of_cut(texts: &[impl AsRef<str>], truncated: &[Truncated], model: &Model, console: &Console) {
    /// Texts that are named one by one.
    const SHOWN: usize = 10;
    let limit = model.text_limit();
    for &Truncated { text, tokens } in truncated.iter().take(SHOWN) {
        let text = texts.get(text).map_or("", AsRef::as_ref);
        let start: String = text.chars().take(40).collect();
        console.warn(format_args!("warning: text of {tokens} tokens cut to {limit}: \"{start}...\""));
    }
    if let Some(more @ 1..) = truncated.len().checked_sub(SHOWN) {
        console.warn(format_args!("warning: {more} more texts cut to {limit}"));
    }
}

/// How the hub is reached, from the variables that its own tools know (huggingface_hub `constants.py`).
fn hub(variable: impl Fn(&str) -> Option<OsString>) -> Hub {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let text = |name| set(name).and_then(|value| value.into_string().ok());
    let is_true = |value: &String| matches!(&*value.to_uppercase(), "1" | "ON" | "YES" | "TRUE");
    let home = set("HOME").or_else(|| set("USERPROFILE")).map(|home| PathBuf::from(home).join(".cache"));
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from).or(home).map(|cache| cache.join("huggingface"));
    let kept = set("HF_HOME").map(PathBuf::from).or(cache).map(|home| home.join("token"));
    let stored = || std::fs::read_to_string(set("HF_TOKEN_PATH").map(PathBuf::from).or(kept)?).ok();
    let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
    Hub {
        cache_dir: None,
        endpoint: text("HF_ENDPOINT"),
        token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
        offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().filter_map(text).any(|v| is_true(&v)),
    }
}

/// Where vectors of classes are kept, where the system says where a program may keep what it can compute again.
pub fn class_cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || Some(set("HOME").or_else(|| set("USERPROFILE"))?.join(".cache"));
    Some(set("XDG_CACHE_HOME").or_else(home)?.join("tuwen").join("classes"))
}

/// Where the tools of the Hugging Face hub keep what they download (huggingface_hub `constants.py`), best first.
fn hub_caches(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE")).map(|home| home.join(".cache"));
    let candidates = [
        set("HF_HUB_CACHE"),
        set("HUGGINGFACE_HUB_CACHE"),
        set("HF_HOME").map(|home| home.join("hub")),
        set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")),
        home().map(|cache| cache.join("huggingface/hub")),
    ];
    candidates.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_is_reached_as_its_own_tools_reach_it() {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::write(place.path().join("token"), "hf_stored\n").expect("written");
        let home = place.path().as_os_str().to_owned();
        let read = |variables: &[(&str, &str)]| {
            hub(|name| match variables.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => Some(value.into()),
                None => (name == "HF_HOME").then(|| home.clone()),
            })
        };
        let stored = read(&[]);
        assert_eq!(
            (stored.token.as_deref(), stored.offline, stored.endpoint),
            (Some("hf_stored"), false, None)
        );
        let set = read(&[("HF_TOKEN", "hf_set"), ("HF_HUB_OFFLINE", "on"), ("HF_ENDPOINT", "http://x")]);
        assert_eq!((set.token.as_deref(), set.offline), (Some("hf_set"), true));
        assert_eq!(set.endpoint.as_deref(), Some("http://x"));
        assert!(!read(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn the_most_particular_cache_comes_first() {
        let caches = |variables: &'static [(&str, &str)]| {
            hub_caches(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        assert_eq!(caches(&[("HOME", "/h")]), [PathBuf::from("/h/.cache/huggingface/hub")]);
        let all =
            caches(&[("HOME", "/h"), ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c"), ("XDG_CACHE_HOME", "")]);
        assert_eq!(all, ["/c", "/hf/hub", "/h/.cache/huggingface/hub"].map(PathBuf::from));
        assert!(caches(&[]).is_empty());
    }
}
