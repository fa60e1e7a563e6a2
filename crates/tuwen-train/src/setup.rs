//! From a recipe to everything that a run consists of.

use std::path::Path;
use std::sync::Arc;

use tuwen::{ModelFiles, Options};
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, TokenizerError};
use tuwen_models::clip::{Clip, ClipConfig, TextConfig, TextPooling, VisionConfig, presets};
use tuwen_models::{ResNetConfig, VitConfig};
use tuwen_nn::Scope;
use tuwen_tensor::Activation;

use crate::contrastive::Contrastive;
use crate::data::{ContrastiveData, Preparation, captions};
use crate::recipe::{Model, Vision};
use crate::{Recipe, Start, TrainError, Trainer};

/// The name of the vocabulary that a run learnt, in its output directory: a resumed run must not learn another.
const TOKENIZER: &str = "tokenizer";
/// What all published CLIPs have.
const LAYER_NORM_EPS: f32 = 1e-5;
/// `ln(1 / 0.07)`.
const LOGIT_SCALE_INIT: f32 = 2.659_26;

/// Prepares contrastive pre-training: tokenizer, network, data, and the state of the newest checkpoint.
///
/// # Errors
/// Everything that can be wrong with the recipe, the data it names, and a checkpoint to go on from.
pub fn contrastive(
    recipe: Recipe,
    start: Start,
) -> Result<Trainer<Contrastive, ContrastiveData>, TrainError> {
    let source = recipe.model.init_from.as_ref().map(|from| recipe.resolve(from));
    let tokenizer = Arc::new(tokenizer(&recipe, source.as_deref(), start)?);
    let (config, scope) = match &source {
        None => (config(&recipe.model, &tokenizer)?, Scope::init(recipe.seed)),
        Some(source) => {
            let files = ModelFiles::open(&source.to_string_lossy(), &Options::default())
                .map_err(|error| TrainError::Model(error.to_string()))?;
            fits(&tokenizer, &files.config, &source.display().to_string())?;
            (files.config, Scope::load_trainable(files.weights))
        }
    };
    let preparation = Preparation {
        context_length: config.text.max_position_embeddings,
        image_size: config.vision.image_size(),
        tokenizer,
    };
    let data = ContrastiveData::open(&recipe, preparation.clone())?;
    let clip = Clip::new(&config, scope)?;
    let objective = Contrastive::new(clip, config, preparation, &recipe);
    Trainer::new(recipe, objective, data, start)
}

/// The tokenizer that the recipe asks for; else that of the model to start from; else OpenAI's.
fn tokenizer(recipe: &Recipe, source: Option<&Path>, start: Start) -> Result<ClipTokenizer, TrainError> {
    if let Some(from) = &recipe.tokenizer.from {
        return Ok(ClipTokenizer::from_directory(&recipe.resolve(from), Flavour::HuggingFace)?);
    }
    let Some(size) = recipe.tokenizer.train_vocab_size else {
        let directory =
            source.map(|source| if source.is_dir() { source } else { source.parent().unwrap_or(source) });
        return match directory.map(|directory| ClipTokenizer::from_directory(directory, Flavour::HuggingFace))
        {
            None | Some(Err(TokenizerError::NotFound(_))) => Ok(ClipTokenizer::openai()),
            Some(tokenizer) => Ok(tokenizer?),
        };
    };
    let learnt = recipe.output().join(TOKENIZER);
    if start != Start::Anew && learnt.is_dir() {
        return Ok(ClipTokenizer::from_directory(&learnt, Flavour::OpenAi)?);
    }
    let tokenizer = ClipTokenizer::train(captions(recipe)?.iter(), size)?;
    crate::directory::replace(&learnt, |directory| Ok(tokenizer.save(directory)?))?;
    Ok(tokenizer)
}

/// Every id of the tokenizer has to have its vector in the network.
fn fits(tokenizer: &ClipTokenizer, config: &ClipConfig, name: &str) -> Result<(), TrainError> {
    let (needed, there) = (tokenizer.vocab_size(), config.text.vocab_size);
    if needed <= there {
        return Ok(());
    }
    Err(TrainError::Model(format!("the tokenizer has {needed} ids, {name} has room for {there}")))
}

fn config(model: &Model, tokenizer: &ClipTokenizer) -> Result<ClipConfig, TrainError> {
    let fail = |message: String| Err(TrainError::Model(message));
    if let Some(name) = &model.preset {
        let Some(config) = presets::find(name) else {
            let known: Vec<&str> = presets::names().collect();
            return fail(format!(
                "no published architecture is called {name:?}; known are {}",
                known.join(", ")
            ));
        };
        fits(tokenizer, &config, name)?;
        return Ok(config);
    }
    let (Some(vision), Some(text), Some(projection_dim)) = (&model.vision, &model.text, model.projection_dim)
    else {
        return fail("takes a preset, init_from, or vision with text and projection_dim".into());
    };
    let hidden_act = Activation::QuickGelu;
    let layer_norm_eps = LAYER_NORM_EPS;
    let vision = match *vision {
        Vision::Vit {
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            image_size,
            patch_size,
        } => VisionConfig::Vit(VitConfig {
            hidden_size,
            intermediate_size: intermediate_size.unwrap_or(4 * hidden_size),
            num_hidden_layers,
            num_attention_heads,
            image_size,
            patch_size,
            hidden_act,
            layer_norm_eps,
        }),
        Vision::ResNet { width, layers, num_attention_heads, image_size } => {
            VisionConfig::ResNet(ResNetConfig {
                width,
                layers,
                num_attention_heads: num_attention_heads.unwrap_or(width / 2),
                image_size,
            })
        }
    };
    ClipConfig {
        vision,
        text: TextConfig {
            vocab_size: tokenizer.vocab_size(),
            hidden_size: text.hidden_size,
            intermediate_size: text.intermediate_size.unwrap_or(4 * text.hidden_size),
            num_hidden_layers: text.num_hidden_layers,
            num_attention_heads: text.num_attention_heads,
            max_position_embeddings: text.max_position_embeddings,
            hidden_act,
            layer_norm_eps,
            pooling: TextPooling::FirstEos(tokenizer.end_id()),
        },
        projection_dim,
        logit_scale_init_value: LOGIT_SCALE_INIT,
        logit_bias_init_value: None,
    }
    .checked()
    .map_err(|error| TrainError::Model(error.to_string()))
}
