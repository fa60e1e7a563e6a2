//! From a recipe to a BLIP or ALBEF, its tokenizer, and where its weights come from.

use std::path::Path;

use tuwen_data::tokenizer::{BertTokenizer, DECODER_START, ENCODER_START};
use tuwen_models::VitConfig;
use tuwen_models::albef::{AlbefConfig, AlbefTask};
use tuwen_models::bert::{BertConfig, CrossAttentionConfig, LAYER_NORM_EPS};
use tuwen_models::blip::config::VISION_LAYER_NORM_EPS;
use tuwen_models::blip::{BlipConfig, BlipImageProcessor, BlipTask, BlipTokens, presets};
use tuwen_nn::Scope;
use tuwen_tensor::Activation;
use tuwen_tensor::checkpoint::replace_directory;

use super::GroundedPreparation;
use super::start::{self, Started};
use crate::recipe::{Model, Vision};
use crate::setup::TOKENIZER;
use crate::{Recipe, Sources, Start, TrainError};

/// A network that is to be built, with what prepares its inputs and where its weights come from.
pub(crate) struct Planned<C> {
    pub config: C,
    pub preparation: GroundedPreparation,
    pub scope: Scope,
    /// What it begins with, in words.
    pub notes: Vec<String>,
}

/// The BLIP of a recipe.
pub(crate) fn parts(
    recipe: &Recipe,
    sources: &Sources,
    start: Start,
) -> Result<Planned<BlipConfig>, TrainError> {
    let Started { config, tokenizer, processor, scope, notes } = match &recipe.model.init_from {
        Some(from) => start::blip(recipe, from)?,
        None => {
            let tokenizer = tokenizer(recipe, sources, start)?;
            let config = config(recipe, &tokenizer)?;
            let processor = BlipImageProcessor::hugging_face(config.vision.image_size);
            Started { config, tokenizer, processor, scope: fresh(recipe), notes: Vec::new() }
        }
    };
    let preparation = GroundedPreparation::new(&config, tokenizer, processor, recipe.blip.max_words);
    let scope = scope.with_precision(recipe.train.precision.into());
    Ok(Planned { config, preparation, scope, notes })
}

/// The ALBEF of a recipe.
pub(crate) fn albef_parts(
    recipe: &Recipe,
    sources: &Sources,
    start: Start,
) -> Result<Planned<AlbefConfig>, TrainError> {
    let task = AlbefTask::from(recipe.albef.task);
    let Started { config, tokenizer, processor, scope, notes } = match &recipe.model.init_from {
        Some(from) => start::albef(recipe, from, task)?,
        None => {
            let tokenizer = tokenizer(recipe, sources, start)?;
            let config = albef_sizes(recipe, &tokenizer, task)?;
            let processor = BlipImageProcessor::salesforce(config.vision.image_size);
            Started { config, tokenizer, processor, scope: fresh(recipe), notes: Vec::new() }
        }
    };
    fits(&tokenizer, config.text.vocab_size)?;
    let config = config.checked().map_err(said)?;
    let preparation = GroundedPreparation::of_albef(&config, tokenizer, processor, recipe.albef.max_words);
    let scope = scope.with_precision(recipe.train.precision.into());
    Ok(Planned { config, preparation, scope, notes })
}

/// The sizes of an ALBEF that begins anew.
fn albef_sizes(
    recipe: &Recipe,
    tokenizer: &BertTokenizer,
    task: AlbefTask,
) -> Result<AlbefConfig, TrainError> {
    let sizes = sizes(&recipe.model, tokenizer, BlipTask::Features)?;
    let first_layer = recipe.albef.fusion_layer.unwrap_or(sizes.text.num_hidden_layers / 2);
    let everywhere = CrossAttentionConfig::everywhere(sizes.vision.hidden_size);
    let config = AlbefConfig {
        task: AlbefTask::Pretrain,
        text: BertConfig {
            type_vocab_size: Some(2),
            cross_attention: Some(CrossAttentionConfig { first_layer, ..everywhere }),
            ..sizes.text
        },
        vision: sizes.vision,
        answer_decoder: None,
        embed_dim: Some(sizes.image_text_hidden_size),
        temperature: true,
    };
    Ok(config.for_task(task))
}

/// Draws everything.
fn fresh(recipe: &Recipe) -> Scope {
    Scope::init(recipe.seed).with_spread(spread(recipe))
}

/// How much wider than with a deviation of 0.02, as layers are unless told otherwise, is drawn.
pub(super) fn spread(recipe: &Recipe) -> f32 {
    recipe.model.initializer_range.map_or(1.0, |range| range / 0.02) as f32
}

pub(super) fn fail<T>(message: impl Into<String>) -> Result<T, TrainError> {
    Err(TrainError::Model(message.into()))
}

pub(super) fn said(error: impl std::fmt::Display) -> TrainError {
    TrainError::Model(error.to_string())
}

/// Every id of the tokenizer has to have its vector in the network.
pub(super) fn fits(tokenizer: &BertTokenizer, there: usize) -> Result<(), TrainError> {
    match tokenizer.vocab_size() {
        needed if needed > there => {
            fail(format!("the tokenizer has {needed} ids, the network has room for {there}"))
        }
        _ => Ok(()),
    }
}

