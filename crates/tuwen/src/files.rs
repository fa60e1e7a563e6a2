//! Everything that makes a CLIP model, opened but not yet a network: configuration, weights, preparation of images,
//! tokenizer.

use std::path::Path;
use std::sync::Arc;

use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::VitConfig;
use tuwen_models::clip::positions::{Interpolation, ResizedPositions};
use tuwen_models::clip::{Clip, ClipConfig, ClipImageProcessor, VisionConfig};
use tuwen_models::generate::GenerationDefaults;
use tuwen_nn::{LoadReport, Scope};
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource as _, open, open_static, open_weights_in};

use crate::builtin::BuiltIn;
use crate::place::Place;
use crate::source::{self, Source};
use crate::{Adapter, Error, LinearClassifier, Options, adapter};

mod choice;
mod family;
mod tokenizer;
mod transform;

use choice::Choice;
pub(crate) use choice::configuration;
pub use family::{Family, Files, Opened};
pub use tokenizer::Tokenizer;

/// CLIP and SigLIP: two towers.
pub enum ClipFamily {}

/// The files of a CLIP model.
pub type ModelFiles = Files<ClipFamily>;

impl Family for ClipFamily {
    type Config = ClipConfig;
    type Processor = ClipImageProcessor;
    type Tokenizer = Tokenizer;
    type Network = Clip;

    fn build(config: &ClipConfig, scope: Scope) -> Result<Clip, LoadReport> {
        Clip::new(config, scope)
    }
}

/// Who wrote the configuration, which decides what the other files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    HuggingFace,
    OpenClip,
    OpenAi,
}

/// Configuration of transformers.
const HF_CONFIG: &str = "config.json";
/// Configuration and preparation of open_clip.
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";

impl ModelFiles {
    /// Finds and opens a model.
    ///
    /// # Errors
    /// There is no such model, a file cannot be read or understood, or files contradict each other. Whether every
    /// weight is there shows when the network is built.
    pub fn open(model: &str, options: &Options) -> Result<Self, Error> {
        if let Some(base) = adapter::as_model(model, options)? {
            let options = Options { adapter: Some(model.to_owned()), ..options.clone() };
            return Ok(Self { name: model.to_owned(), ..Self::open(&base, &options)? });
        }
        let (choice, place) = choose(model, options)?;
        Self::describe(model, choice, &place, options)
    }

    /// What turns texts into ids, where the files say it.
    pub fn tokenizer(&self) -> Option<&ClipTokenizer> {
        self.tokenizer.get()
    }

    fn describe(model: &str, choice: Choice, place: &Place, options: &Options) -> Result<Self, Error> {
        let Choice { mut weights, weights_path, origin, mut config, misfit, note } = choice;
        let mut notes = Vec::from_iter(note);
        if origin == Origin::OpenAi {
            let file = weights_path.display();
            notes.push(format!("{file}: no configuration: taken as OpenAI's (QuickGELU, heads of 64)"));
        }
        if let Some(adapter) = &options.adapter {
            weights = Adapter::open(adapter, options)?.over(weights)?;
        }
        let mut processor = transform::read(place, origin, config.vision.image_size())?;
        if let Some(size) = options.image_size.filter(|&size| size != config.vision.image_size()) {
            check_size(&config, size)?;
            let interpolation = match origin {
                Origin::HuggingFace => Interpolation::Bicubic,
                Origin::OpenClip | Origin::OpenAi => Interpolation::BicubicAntialias,
            };
            weights = Box::new(ResizedPositions::new(weights, &mut config, size, interpolation));
            processor = transform::resized(processor, size);
        }
        let tokenizer = Tokenizer::read(place, origin, &config.text)?;
        let weights = Arc::from(weights);
        let own_classifier = LinearClassifier::beside(place, &config)?;
        Ok(Self {
            name: model.to_owned(),
            config,
            weights,
            weights_path,
            processor,
            notes,
            generation: GenerationDefaults::default(),
            own_classifier,
            precision: options.precision,
            misfit,
            tokenizer,
        })
    }
}

/// The model that a name means, by what fits together in its place.
fn choose(model: &str, options: &Options) -> Result<(Choice, Place), Error> {
    if let Source::Directory(directory) = source::find(model, options)? {
        return Ok((Choice::in_directory(&directory)?, Place::Directory(directory)));
    }
    let (checkpoint, place) = open_checkpoint(model, options)?;
    Ok((Choice::of(checkpoint, &place)?, place))
}

/// Opens the weights of a model, whatever is in them.
pub(crate) fn open_checkpoint(model: &str, options: &Options) -> Result<(Checkpoint, Place), Error> {
    Ok(match source::find(model, options)? {
        Source::Directory(directory) => (open_weights_in(&directory)?, Place::Directory(directory)),
        Source::File(file) => {
            let beside = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            (open(&file)?, Place::Directory(beside.unwrap_or(Path::new(".")).to_owned()))
        }
        Source::BuiltIn(model) => (open_embedded_weights(model)?, Place::BuiltIn(model)),
    })
}

fn open_embedded_weights(model: &BuiltIn) -> Result<Checkpoint, Error> {
    let (name, bytes) = model.weights().ok_or(Error::NoBuiltIn)?;
    Ok(open_static(&format!("{}/{name}", model.name), bytes)?)
}

fn not_clip(checkpoint: &Checkpoint) -> Error {
    Error::NotClip { path: checkpoint.path().to_owned(), names: first_names(checkpoint) }
}

