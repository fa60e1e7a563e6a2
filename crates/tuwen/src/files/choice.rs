//! Which weights and which configuration belong together, where a directory holds files of several programs.

use std::path::{Path, PathBuf};

use tuwen_models::clip::ClipConfig;
use tuwen_models::clip::weights::Layout;
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource, open, weight_files_in};

use super::{HF_CONFIG, OPEN_CLIP_CONFIG, Origin};
use crate::Error;
use crate::place::Place;

/// A configuration that goes with weights.
pub(crate) struct Configuration {
    pub origin: Origin,
    pub config: ClipConfig,
    /// The first size in which they differ all the same.
    pub misfit: Option<String>,
}

/// Weights with the configuration that goes with them.
pub(super) struct Choice {
    pub weights: Box<dyn TensorSource>,
    pub weights_path: PathBuf,
    pub origin: Origin,
    pub config: ClipConfig,
    /// The first size in which they differ all the same.
    pub misfit: Option<String>,
    /// Why these and not others.
    pub note: Option<String>,
}

impl Choice {
    /// Chooses among the files of a directory: the best weights (see [`weight_files_in`]) with a configuration that fits
    /// them.
    ///
    /// # Errors
    /// Files that cannot be read, and two models side by side.
    pub fn in_directory(directory: &Path) -> Result<Self, Error> {
        let files = weight_files_in(directory)?;
        let place = Place::Directory(directory.to_owned());
        let first = open(&files[0]).map_err(Error::from).and_then(|opened| Self::of(opened, &place));
        let others = others(&files).filter_map(|file| Self::of(open(file).ok()?, &place).ok());
        let mut others = others.filter(|other| other.misfit.is_none());
        match first {
            Ok(first) if first.misfit.is_none() => match others.find_map(|other| first.contradiction(&other))
            {
                None => Ok(first),
                Some(reason) => Err(Error::TwoModels { directory: directory.to_owned(), reason }),
            },
            // A file that cannot be read is no reason to take another one for it.
            Err(error @ Error::Checkpoint(_)) => Err(error),
            first => match others.next() {
                None => first,
                Some(other) => {
                    let misfit = first.map_or_else(|error| Some(error.to_string()), |first| first.misfit);
                    let (left, taken) = (name(&files[0]), name(&other.weights_path));
                    let why = misfit.unwrap_or_default();
                    Ok(Self { note: Some(format!("{left} is left aside for {taken}: {why}")), ..other })
                }
            },
        }
    }

    /// Weights with the configuration beside them.
    ///
    /// # Errors
    /// As [`configuration`], and weights of another kind of model.
    pub fn of(checkpoint: Checkpoint, place: &Place) -> Result<Self, Error> {
        let layout = Layout::of(&checkpoint).ok_or_else(|| super::not_clip(&checkpoint))?;
        let Configuration { origin, config, misfit } = configuration(place, layout, &checkpoint)?;
        let weights_path = checkpoint.path().to_owned();
        Ok(Self { weights: layout.import(checkpoint), weights_path, origin, config, misfit, note: None })
    }

    /// How another model beside this one differs, if it does.
    fn contradiction(&self, other: &Self) -> Option<String> {
        let difference = match other.origin {
            // Nothing but its sizes is known.
            Origin::OpenAi => self.config.misfit(&other.weights),
            _ => self.config.difference(&other.config),
        }?;
        let (ours, theirs) = (self.describe(), other.describe());
        let (field, a, b) = (difference.field, difference.ours, difference.theirs);
        Some(format!("{ours} and {theirs}: {field} is {a} and {b}"))
    }

    fn describe(&self) -> String {
        let weights = name(&self.weights_path);
        match self.origin {
            Origin::OpenAi => weights,
            origin => format!("{weights} with {}", origin.config_name()),
        }
    }
}

/// The configuration beside weights, by what fits.
///
/// # Errors
/// A configuration that cannot be read, or none where one is needed.
pub(crate) fn configuration(
    place: &Place,
    layout: Layout,
    checkpoint: &Checkpoint,
) -> Result<Configuration, Error> {
    let weights = layout.import(checkpoint);
    let mut misfits = Vec::new();
    let mut failure = None;
    for origin in preference(layout) {
        match read_config(place, origin, layout) {
            Ok(None) => {}
            Ok(Some(config)) => {
                let misfit = misfit(&config, origin, &weights);
                let fits = misfit.is_none();
                let found = Configuration { origin, config, misfit };
                if fits {
                    return Ok(found);
                }
                misfits.push(found);
            }
            // After one that was read, what else is wrong does not matter.
            Err(error) if misfits.is_empty() => failure = failure.or(Some(error)),
            Err(_) => {}
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    match (misfits.into_iter().next(), layout) {
        (Some(found), _) => Ok(found),
        (None, Layout::OpenClip) => {
            let config = ClipConfig::from_openai_shapes(checkpoint);
            let config = config.map_err(Error::config(checkpoint.path().to_owned()))?;
            Ok(Configuration { origin: Origin::OpenAi, config, misfit: None })
        }
        (None, Layout::HuggingFace) => Err(Error::NoConfig {
            directory: place.directory().to_owned(),
            looked_for: "config.json, open_clip_config.json",
        }),
    }
}

/// The first size in which weights are not those of a configuration.
fn misfit(config: &ClipConfig, origin: Origin, weights: &dyn TensorSource) -> Option<String> {
    let difference = config.misfit(weights)?;
    let (field, ours, theirs) = (difference.field, difference.ours, difference.theirs);
    Some(format!("{field} is {ours} in {}, the weights have {theirs}", origin.config_name()))
}

/// The best file of every other program than the one that wrote the first.
fn others(files: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    let program = |file: &Path| {
        let name = name(file);
        ["open_clip_", "model.pt"].into_iter().position(|start| name.starts_with(start))
    };
    let mut seen = Vec::new();
    let fresh = files.iter().filter(move |file| {
        let program = program(file);
        let fresh = !seen.contains(&program);
        seen.push(program);
        fresh
    });
    fresh.skip(1)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Whose configuration is looked for first.
fn preference(layout: Layout) -> [Origin; 2] {
    match layout {
        Layout::HuggingFace => [Origin::HuggingFace, Origin::OpenClip],
        Layout::OpenClip => [Origin::OpenClip, Origin::HuggingFace],
    }
}

impl Origin {
    /// The file of the configuration.
    fn config_name(self) -> &'static str {
        match self {
            Self::HuggingFace => HF_CONFIG,
            Self::OpenClip => OPEN_CLIP_CONFIG,
            Self::OpenAi => "the weights",
        }
    }
}

/// A program's configuration, where there is one.
fn read_config(place: &Place, origin: Origin, layout: Layout) -> Result<Option<ClipConfig>, Error> {
    let file = origin.config_name();
    let Some(text) = place.read_text(file)? else { return Ok(None) };
    let config = match origin {
        Origin::OpenClip => ClipConfig::from_open_clip_json(&text),
        // Other programs call other files by this name.
        _ if layout != Layout::HuggingFace && !text.contains("\"model_type\"") => return Ok(None),
        _ => ClipConfig::from_hf_json(&text),
    };
    config.map(Some).map_err(Error::config(place.path(file)))
}