/// The tokenizer that the recipe names, or a part of it that the texts to learn from use most.
fn tokenizer(recipe: &Recipe, sources: &Sources, start: Start) -> Result<BertTokenizer, TrainError> {
    let Some(from) = &recipe.tokenizer.from else {
        return fail("tokenizer.from has to name the vocab.txt of a BERT, or a directory with one");
    };
    let Some(size) = recipe.tokenizer.train_vocab_size else { return read_tokenizer(&recipe.resolve(from)) };
    let learnt = recipe.output().join(TOKENIZER);
    if start != Start::Anew && learnt.is_dir() {
        return read_tokenizer(&learnt);
    }
    let whole = read_tokenizer(&recipe.resolve(from))?;
    // Two ids are for what BLIP's decoder and encoder begin with.
    let smaller = whole.subset(sources.all_texts(), size.saturating_sub(2)).map_err(TrainError::Model)?;
    let smaller = smaller.for_blip();
    replace_directory(&learnt, |directory| save_tokenizer(&smaller, directory))?;
    Ok(smaller)
}

fn read_tokenizer(path: &Path) -> Result<BertTokenizer, TrainError> {
    Ok(read_vocabulary(path)?.for_blip())
}

pub(super) fn read_vocabulary(path: &Path) -> Result<BertTokenizer, TrainError> {
    let read = if path.is_dir() {
        BertTokenizer::from_directory(path)?
    } else {
        BertTokenizer::from_vocabulary_file(path)?
    };
    Ok(read)
}

/// Writes `vocab.txt`.
pub(super) fn save_tokenizer(tokenizer: &BertTokenizer, directory: &Path) -> Result<(), TrainError> {
    let path = directory.join("vocab.txt");
    std::fs::write(&path, tokenizer.vocabulary()).map_err(TrainError::io(&path))
}

/// The sizes of a network that begins anew.
fn config(recipe: &Recipe, tokenizer: &BertTokenizer) -> Result<BlipConfig, TrainError> {
    let task = BlipTask::from(recipe.blip.task);
    let mut config = match &recipe.model.preset {
        Some(name) => presets::find(name).map_or_else(
            || {
                let known: Vec<&str> = presets::names().collect();
                fail(format!("no published BLIP is called {name:?}; known are {}", known.join(", ")))
            },
            Ok,
        )?,
        None if task == BlipTask::Nlvr => sizes(&recipe.model, tokenizer, BlipTask::Features)?.for_task(task),
        None => sizes(&recipe.model, tokenizer, task)?,
    };
    if config.task != task {
        return fail(format!("the preset is for {:?}, blip.task is {task:?}", config.task));
    }
    config.dialect = recipe.blip.dialect.into();
    config.temperature = recipe.blip.compares();
    config.answers = task == BlipTask::Pretrain && recipe.blip.answers();
    config.vision.image_size = recipe.model.image_size.unwrap_or(config.vision.image_size);
    fits(tokenizer, config.text.vocab_size)?;
    config.checked().map_err(said)
}

fn sizes(model: &Model, tokenizer: &BertTokenizer, task: BlipTask) -> Result<BlipConfig, TrainError> {
    let (Some(vision), Some(text), Some(projection_dim)) = (&model.vision, &model.text, model.projection_dim)
    else {
        return fail("takes a preset, init_from, or vision with text and projection_dim");
    };
    let &Vision::Vit {
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        image_size,
        patch_size,
    } = vision
    else {
        return fail("BLIP's image encoder is a vision transformer: vision.kind = \"vit\"");
    };
    let vision = VitConfig {
        hidden_size,
        intermediate_size: intermediate_size.unwrap_or(4 * hidden_size),
        num_hidden_layers,
        num_attention_heads,
        image_size,
        patch_size,
        hidden_act: Activation::Gelu,
        layer_norm_eps: VISION_LAYER_NORM_EPS,
    };
    let bert = |encoder_width| BertConfig {
        vocab_size: tokenizer.vocab_size(),
        hidden_size: text.hidden_size,
        intermediate_size: text.intermediate_size.unwrap_or(4 * text.hidden_size),
        num_hidden_layers: text.num_hidden_layers,
        num_attention_heads: text.num_attention_heads,
        max_position_embeddings: text.max_position_embeddings,
        type_vocab_size: None,
        hidden_act: Activation::Gelu,
        layer_norm_eps: LAYER_NORM_EPS,
        cross_attention: Some(CrossAttentionConfig::everywhere(encoder_width)),
    };
    let id = |token: &str| tokenizer.id(token).unwrap_or_default();
    Ok(BlipConfig {
        task,
        dialect: tuwen_models::blip::BlipDialect::HuggingFace,
        vision,
        text: bert(hidden_size),
        answer_decoder: (task == BlipTask::Vqa).then(|| bert(text.hidden_size)),
        image_text_hidden_size: projection_dim,
        temperature: false,
        answers: false,
        tokens: BlipTokens {
            pad: tokenizer.pad_id(),
            cls: tokenizer.start_id(),
            sep: tokenizer.end_id(),
            dec: id(DECODER_START),
            enc: id(ENCODER_START),
        },
    })
}
