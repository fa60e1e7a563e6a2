//! From the options that every verb has to a loaded model.

use std::ffi::OsString;
use std::path::PathBuf;

use tuwen::{Error, Model, Options, Truncated};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::Failure;

impl Global {
    /// What the user calls the model; the built-in one unless given.
    pub fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(tuwen::BUILTIN)
    }

    /// How models are found.
    pub fn options(&self) -> Options {
        let cache_dirs = match &self.cache_dir {
            Some(directory) => vec![directory.clone()],
            None => hub_caches(|name| std::env::var_os(name)),
        };
        Options { cache_dirs, adapter: self.adapter.clone(), ..Options::default() }
    }

    /// Loads the model.
    pub fn load(&self, console: &Console) -> Result<Model, Failure> {
        let model = tuwen::load(self.model(), &self.options()).map_err(model_failure)?;
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
            Some("download it with the hub's own tools, or say where it lies with --cache-dir")
        }
        Error::NoBuiltIn => Some("give --model"),
        Error::NoConfig { .. } => Some("put the config.json of the model beside its weights"),
        Error::NoTokenizer { .. } => Some("put the files of the model's tokenizer beside its weights"),
        _ => None,
    };
    let failure = Failure::model(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Names texts that the model could not read to their end.
pub fn warn_of_cut(texts: &[impl AsRef<str>], truncated: &[Truncated], model: &Model, console: &Console) {
    /// Texts that are named one by one.
    const SHOWN: usize = 10;
    let limit = model.config().text.max_position_embeddings;
    for &Truncated { text, tokens } in truncated.iter().take(SHOWN) {
        let text = texts.get(text).map_or("", AsRef::as_ref);
        let start: String = text.chars().take(40).collect();
        console.warn(format_args!("warning: text of {tokens} tokens cut to {limit}: \"{start}...\""));
    }
    if let Some(more @ 1..) = truncated.len().checked_sub(SHOWN) {
        console.warn(format_args!("warning: {more} more texts cut to {limit}"));
    }
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
