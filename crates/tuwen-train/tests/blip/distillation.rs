//! Vectors of a teacher are learnt beside the rest, in parts as in the whole; a teacher that does not fit is refused.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tuwen_train::{Recipe, Sources, Start, TrainError, setup};

use crate::resume::{log, recipe_of};

const DRAWS_NOTHING: &str = "dropout = 0.0, itm = 0.0, vqa = 0.1";

/// A recipe whose vectors have so many numbers, with a teacher.
fn taught(directory: &Path, epochs: u64, train: &str, dim: usize) -> Result<Recipe, TrainError> {
    recipe_of(directory, epochs, [train, DRAWS_NOTHING]);
    let path = directory.join("recipe.toml");
    let text = fs::read_to_string(&path).expect("a recipe");
    let text = text.replace("projection_dim = 16", &format!("projection_dim = {dim}"));
    fs::write(&path, format!("{text}\n[distillation]\nteacher = \"builtin-clip\"\nweight = 0.5\n"))
        .expect("written");
    Recipe::read(&path)
}

fn run(recipe: Recipe) -> Result<(), TrainError> {
    let sources = Sources::open(&recipe)?;
    setup::blip(recipe, &sources, Start::Anew, &|_| Ok(()))?.run(&mut |_| ControlFlow::Continue(()))?;
    Ok(())
}

/// The loss of each step.
fn distances(directory: &Path) -> Vec<f64> {
    log(directory).iter().filter_map(|line| line["losses"]["distillation"].as_f64()).collect()
}

#[test]
fn vectors_come_near_to_those_of_the_teacher_in_parts_as_in_the_whole() {
    let runs = ["", ", micro_batch_size = 2"].map(|train| {
        let directory = tempfile::tempdir().expect("a directory");
        run(taught(directory.path(), 20, train, 256).expect("a recipe")).expect("runs");
        distances(directory.path())
    });
    let [whole, parts] = &runs;
    assert_eq!(whole.len(), 40);
    let begins_alike = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-3 * a;
    assert!(whole[..4].iter().zip(parts).all(begins_alike), "{:?} {:?}", &whole[..4], &parts[..4]);
    for run in runs {
        // Unit vectors that know nothing of each other are 2 apart, both of the image and of the text.
        assert!((run[0] - 0.5 * 4.0).abs() < 0.5 && run[39] < 0.5 * run[0], "{} {}", run[0], run[39]);
    }
}

#[test]
fn a_teacher_that_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = run(taught(directory.path(), 1, "", 16).expect("a recipe")).expect_err("other vectors");
    let expected =
        "vectors of builtin-clip, from which it is to learn, have 256 numbers; those of the network have 16";
    assert_eq!(error.to_string(), format!("[model]: {expected}"));
    let path = directory.path().join("recipe.toml");
    let text = fs::read_to_string(&path).expect("a recipe");
    for [from, to, expected] in [
        ["itm = 0.0, vqa = 0.1", "itm = 0.0, task = \"caption\"", "[distillation] needs train.objective"],
        ["weight = 0.5", "weight = 0.0", "distillation.weight is 0"],
    ] {
        fs::write(&path, text.replace(from, to)).expect("written");
        let error = Recipe::read(&path).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}
