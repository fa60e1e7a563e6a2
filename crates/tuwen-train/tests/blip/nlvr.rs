//! Sentences about two images.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;
use tuwen::{GroundedFiles, GroundedNetwork, Options};
use tuwen_nn::Pass;
use tuwen_tensor::checkpoint::{TensorSource, open};
use tuwen_train::{Judge, JudgedData, Objective, Recipe, Sources, Start, Trainer, setup};

use crate::resume::{log, write_pictures, write_vocabulary};

/// Pairs of the pictures, whose sentences say whether they are of one colour.
pub fn write_pairs(directory: &Path) {
    let pair = |(left, right): (usize, usize)| {
        json!({
            "images": [format!("pictures/{left}-0.png"), format!("pictures/{right}-0.png")],
            "sentence": "the left color is the right color",
            "label": if left == right { "True" } else { "False" },
        })
    };
    let different = [(0, 1), (1, 2), (2, 3), (3, 0), (1, 0), (2, 1)];
    let same = [(0, 0), (1, 1), (2, 2), (3, 3), (0, 0), (2, 2)];
    let lines: Vec<String> =
        different.into_iter().chain(same).map(|pair_of| pair(pair_of).to_string()).collect();
    fs::write(directory.join("pairs.json"), lines.join("\n")).expect("written");
}

fn recipe(directory: &Path, epochs: u64, train: &str) -> Recipe {
    write_pictures(&directory.join("pictures"));
    write_vocabulary(&directory.join("vocab.txt"));
    write_pairs(directory);
    let text = format!(
        r#"
        seed = 5
        output = "out"
        data = [{{ path = "pairs.json" }}]
        tokenizer = {{ from = "vocab.txt" }}
        augment = {{ fit = "squash" }}
        train = {{ objective = "blip", batch_size = 4, epochs = {epochs}, checkpoint_every = 2, log_every = 1{train} }}
        optimizer = {{ lr = 0.003, warmup_steps = 2, schedule = "cosine_per_epoch" }}
        blip = {{ task = "nlvr2", dropout = 0.1, dialect = "salesforce" }}
        eval = [{{ kind = "nlvr2", path = "pairs.json", name = "dev" }}]
        [model]
        projection_dim = 16
        initializer_range = 0.1
        vision = {{ kind = "vit", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, image_size = 16, patch_size = 8 }}
        text = {{ hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, max_position_embeddings = 16 }}
        "#
    );
    let path = directory.join("recipe.toml");
    fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

fn trainer(recipe: Recipe, start: Start) -> Trainer<Judge, JudgedData> {
    let sources = Sources::open(&recipe).expect("data");
    setup::nlvr2(recipe, &sources, start).expect("a trainer")
}

#[test]
fn it_goes_on_bit_for_bit_and_loads() {
    let whole = tempfile::tempdir().expect("a directory");
    let parts = ", micro_batch_size = 2";
    trainer(recipe(whole.path(), 2, parts), Start::Anew)
        .run(&mut |_| ControlFlow::Continue(()))
        .expect("runs");
    let expected = log(whole.path());
    assert!(expected[0]["losses"]["nlvr2"].is_number(), "{}", expected[0]);
    assert!(expected.iter().any(|line| line["metrics"]["sentences"] == 12.0), "{expected:?}");
    for stop in [1, 3, 4] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = trainer(recipe(directory.path(), 2, parts), Start::Anew);
        for _ in 0..stop {
            run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        drop(run);
        trainer(recipe(directory.path(), 2, parts), Start::ResumeIfPossible)
            .run(&mut |_| ControlFlow::Continue(()))
            .expect("runs");
        assert_eq!(log(directory.path()), expected, "dropped after step {stop}");
    }
    let directory = whole.path().join("out/final");
    let files = GroundedFiles::open(&directory.to_string_lossy(), &Options::default()).expect("opens");
    let GroundedNetwork::Blip(blip) = files.load().expect("loads") else { panic!("a BLIP") };
    assert!(blip.nlvr().is_some() && files.tokenizer.is_some());
    assert!(
        open(&directory.join("model.safetensors"))
            .expect("weights")
            .names()
            .iter()
            .any(|name| name.contains("merge_layer"))
    );
}

#[test]
fn it_learns_to_tell_one_colour_from_two() {
    let place = tempfile::tempdir().expect("a directory");
    trainer(recipe(place.path(), 150, ""), Start::Anew)
        .run(&mut |_| ControlFlow::Continue(()))
        .expect("runs");
    let lines = log(place.path());
    let accuracy = lines.iter().rev().find(|line| line["eval"] == "dev").expect("an evaluation");
    assert!(accuracy["metrics"]["accuracy"].as_f64().expect("a number") > 80.0, "{accuracy}");
}

/// A batch in parts has the gradients of the whole.
#[test]
fn parts_have_the_gradients_of_the_whole() {
    let place = tempfile::tempdir().expect("a directory");
    let run = trainer(recipe(place.path(), 1, ", micro_batch_size = 2"), Start::Anew);
    let batch = tuwen_train::BatchSource::epoch(run.data(), 0, 0).next().expect("a batch").expect("read");
    assert_eq!(batch.parts.len(), 2);
    let (losses, by_parts) = run.objective().gradients(&batch, &Pass::train()).expect("gradients");
    let whole = run.objective().losses(&batch, &Pass::train()).expect("losses");
    let whole = whole
        .into_iter()
        .map(|(_, loss)| loss)
        .reduce(|a, b| tuwen_tensor::ops::add(&a, &b))
        .expect("a loss");
    assert!((losses["nlvr2"] - f64::from(whole.item())).abs() < 1e-6);
    let whole = whole.backward();
    for entry in run.objective().blip().parameters().trainable() {
        let [a, b] =
            [&by_parts, &whole].map(|of| of.get(&entry.param.value()).map(tuwen_tensor::Tensor::to_vec));
        let (Some(a), Some(b)) = (a, b) else { continue };
        let largest = b.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        crate::case::close(&entry.name, &a, &b, |_| 2e-6 + 2e-5 * largest);
    }
}
