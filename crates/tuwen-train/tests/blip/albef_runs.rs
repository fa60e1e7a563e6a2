//! Runs of ALBEF: they go on bit for bit, in parts or whole, learn, and export what loads.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tuwen::{GroundedFiles, GroundedNetwork, Options};
use tuwen_models::albef::Albef;
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, ops};
use tuwen_train::{BatchSource, Objective, Recipe, Sources, Start, Trainer, setup};

use crate::case::close;
use crate::resume::{log, write_pictures, write_vocabulary};

/// A recipe over the pictures of the runs of BLIP; `train`, `albef` and `eval` are appended.
fn recipe(directory: &Path, epochs: u64, [train, albef, eval]: [&str; 3]) -> Recipe {
    write_pictures(&directory.join("pictures"));
    write_vocabulary(&directory.join("vocab.txt"));
    let text = format!(
        r#"
        seed = 5
        output = "out"
        data = [{{ path = "pictures" }}]
        tokenizer = {{ from = "vocab.txt" }}
        augment = {{ fit = "squash", rand_augment = {{ magnitude = 2.0 }} }}
        train = {{ objective = "albef", batch_size = 4, epochs = {epochs}, checkpoint_every = 3, log_every = 1{train} }}
        optimizer = {{ lr = 0.003, warmup_steps = 2, layer_decay = 0.9 }}
        albef = {{ momentum = 0.9, dropout = 0.1, {albef} }}
        eval = [{{ kind = "{eval}", path = "pictures", every_epochs = 2 }}]
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

/// Runs as a whole, then dropped after some steps and resumed; gives the log and the network that is exported.
fn goes_on<O: Objective, D: BatchSource<Batch = O::Batch>>(
    settings: [&str; 3],
    set_up: impl Fn(Recipe, &Sources, Start) -> Trainer<O, D>,
) -> (Vec<serde_json::Value>, Albef) {
    let trainer = |directory: &Path, start| {
        let recipe = recipe(directory, 4, settings);
        let sources = Sources::open(&recipe).expect("data");
        set_up(recipe, &sources, start)
    };
    let whole = tempfile::tempdir().expect("a directory");
    trainer(whole.path(), Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    let expected = log(whole.path());
    for stop in [2, 5] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = trainer(directory.path(), Start::Anew);
        for _ in 0..stop {
            run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        drop(run);
        trainer(directory.path(), Start::ResumeIfPossible)
            .run(&mut |_| ControlFlow::Continue(()))
            .expect("runs");
        assert_eq!(log(directory.path()), expected, "dropped after step {stop}");
    }
    let directory = whole.path().join("out/final");
    let files = GroundedFiles::open(&directory.to_string_lossy(), &Options::default()).expect("opens");
    assert!(files.tokenizer.is_some());
    let GroundedNetwork::Albef(albef) = files.load().expect("loads") else { panic!("an ALBEF") };
    (expected, *albef)
}

#[test]
fn pre_training_goes_on_bit_for_bit_and_loads() {
    for parts in ["", ", micro_batch_size = 2"] {
        let settings = [parts, "queue_size = 8", "retrieval"];
        let (lines, albef) = goes_on(settings, |recipe, sources, start| {
            setup::albef(recipe, sources, start, &|_| Ok(())).expect("a trainer")
        });
        // In a small batch, now and then no token is hidden.
        for loss in ["itc", "itm", "mlm"] {
            assert!(lines.iter().any(|line| line["losses"][loss].is_number()), "{loss}: {lines:?}");
        }
        assert!(albef.contrast().is_some());
    }
}

#[test]
fn answering_goes_on_bit_for_bit_and_loads() {
    for parts in ["", ", micro_batch_size = 2"] {
        let settings = [parts, "task = \"vqa\", texts_per_image = 2", "vqa"];
        let (lines, albef) = goes_on(settings, |recipe, sources, start| {
            setup::albef_vqa(recipe, sources, start, &|_| Ok(())).expect("a trainer")
        });
        assert!(lines[0]["losses"]["vqa"].is_number(), "{}", lines[0]);
        assert!(lines.iter().any(|line| line["metrics"]["questions"] == 16.0), "{lines:?}");
        assert!(albef.text_decoder().is_some() && albef.contrast().is_none());
    }
}

#[test]
fn answers_are_learnt_with_and_without_the_opinion_of_copies() {
    for alpha in ["alpha = 0.0", "alpha = 0.4"] {
        let place = tempfile::tempdir().expect("a directory");
        let albef = format!("task = \"vqa\", texts_per_image = 2, {alpha}");
        let recipe = recipe(place.path(), 60, ["", &albef, "vqa"]);
        let sources = Sources::open(&recipe).expect("data");
        let mut run = setup::albef_vqa(recipe, &sources, Start::Anew, &|_| Ok(())).expect("a trainer");
        run.run(&mut |_| ControlFlow::Continue(())).expect("runs");
        let lines = log(place.path());
        let last = lines.iter().rev().find(|line| line["eval"] == "pictures").expect("an evaluation");
        // Half of the questions are answered by guessing well.
        assert!(last["metrics"]["accuracy"].as_f64().expect("a number") > 60.0, "{alpha}: {last}");
    }
}

/// Sums losses of a batch of parts, all on the tape.
fn whole<O: Objective>(objective: &O, batch: &O::Batch) -> Tensor {
    let losses = objective.losses(batch, &Pass::train()).expect("losses");
    losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| ops::add(&a, &b)).expect("a loss")
}

fn parts_agree<O: Objective, D: BatchSource<Batch = O::Batch>>(run: &Trainer<O, D>) {
    let batch = run.data().epoch(0, 0).next().expect("a batch").expect("read");
    let (losses, by_parts) = run.objective().gradients(&batch, &Pass::train()).expect("gradients");
    let expected = whole(run.objective(), &batch);
    let (got, expected_loss) = (losses.values().sum::<f64>(), f64::from(expected.item()));
    assert!((got - expected_loss).abs() < 1e-5 * expected_loss.abs(), "{got} {expected_loss}");
    let gradients = expected.backward();
    let mut compared = 0;
    for entry in run.objective().parameters().trainable() {
        let [a, b] = [&by_parts, &gradients].map(|of| of.get(&entry.param.value()).map(Tensor::to_vec));
        assert_eq!(a.is_some(), b.is_some(), "{}", entry.name);
        let (Some(a), Some(b)) = (a, b) else { continue };
        let largest = b.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        close(&entry.name, &a, &b, |_| 2e-6 + 2e-5 * largest);
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}

/// Nothing is queued, and the copies do not move: the batch is seen twice.
#[test]
fn parts_have_the_gradients_of_the_whole() {
    let place = tempfile::tempdir().expect("a directory");
    for task in ["pretrain", "retrieval"] {
        let albef = format!("task = \"{task}\"");
        let recipe = recipe(place.path(), 1, [", micro_batch_size = 2", &albef, "retrieval"]);
        let sources = Sources::open(&recipe).expect("data");
        parts_agree(&setup::albef(recipe, &sources, Start::Anew, &|_| Ok(())).expect("a trainer"));
    }
    let recipe = recipe(place.path(), 1, [", micro_batch_size = 2", "task = \"vqa\"", "vqa"]);
    let sources = Sources::open(&recipe).expect("data");
    parts_agree(&setup::albef_vqa(recipe, &sources, Start::Anew, &|_| Ok(())).expect("a trainer"));
}
