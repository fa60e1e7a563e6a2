//! A run in bf16 learns what one in single precision learns.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tuwen_train::{Event, Recipe, Sources, Start, setup};

/// The losses of a run.
fn losses(directory: &Path, precision: &str) -> Vec<f64> {
    let text = format!(
        r#"output = "{precision}"
        data = [{{ path = "pictures", caption_templates = ["a {{}} thing"] }}]
        train = {{ batch_size = 12, epochs = 8, precision = "{precision}" }}
        optimizer = {{ lr = 0.002 }}
        [model]
        projection_dim = 16
        vision = {{ kind = "vit", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, image_size = 16, patch_size = 4 }}
        text = {{ hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, max_position_embeddings = 8 }}
        "#
    );
    let path = directory.join(format!("{precision}.toml"));
    fs::write(&path, text).expect("written");
    let recipe = Recipe::read(&path).expect("a recipe");
    let sources = Sources::open(&recipe).expect("opened");
    let mut trainer = setup::contrastive(recipe, &sources, Start::Anew, &|_| Ok(())).expect("prepared");
    let mut losses = Vec::new();
    let mut observe = |event: Event| {
        if let Event::Step { record, .. } = event {
            losses.push(record.loss);
        }
        ControlFlow::Continue(())
    };
    trainer.run(&mut observe).expect("a run");
    losses
}

#[test]
fn bf16_learns_what_f32_learns() {
    let directory = tempfile::tempdir().expect("a directory");
    let colours = [("red", [20, 30, 200]), ("green", [30, 190, 40]), ("blue", [180, 40, 30])];
    common::write_pictures(&directory.path().join("pictures"), 16, 16, &colours);
    let (single, reduced) = (losses(directory.path(), "f32"), losses(directory.path(), "bf16"));
    assert_eq!((single.len(), reduced.len()), (32, 32));
    assert_ne!(single, reduced, "the recipe decides what is multiplied");
    // Three bits more than the rounding of one operand: losses are sums of many products.
    let close = |(a, b): (&f64, &f64)| (a - b).abs() < a.abs() / 32.0;
    assert!(single.iter().zip(&reduced).all(close), "{single:?} and {reduced:?}");
    assert!(single[31] < 0.9 * single[0], "something was learnt: {single:?}");
}
