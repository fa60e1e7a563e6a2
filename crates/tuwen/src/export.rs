//! Writing a model with everything that belongs to it, as another program loads it.
//!
//! What the program has no word for is refused by name before anything is written; see [`Target`].

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::clip::{ClipConfig, ClipImageProcessor, VisionConfig};
use tuwen_tensor::checkpoint::{
    Cast, StoredType, TensorSource, TorchArchive, replace_directory, write_atomically, write_source,
    write_torch,
};

use crate::{Error, GroundedFiles, LinearClassifier};

mod grounded;
mod hugging_face;
mod open_clip;
mod openai;
mod pixels;

/// Whose layout a model is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// transformers: `config.json`, `model.safetensors`, `preprocessor_config.json` and the tokenizer's files. Vision
    /// transformers without a bias of the logits.
    HuggingFace,
    /// openai/CLIP: a TorchScript archive `model.pt`, which is what its `clip.load` takes and what OpenAI publishes; a
    /// single file that ends in `.pth` is a plain state dict for `torch.load`. From the shapes of the weights the program
    /// reads everything else: QuickGELU, heads of 64, MLPs four times as wide as their tower, and OpenAI's preparation of
    /// images.
    OpenAi,
    /// open_clip: `open_clip_config.json`, `open_clip_model.safetensors` and the tokenizer's files.
    OpenClip,
    /// salesforce/BLIP, salesforce/ALBEF and LAVIS: `model.pth`, a state dict under `model`, with the configuration of the
    /// texts and the vocabulary beside it.
    Salesforce,
}

/// What a model consists of.
#[derive(Clone, Copy)]
pub struct Parts<'m> {
    /// Sizes of the network.
    pub config: &'m ClipConfig,
    /// Weights under our names, which fit the configuration.
    pub weights: &'m dyn TensorSource,
    /// How images are prepared.
    pub processor: &'m ClipImageProcessor,
    /// What turns texts into ids, if that is known.
    pub tokenizer: Option<&'m ClipTokenizer>,
}

/// A model in the layout of a program, ready to be written.
pub struct Export<'m> {
    weights: Cast<Box<dyn TensorSource + 'm>>,
    format: Format,
    weights_name: &'static str,
    /// Small files beside the weights: name and content.
    documents: Vec<(String, String)>,
    tokenizer: Option<&'m ClipTokenizer>,
    classifier: Option<LinearClassifier>,
    notes: Vec<String>,
}

/// The container of the weights.
#[derive(Clone, Copy)]
enum Format {
    Safetensors,
    /// PyTorch's; a TorchScript archive is a plain state dict where the name ends in `.pth`: see [`Target::OpenAi`].
    Torch(TorchArchive),
}

/// Hears of every tensor that is on its way to the disk how many bytes it has.
pub type Progress<'p> = dyn FnMut(u64) + 'p;

impl Target {
    /// What most programs load: transformers' layout, and open_clip's for a network that transformers lacks.
    pub fn usual(config: &ClipConfig) -> Self {
        let has_bias = config.logit_bias_init_value.is_some();
        match config.vision {
            VisionConfig::Vit(_) if !has_bias => Self::HuggingFace,
            _ => Self::OpenClip,
        }
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::HuggingFace => "transformers",
            Self::OpenAi => "openai/CLIP",
            Self::OpenClip => "open_clip",
            Self::Salesforce => "salesforce",
        }
    }

    fn cannot_say(self, what: impl Into<String>) -> Error {
        Error::CannotSay { program: self.program(), what: what.into() }
    }
}

impl<'m> Export<'m> {
    /// Puts a model into the layout of a program, its tensors in the types of `stored`.
    ///
    /// # Errors
    /// [`Error::CannotSay`] for the first thing that the layout has no place for.
    pub fn new(parts: Parts<'m>, target: Target, stored: StoredType) -> Result<Self, Error> {
        let mut export = match target {
            Target::HuggingFace => hugging_face::export(parts, stored)?,
            Target::OpenAi => openai::export(parts, stored)?,
            Target::OpenClip => open_clip::export(parts, stored)?,
            Target::Salesforce => {
                return Err(target.cannot_say("it has no CLIP; hf, openai and open_clip have"));
            }
        };
        if export.tokenizer.is_none() && parts.tokenizer.is_none() {
            export.notes.push("no tokenizer is known, so none is written".to_owned());
        }
        Ok(export)
    }