/// The first names in a checkpoint, and how many there are besides.
pub(crate) fn first_names(checkpoint: &Checkpoint) -> String {
    /// Enough to recognise a model by.
    const SHOWN: usize = 3;
    let mut names = checkpoint.names();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let mut names =
        if names.is_empty() { "nothing: the file holds none".to_owned() } else { names.join(", ") };
    if more > 0 {
        names += &format!(" and {more} more");
    }
    names
}

/// Whether a network of this configuration can be made for another image size.
fn check_size(config: &ClipConfig, size: usize) -> Result<(), Error> {
    match &config.vision {
        VisionConfig::Vit(vit) => check_vit_size(vit, size),
        VisionConfig::ResNet(_) => {
            let reason = "the attention pool of a ResNet has one size only".to_owned();
            Err(Error::Resize { size, reason })
        }
    }
}

/// Whether a vision transformer can be made for another image size.
pub(crate) fn check_vit_size(vit: &VitConfig, size: usize) -> Result<(), Error> {
    /// A grid of positions beyond this would only exhaust the memory.
    const LARGEST: usize = 4096;
    let fault = |reason: String| Err(Error::Resize { size, reason });
    if size > LARGEST {
        return fault(format!("at most {LARGEST}"));
    }
    if size < vit.patch_size || !size.is_multiple_of(vit.patch_size) {
        return fault(format!("expected a multiple of the patch size {}", vit.patch_size));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tuwen_tensor::checkpoint::{RawTensor, write_safetensors};

    use super::*;

    const CONFIG: &str = r#"{"model_cfg": {"embed_dim": 8,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 600, "width": 16, "heads": 2, "layers": 1}}}"#;

    /// Writes random weights of this configuration in Hugging Face's layout.
    fn write_weights(path: &Path, config: &ClipConfig) {
        let clip = Clip::new(config, Scope::init(1)).expect("nothing is loaded");
        let parameters = clip.parameters();
        let tensors = parameters.names().into_iter().map(|name| {
            let tensor = parameters.read(&name).expect("read");
            (name, tensor)
        });
        write_safetensors(path, tensors, &BTreeMap::new()).expect("written");
    }

    fn open_error(model: &Path) -> String {
        let opened = ModelFiles::open(&model.to_string_lossy(), &Options::default());
        opened.err().expect("does not open").to_string()
    }

    #[test]
    fn files_in_memory_open_as_files_on_the_disk_do() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("model.safetensors");
        write_weights(&path, &ClipConfig::from_open_clip_json(CONFIG).expect("read"));
        std::fs::write(place.path().join("open_clip_config.json"), CONFIG).expect("written");
        let on_disk = ModelFiles::open(&place.path().to_string_lossy(), &Options::default()).expect("opened");
        let weights: &'static [u8] = std::fs::read(&path).expect("read").leak();
        let files = vec![("open_clip_config.json", CONFIG.as_bytes()), ("model.safetensors", weights)].leak();
        let model: &'static BuiltIn = Box::leak(Box::new(BuiltIn { name: "builtin-tiny", files }));
        let checkpoint = open_embedded_weights(model).expect("opened");
        let options = Options { image_size: Some(32), ..Options::default() };
        let place = Place::BuiltIn(model);
        let choice = Choice::of(checkpoint, &place).expect("fits");
        let in_memory = ModelFiles::describe("builtin", choice, &place, &options).expect("opened");
        assert_eq!((on_disk.config.vision.image_size(), in_memory.config.vision.image_size()), (16, 32));
        for name in on_disk.weights.names() {
            let read = |files: &ModelFiles| files.weights.read(&name).expect("read").to_f32();
            assert_eq!(
                read(&on_disk) == read(&in_memory),
                !name.ends_with("vision_model.embeddings.position_embedding.weight"),
                "{name}"
            );
        }
        Clip::new(&in_memory.config, Scope::load(in_memory.weights)).expect("fits");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let config = ClipConfig::from_open_clip_json(CONFIG).expect("read");
        let directory = place.path();
        let path = directory.join("model.safetensors");
        assert!(open_error(directory).contains("no weights here"));
        write_weights(&path, &config);
        assert!(open_error(&path).contains("no configuration (looked for config.json"));
        for (name, text, expected) in [
            ("config.json", "{}", "config.json: model_type is missing"),
            ("config.json", r#"{"model_type": "blip"}"#, "config.json: model_type is \"blip\""),
            ("open_clip_config.json", "[]", "open_clip_config.json: "),
        ] {
            std::fs::write(directory.join(name), text).expect("written");
            assert!(open_error(directory).contains(expected), "{}", open_error(directory));
            std::fs::remove_file(directory.join(name)).expect("removed");
        }
        let tensor = |name: &str| (name.to_owned(), RawTensor::from_f32(&[], &[1.0]));
        write_safetensors(&path, ["a", "b", "c", "d"].map(tensor), &BTreeMap::new()).expect("written");
        assert!(open_error(directory).contains("(tensors are called a, b, c and 1 more)"));
    }

    #[test]
    fn sizes_that_make_no_network_are_refused() {
        let config = ClipConfig::from_open_clip_json(CONFIG).expect("read");
        for size in [0, 4, 20, usize::MAX / 8 * 8] {
            assert!(check_size(&config, size).is_err(), "{size}");
        }
        check_size(&config, 24).expect("three patches");
    }
}
