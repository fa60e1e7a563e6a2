//! From a recipe to everything that a run consists of.

use std::sync::Arc;

use tuwen::ModelFiles;
use tuwen_data::image::Transform;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour};
use tuwen_eval::Classes;
use tuwen_models::albef::Albef;
use tuwen_models::blip::Blip;
use tuwen_models::clip::config::{
    LAYER_NORM_EPS, LOGIT_SCALE_INIT, SIGLIP_LOGIT_BIAS_INIT, SIGLIP_LOGIT_SCALE_INIT,
};
use tuwen_models::clip::{
    Clip, ClipConfig, ClipImageProcessor, TextConfig, TextPooling, VisionConfig, presets,
};
use tuwen_models::{ResNetConfig, VitConfig};
use tuwen_nn::Scope;
use tuwen_tensor::Activation;
use tuwen_tensor::checkpoint::{Overlay, RawTensor, replace_directory};

use crate::classification::Classification;
use crate::contrastive::Contrastive;
use crate::data::{ClassificationData, ContrastiveData, Preparation};
use crate::grounded::{
    self, AnswersOnShapes, Fused, FusedAnswers, FusedData, FusedOnShapes, Grounded, GroundedData,
    GroundedOnShapes, Judge, JudgeOnShapes, JudgedData, Planned, Sketch,
};
use crate::memory::{ClipOnShapes, Plan};
use crate::recipe::{Loss, Model, Vision};
use crate::{BatchSource, Recipe, Sources, Start, TrainError, Trainer, adapter};

/// Says whether a run may take the memory of its plan.
pub type Allowed<'a> = &'a dyn Fn(&Plan) -> Result<(), TrainError>;

/// The name of the vocabulary that a run learnt, in its output directory: a resumed run must not learn another.
pub(crate) const TOKENIZER: &str = "tokenizer";

/// Prepares contrastive pre-training: tokenizer, network, data, and the state of the newest checkpoint. Before it takes
/// much memory, `allowed` is asked whether it may.
///
/// # Errors
/// Everything that can be wrong with the recipe, the data it names, and a checkpoint to go on from; what `allowed` gives.
pub fn contrastive(
    recipe: Recipe,
    sources: &Sources,
    start: Start,
    allowed: Allowed<'_>,
) -> Result<Trainer<Contrastive, ContrastiveData>, TrainError> {
    let (config, preparation, scope) = parts(&recipe, sources, start)?;
    let data = ContrastiveData::new(&recipe, sources, preparation.clone(), config.projection_dim)?;
    let survey = data.survey();
    let on_shapes = ClipOnShapes::new(&config, &preparation, &survey)?;
    allowed(&Plan::new(&recipe, on_shapes, &survey))?;
    let clip = Clip::new(&config, scope)?;
    let objective = Contrastive::new(clip, config, preparation, &recipe);
    if !recipe.export.adapter {
        objective.prepare_export(recipe.export.dtype)?;
    }
    Trainer::new(recipe, objective, data, start)
}

/// Prepares fine-tuning for classification: tokenizer, classes, network, data, and the state of the newest checkpoint.
///
/// # Errors
/// As [`contrastive`]; samples without a class.
pub fn classification(
    recipe: Recipe,
    sources: &Sources,
    start: Start,
) -> Result<Trainer<Classification, ClassificationData>, TrainError> {
    let (config, preparation, scope) = parts(&recipe, sources, start)?;
    let settings = recipe.classification.clone().unwrap_or_default();
    let classes = match settings.classes.is_empty() {
        true => sources.classes()?,
        false => Classes::from_names(settings.classes.clone()),
    };
    let data = ClassificationData::new(&recipe, sources, preparation.clone(), classes.clone())?;
    let clip = Clip::new(&config, scope)?;
    let objective = Classification::new(clip, config, preparation, classes, settings)?;
    objective.prepare_export(recipe.export.dtype)?;
    Trainer::new(recipe, objective, data, start)
}

/// Prepares training of BLIP: tokenizer, network, data, and the state of the newest checkpoint.
///
/// # Errors
/// As [`contrastive`].
pub fn blip(
    recipe: Recipe,
    sources: &Sources,
    start: Start,
    allowed: Allowed<'_>,
) -> Result<Trainer<Grounded, GroundedData>, TrainError> {
    let Planned { config, preparation, scope, notes } = grounded::parts(&recipe, sources, start)?;
    let data = GroundedData::new(&recipe, sources, preparation.clone(), config.image_text_hidden_size)?;
    let survey = data.survey();
    let on_shapes = GroundedOnShapes(Sketch::new(&config, &preparation, &survey));
    allowed(&Plan::new(&recipe, on_shapes, &survey))?;
    let blip = Blip::new(&config, scope)?;
    let objective = Grounded::new(blip, config, preparation, &recipe)?.with_notes(notes);
    Trainer::new(recipe, objective, data, start)
}

/// Prepares training of BLIP for NLVR2: tokenizer, network, data, and the state of the newest checkpoint.
///
/// # Errors
/// As [`contrastive`].
pub fn nlvr2(
    recipe: Recipe,
    sources: &Sources,
    start: Start,
    allowed: Allowed<'_>,
) -> Result<Trainer<Judge, JudgedData>, TrainError> {
    let Planned { config, preparation, scope, notes } = grounded::parts(&recipe, sources, start)?;
    let data = JudgedData::new(&recipe, sources, preparation.clone())?;
    let survey = data.survey();
    let on_shapes = JudgeOnShapes(Sketch::new(&config, &preparation, &survey));
    allowed(&Plan::new(&recipe, on_shapes, &survey))?;
    let blip = Blip::new(&config, scope)?;
    let objective = Judge::new(blip, config, preparation, &recipe).with_notes(notes);
    Trainer::new(recipe, objective, data, start)
}

