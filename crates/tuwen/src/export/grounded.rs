//! BLIP and ALBEF: transformers' layout, and that of Salesforce's programs.

use serde_json::{Value, json};
use tuwen_models::albef::weights::to_salesforce;
use tuwen_models::blip::config::VISION_LAYER_NORM_EPS;
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{BlipConfig, BlipImageProcessor};
use tuwen_tensor::checkpoint::{
    Cast, CheckpointError, RawTensor, StoredType, TensorInfo, TensorSource, TorchArchive,
};

use super::hugging_face::widest;
use super::{Export, Format, Target, pixels};
use crate::grounded::GENERATION_CONFIG;
use crate::{Error, GroundedConfig, GroundedFiles};

/// The temperature of the contrast, which transformers' classes lack.
const TEMPERATURE: &str = "temp";
/// Width of the heads of Salesforce's image encoders.
const HEAD_WIDTH: usize = 64;

/// Puts a model into the layout of a program.
pub(super) fn export(files: &GroundedFiles, target: Target, stored: StoredType) -> Result<Export<'_>, Error> {
    let mut export = match (target, &files.config) {
        (Target::HuggingFace, GroundedConfig::Blip(config)) => hugging_face(files, config, stored)?,
        (Target::HuggingFace, GroundedConfig::Albef(_)) => {
            return Err(target.cannot_say("it has no ALBEF; salesforce is the layout for it"));
        }
        (Target::Salesforce, _) => salesforce(files, stored)?,
        (Target::OpenAi | Target::OpenClip, _) => {
            return Err(
                target.cannot_say("it has no BLIP and no ALBEF; hf and salesforce are the layouts for them")
            );
        }
    };
    match &files.tokenizer {
        Some(tokenizer) => export.add_document("vocab.txt", tokenizer.to_vocabulary()),
        None => export.notes.push("no tokenizer is known, so none is written".to_owned()),
    }
    let said = files.generation.as_json();
    if target == Target::HuggingFace && !said.is_empty() {
        export.add_document(GENERATION_CONFIG, format!("{:#}\n", Value::Object(said.clone())));
    }
    if target == Target::HuggingFace && files.tokenizer.is_some() {
        export.add_document("tokenizer_config.json", format!("{:#}\n", tokenizer_config(files)));
    }
    Ok(export)
}

fn hugging_face<'m>(
    files: &'m GroundedFiles,
    config: &BlipConfig,
    stored: StoredType,
) -> Result<Export<'m>, Error> {
    let target = Target::HuggingFace;
    let mut json = config.to_hf_json().map_err(|reason| target.cannot_say(reason))?;
    let mut notes = Vec::new();
    if files.weights.info(TEMPERATURE).is_some() {
        notes.push("transformers has no place for the temperature (temp): it is left out".to_owned());
    }
    if !files.config.is_hugging_face() {
        let differs = "transformers matches texts that begin with [CLS] where salesforce/BLIP writes [ENC], and has no \
                       prompt of captions unless one is given";
        notes.push(differs.to_owned());
    }
    let weights = Layout::HuggingFace.export(Without { source: &files.weights, name: TEMPERATURE });
    let weights = Cast::new(Box::new(weights) as Box<dyn TensorSource>, stored);
    json["dtype"] = json!(widest(&weights));
    let processor = files.processor.to_hf_json().map_err(|error| target.cannot_say(error.to_string()))?;
    Ok(Export {
        weights,
        format: Format::Safetensors,
        weights_name: "model.safetensors",
        documents: vec![
            ("config.json".to_owned(), format!("{json:#}\n")),
            ("preprocessor_config.json".to_owned(), processor),
        ],
        tokenizer: None,
        classifier: None,
        notes,
    })
}

fn salesforce(files: &GroundedFiles, stored: StoredType) -> Result<Export<'_>, Error> {
    let target = Target::Salesforce;
    let vision = files.config.vision();
    let theirs = BlipImageProcessor::salesforce(vision.image_size);
    let [ours, theirs] = [&files.processor, &theirs].map(|processor| &processor.transform);
    pixels::same(target, ours, theirs)?;
    let mut notes = Vec::new();
    if vision.layer_norm_eps != VISION_LAYER_NORM_EPS {
        notes.push(format!(
            "salesforce's programs compute the norms of the image encoder with eps {VISION_LAYER_NORM_EPS:e}, this model \
             has {:e}, which config.json keeps for tuwen",
            vision.layer_norm_eps
        ));
    }
    if vision.hidden_size != vision.num_attention_heads * HEAD_WIDTH {
        notes.push(format!(
            "salesforce's programs have heads of {HEAD_WIDTH} in the image encoder, this model has {} heads in {}, which \
             config.json keeps for tuwen",
            vision.num_attention_heads, vision.hidden_size
        ));
    }
    let arguments = json!({
        "image_size": vision.image_size,
        "vision_heads": vision.num_attention_heads,
        "vision_layer_norm_eps": vision.layer_norm_eps,
    });
    let (weights, texts): (Box<dyn TensorSource>, _) = match &files.config {
        GroundedConfig::Blip(config) => (
            Box::new(Layout::Salesforce.export(&files.weights)),
            ("med_config.json".to_owned(), config.to_med_config()),
        ),
        GroundedConfig::Albef(config) => (
            Box::new(to_salesforce(&files.weights)),
            ("config_bert.json".to_owned(), config.to_bert_config()),
        ),
    };
    Ok(Export {
        weights: Cast::new(weights, stored),
        format: Format::Torch(TorchArchive::Model),
        weights_name: "model.pth",
        documents: [texts, ("config.json".to_owned(), arguments)]
            .map(|(name, json)| (name, format!("{json:#}\n")))
            .into(),
        tokenizer: None,
        classifier: None,
        notes,
    })
}

/// What transformers' tokenizer is told, as in the published repositories.
fn tokenizer_config(files: &GroundedFiles) -> Value {
    json!({
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": true,
        "model_max_length": files.config.text().max_position_embeddings,
        "model_input_names": ["input_ids", "attention_mask"],
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]",
    })
}

/// A checkpoint without one of its tensors.
struct Without<S> {
    source: S,
    name: &'static str,
}

impl<S: TensorSource> TensorSource for Without<S> {
    fn names(&self) -> Vec<String> {
        let mut names = self.source.names();
        names.retain(|name| name != self.name);
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        if name == self.name { None } else { self.source.info(name) }
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        self.source.read(name)
    }

    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        self.source.check(name)
    }

    fn release(&self, name: &str) {
        self.source.release(name);
    }
}
