//! Fine-tuning for classification: gradients, exact resumption, freezing, and what is exported.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use tuwen::{ImageFeatures, Options, Picture};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::Tensor;
use tuwen_train::recipe::ExportType;
use tuwen_train::{
    BatchSource, Classification, ClassificationData, LabelledBatch, Objective, Outcome, Recipe, Sources,
    Start, TrainError, Trainer, setup,
};

const VIT: &str = r#"vision = { kind = "vit", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, image_size = 16, patch_size = 8 }"#;
const RESNET: &str = r#"vision = { kind = "resnet", width = 8, layers = [1, 1, 1, 1], image_size = 32 }"#;

/// Pictures of three classes: stripes along, stripes across, and none.
fn write_pictures(folder: &Path) {
    for (number, class) in ["across", "along", "plain"].into_iter().enumerate() {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).expect("created");
        for shade in 0..8_u32 {
            let stripe = |x: u32, y: u32| [y / 4 % 2, x / 4 % 2, 0][number] * 180 + 5 * shade;
            let pixels: Vec<u8> = (0..20 * 20)
                .flat_map(|i| [stripe(i % 20, i / 20), 9 * shade, 90].map(|value| value as u8))
                .collect();
            let file = fs::File::create(folder.join(format!("{shade}.png"))).expect("created");
            let mut encoder = png::Encoder::new(file, 20, 20);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
        }
    }
}

/// A recipe in a directory with its pictures; `rest` is appended.
fn recipe(directory: &Path, vision: &str, rest: &str) -> Recipe {
    write_pictures(&directory.join("pictures"));
    let text = format!(
        r#"
        seed = 5
        output = "out"
        data = [{{ path = "pictures" }}]
        tokenizer = {{ from = "tokenizer" }}
        augment = {{ horizontal_flip = 0.5 }}
        train = {{ objective = "classification", batch_size = 6, epochs = 5, checkpoint_every = 3, log_every = 1 }}
        optimizer = {{ lr = 0.003, warmup_steps = 2, layer_decay = 0.75 }}
        eval = [{{ kind = "classification", path = "pictures", every_epochs = 2 }}]
        [model]
        projection_dim = 16
        {vision}
        text = {{ hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 24 }}
        {rest}
        "#
    );
    let tokenizer =
        tuwen_data::tokenizer::ClipTokenizer::train(["across along plain stripes"; 20].iter(), 520);
    tokenizer.expect("learnt").save(&directory.join("tokenizer")).expect("written");
    let path = directory.join("recipe.toml");
    fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

fn trainer(
    directory: &Path,
    (vision, rest): (&str, &str),
    start: Start,
) -> Trainer<Classification, ClassificationData> {
    set_up(recipe(directory, vision, rest), start).expect("a trainer")
}

fn set_up(recipe: Recipe, start: Start) -> Result<Trainer<Classification, ClassificationData>, TrainError> {
    let sources = Sources::open(&recipe).expect("data");
    setup::classification(recipe, &sources, start)
}

/// The log without what depends on the clock.
fn log(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("out/log.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a whole line");
        value.as_object_mut().expect("an object").remove("images_per_second");
        value
    };
    text.lines().map(line).collect()
}

fn values(parameters: &Parameters, name: &str) -> Vec<f32> {
    parameters.get(name).expect(name).param.value().to_vec()
}

