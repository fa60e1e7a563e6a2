//! A batch in parts, and layers computed twice: the gradients are those of the plain way.

use std::collections::BTreeMap;
use std::sync::Arc;

use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::clip::{Clip, ClipConfig, ClipImageProcessor, TokenIds};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::{Gradients, Tensor, ops};
use tuwen_train::{ClipBatch, Contrastive, Keys, Metrics, Objective, Pairs, Preparation, Recipe};

const PAIRS: usize = 12;
const CONTEXT: usize = 9;
const SIZE: usize = 32;

const VIT: &str = r#""layers": 2, "width": 24, "head_width": 8, "patch_size": 8"#;
const RESNET: &str = r#""layers": [1, 1, 1, 1], "width": 8, "head_width": 64"#;

fn objective(vision: &str, train: &str, bias: bool) -> Contrastive {
    let json = format!(
        r#"{{"embed_dim": 16, "vision_cfg": {{"image_size": {SIZE}, {vision}}},
            "text_cfg": {{"context_length": {CONTEXT}, "vocab_size": 520, "width": 16, "heads": 2, "layers": 2}}}}"#
    );
    let mut config = ClipConfig::from_open_clip_json(&json).expect("a configuration");
    config.logit_bias_init_value = bias.then_some(-3.0);
    let preparation = Preparation {
        tokenizer: Arc::new(ClipTokenizer::openai()),
        context_length: CONTEXT,
        image_size: SIZE,
        processor: ClipImageProcessor::openai(SIZE),
    };
    let clip = Clip::new(&config, Scope::init(3)).expect("nothing is loaded");
    Contrastive::new(clip, config, preparation, &recipe(train))
}