/// Prepares training of ALBEF: tokenizer, network, data, and the state of the newest checkpoint.
///
/// # Errors
/// As [`contrastive`].
pub fn albef(
    recipe: Recipe,
    sources: &Sources,
    start: Start,
    allowed: Allowed<'_>,
) -> Result<Trainer<Fused, FusedData>, TrainError> {
    let Planned { config, preparation, scope, notes } = grounded::albef_parts(&recipe, sources, start)?;
    let data = FusedData::new(&recipe, sources, preparation.clone())?;
    let survey = data.survey();
    let on_shapes = FusedOnShapes(Sketch::new(&config, &preparation, &survey));
    allowed(&Plan::new(&recipe, on_shapes, &survey))?;
    let albef = Albef::new(&config, scope)?;
    let objective = Fused::new(albef, config, preparation, &recipe)?.with_notes(notes);
    Trainer::new(recipe, objective, data, start)
}

/// Prepares training of ALBEF for questions: tokenizer, network, data, and the state of the newest checkpoint.
///
/// # Errors
/// As [`contrastive`].
pub fn albef_vqa(
    recipe: Recipe,
    sources: &Sources,
    start: Start,
    allowed: Allowed<'_>,
) -> Result<Trainer<FusedAnswers, GroundedData>, TrainError> {
    let Planned { config, preparation, scope, notes } = grounded::albef_parts(&recipe, sources, start)?;
    let data = GroundedData::of_answers(&recipe, sources, preparation.clone())?;
    let survey = data.survey();
    let on_shapes = AnswersOnShapes(Sketch::new(&config, &preparation, &survey));
    allowed(&Plan::new(&recipe, on_shapes, &survey))?;
    let albef = Albef::new(&config, scope)?;
    let objective = FusedAnswers::new(albef, config, preparation, &recipe)?.with_notes(notes);
    Trainer::new(recipe, objective, data, start)
}

/// The network's sizes, what prepares its inputs, and where its weights come from.
fn parts(
    recipe: &Recipe,
    sources: &Sources,
    start: Start,
) -> Result<(ClipConfig, Preparation, Scope), TrainError> {
    let files = match &recipe.model.init_from {
        None => None,
        Some(from) => Some(adapter::open_base(recipe, from)?),
    };
    let tokenizer = Arc::new(tokenizer(recipe, sources, files.as_ref(), start)?);
    let (config, processor, scope) = match files {
        None => {
            let mut config = config(&recipe.model, &tokenizer)?;
            if recipe.train.loss == Loss::Siglip {
                config.logit_scale_init_value = SIGLIP_LOGIT_SCALE_INIT;
                config.logit_bias_init_value = Some(SIGLIP_LOGIT_BIAS_INIT);
            }
            let processor = processor(&config);
            (config, processor, Scope::init(recipe.seed))
        }
        Some(mut files) => {
            fits(&tokenizer, &files.config, &files.name)?;
            if recipe.train.loss == Loss::Siglip && files.config.logit_bias_init_value.is_none() {
                files.config.logit_bias_init_value = Some(SIGLIP_LOGIT_BIAS_INIT);
                let bias = RawTensor::from_f32(&[], &[SIGLIP_LOGIT_BIAS_INIT]);
                let added = [("logit_bias".to_owned(), bias)].into();
                files.weights = Arc::new(Overlay::new(files.weights, added));
            }
            let scope = adapter::scope(recipe, &files)?;
            (files.config, files.processor, scope)
        }
    };
    let preparation = Preparation {
        context_length: config.text.max_position_embeddings,
        image_size: config.vision.image_size(),
        processor,
        tokenizer,
    };
    Ok((config, preparation, scope.with_precision(recipe.train.precision.into())))
}

/// Images as the program prepares them that loads the exported model.
fn processor(config: &ClipConfig) -> ClipImageProcessor {
    match &config.vision {
        VisionConfig::Vit(vit) => ClipImageProcessor { transform: Transform::hugging_face(vit.image_size) },
        VisionConfig::ResNet(resnet) => ClipImageProcessor::openai(resnet.image_size),
    }
}

/// The tokenizer that the recipe asks for; else that of the model to start from; else OpenAI's.
fn tokenizer(
    recipe: &Recipe,
    sources: &Sources,
    files: Option<&ModelFiles>,
    start: Start,
) -> Result<ClipTokenizer, TrainError> {
    if let Some(from) = &recipe.tokenizer.from {
        return Ok(ClipTokenizer::from_directory(&recipe.resolve(from), Flavour::HuggingFace)?);
    }
    let Some(size) = recipe.tokenizer.train_vocab_size else {
        return Ok(files.and_then(ModelFiles::tokenizer).cloned().unwrap_or_else(ClipTokenizer::openai));
    };
    let learnt = recipe.output().join(TOKENIZER);
    if start != Start::Anew && learnt.is_dir() {
        return Ok(ClipTokenizer::from_directory(&learnt, Flavour::OpenAi)?);
    }
    let tokenizer = ClipTokenizer::train(sources.captions(), size)?;
    replace_directory(&learnt, |directory| Ok::<_, TrainError>(tokenizer.save(directory)?))?;
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