#[test]
fn it_goes_on_bit_for_bit_wherever_it_was_dropped() {
    let kind = (VIT, "[classification]\nlabel_smoothing = 0.1\nfeatures = \"pooled\"");
    let whole = tempfile::tempdir().expect("a directory");
    let outcome =
        trainer(whole.path(), kind, Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    assert_eq!(outcome, Outcome::Finished);
    let expected = log(whole.path());
    let export = |directory: &Path, file: &str| fs::read(directory.join("out/final").join(file)).expect(file);
    for stop in [1, 3, 7, 12, 19] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = trainer(directory.path(), kind, Start::Anew);
        for _ in 0..stop {
            run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        drop(run);
        let mut run = trainer(directory.path(), kind, Start::ResumeIfPossible);
        run.run(&mut |_| ControlFlow::Continue(())).expect("runs");
        assert_eq!(log(directory.path()), expected, "dropped after step {stop}");
        for file in ["model.safetensors", "classifier.safetensors"] {
            assert!(export(directory.path(), file) == export(whole.path(), file), "{file} after step {stop}");
        }
    }
}

#[test]
fn what_is_learnt_is_exported_with_the_model() {
    let place = tempfile::tempdir().expect("a directory");
    let mut run = trainer(place.path(), (VIT, ""), Start::Anew);
    run.run(&mut |_| ControlFlow::Continue(())).expect("runs");
    let lines = log(place.path());
    let top1 = lines.last().expect("a line")["metrics"]["top1"].as_f64().expect("a number");
    assert!(top1 > 60.0, "stripes are easy: {top1}");
    let first = &lines[0];
    assert!(
        (first["loss"].as_f64().expect("a loss") - 3_f64.ln()).abs() < 1e-5,
        "zeros know nothing: {first}"
    );

    let model = place.path().join("out/final");
    let model = tuwen::load(&model.to_string_lossy(), &Options::default()).expect("loads");
    let classifier = model.own_classifier().expect("its head");
    assert_eq!(classifier.labels(), ["across", "along", "plain"]);
    let mut right = 0;
    for label in classifier.labels() {
        let path = place.path().join("pictures").join(label).join("3.png");
        let picture = Picture::decode(&fs::read(path).expect("read")).expect("decoded");
        let vectors = model.embedder_of(classifier.features()).images(&[picture]);
        let scores = &classifier.probabilities(&vectors)[0];
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("three");
        right += usize::from(classifier.labels()[best] == *label);
    }
    assert!(right >= 2, "{right} of 3");
}

#[test]
fn a_frozen_tower_stays_as_it_is() {
    let place = tempfile::tempdir().expect("a directory");
    let head_only = "[[groups]]\npattern = \"vision_model.*\"\nfreeze = true";
    let mut run = trainer(place.path(), (RESNET, head_only), Start::Anew);
    let names = ["vision_model.bn1.running_mean", "vision_model.attnpool.c_proj.weight", "logit_scale"];
    let before = names.map(|name| values(run.objective().parameters(), name));
    for _ in 0..4 {
        run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
    }
    let parameters = run.objective().parameters();
    assert_eq!(names.map(|name| values(parameters, name)), before);
    assert!(values(parameters, "classifier.weight").iter().any(|&value| value != 0.0));
}

#[test]
fn a_batch_in_parts_is_learnt_from_as_a_whole() {
    let losses = |rest: &str| {
        let place = tempfile::tempdir().expect("a directory");
        let mut recipe = recipe(place.path(), VIT, "");
        recipe.train.micro_batch_size = rest.parse().ok();
        let mut run = set_up(recipe, Start::Anew).expect("a trainer");
        (0..8).for_each(|_| run.advance(&mut |_| ControlFlow::Continue(())).expect("a step"));
        let lines = log(place.path()).into_iter();
        lines.filter_map(|line| line["loss"].as_f64()).collect::<Vec<f64>>()
    };
    let (whole, parts) = (losses(""), losses("2"));
    assert!(whole.len() == 8 && whole[7] < whole[0], "{whole:?}");
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-4), "{whole:?} {parts:?}");
}

#[test]
fn a_zero_shot_head_begins_with_the_prompts() {
    let place = tempfile::tempdir().expect("a directory");
    let rest = "[classification]\nhead_init = \"zero_shot\"\ntemplates = [\"stripes {}\", \"{} stripes\"]";
    let run = trainer(place.path(), (VIT, rest), Start::Anew);
    let exported = place.path().join("model");
    run.objective().export(&exported, ExportType::F32).expect("exported");
    let model = tuwen::load(&exported.to_string_lossy(), &Options::default()).expect("loads");
    let head = model.own_classifier().expect("its head");
    let prompts = model.classifier(head.labels(), &["stripes {}", "{} stripes"]).expect("prompts");
    assert_eq!((head.features(), head.bias()), (ImageFeatures::Normalized, &[0.0; 3][..]));
    for (weight, vector) in head.weight().values().iter().zip(prompts.targets().values()) {
        let expected = model.logit_scale() * vector;
        assert!((weight - expected).abs() < 1e-4, "{weight}, expected {expected}");
    }
}