/// With what a teacher is to count, where a batch has one.
fn recipe(train: &str) -> Recipe {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("recipe.toml");
    let text = format!(
        "output = \"out\"\nmodel = {{ preset = \"none\" }}\ndata = [{{ path = \"none\" }}]\noptimizer = {{}}\n\
         train = {{ batch_size = {PAIRS}, epochs = 1, {train} }}\n\
         distillation = {{ teacher = \"none\", weight = 0.7 }}\n"
    );
    std::fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

/// The same pairs in parts of `part`, perhaps with the vectors of a teacher. Captions repeat, and differ in length.
fn batch(part: usize, is_taught: bool) -> ClipBatch {
    let pixels: Vec<f32> = (0..PAIRS * 3 * SIZE * SIZE).map(|i| (i as f32 * 0.37).sin()).collect();
    let row = |pair: usize| {
        let caption = pair % 9;
        let mut ids = vec![518];
        ids.extend((0..caption % 7).map(|word| (caption * 31 + word * 17) as u32 % 500));
        ids.push(519);
        ids.resize(CONTEXT, 0);
        ids
    };
    let vectors = |first: usize, phase: f32| {
        let values: Vec<f32> =
            (first * 16..(first + part) * 16).map(|i| (i as f32 * 0.9 + phase).cos()).collect();
        ops::l2_normalize(&Tensor::new(&values, &[part, 16]))
    };
    let pairs = |first: usize| Pairs {
        taught: is_taught.then(|| Keys { images: vectors(first, 0.0), texts: vectors(first, 1.0) }),
        pixel_values: Tensor::new(
            &pixels[first * 3 * SIZE * SIZE..][..part * 3 * SIZE * SIZE],
            &[part, 3, SIZE, SIZE],
        ),
        tokens: TokenIds {
            ids: (first..first + part).flat_map(row).collect(),
            length: CONTEXT,
            attention_mask: None,
        },
    };
    ClipBatch {
        parts: (0..PAIRS).step_by(part).map(pairs).collect(),
        meanings: (0..PAIRS).map(|pair| format!("{}", pair % 9)).collect(),
    }
}

/// Values by parameter name; nothing for a parameter without a gradient.
fn by_name(objective: &Contrastive, mut gradients: Gradients) -> BTreeMap<String, Vec<f32>> {
    let parameters = objective.parameters().trainable();
    let gradient =
        |entry: &tuwen_nn::Entry| Some((entry.name.clone(), gradients.take(&entry.param.value())?.to_vec()));
    parameters.filter_map(gradient).collect()
}

fn run(objective: &Contrastive, part: usize, pass: &Pass) -> (Metrics, BTreeMap<String, Vec<f32>>) {
    run_with(objective, &batch(part, false), pass)
}

fn run_with(
    objective: &Contrastive,
    batch: &ClipBatch,
    pass: &Pass,
) -> (Metrics, BTreeMap<String, Vec<f32>>) {
    let (losses, gradients) = objective.gradients(batch, pass).expect("computed");
    (losses, by_name(objective, gradients))
}

#[test]
fn a_teacher_teaches_parts_as_the_whole() {
    let objective = objective(VIT, "", false);
    let [whole, parts] = [PAIRS, 4].map(|part| run_with(&objective, &batch(part, true), &Pass::train()));
    let alone = run(&objective, PAIRS, &Pass::train());
    assert!((whole.0["distillation"] - parts.0["distillation"]).abs() < 1e-5);
    assert_eq!(whole.0["contrastive"], alone.0["contrastive"]);
    for (name, expected) in &whole.1 {
        let largest = expected.iter().fold(0.0_f32, |max, g| max.max(g.abs()));
        let off = expected.iter().zip(&parts.1[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= 1e-5 * largest + 1e-7, "{name} is off by {off} of {largest}");
    }
    let name = "visual_projection.weight";
    assert!(whole.1[name] != alone.1[name], "it teaches");
}

#[test]
fn a_batch_in_parts_has_the_gradients_of_the_whole() {
    for (train, bias) in
        [("", false), ("loss = \"siglip\"", true), ("duplicates_are_positives = false", false)]
    {
        let objective = objective(VIT, train, bias);
        let (loss, whole) = run(&objective, PAIRS, &Pass::train());
        assert_eq!(whole.len(), objective.parameters().trainable().count(), "every parameter learns");
        for part in [1, 4, 6] {
            let (loss_of_parts, parts) = run(&objective, part, &Pass::train());
            let (a, b) = (loss["contrastive"], loss_of_parts["contrastive"]);
            assert!((a - b).abs() < 1e-5 * a.abs(), "{train}, {part} at a time: loss {a} and {b}");
            assert!(whole.keys().eq(parts.keys()), "{train}, {part} at a time");
            for (name, expected) in &whole {
                let largest = expected.iter().fold(0.0_f32, |max, g| max.max(g.abs()));
                let off = expected.iter().zip(&parts[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(
                    off <= 1e-5 * largest + 1e-7,
                    "{train}, {part} at a time: {name} is off by {off} of {largest}"
                );
            }
        }
    }
}

/// Not only close: the same operations on the same numbers.
#[test]
fn layers_that_are_computed_again_change_no_bit() {
    for vision in [VIT, RESNET] {
        for part in [PAIRS, 4] {
            let [kept, again] = [false, true].map(|checkpointing| {
                let objective = objective(vision, "", false);
                let result = run(&objective, part, &Pass::train().with_checkpointing(checkpointing));
                let buffers: Vec<Vec<f32>> =
                    objective.parameters().iter().map(|entry| entry.param.value().to_vec()).collect();
                (result, buffers)
            });
            assert!(kept == again, "{vision}, {part} at a time");
        }
    }
}

/// Features are computed twice where a batch comes in parts, but the images were seen once.
#[test]
fn running_statistics_move_once_for_each_image() {
    let mean = |parts: usize| {
        let objective = objective(RESNET, "", false);
        run(&objective, PAIRS / parts, &Pass::train());
        let entry = objective.parameters().get("vision_model.bn1.running_mean").expect("a batch norm");
        let norm = ops::sum(&ops::mul(&entry.param.value(), &entry.param.value())).item();
        (norm.sqrt(), objective)
    };
    let ((whole, _), (halves, _)) = (mean(1), mean(2));
    // One step of a tenth from zero towards about the same mean; and two of them.
    let ratio = halves / whole;
    assert!((1.7..2.1).contains(&ratio), "{ratio}");
}
