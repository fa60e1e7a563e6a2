//! The memory that a run takes is the memory that was estimated. Alone in its file: it looks at the whole process.

mod common;

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use tuwen_train::memory::Plan;
use tuwen_train::{Outcome, Recipe, Sources, Start, TrainError, setup};

fn recipe(directory: &Path, train: &str) -> Recipe {
    let text = format!(
        r#"output = "out"
        data = [{{ path = "pictures", caption_templates = ["a photo of a {{}} thing.", "{{}}"] }}]
        train = {{ batch_size = 64, epochs = 1, max_steps = 2, {train} }}
        optimizer = {{ }}
        [model]
        projection_dim = 64
        vision = {{ kind = "vit", hidden_size = 256, num_hidden_layers = 4, num_attention_heads = 4, image_size = 64, patch_size = 8 }}
        text = {{ hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 1, max_position_embeddings = 16 }}
        "#
    );
    fs::write(directory.join("recipe.toml"), text).expect("written");
    Recipe::read(&directory.join("recipe.toml")).expect("a recipe")
}

/// The plan of a recipe, and what becomes of the run where it is not allowed.
fn plan(recipe: Recipe) -> Plan {
    let seen = RefCell::new(None);
    let sources = Sources::open(&recipe).expect("opened");
    let refused = setup::contrastive(recipe, &sources, Start::Anew, &|plan| {
        *seen.borrow_mut() = Some(plan.clone());
        Err(TrainError::Memory { needed: 2_000_000_000, available: 1_000_000_000, advice: String::new() })
    });
    let message = refused.err().expect("refused").to_string();
    assert_eq!(message, "training needs about 2.0 GB of memory, 1.0 GB is available");
    seen.into_inner().expect("asked")
}

/// The height of the memory of this process so far, in bytes.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[test]
fn a_run_takes_what_was_estimated() {
    let directory = tempfile::tempdir().expect("a directory");
    common::write_pictures(
        &directory.path().join("pictures"),
        40,
        64,
        &[("red", [20, 30, 200]), ("green", [30, 190, 40])],
    );
    let total = |train: &str| plan(recipe(directory.path(), train)).estimate().expect("a network").total();

    let whole = plan(recipe(directory.path(), ""));
    let estimate = whole.estimate().expect("a network");
    assert_eq!(estimate.gradients * 2, estimate.moments);
    assert_eq!(estimate.gradients, estimate.weights, "everything learns");
    assert_eq!(estimate.cache, 128 * 3 * 40 * 40);
    let (parts, again) = (total("micro_batch_size = 8"), total("gradient_checkpointing = true"));
    assert!(
        parts < estimate.total() * 3 / 4 && again < estimate.total() * 3 / 4,
        "{parts}, {again}, {estimate:?}"
    );

    let advice = whole.advice(estimate.total() - 1).expect("a network");
    assert!(
        advice.contains("gradient_checkpointing = true (") && advice.contains("micro_batch_size = 32 ("),
        "{advice}"
    );
    let advice = whole.advice(1).expect("a network");
    assert!(advice.contains("would still need") && advice.contains("smaller model"), "{advice}");

    let recipe = recipe(directory.path(), "");
    let sources = Sources::open(&recipe).expect("opened");
    let mut trainer = setup::contrastive(recipe, &sources, Start::Anew, &|_| Ok(())).expect("prepared");
    let outcome = trainer.run(&mut |_| std::ops::ControlFlow::Continue(())).expect("trained");
    assert_eq!(outcome, Outcome::Finished);
    let Some(measured) = peak() else {
        eprintln!("skipped: no /proc/self/status");
        return;
    };
    let ratio = estimate.total() as f64 / measured as f64;
    eprintln!("estimated {} MB, took {} MB", estimate.total() >> 20, measured >> 20);
    assert!((0.75..1.25).contains(&ratio), "{ratio:.2}: {estimate:?}, took {measured}");
}