/// The slope of the loss along the gradient of all parameters is the length of that gradient.
#[test]
fn gradients_are_those_of_the_loss() {
    let frozen_norms = "[[groups]]\npattern = \"*.bn*\"\nfreeze = true\n[[groups]]\npattern = \"*.downsample.1.*\"\nfreeze = true";
    let vit = (VIT, "[classification]\nlabel_smoothing = 0.1");
    for (kind, step) in [(vit, 2e-3), ((RESNET, ""), 1e-4), ((RESNET, frozen_norms), 1e-3)] {
        let place = tempfile::tempdir().expect("a directory");
        let mut run = trainer(place.path(), kind, Start::Anew);
        // The head begins at zero, where the tower has no gradient.
        for _ in 0..4 {
            run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        let objective = run.objective();
        let batch = run.data().epoch(0, 0).next().expect("a batch").expect("read");
        let loss =
            |batch: &LabelledBatch| objective.losses(batch, &Pass::train()).expect("a loss").remove(0).1;
        let mut gradients = loss(&batch).backward();
        let slots: Vec<_> = objective
            .parameters()
            .trainable()
            .map(|entry| {
                let gradient = gradients.take(&entry.param.value()).expect(&entry.name).to_vec();
                (entry.param.clone(), entry.param.value().to_vec(), gradient)
            })
            .collect();
        assert!(slots.len() > 20);
        let squares = slots.iter().flat_map(|(_, _, gradient)| gradient).map(|&g| f64::from(g).powi(2));
        let length = squares.sum::<f64>().sqrt();
        let at = |distance: f64| {
            for (param, values, gradient) in &slots {
                let moved =
                    values.iter().zip(gradient).map(|(&value, &g)| value + (distance / length) as f32 * g);
                param.assign(&Tensor::new(&moved.collect::<Vec<f32>>(), &param.shape()));
            }
            f64::from(loss(&batch).item())
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!((slope - length).abs() < 0.02 * length, "{slope} along a gradient of length {length}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let place = tempfile::tempdir().expect("a directory");
    let recipe = recipe(place.path(), VIT, "");
    let setup = |recipe: Recipe| set_up(recipe, Start::Anew).err().expect("refused").to_string();
    let mut named = recipe.clone();
    let classes = ["across", "along"].map(String::from).to_vec();
    named.classification = Some(tuwen_train::recipe::Classification { classes, ..Default::default() });
    let mut run = set_up(named, Start::Anew).expect("a trainer");
    let error = (0..4).find_map(|_| run.advance(&mut |_| ControlFlow::Continue(())).err()).expect("an error");
    assert!(error.to_string().contains("\"plain\" is not among those of the head"), "{error}");
    fs::rename(place.path().join("pictures/plain"), place.path().join("plain")).expect("moved");
    fs::copy(place.path().join("plain/1.png"), place.path().join("pictures/top.png")).expect("copied");
    assert!(setup(recipe).contains("1 of 17 samples have no class; the first is top"));
    let text = fs::read_to_string(place.path().join("recipe.toml")).expect("read");
    for (from, to, expected) in [
        ("objective = \"classification\", ", "", "needs train.objective = \"classification\""),
        ("layer_decay = 0.75", "layer_decay = 1.5", "layer_decay is 1.5"),
        ("[model]", "[classification]\nlabel_smoothing = 1.0\n[model]", "label_smoothing is 1"),
        (
            "[model]",
            "[classification]\nhead_init = \"zero_shot\"\nfeatures = \"pooled\"\n[model]",
            "needs features",
        ),
        ("[model]", "[classification]\nclasses = [\"a\", \"a\"]\n[model]", "\"a\" twice"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(place.path().join("wrong.toml"), text.replace(from, to)).expect("written");
        let error = Recipe::read(&place.path().join("wrong.toml")).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