    /// Puts a BLIP or ALBEF into the layout of a program, its tensors in the types of `stored`.
    ///
    /// # Errors
    /// [`Error::CannotSay`] for the first thing that the layout has no place for.
    pub fn of_grounded(files: &'m GroundedFiles, target: Target, stored: StoredType) -> Result<Self, Error> {
        grounded::export(files, target, stored)
    }

    /// What a user should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.weights.names().len()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let bytes = |name: &String| self.weights.info(name)?.byte_len();
        self.weights.names().iter().filter_map(bytes).map(|bytes| bytes as u64).sum()
    }

    /// The files that [`Export::write_directory`] writes.
    pub fn file_names(&self) -> Vec<String> {
        let documents = self.documents.iter().map(|(name, _)| name.clone());
        let tokenizer = self.tokenizer.map_or(&[][..], |_| &ClipTokenizer::FILES);
        let classifier = self.classifier.iter().map(|_| LinearClassifier::FILE.to_owned());
        let rest = documents.chain(tokenizer.iter().map(|name| (*name).to_owned())).chain(classifier);
        [self.weights_name.to_owned()].into_iter().chain(rest).collect()
    }

    /// Puts the head of a fine-tuned model beside the weights.
    pub fn with_classifier(self, classifier: LinearClassifier) -> Self {
        Self { classifier: Some(classifier), ..self }
    }

    /// Puts a small file beside the weights.
    pub fn add_document(&mut self, name: &str, text: String) {
        self.documents.push((name.to_owned(), text));
    }

    /// Writes a directory in place of what is there; it appears whole or not at all.
    ///
    /// # Errors
    /// What the file system or a tensor fails with; then what was there is still there.
    pub fn write_directory(&self, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Error> {
        replace_directory(directory, |building| {
            self.write_weights(&building.join(self.weights_name), progress)?;
            for (name, text) in &self.documents {
                write_atomically(&building.join(name), |out| out.write_all(text.as_bytes()))?;
            }
            if let Some(tokenizer) = self.tokenizer {
                tokenizer.save(building)?;
            }
            if let Some(classifier) = &self.classifier {
                classifier.write(&building.join(LinearClassifier::FILE))?;
            }
            Ok(())
        })
    }

    /// Writes the weights alone, in place of what is there.
    ///
    /// # Errors
    /// As [`Export::write_directory`].
    pub fn write_weights(&self, path: &Path, progress: &mut Progress<'_>) -> Result<(), Error> {
        match self.format {
            // Hugging Face's loaders ask for the metadata.
            Format::Safetensors => {
                let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
                write_source(path, &self.weights, &metadata, progress)?;
            }
            Format::Torch(kind) => {
                let plain = path.extension().is_some_and(|ending| ending == "pth");
                let kind = match kind {
                    TorchArchive::TorchScript if plain => TorchArchive::StateDict,
                    kind => kind,
                };
                write_torch(path, &self.weights, kind, progress)?;
            }
        }
        Ok(())
    }
}

/// Refuses what a program would read differently from what it is told.
fn understood(target: Target, meant: &ClipConfig, read: &ClipConfig) -> Result<(), Error> {
    match meant.difference(read) {
        None => Ok(()),
        Some(difference) => Err(target.cannot_say(format!(
            "{} is {}, which it would read as {}",
            difference.field, difference.ours, difference.theirs
        ))),
    }
}

/// Refuses texts that end elsewhere for a program that takes the largest id of a text for its end.
fn ends_at_largest_id(target: Target, parts: Parts<'_>) -> Result<(), Error> {
    use tuwen_models::clip::TextPooling::{FirstEos, LargestId};
    let ids = parts.tokenizer.map_or(parts.config.text.vocab_size, ClipTokenizer::vocab_size);
    match parts.config.text.pooling {
        LargestId => Ok(()),
        FirstEos(eos) if eos as usize + 1 == ids => Ok(()),
        FirstEos(eos) => Err(target.cannot_say(format!(
            "texts end at id {eos}, and it takes the largest id for the end (there are {ids} ids)"
        ))),
    }
}
